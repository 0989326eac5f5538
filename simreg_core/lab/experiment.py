"""Frozen, validated specifications: what is trained, what is measured, how big a study is. Each has a stable key.

A key is a hash of the canonical JSON without empty fields, so an optional field can be added later without
changing the keys of what has been computed before.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simreg_core.architectures import LAYERS, OF_ONE_SIZE, check_fit
from simreg_core.attacks import NOISES
from simreg_core.corruptions import CORRUPTIONS
from simreg_core.targets import SUBTRACTIONS

# Raise when the code computes something else from the same specification: old results then no longer match.
COMPUTATION_VERSION = 2

Protocol = Literal["released", "strict"]
Size = tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]]
Count = Annotated[int, Field(ge=1)]
Epsilons = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)]
PROJECT = Path(__file__).parents[2]
PROFILES = PROJECT / "notebooks" / "profiles"


def stream(seed: int, purpose: str) -> int:
    """A seed of its own for each use of randomness, so that none shifts another."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "big")


class SpecError(ValueError):
    """A specification that cannot be; the message is one line and names key, value and what is allowed."""


class Spec(BaseModel):
    """A frozen specification; unknown keys and impossible values are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @cached_property
    def key(self) -> str:
        """16 hex digits; equal specifications have equal keys."""
        canonical = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def changed(self, **changes):
        """A validated copy with some fields replaced."""
        return build(type(self), {**self.model_dump(), **changes})


def build(kind: type[Spec], values: dict, where: str = "") -> Spec:
    """A specification from plain values.  Raises SpecError with one line for the first thing that is wrong."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SpecError(where + describe(error)) from error


def describe(error: ValidationError) -> str:
    """The first problem of a pydantic error, in one line."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "specification"
    if first["type"] == "extra_forbidden":
        return f"unknown key '{place}' (value {first['input']!r})"
    if first["type"] == "missing":
        return f"missing key '{place}'"
    return f"{place}: got {first['input']!r}; {first['msg'].removeprefix('Value error, ')}"


class Task(Spec):
    """Labelled images to be classified.

    images: name of an image set.  size: (height, width).  channels: 1 or 3.
    validation_images: cut off the training images where the set has no validation images of its own.
    train_images: a class-balanced choice of that many, the same for every seed; None: all.
    augment: 'none', 'flip', or 'crop-flip' (reflect-pad 4, random crop, flip).
    """

    images: str
    size: Size
    channels: Literal[1, 3] = 1
    validation_images: Count = 500
    train_images: Count | None = None
    augment: Literal["none", "flip", "crop-flip"] = "none"


class Network(Spec):
    """A network of `simreg_core.model`, or of `simreg_core.architectures`.

    width: 64 is the paper's, and torchvision's where `architectures` has it.  shift, gain: see `ResNet`.
    blur: sigma of a `defences.GaussianBlur` in front of a ResNet, in pixels.
    """

    name: Literal["resnet10", "resnet18", "resnet34", *LAYERS] = "resnet18"
    width: Count = 64
    shift: float = 0.5
    gain: float = 5.0
    blur: Annotated[float, Field(gt=0)] | None = None


class Simulated(Spec):
    """A SIMULATED recording of V1, see `v1.GaborPopulation`; the experiment's seed chooses the animal.

    images, size: what it is shown, gray, the training images of a bundled set.  count: how many.
    trials: of each image.  neurons: how many.  mean_rate: scale of the responses to a trial.
    """

    kind: Literal["simulated"] = "simulated"
    images: str = "photos"
    size: Size = (16, 16)
    count: Annotated[int, Field(ge=20)] = 1000
    trials: Count = 4
    neurons: Annotated[int, Field(ge=2)] = 100
    mean_rate: Annotated[float, Field(gt=0)] = 0.15


class Recorded(Spec):
    """A recording of the data folder, by its name there (see `recordings.load_recording`)."""

    kind: Literal["recorded"] = "recorded"
    recording: str


class Published(Spec):
    """The published V1 predictor (see `recordings.load_published_predictor`), by its file in the data folder."""

    kind: Literal["published"] = "published"
    file: str = "sensorium_sota_model.pth"


class Predictor(Spec):
    """Form and fit of a `v1.V1Predictor`.  held_out: share of the images kept for early stopping."""

    channels: Count = 32
    kernel: Count = 9
    layers: Annotated[int, Field(ge=0)] = 2
    layer_kernel: Count = 3
    epochs: Count = 40
    patience: Count = 10
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1


class NeuralExperiment(Spec):
    """Where neural similarities come from: a recording, a predictor fitted to it, or the published predictor."""

    source: Annotated[Simulated | Recorded | Published, Field(discriminator="kind")]
    predictor: Predictor | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    version: Literal[COMPUTATION_VERSION] = COMPUTATION_VERSION

    @property
    def title(self) -> str:
        """For a reader: 'simulated V1, seed 0'."""
        return f"{self.source.kind} V1, seed {self.seed}"

    @property
    def needs_training(self) -> bool:
        """Whether there is something to train before it can be evaluated."""
        return self.predictor is not None

    @model_validator(mode="after")
    def _published_is_fitted(self):
        if self.predictor is not None and isinstance(self.source, Published):
            raise ValueError("a published predictor is fitted already: leave 'predictor' out")
        return self


class Regularizer(Spec):
    """alpha * L_sim; fields as in `SimilarityRegularizer`.

    images, size: regularization set; the task's size where size is empty.  count: N, number of images.
    augment_once: how each image is augmented, once, when it is loaded: the released code does 'crop-flip' for CIFAR
        and 'flip' for ImageNet.
    target: beside S^Th and S^pixel two controls: 'shuffled', S^Th with its images permuted, and 'zero', all targets 0;
        'neural', the mean of the similarities that the predictors `neural` give, or `matrix`, a .npy of your own in the
        data folder's `similarities/`; and 'shuffled_neural', the same with its images permuted.
    alpha: 0 passes the pair batches through the network without any loss: only their batch-norm statistics act.

    What the released code does where the rest is empty, for the audit of notebook 13:
    eps: of `similarity_loss`; 1e-5.  statistics: of batch norm on pair batches; 'shared'.  subtract: of S^pixel; the
    mean image.  augment_each: the images are augmented anew at every draw.  mean_in_validation: the running means of
    the feature maps follow after each epoch too, as often as there are class batches in the validation images.
    """

    images: str
    size: Size | None = None
    count: Annotated[int, Field(ge=2)] = 5000
    augment_once: Literal["none", "flip", "crop-flip"] = "none"
    target: Literal["threshold", "pixel", "shuffled", "zero", "neural", "shuffled_neural"] = "threshold"
    neural: tuple[NeuralExperiment, ...] | None = None
    matrix: str | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    pairs: Literal["all", "high", "low", "double", "positive", "negative"] = "all"
    low_threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    pairs_per_step: Count = 16
    alpha: Annotated[float, Field(ge=0)] = 10.0
    eps: Annotated[float, Field(gt=0, lt=1)] | None = None
    statistics: Literal["separate", "frozen"] | None = None
    subtract: Literal["own_mean"] | None = None
    augment_each: Literal["flip", "crop-flip"] | None = None
    mean_in_validation: Literal[True] | None = None

    @model_validator(mode="after")
    def _a_neural_target_has_a_source(self):
        given = (bool(self.neural), self.matrix is not None)
        if self.target in ("neural", "shuffled_neural"):
            if sum(given) != 1:
                raise ValueError(f"target '{self.target}' needs either 'neural' (predictors) or 'matrix' (a .npy file)")
            if any(one.predictor is None and not isinstance(one.source, Published) for one in self.neural or ()):
                raise ValueError("each of 'neural' needs a predictor: trials exist of the recorded images alone")
        elif any(given):
            raise ValueError(f"'neural' and 'matrix' go with a neural target, not with '{self.target}'")
        return self

    @model_validator(mode="after")
    def _enough_pairs(self):
        if self.pairs_per_step > (most := self.count * (self.count - 1) // 2):
            raise ValueError(f"pairs_per_step={self.pairs_per_step} exceeds the {most} pairs of {self.count} images")
        return self

    @model_validator(mode="after")
    def _double_range_has_a_band(self):
        low = self.low_threshold
        if self.pairs == "double" and (low is None or low >= self.threshold):
            raise ValueError(f"pairs 'double' needs low_threshold below threshold={self.threshold:g}, got {low}")
        return self


class Adversarial(Spec):
    """A defence to compare with: what the class batch is trained on in place of clean images, see `defences`.

    method: 'pgd' (Madry et al. 2018), 'trades' (Zhang et al. 2019), or 'gaussian' noise added to every image.
    epsilon: L-infinity size, or the noise's standard deviation.  steps, beta: of 'pgd' and 'trades', of 'trades'.
    Steps have the size 2.5 * epsilon / steps.
    """

    method: Literal["pgd", "trades", "gaussian"]
    epsilon: Annotated[float, Field(gt=0, le=1)]
    steps: Count = 10
    beta: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _beta_goes_with_trades(self):
        if (self.beta is not None) != (self.method == "trades"):
            raise ValueError(f"beta goes with method 'trades' and with no other; got {self.beta} with '{self.method}'")
        return self


class Optimization(Spec):
    """SGD; learning rate * decay^phase, phases of `phase_epochs` epochs, back to the first after `phases`.

    precision: 'bfloat16' for the passes through the network (fast on a GPU); empty: float32, the reference, in which
        a training gives the same bits on every run.
    """

    epochs: Count = 40
    batch_size: Count = 64
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    decay: Annotated[float, Field(gt=0, le=1)] = 0.3
    phase_epochs: Count = 4
    phases: Count = 5
    precision: Literal["bfloat16"] | None = None

    def learning_rate_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return self.learning_rate * self.decay ** (epoch // self.phase_epochs % self.phases)


class Experiment(Spec):
    """One training run.

    protocol: 'released' regularizes on the first `count` training images, validation images included, where
    task and regularization set are the same; 'strict' keeps the validation images out.
    """

    task: Task
    network: Network
    regularizer: Regularizer | None = None
    adversarial: Adversarial | None = None
    optimization: Optimization = Optimization()
    seed: Annotated[int, Field(ge=0)] = 0
    protocol: Protocol = "released"
    version: Literal[COMPUTATION_VERSION] = COMPUTATION_VERSION

    @property
    def title(self) -> str:
        """For a reader: 'resnet18, threshold, seed 0'."""
        target = "none" if self.regularizer is None else self.regularizer.target
        target = target if self.adversarial is None else self.adversarial.method
        return f"{self.network.name}, {target}, seed {self.seed}"

    @property
    def needs_training(self) -> bool:
        """Whether there is something to train before it can be evaluated: always, see `NeuralExperiment`."""
        return True

    @model_validator(mode="after")
    def _one_size_where_images_are_shared(self):
        own = self.regularizer
        shared = own is not None and own.images == self.task.images and self.protocol == "strict"
        if shared and own.size not in (None, self.task.size):
            raise ValueError("under 'strict', regularizer.size must be the task's where both use one image set")
        return self

    @model_validator(mode="after")
    def _network_fits_the_images(self):
        name, own = self.network.name, self.regularizer
        if name in LAYERS:
            check_fit(name, self.task.size, self.network.width)
        if name in OF_ONE_SIZE and own is not None and own.size not in (None, self.task.size):
            raise ValueError(f"'{name}' takes images of one size: regularizer.size must be the task's, or left out")
        return self


class _Evaluation(Spec):
    """What every evaluation has.  images: a random choice of that many (all where empty), the same for all models."""

    protocol: Protocol = "released"
    split: Literal["test", "validation"] = "test"
    images: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    version: Literal[COMPUTATION_VERSION] = COMPUTATION_VERSION


class NoiseEvaluation(_Evaluation):
    """Accuracy under random noise, one draw for each epsilon."""

    attack: Literal[tuple(NOISES)]
    epsilons: Epsilons


class FgsmEvaluation(_Evaluation):
    """Accuracy under FGSM transferred from a surrogate, itself an experiment."""

    attack: Literal["fgsm"] = "fgsm"
    epsilons: Epsilons
    surrogate: Experiment


class BoundaryEvaluation(_Evaluation):
    """Sizes of boundary-attack perturbations, and their spectrum.

    steps, directions: see `attacks.boundary_attack`.  repeats: attacks on the same images.
    """

    attack: Literal["boundary"] = "boundary"
    steps: Count = 50
    repeats: Count = 5
    directions: Count = 1000


class CorruptionEvaluation(_Evaluation):
    """Accuracy under common corruptions, and on the clean images (severity 0).

    source: 'generated' by `simreg_core.corruptions`, or 'files', the official CIFAR-10-C.
    """

    attack: Literal["corruption"] = "corruption"
    corruptions: Annotated[tuple[Literal[CORRUPTIONS], ...], Field(min_length=1)] = CORRUPTIONS
    severities: Annotated[tuple[Annotated[int, Field(ge=1, le=5)], ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    source: Literal["generated", "files"] = "generated"


class CorruptionSpectraEvaluation(_Evaluation):
    """Spectra of what each corruption does to the test images; the network has no part in it."""

    attack: Literal["corruption_spectra"] = "corruption_spectra"
    severity: Annotated[int, Field(ge=1, le=5)] = 4
    source: Literal["generated", "files"] = "generated"


class LayerWeightsEvaluation(_Evaluation):
    """gamma, the layer weights of S^CNN, after every epoch of training; no image is attacked."""

    attack: Literal["layer_weights"] = "layer_weights"


class Condition(Spec):
    """One way of setting neural beside pixel similarity.

    responses: 'predicted' or 'trial_mean'; of a simulation also 'noise_free', its 'simple' or 'complex' cells alone
        (noise-free), and populations whose rates are affine in the pixels, 'linear' and 'luminance'.
    weighted: neurons by their reliability (and how well they are predicted), else alike.
    neurons: a random choice of that many.  recordings: simulated animals whose similarities are averaged, of
        'trial_mean' and 'noise_free'.
    crop: rows and columns of the pixels, (top, bottom, left, right), ends excluded.  size: pixels shrunk to it.
    subtract: see `pixel_similarity`.
    """

    name: str
    responses: Literal["predicted", "trial_mean", "noise_free", "simple", "complex", "linear", "luminance"]
    weighted: bool = False
    neurons: Count | None = None
    recordings: Count = 1
    crop: tuple[int, int, int, int] | None = None
    size: tuple[Count, Count] | None = None
    subtract: Literal[SUBTRACTIONS] = "mean_image"

    @model_validator(mode="after")
    def _crop_is_a_rectangle(self):
        if self.crop is not None:
            top, bottom, left, right = self.crop
            if not (0 <= top < bottom and 0 <= left < right):
                raise ValueError(f"crop is (top, bottom, left, right), top < bottom and left < right; got {self.crop}")
        return self


class WhiteBoxEvaluation(_Evaluation):
    """Accuracy under attacks that follow the network's own gradient, and checks that these attacks could work.

    norm: 'linf' or 'l2'.  epsilons: of PGD, best up to where chance is reached.  steps, restarts: of PGD.
    epsilon: one of them, at which more attacks are set side by side under 'linf': FGSM, PGD with fewer steps, Square
    with `queries` queries, and, where `autoattack_images` is given, AutoAttack on that many of the images.
    autoattack_budget: (steps, targets, queries) below AutoAttack's own; it is then called reduced.
    """

    attack: Literal["white_box"] = "white_box"
    norm: Literal["linf", "l2"] = "linf"
    epsilons: Epsilons
    steps: Count = 40
    restarts: Count = 1
    epsilon: Annotated[float, Field(gt=0, le=1)] | None = None
    queries: Count = 1000
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None

    @model_validator(mode="after")
    def _epsilon_is_one_of_them(self):
        if self.epsilon is not None and (self.epsilon not in self.epsilons or self.norm != "linf"):
            raise ValueError(f"epsilon {self.epsilon} must be one of epsilons, under 'linf'; got {self.epsilons}")
        return self


class MinimumNormEvaluation(_Evaluation):
    """Sizes of the smallest perturbations found, [n]: their median, and accuracy as a function of epsilon.

    method: 'fast' (FMN or DDN, and DeepFool), 'deepfool', 'carlini_wagner', or 'hop_skip_jump', which asks for
    decisions alone.  away_from: 'label', or the network's own 'prediction', as the boundary attack.
    """

    attack: Literal["minimum_norm"] = "minimum_norm"
    method: Literal["fast", "deepfool", "carlini_wagner", "hop_skip_jump"] = "fast"
    norm: Literal["linf", "l2", "l0"] = "l2"
    steps: Count = 100
    away_from: Literal["label", "prediction"] = "label"


class TransferEvaluation(_Evaluation):
    """Accuracy under attacks made on other networks: FGSM, PGD and momentum on the mean of several surrogates.

    name: of the surrogates, for a reader.  steps: of PGD and momentum.
    """

    attack: Literal["transfer"] = "transfer"
    name: str
    epsilons: Epsilons
    surrogates: Annotated[tuple[Experiment, ...], Field(min_length=1)]
    steps: Count = 20


class SimilarityEvaluation(_Evaluation):
    """Correlation of neural with pixel similarity over image pairs, under each condition.

    image_set: shown to a predictor; the recording's own images where empty.  resamples: of images, for the interval.
    permutations: for the first condition's p; 0: none is computed.
    """

    attack: Literal["similarity"] = "similarity"
    image_set: str | None = None
    conditions: Annotated[tuple[Condition, ...], Field(min_length=1)]
    resamples: Annotated[int, Field(ge=10)] = 1000
    permutations: Annotated[int, Field(ge=0)] = 999

    @model_validator(mode="after")
    def _conditions_differ(self):
        names = [one.name for one in self.conditions]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"conditions name '{twice[0]}' twice")
        return self


Evaluation = Annotated[
    NoiseEvaluation
    | FgsmEvaluation
    | BoundaryEvaluation
    | CorruptionEvaluation
    | CorruptionSpectraEvaluation
    | LayerWeightsEvaluation
    | WhiteBoxEvaluation
    | MinimumNormEvaluation
    | TransferEvaluation
    | SimilarityEvaluation,
    Field(discriminator="attack"),
]


def dependencies(experiment: "Experiment | NeuralExperiment", evaluation: Evaluation | None = None) -> tuple:
    """The experiments that have to be trained before this one can be, or be evaluated: predictors first."""
    surrogates = surrogates_of(evaluation)
    needed = []
    for one in (experiment, *surrogates):
        if isinstance(one, Experiment) and one.regularizer is not None:
            needed += [own for own in one.regularizer.neural or () if own.predictor is not None]
    return (*needed, *surrogates)


def surrogates_of(evaluation: Evaluation | None) -> tuple[Experiment, ...]:
    """The networks on which a transferred attack is made."""
    if isinstance(evaluation, FgsmEvaluation):
        return (evaluation.surrogate,)
    return evaluation.surrogates if isinstance(evaluation, TransferEvaluation) else ()


EpsilonEnd = Annotated[float, Field(gt=0, le=1)]


class EpsilonEnds(Spec):
    """Upper ends of the ten equal attack strengths, zero included."""

    gaussian: EpsilonEnd
    uniform: EpsilonEnd
    salt_and_pepper: EpsilonEnd
    fgsm: EpsilonEnd


class RegularizationSet(Spec):
    """A regularization set of a study; empty fields are the profile's own, but for an empty size: the task's size."""

    images: str
    size: Size | None = None
    augment_once: Literal["none", "flip", "crop-flip"] | None = None
    count: Annotated[int, Field(ge=2)] | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None

    def fields(self) -> dict:
        """What it changes of the profile's regularizer: the size always, since the profile's belongs to its images."""
        given = self.model_dump(exclude_none=True)
        return {**given, "size": self.size}


class Variant(Spec):
    """Another task or depth, none, S^pixel and S^Th of it; empty fields are the profile's own.

    name: how the figure calls it.  note: what of it is not known from the paper.
    """

    name: str
    task: Task
    network: Network | None = None
    optimization: Optimization | None = None
    regularization_set: RegularizationSet
    pixel_alpha: Annotated[float, Field(gt=0)] | None = None
    epsilons: EpsilonEnds
    note: str = ""


class Architecture(Spec):
    """Another architecture on the profile's task, none and S^Th of it; empty fields are the profile's own.

    width: `architectures.WIDTHS` has the one where it is empty.
    """

    name: Literal[tuple(LAYERS)]
    width: Count | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None


class StudySizes(Spec):
    """How much of each figure a profile computes.

    test_images: attacked with noise and FGSM, all where empty.  corruption_images: likewise.
    epsilons: see `EpsilonEnds`.  low_threshold: Th2 of S_double.  regularization_sets: of 04, 05 and 10.
    component_set: of 11.  colour_sets: of 09.  variants: of 12.  architectures: of 15.
    """

    epsilons: EpsilonEnds
    test_images: Count | None = None
    boundary_images: Count
    boundary_repeats: Count
    boundary_directions: Count = 1000
    spectrum_images: Count
    spectrum_steps: Count
    spectrum_seeds: Count
    pairs_per_step: Annotated[tuple[Count, ...], Field(min_length=2)]
    image_counts: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=3)]
    low_threshold: Annotated[float, Field(gt=0, lt=1)]
    regularization_sets: Annotated[tuple[RegularizationSet, ...], Field(min_length=1)]
    component_set: RegularizationSet
    colour_sets: Annotated[tuple[RegularizationSet, ...], Field(min_length=1)]
    corruption_images: Count | None = None
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    architectures: Annotated[tuple[Architecture, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self):
        for field, names in {
            "regularization_sets": [one.images for one in self.regularization_sets],
            "colour_sets": [one.images for one in self.colour_sets],
            "variants": [one.name for one in self.variants],
            "architectures": [one.name for one in self.architectures],
        }.items():
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{field} names '{twice[0]}' twice; each is a curve of its own name")
        for field in ("pairs_per_step", "image_counts"):
            numbers = getattr(self, field)
            if twice := [number for number in numbers if numbers.count(number) > 1]:
                raise ValueError(f"{field} has {twice[0]} twice; each is a curve of its own")
        return self


class WhiteBoxStudy(Spec):
    """Notebooks 13 and 14 of a profile.

    epsilons: of PGD under 'linf', zero first and up to chance.  epsilon: one of them, at which attacks are compared.
    l2_epsilons: of PGD under 'l2'.  images: attacked.  minimum_images: by the minimum-norm attacks.
    autoattack_images: by AutoAttack; empty: by none, it is slow.
    steps, restarts, queries, autoattack_budget: see `WhiteBoxEvaluation`.
    minimum_steps: of minimum-norm attacks.  query_steps: of HopSkipJump.  transfer_steps: of transferred attacks.
    surrogates: networks that a transferred attack is made on.
    adversarial, noise, blur: of the defences to compare with, chosen on validation images for S^Th's clean accuracy.
    trades: adversarial training of another kind, where there is time.
    boundary_steps: of the boundary attack, in notebook 13.
    carlini_wagner_steps: of C&W beside it, where there is time.
    """

    epsilons: Annotated[Epsilons, Field(min_length=3)]
    epsilon: Annotated[float, Field(gt=0, le=1)]
    l2_epsilons: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=2)]
    images: Count = 1000
    minimum_images: Count = 200
    autoattack_images: Count | None = 200
    steps: Count = 40
    restarts: Count = 5
    queries: Count = 1000
    autoattack_budget: tuple[Count, Count, Count] | None = None
    minimum_steps: Count = 100
    query_steps: Count = 30
    transfer_steps: Count = 20
    surrogates: Count = 3
    adversarial: Adversarial
    trades: Adversarial | None = None
    noise: Annotated[float, Field(gt=0, le=1)]
    blur: Annotated[float, Field(gt=0)] = 1.5
    boundary_steps: Annotated[tuple[Count, ...], Field(min_length=2)] = (50, 500, 5000, 25000)
    carlini_wagner_steps: Count | None = None


class NeuralStudy(Spec):
    """The neural side of a profile.

    simulation, predictor: of the simulated recordings of notebook 01.  trial_counts: with which the predictor is set
    beside the trial average.  images: compared.  resamples, permutations: see `SimilarityEvaluation`.
    target: of S^neural in notebook 02: 'simulated', predictors fitted to `animals` simulated recordings, or the file of
    the published predictor.  alpha: of S^neural.
    """

    simulation: Simulated = Simulated()
    predictor: Predictor = Predictor()
    trial_counts: Annotated[tuple[Count, ...], Field(min_length=2)] = (1, 4, 16)
    animals: Annotated[int, Field(ge=2)] = 4
    images: Annotated[int, Field(ge=10)] = 400
    resamples: Annotated[int, Field(ge=10)] = 1000
    permutations: Count = 999
    target: str = "simulated"
    alpha: Annotated[float, Field(gt=0)]


class Selection(Spec):
    """The grid from which alpha and the threshold are chosen, on validation images (paper, v2 Fig. 4)."""

    alphas: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
    thresholds: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=2)]


class Profile(Spec):
    """How big a study is.

    name: of the folder under figures/.  regularizer: the S^Th one; S^pixel differs in its target and `pixel_alpha`.
    seeds: number of training runs a curve, seeds 0, 1, ...; the FGSM surrogate has the first seed that no curve uses.
    main_seeds: of none and S^Th in 02, where that is more.
    neural: of notebook 01, and of S^neural in 02.  white_box: of 13 and 14.
    needs_gpu: computing it without one takes an explicit flag.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    description: str
    task: Task
    network: Network
    regularizer: Regularizer
    pixel_alpha: Annotated[float, Field(gt=0)]
    optimization: Optimization
    protocol: Protocol = "released"
    seeds: Annotated[int, Field(ge=2)]
    main_seeds: Count | None = None
    selection: Selection
    studies: StudySizes
    neural: NeuralStudy
    white_box: WhiteBoxStudy
    needs_gpu: bool = False


def load_profile(name: str | Path) -> Profile:
    """A profile that ships, by name, or a YAML file, by path.  Raises SpecError naming what is wrong."""
    shipped = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    path = PROFILES / f"{name}.yaml" if str(name) in shipped else Path(name)
    if path.suffix in (".yaml", ".yml") and not path.is_file():
        raise SpecError(f"profile file {path} does not exist")
    if path.suffix not in (".yaml", ".yml"):
        raise SpecError(f"unknown profile '{name}'; allowed: {', '.join(shipped)}, or the path of a .yaml file")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"profile {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise SpecError(f"profile {path} must be a mapping of keys to values, got {values!r:.40}")
    profile = build(Profile, values, where=f"profile {path}: ")
    if profile.name in shipped and path.resolve() != (PROFILES / f"{profile.name}.yaml").resolve():
        raise SpecError(f"profile {path}: name '{profile.name}' is taken by the one that ships; give it another")
    return profile

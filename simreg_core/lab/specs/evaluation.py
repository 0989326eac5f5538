"""What is measured of a trained network."""

from collections.abc import Iterator
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError

from simreg_core.lab.specs.base import (
    COMPUTATION_VERSION,
    SHORT,
    Count,
    Epsilons,
    Float,
    Int,
    Size,
    Spec,
    Version,
    describe,
    twice,
)
from simreg_core.lab.specs.training import Experiment, Regularizer, Trainable
from simreg_core.names import CORRUPTIONS, DIRECTIONS, Corruption, NoiseName, Protocol, Subtraction

EVALUATIONS: dict[str, type["Evaluation"]] = {}  # by the names of `attack`; a class is entered when it is defined


class Evaluation(Spec):
    """What every evaluation has.  A kind of its own: a subclass, whose field `attack` is a Literal with its names.

    images: a random choice of that many (None: all), the same for all models.
    What is to be known of a kind beside its fields is its row in `lab.measuring.registry`.
    times_steps: it times training steps on random pixels: nothing is trained or read for it, and it is measured last,
    with nothing beside it.
    """

    times_steps: ClassVar[bool] = False
    protocol: Protocol = "released"
    split: Literal["test", "validation"] = "test"
    images: Count | None = None
    seed: Annotated[Int, Field(ge=0)] = 0
    version: Version = COMPUTATION_VERSION
    attack: str  # in every subclass a Literal

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        place = (cls.__module__, cls.__qualname__)
        for name in cls.names():
            other = EVALUATIONS.get(name, cls)
            if (other.__module__, other.__qualname__) != place:  # the same one again: a notebook's cell that ran twice
                raise TypeError(f"{cls.__name__}: attack '{name}' is taken by {other.__name__}; give it another name")
            EVALUATIONS[name] = cls

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """What `attack` may be.  Raises TypeError where it is not a Literal of names."""
        field = cls.model_fields.get("attack")
        names = () if field is None or get_origin(field.annotation) is not Literal else get_args(field.annotation)
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError(f"{cls.__name__} needs a field 'attack', a Literal with the names of the evaluation")
        return names

    @property
    def surrogates_needed(self) -> tuple["Experiment", ...]:
        """The networks on which a transferred attack is made: every experiment that a field names."""
        values = [one for _, value in self for one in (value if isinstance(value, tuple) else (value,))]
        return tuple(one for one in values if isinstance(one, Experiment))


def _of_its_kind(value: Any) -> Any:
    """The specification of an evaluation from plain values, as its `attack` says."""
    if not isinstance(value, dict):
        return value
    name = str(value.get("attack"))
    if name not in EVALUATIONS:
        import_module("simreg_core.lab.measuring.registry")  # a kind may have its specification in a file of its own
    if name not in EVALUATIONS:
        raise ValueError(f"unknown evaluation {SHORT.repr(name)}; allowed: {', '.join(EVALUATIONS)}")
    try:
        return EVALUATIONS[name].model_validate(value)
    except ValidationError as error:
        raise ValueError(describe(error)) from error


# the field of a record: an evaluation of any kind
AnyEvaluation = Annotated[SerializeAsAny[Evaluation], BeforeValidator(_of_its_kind)]


class NoiseEvaluation(Evaluation):
    """Accuracy under random noise, one draw for each epsilon."""

    attack: NoiseName
    epsilons: Epsilons


class FgsmEvaluation(Evaluation):
    """Accuracy under FGSM transferred from a surrogate, itself an experiment."""

    attack: Literal["fgsm"] = "fgsm"
    epsilons: Epsilons
    surrogate: Experiment


class BoundaryEvaluation(Evaluation):
    """Sizes of boundary-attack perturbations, and their spectrum.

    steps, directions: see `attacks.boundary_attack`.  repeats: attacks on the same images.
    """

    attack: Literal["boundary"] = "boundary"
    steps: Count = 50
    repeats: Count = 5
    directions: Count = DIRECTIONS


class CorruptionEvaluation(Evaluation):
    """Accuracy under common corruptions, and on the clean images (severity 0).

    source: 'generated' by `simreg_core.corruptions`, or 'files', the official CIFAR-10-C.
    """

    attack: Literal["corruption"] = "corruption"
    corruptions: Annotated[tuple[Corruption, ...], Field(min_length=1)] = CORRUPTIONS
    severities: Annotated[tuple[Annotated[Int, Field(ge=1, le=5)], ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    source: Literal["generated", "files"] = "generated"


class CorruptionSpectraEvaluation(Evaluation):
    """Spectra of what each corruption does to the test images; the network has no part in it."""

    attack: Literal["corruption_spectra"] = "corruption_spectra"
    severity: Annotated[Int, Field(ge=1, le=5)] = 4
    source: Literal["generated", "files"] = "generated"


class LayerWeightsEvaluation(Evaluation):
    """gamma, the layer weights of S^CNN, after every epoch of training; no image is attacked."""

    attack: Literal["layer_weights"] = "layer_weights"


class FrequencyBiasEvaluation(Evaluation):
    """Where in frequency a network looks: spectra of its first convolution's filters and of its input gradients."""

    attack: Literal["frequency_bias"] = "frequency_bias"


class PairSimilarityEvaluation(Evaluation):
    """The network's similarity S^CNN of image pairs against their pixel similarity.

    seen: whose images are shown, as in the training of an experiment with this regularizer, all pairs of
        `images` of them; None: the task's images of the split, which no training has seen.
    every_pair: keep the similarities of every pair, not only their means; of unseen images, in order of their classes.
    """

    attack: Literal["pair_similarity"] = "pair_similarity"
    images: Annotated[Int, Field(ge=2)] | None = 500
    seen: Regularizer | None = None
    every_pair: Literal[True] | None = None


AS_TRAINED, ALIKE = "layer weights as trained", "all layers alike"  # conditions of `PairSimilarityEvaluation`


class Condition(Spec):
    """One way of setting neural beside pixel similarity.

    responses: 'predicted' or 'trial_mean'; of a simulation also 'noise_free', only its 'simple' or 'complex' cells
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
    crop: tuple[Int, Int, Int, Int] | None = None
    size: tuple[Count, Count] | None = None
    subtract: Subtraction = "mean_image"

    def faults(self) -> Iterator[str]:
        if self.crop is not None:
            top, bottom, left, right = self.crop
            if not (0 <= top < bottom and 0 <= left < right):
                yield f"crop is (top, bottom, left, right), top < bottom and left < right; got {self.crop}"


class WhiteBoxEvaluation(Evaluation):
    """Accuracy under attacks that follow the network's own gradient, and checks that these attacks could work.

    norm: 'linf' or 'l2'.  epsilons: of PGD, best up to where chance is reached.  steps, restarts: of PGD.
    epsilon: one of them, at which more attacks are set side by side under 'linf': FGSM, PGD with fewer steps, Square
    with `queries` queries, and, where `autoattack_images` is given, AutoAttack on that many of the images.
    autoattack_budget: (steps, targets, queries) below AutoAttack's own; it is then called reduced.
    """

    attack: Literal["white_box"] = "white_box"
    norm: Literal["linf", "l2"] = "linf"
    epsilons: Annotated[tuple[Annotated[Float, Field(ge=0)], ...], Field(min_length=1)]
    steps: Count = 40
    restarts: Count = 1
    epsilon: Annotated[Float, Field(gt=0, le=1)] | None = None
    queries: Count = 1000
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None

    def faults(self) -> Iterator[str]:
        if self.norm == "linf" and max(self.epsilons) > 1:
            yield f"epsilons under 'linf' must lie in [0, 1], got {max(self.epsilons):g}"
        if self.epsilon is not None and (self.epsilon not in self.epsilons or self.norm != "linf"):
            yield f"epsilon {self.epsilon} must be one of epsilons, under 'linf'; got {self.epsilons}"
        yield from more_than_attacked(self.autoattack_images, self.images)


def more_than_attacked(autoattack_images: int | None, images: int | None) -> Iterator[str]:
    """The fault of AutoAttack on more images than are attacked; None: not asked for, or all there are."""
    if autoattack_images is not None and images is not None and autoattack_images > images:
        yield f"autoattack_images={autoattack_images} exceeds the {images} images that are attacked at all"


class MinimumNormEvaluation(Evaluation):
    """Sizes of the smallest perturbations found, [n]: their median, and accuracy as a function of epsilon.

    method: 'fast' (FMN or DDN, and DeepFool), 'deepfool', 'carlini_wagner', or 'hop_skip_jump', which asks for
    decisions only.  away_from: 'label', or the network's own 'prediction', as the boundary attack.
    """

    attack: Literal["minimum_norm"] = "minimum_norm"
    method: Literal["fast", "deepfool", "carlini_wagner", "hop_skip_jump"] = "fast"
    norm: Literal["linf", "l2", "l0"] = "l2"
    steps: Count = 100
    away_from: Literal["label", "prediction"] = "label"

    def faults(self) -> Iterator[str]:
        allowed = {"fast": ("linf", "l2", "l0"), "carlini_wagner": ("l2",)}.get(self.method, ("linf", "l2"))
        if self.norm not in allowed:
            yield f"method '{self.method}' minimizes {' or '.join(allowed)}, not {self.norm}"


class TransferEvaluation(Evaluation):
    """Accuracy under attacks made on other networks: FGSM, PGD and momentum on the mean of several surrogates.

    name: of the surrogates, for a reader.  steps: of PGD and momentum.
    """

    attack: Literal["transfer"] = "transfer"
    name: str
    epsilons: Epsilons
    surrogates: Annotated[tuple[Experiment, ...], Field(min_length=1)]
    steps: Count = 20


class SimilarityEvaluation(Evaluation):
    """Correlation of neural with pixel similarity over image pairs, under each condition.

    image_set: shown to a predictor; None: the recording's images.  resamples: of images, for the interval.
    permutations: for the first condition's p; 0: none is computed.
    """

    attack: Literal["similarity"] = "similarity"
    image_set: str | None = None
    conditions: Annotated[tuple[Condition, ...], Field(min_length=1)]
    resamples: Annotated[Int, Field(ge=10)] = 1000
    permutations: Annotated[Int, Field(ge=0)] = 999

    def faults(self) -> Iterator[str]:
        yield from (f"conditions name '{name}' twice" for name in twice(one.name for one in self.conditions))


class StepCostEvaluation(Evaluation):
    """Time and memory of a training step against the pairs k and the images N of a regularizer, on random pixels.

    Of an unregularized experiment, whose own step is timed beside them.
    pairs_per_step: the k.  image_counts: the N, each with `image_pairs` pairs.
    size: of the regularization images; None: the task's.
    repeats: of the measurement against k.  rounds: steps that are timed at a time.
    """

    times_steps: ClassVar[bool] = True
    attack: Literal["step_cost"] = "step_cost"
    pairs_per_step: Annotated[tuple[Count, ...], Field(min_length=1)]
    image_counts: Annotated[tuple[Annotated[Int, Field(ge=2)], ...], Field(min_length=1)]
    image_pairs: Count = 16
    size: Size | None = None
    repeats: Count = 5
    rounds: Count = 10


class LogitsEvaluation(Evaluation):
    """Accuracy, loss and margin under PGD at one L-infinity epsilon, with the checks of a white-box evaluation.

    steps, restarts: of PGD, which walks to the end with every image.  Other fields as of `WhiteBoxEvaluation`.
    """

    attack: Literal["logits"] = "logits"
    epsilon: Annotated[Float, Field(gt=0, le=1)]
    steps: Count = 40
    restarts: Count = 2
    queries: Count = 200
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None

    @property
    def white_box(self) -> WhiteBoxEvaluation:
        """The attacks that are set beside PGD."""
        names = (*Evaluation.model_fields, "epsilon", "steps", "restarts")
        own = {name: getattr(self, name) for name in names if name != "attack"}
        more = {name: getattr(self, name) for name in ("queries", "autoattack_images", "autoattack_budget")}
        return WhiteBoxEvaluation(epsilons=(self.epsilon,), **own, **more)


class FrontEndEvaluation(Evaluation):
    """Accuracy under attackers who know a front end, the worst over them per image, and what it certifies.

    ways: (part, way) as in `defences.differentiated`: PGD with each; empty: PGD with the network's own gradient.
    annealed: ways that one walk takes one after another, each from where the one before it ended.
    epsilon, steps, restarts: of PGD, L-infinity.  queries: of Square.  margin_loss: Auto-PGD along the first way too.
    epsilons: more of them, at which all but AutoAttack are made with `few_steps` steps, once; None: none.
    surrogates: networks that PGD is made on too, and transferred.
    certificates: the epsilons of the certified share, of a front end that certifies; None: not asked for.
    autoattack_images, autoattack_budget: see `WhiteBoxEvaluation`; not behind a quantizer.
    """

    attack: Literal["front_end"] = "front_end"
    epsilon: Annotated[Float, Field(gt=0, le=1)]
    ways: tuple[tuple[str, str], ...]
    annealed: tuple[tuple[str, str], ...] | None = None
    steps: Count = 40
    restarts: Count = 2
    queries: Count = 200
    epsilons: Epsilons | None = None
    few_steps: Count | None = None
    surrogates: tuple[Experiment, ...] = ()
    certificates: Epsilons | None = None
    margin_loss: Literal[True] | None = None
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None

    def faults(self) -> Iterator[str]:
        yield from (f"ways name {part}={way} twice" for part, way in twice(self.ways))
        if self.epsilon in (self.epsilons or ()):
            yield f"epsilons have epsilon, {self.epsilon:g}, again"
        if (self.epsilons is None) != (self.few_steps is None):
            yield "epsilons and few_steps belong together"
        yield from more_than_attacked(self.autoattack_images, self.images)


class PolarizationEvaluation(Evaluation):
    """What a quantizing front end certifies, where its activations lie, and how its filters look, stage by stage.

    epsilon: of the share of activations that lie closer to a threshold.
    certificates: epsilons of the certified share, at which an attack on the levels is made too.
    """

    attack: Literal["polarization"] = "polarization"
    epsilon: Annotated[Float, Field(gt=0, le=1)]
    certificates: Annotated[Epsilons, Field(min_length=1)]


class LayersEvaluation(Evaluation):
    """PSR, batch norm, filter sparsity and singular values of each layer (Bakiskan 2022, section 3.2).

    epsilon: L-infinity size of all perturbations.  steps: of PGD.
    surrogate: the network that the common perturbation is made on.
    """

    attack: Literal["layers"] = "layers"
    epsilon: Annotated[Float, Field(gt=0, le=1)]
    steps: Count = 20
    surrogate: Experiment


def dependencies(experiment: Trainable, evaluation: Evaluation | None = None) -> tuple[Trainable, ...]:
    """What has to be trained or fitted before this one can be, or be evaluated: each after what it needs itself."""
    surrogates = () if evaluation is None else evaluation.surrogates_needed
    needed = [before for one in (experiment, *surrogates) for before in _before(one)]
    return (*needed, *surrogates)


def to_train(experiment: Trainable, evaluation: Evaluation | None = None) -> tuple[Trainable, ...]:
    """What has to be trained for an evaluation, or (None) to have an experiment: what depends on others last."""
    if evaluation is not None and evaluation.times_steps:
        return ()
    return tuple(one for one in (*dependencies(experiment, evaluation), experiment) if one.needs_training)


def _before(experiment: Trainable) -> list[Trainable]:
    if not isinstance(experiment, Experiment):
        return []
    needed: list[Trainable] = [*experiment.fits]
    if experiment.parent is not None:
        needed += [*_before(experiment.parent), experiment.parent]
    if experiment.regularizer is not None:
        needed += [own for own in experiment.regularizer.neural or () if own.predictor is not None]
    return needed

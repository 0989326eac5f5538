"""Frozen, validated specifications: what is trained, what is measured, how big a study is. Each has a stable key.

A key is a hash of the canonical JSON without empty fields, so an optional field can be added later without
changing the keys of what has been computed before.
"""

import hashlib
import json
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    create_model,
    model_validator,
)

from simreg_core.names import CORRUPTIONS, LAYERS, NOISE_NAMES, OF_ONE_SIZE, SUBTRACTIONS, WIDTHS, check_fit

if TYPE_CHECKING:
    from simreg_core.defences import Artefact, Rule
    from simreg_core.lab.training.rules import Row

# Raise when the code computes something else from the same specification: old results then no longer match.
COMPUTATION_VERSION = 2

MOST_PROBLEMS = 20  # in one message


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


Int, Float = Annotated[int, BeforeValidator(_no_truth)], Annotated[float, BeforeValidator(_no_truth)]
Protocol = Literal["released", "strict"]
Size = tuple[Annotated[Int, Field(ge=8)], Annotated[Int, Field(ge=8)]]
Count = Annotated[Int, Field(ge=1)]
Epsilons = Annotated[tuple[Annotated[Float, Field(ge=0, le=1)], ...], Field(min_length=1)]
ANTOLIK_REGIONS = (1, 2, 3)  # of the pack of recordings by Antolik et al. (2016)
PROJECT = Path(__file__).parents[2]
PROFILES = PROJECT / "notebooks" / "profiles"


def stream(seed: int, purpose: str) -> int:
    """A seed of its own for each use of randomness, so that none shifts another."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "big")


class SpecError(ValueError):
    """A specification that cannot be; the message is one line and names each key, its value and what is allowed."""


class Spec(BaseModel):
    """A frozen specification; unknown keys and impossible values are refused.

    A number may be written as text, since YAML reads 1e-3 as such, but not as true or false.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @cached_property
    def key(self) -> str:
        """16 hex digits; equal specifications have equal keys."""
        canonical = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def changed(self, **changes):
        """A validated copy with some fields replaced."""
        return build(type(self), {**self.model_dump(), **changes})

    def faults(self) -> Iterator[str]:
        """What of its fields does not go together, each in words that name the values."""
        yield from ()

    @model_validator(mode="after")
    def _fields_go_together(self):
        if found := list(self.faults()):
            raise ValueError("; ".join(found))
        return self


def build(kind: type[Spec], values: dict, where: str = "") -> Spec:
    """A specification from plain values.  Raises SpecError with one line for all that is wrong."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SpecError(where + describe(error)) from error


def describe(error: ValidationError) -> str:
    """The problems of a pydantic error, in one line; of very many, the first."""
    problems = list(dict.fromkeys(map(_problem, error.errors())))
    more = len(problems) - MOST_PROBLEMS
    return "; ".join(problems[:MOST_PROBLEMS] + ([f"and {more} more"] if more > 0 else []))


def _problem(error: dict) -> str:
    place, message = ".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"unknown key '{place}' (value {_short.repr(error['input'])})"
    if error["type"] == "missing":
        return f"missing key '{place}'"
    if error["type"] == "value_error" and isinstance(error["input"], dict | Spec):  # of fields, which it names
        return f"{place}: {message}" if place else message
    return f"{place or 'specification'}: got {_short.repr(error['input'])}; {message}"


_short = reprlib.Repr()  # a value may be megabytes long
_short.maxlevel, _short.maxstring, _short.maxother = 2, 80, 80


class Task(Spec):
    """Labelled images to be classified.

    images: name of an image set.  size: (height, width).  channels: 1 or 3.
    validation_images: cut off the training images where the set has no validation images of its own.
    train_images: a class-balanced choice of that many, the same for every seed; None: all.
    augment: 'none', 'flip', or 'crop-flip' (reflect-pad 4, random crop, flip).
    """

    images: str
    size: Size
    channels: Annotated[Literal[1, 3], BeforeValidator(_no_truth)] = 1
    validation_images: Count = 500
    train_images: Count | None = None
    augment: Literal["none", "flip", "crop-flip"] = "none"


def _rules() -> ModuleType:
    """`training.rules`; loaded with the first defence, since its classes need torch, and other specifications none."""
    return import_module("simreg_core.lab.training.rules")


class _Defence(Spec):
    """A specification with the fields of a row of `training.rules`, whose class says what values can be."""

    @property
    def made(self) -> Any:
        """The rule or front end; made anew at each call."""
        raise NotImplementedError

    def faults(self) -> Iterator[str]:
        try:
            _ = self.made
        except ValueError as error:
            yield str(error)

    def __reduce__(self):
        return _rule_or_front_end, (self.model_dump(mode="json"),)  # pickle cannot find its class by name


class DefenceSpec(_Defence):
    """How a network is trained; the other fields are the rule's.  method: name of a row of `rules.RULES`."""

    method: str

    @classmethod
    def of(cls, values: Any) -> "DefenceSpec":
        """From plain values.  Raises SpecError naming what is wrong."""
        return _of_row("RULES", "method", DefenceSpec, values)

    @property
    def made(self) -> "Rule":
        return _rules().rule_of(self)


class FrontEndSpec(_Defence):
    """What a network sees through; the other fields are the module's.  kind: name of a row of `rules.FRONT_ENDS`."""

    kind: str

    @classmethod
    def of(cls, values: Any) -> "FrontEndSpec":
        """From plain values.  Raises SpecError naming what is wrong."""
        return _of_row("FRONT_ENDS", "kind", FrontEndSpec, values)

    @property
    def made(self) -> Any:
        return _rules().FRONT_ENDS[self.kind].build(self)


def _of_row(table: str, tag: str, base: type[_Defence], values: Any) -> Any:
    if values is None or isinstance(values, base):
        return values
    rows: dict[str, Row] = getattr(_rules(), table)
    name = values.get(tag) if isinstance(values, dict) else None
    if name is None:
        raise SpecError(f"a defence must name its '{tag}', one of {', '.join(rows)}; got {_short.repr(values)}")
    if not isinstance(name, str) or name not in rows:
        raise SpecError(f"unknown {tag} {_short.repr(name)}; allowed: {', '.join(rows)}")
    return build(_spec_class(rows[name], tag, base), values)


@lru_cache
def _spec_class(row: "Row", tag: str, base: type[_Defence]) -> type[_Defence]:
    """The specification of a row, with the fields of its class."""
    from simreg_core.defences import Parent as ParentType

    fields = row.fields({int: Int, float: Float, ParentType: Parent})
    return create_model(f"{base.__name__}_{row.name}", __base__=base, **{tag: (Literal[row.name], ...)}, **fields)


AnyRule = Annotated[SerializeAsAny[DefenceSpec], BeforeValidator(DefenceSpec.of)]
AnyFrontEnd = Annotated[SerializeAsAny[FrontEndSpec], BeforeValidator(FrontEndSpec.of)]


# that claims name
CLAIMED_DEFENCES = ADVERSARIAL, NOISE = "adversarial training", "noise augmentation"


def _rule_or_front_end(values: Any) -> Any:
    if isinstance(values, _Defence):
        return values
    if not isinstance(values, dict) or len(values.keys() & {"method", "kind"}) != 1:
        rules, front_ends = (", ".join(rows) for rows in (_rules().RULES, _rules().FRONT_ENDS))
        raise SpecError(
            f"a defence is a rule, {{method: {rules}}}, or a front end, {{kind: {front_ends}}}; "
            f"got {_short.repr(values)}"
        )
    return DefenceSpec.of(values) if "method" in values else FrontEndSpec.of(values)


AnyDefence = Annotated[SerializeAsAny[DefenceSpec] | SerializeAsAny[FrontEndSpec], BeforeValidator(_rule_or_front_end)]


class Network(Spec):
    """A network of `simreg_core.model`, or of `simreg_core.architectures`.

    width: 64 is the paper's, and torchvision's where `architectures` has it.  shift, gain: see `ResNet`.
    blur: sigma of a `defences.GaussianBlur` in front of a ResNet, in pixels.  front_end: any other.
    """

    name: Literal["resnet10", "resnet18", "resnet34", *LAYERS] = "resnet18"
    width: Count = 64
    shift: Float = 0.5
    gain: Float = 5.0
    blur: Annotated[Float, Field(gt=0)] | None = None
    front_end: AnyFrontEnd | None = None

    @model_validator(mode="before")
    @classmethod
    def _blur_is_a_field(cls, values: Any) -> Any:
        """One specification of a blur, that of the experiments which have been trained."""
        if not isinstance(values, dict) or values.get("front_end") is None:
            return values
        own = FrontEndSpec.of(values["front_end"])
        if values.get("blur") is not None:
            raise ValueError(f"a network has one front end: give 'blur' or '{own.kind}'")
        return {**values, "front_end": None, "blur": own.sigma} if own.kind == "blur" else values

    def faults(self) -> Iterator[str]:
        if self.name in LAYERS and (self.blur is not None or self.front_end is not None):
            yield f"a front end goes with a ResNet, not with '{self.name}'"


class Simulated(Spec):
    """A SIMULATED recording of V1, see `v1.GaborPopulation`; the experiment's seed chooses the animal.

    images, size: what it is shown, gray, the training images of a bundled set.  count: how many.
    trials: of each image.  neurons: how many.  mean_rate: scale of the responses to a trial.
    """

    kind: Literal["simulated"] = "simulated"
    images: str = "photos"
    size: Size = (16, 16)
    count: Annotated[Int, Field(ge=20)] = 1000
    trials: Count = 4
    neurons: Annotated[Int, Field(ge=2)] = 100
    mean_rate: Annotated[Float, Field(gt=0)] = 0.15


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
    layers: Annotated[Int, Field(ge=0)] = 2
    layer_kernel: Count = 3
    epochs: Count = 40
    patience: Count = 10
    learning_rate: Annotated[Float, Field(gt=0)] = 0.02
    held_out: Annotated[Float, Field(gt=0, lt=1)] = 0.1


class NeuralExperiment(Spec):
    """Where neural similarities come from: a recording, a predictor fitted to it, or the published predictor."""

    source: Annotated[Simulated | Recorded | Published, Field(discriminator="kind")]
    predictor: Predictor | None = None
    seed: Annotated[Int, Field(ge=0)] = 0
    version: Literal[COMPUTATION_VERSION] = COMPUTATION_VERSION

    @property
    def title(self) -> str:
        """For a reader: 'simulated V1, seed 0'."""
        return f"{self.source.kind} V1, seed {self.seed}"

    @property
    def needs_training(self) -> bool:
        """Whether there is something to train before it can be evaluated."""
        return self.predictor is not None

    def faults(self) -> Iterator[str]:
        if self.predictor is not None and isinstance(self.source, Published):
            yield "a published predictor is fitted already: leave 'predictor' out"


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
    count: Annotated[Int, Field(ge=2)] = 5000
    augment_once: Literal["none", "flip", "crop-flip"] = "none"
    target: Literal["threshold", "pixel", "shuffled", "zero", "neural", "shuffled_neural"] = "threshold"
    neural: tuple[NeuralExperiment, ...] | None = None
    matrix: str | None = None
    threshold: Annotated[Float, Field(gt=0, lt=1)] = 0.8
    pairs: Literal["all", "high", "low", "double", "positive", "negative"] = "all"
    low_threshold: Annotated[Float, Field(gt=0, lt=1)] | None = None
    pairs_per_step: Count = 16
    alpha: Annotated[Float, Field(ge=0)] = 10.0
    eps: Annotated[Float, Field(gt=0, lt=1)] | None = None
    statistics: Literal["separate", "frozen"] | None = None
    subtract: Literal["own_mean"] | None = None
    augment_each: Literal["flip", "crop-flip"] | None = None
    mean_in_validation: Literal[True] | None = None

    def faults(self) -> Iterator[str]:
        given = (bool(self.neural), self.matrix is not None)
        if self.target in ("neural", "shuffled_neural"):
            if sum(given) != 1:
                yield f"target '{self.target}' needs either 'neural' (predictors) or 'matrix' (a .npy file)"
            if any(one.predictor is None and not isinstance(one.source, Published) for one in self.neural or ()):
                yield "each of 'neural' needs a predictor: trials exist of the recorded images alone"
        elif any(given):
            yield f"'neural' and 'matrix' go with a neural target, not with '{self.target}'"
        yield from too_many_pairs(self.pairs_per_step, self.count)
        low = self.low_threshold
        if self.pairs == "double" and (low is None or low >= self.threshold):
            yield f"pairs 'double' needs low_threshold below threshold={self.threshold:g}, got {low}"


def too_many_pairs(pairs_per_step: int, count: int) -> Iterator[str]:
    """The fault of more pairs in a step than `count` images have."""
    if pairs_per_step > (most := count * (count - 1) // 2):
        yield f"pairs_per_step={pairs_per_step} exceeds the {most} pairs of {count} images"


class Optimization(Spec):
    """SGD; learning rate * decay^phase, phases of `phase_epochs` epochs, back to the first after `phases`.

    precision: 'bfloat16' for the passes through the network (fast on a GPU); empty: float32, the reference, in which
        a training gives the same bits on every run.
    """

    epochs: Count = 40
    batch_size: Count = 64
    learning_rate: Annotated[Float, Field(gt=0)] = 0.1
    momentum: Annotated[Float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[Float, Field(ge=0)] = 0.0
    decay: Annotated[Float, Field(gt=0, le=1)] = 0.3
    phase_epochs: Count = 4
    phases: Count = 5
    precision: Literal["bfloat16"] | None = None

    def learning_rate_at(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return self.learning_rate * self.decay ** (epoch // self.phase_epochs % self.phases)


class Parent(Spec):
    """The experiment that a training starts from: the same task, network, seed and protocol, trained as said here.

    adversarial, regularizer: None: plain, unregularized.  optimization: None: the child's.
    """

    adversarial: AnyRule | None = None
    regularizer: Regularizer | None = None
    optimization: Optimization | None = None


class Experiment(Spec):
    """One training run.

    adversarial: how, see `training.rules`; None: plainly.
    protocol: 'released' regularizes on the first `count` training images, validation images included, where
    task and regularization set are the same; 'strict' keeps the validation images out.
    """

    task: Task
    network: Network
    regularizer: Regularizer | None = None
    adversarial: AnyRule | None = None
    optimization: Optimization = Optimization()
    seed: Annotated[Int, Field(ge=0)] = 0
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

    @property
    def parent(self) -> "Experiment | None":
        """The experiment whose trained weights this one starts from."""
        own = next((value for _, value in self.adversarial or () if isinstance(value, Parent)), None)
        if own is None:
            return None
        optimization = own.optimization or self.optimization
        return self.changed(adversarial=own.adversarial, regularizer=own.regularizer, optimization=optimization)

    @property
    def fits(self) -> "tuple[Fit, ...]":
        """What must be fitted before."""
        own = self.adversarial
        names = () if own is None else own.made.artefacts()
        return tuple(Fit(defence=own, artefact=name, task=self.task, seed=self.seed) for name in names)

    def faults(self) -> Iterator[str]:
        if self.adversarial is not None:
            try:
                _rules().stages_of(self)
            except ValueError as error:
                yield f"adversarial: {error}"
        name, own = self.network.name, self.regularizer
        size = None if own is None or own.size == self.task.size else own.size
        if size is not None and own.images == self.task.images and self.protocol == "strict":
            yield "under 'strict', regularizer.size must be the task's where both use one image set"
        if name in LAYERS:
            yield from _misfit(name, self.task.size, self.network.width)
        if size is not None and name in OF_ONE_SIZE:
            yield f"'{name}' takes images of one size: regularizer.size must be the task's, or left out"
        elif size is not None and name in LAYERS:
            yield from _misfit(name, size, self.network.width)


class Fit(Spec):
    """An artefact of a defence, fitted to the training images of a task and seed before any network is trained.

    Its key tells nothing of the defence but the artefact's own settings, so that trainings which ask for the same
    share it.
    """

    defence: AnyRule
    artefact: str
    task: Task
    seed: Annotated[Int, Field(ge=0)] = 0
    version: Literal[COMPUTATION_VERSION] = COMPUTATION_VERSION

    @property
    def made(self) -> "Artefact":
        """What is fitted."""
        return self.defence.made.artefacts()[self.artefact]

    @cached_property
    def key(self) -> str:
        """As `Spec.key`."""
        own = self.model_dump(mode="json", exclude_none=True, exclude={"defence", "artefact"})
        canonical = json.dumps({**own, "kind": type(self.made).__name__, **asdict(self.made)}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """For a reader: 'dictionary of 160 atoms, seed 0'."""
        return f"{self.made.words()}, seed {self.seed}"

    @property
    def needs_training(self) -> bool:
        """Whether there is something to fit: always."""
        return True


def _misfit(name: str, size: tuple[int, int], width: int) -> Iterator[str]:
    """The fault of an architecture that cannot have this size of images or this width."""
    try:
        check_fit(name, size, width)
    except ValueError as error:
        yield str(error)


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
    version: Literal[COMPUTATION_VERSION] = COMPUTATION_VERSION

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
        raise ValueError(f"unknown evaluation {_short.repr(name)}; allowed: {', '.join(EVALUATIONS)}")
    try:
        return EVALUATIONS[name].model_validate(value)
    except ValidationError as error:
        raise ValueError(describe(error)) from error


# the field of a record: of whatever kind
AnyEvaluation = Annotated[SerializeAsAny[Evaluation], BeforeValidator(_of_its_kind)]


class NoiseEvaluation(Evaluation):
    """Accuracy under random noise, one draw for each epsilon."""

    attack: Literal[NOISE_NAMES]
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
    directions: Count = 1000


class CorruptionEvaluation(Evaluation):
    """Accuracy under common corruptions, and on the clean images (severity 0).

    source: 'generated' by `simreg_core.corruptions`, or 'files', the official CIFAR-10-C.
    """

    attack: Literal["corruption"] = "corruption"
    corruptions: Annotated[tuple[Literal[CORRUPTIONS], ...], Field(min_length=1)] = CORRUPTIONS
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
    crop: tuple[Int, Int, Int, Int] | None = None
    size: tuple[Count, Count] | None = None
    subtract: Literal[SUBTRACTIONS] = "mean_image"

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
    epsilons: Epsilons
    steps: Count = 40
    restarts: Count = 1
    epsilon: Annotated[Float, Field(gt=0, le=1)] | None = None
    queries: Count = 1000
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None

    def faults(self) -> Iterator[str]:
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
    decisions alone.  away_from: 'label', or the network's own 'prediction', as the boundary attack.
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

    image_set: shown to a predictor; the recording's own images where empty.  resamples: of images, for the interval.
    permutations: for the first condition's p; 0: none is computed.
    """

    attack: Literal["similarity"] = "similarity"
    image_set: str | None = None
    conditions: Annotated[tuple[Condition, ...], Field(min_length=1)]
    resamples: Annotated[Int, Field(ge=10)] = 1000
    permutations: Annotated[Int, Field(ge=0)] = 999

    def faults(self) -> Iterator[str]:
        yield from (f"conditions name '{name}' twice" for name in _twice(one.name for one in self.conditions))


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


def _twice(values: Iterable) -> list:
    """Those that are there more than once."""
    return [value for value, times in Counter(values).items() if times > 1]


def dependencies(experiment: "Experiment | NeuralExperiment | Fit", evaluation: Evaluation | None = None) -> tuple:
    """What has to be trained or fitted before this one can be, or be evaluated: each after what it needs itself."""
    surrogates = () if evaluation is None else evaluation.surrogates_needed
    needed = [before for one in (experiment, *surrogates) for before in _before(one)]
    return (*needed, *surrogates)


def to_train(experiment: "Experiment | NeuralExperiment", evaluation: Evaluation | None = None) -> tuple:
    """What has to be trained for an evaluation, or (None) to have an experiment: what depends on others last."""
    if evaluation is not None and evaluation.times_steps:
        return ()
    return tuple(one for one in (*dependencies(experiment, evaluation), experiment) if one.needs_training)


def _before(experiment: "Experiment | NeuralExperiment | Fit") -> list:
    if not isinstance(experiment, Experiment):
        return []
    needed = [*experiment.fits]
    if experiment.parent is not None:
        needed += [*_before(experiment.parent), experiment.parent]
    if experiment.regularizer is not None:
        needed += [own for own in experiment.regularizer.neural or () if own.predictor is not None]
    return needed


EpsilonEnd = Annotated[Float, Field(gt=0, le=1)]


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
    count: Annotated[Int, Field(ge=2)] | None = None
    alpha: Annotated[Float, Field(gt=0)] | None = None
    threshold: Annotated[Float, Field(gt=0, lt=1)] | None = None

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
    pixel_alpha: Annotated[Float, Field(gt=0)] | None = None
    epsilons: EpsilonEnds
    note: str = ""


class Architecture(Spec):
    """Another architecture on the profile's task, none and S^Th of it; empty fields are the profile's own.

    width: `names.WIDTHS` has the one where it is empty.
    """

    name: Literal[tuple(LAYERS)]
    width: Count | None = None
    alpha: Annotated[Float, Field(gt=0)] | None = None
    learning_rate: Annotated[Float, Field(gt=0)] | None = None


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
    image_counts: Annotated[tuple[Annotated[Int, Field(ge=2)], ...], Field(min_length=3)]
    low_threshold: Annotated[Float, Field(gt=0, lt=1)]
    regularization_sets: Annotated[tuple[RegularizationSet, ...], Field(min_length=1)]
    component_set: RegularizationSet
    colour_sets: Annotated[tuple[RegularizationSet, ...], Field(min_length=1)]
    corruption_images: Count | None = None
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]
    architectures: Annotated[tuple[Architecture, ...], Field(min_length=1)]

    def faults(self) -> Iterator[str]:
        for field, names in {
            "regularization_sets": [one.images for one in self.regularization_sets],
            "colour_sets": [one.images for one in self.colour_sets],
            "variants": [one.name for one in self.variants],
            "architectures": [one.name for one in self.architectures],
        }.items():
            for name in _twice(names):
                yield f"{field} names '{name}' twice; each is a curve of its own name"
        for field in ("pairs_per_step", "image_counts"):
            for number in _twice(getattr(self, field)):
                yield f"{field} has {number} twice; each is a curve of its own"


class WhiteBoxStudy(Spec):
    """Notebooks 13 and 14 of a profile.

    epsilons: of PGD under 'linf', zero first and up to chance.  epsilon: one of them, at which attacks are compared.
    l2_epsilons: of PGD under 'l2'.  images: attacked.  minimum_images: by the minimum-norm attacks.
    autoattack_images: by AutoAttack; empty: by none, it is slow.
    steps, restarts, queries, autoattack_budget: see `WhiteBoxEvaluation`.
    minimum_steps: of minimum-norm attacks.  query_steps: of HopSkipJump.  transfer_steps: of transferred attacks.
    surrogates: networks that a transferred attack is made on.
    boundary_steps: of the boundary attack, in notebook 13.
    carlini_wagner_steps: of C&W beside it, where there is time.
    """

    epsilons: Annotated[Epsilons, Field(min_length=3)]
    epsilon: Annotated[Float, Field(gt=0, le=1)]
    l2_epsilons: Annotated[tuple[Annotated[Float, Field(ge=0)], ...], Field(min_length=2)]
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
    boundary_steps: Annotated[tuple[Count, ...], Field(min_length=2)] = (50, 500, 5000, 25000)
    carlini_wagner_steps: Count | None = None

    def faults(self) -> Iterator[str]:
        if self.epsilon not in self.epsilons:
            yield f"epsilon {self.epsilon} must be one of epsilons; got {self.epsilons}"
        yield from more_than_attacked(self.autoattack_images, self.images)


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
    animals: Annotated[Int, Field(ge=2)] = 4
    images: Annotated[Int, Field(ge=10)] = 400
    resamples: Annotated[Int, Field(ge=10)] = 1000
    permutations: Count = 999
    target: str = "simulated"
    alpha: Annotated[Float, Field(gt=0)]

    def faults(self) -> Iterator[str]:
        if self.images > self.simulation.count:
            yield f"images={self.images} exceeds the {self.simulation.count} of the simulation"


class Selection(Spec):
    """The grid from which alpha and the threshold are chosen, on validation images (paper, v2 Fig. 4)."""

    alphas: Annotated[tuple[Annotated[Float, Field(gt=0)], ...], Field(min_length=1)]
    thresholds: Annotated[tuple[Annotated[Float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
    seeds: Annotated[Int, Field(ge=2)]


class Profile(Spec):
    """How big a study is.

    name: of the folder under figures/.  regularizer: the S^Th one; S^pixel differs in its target and `pixel_alpha`.
    seeds: number of training runs a curve, seeds 0, 1, ...; the FGSM surrogate has the first seed that no curve uses.
    main_seeds: of none and S^Th in 02, where that is more.
    neural: of notebook 01, and of S^neural in 02.  white_box: of 13 and 14.
    defences: to compare with in 14, by the names of their curves: a rule, `{method: ...}`, or a front end,
        `{kind: ...}`; their strength is chosen on validation images for S^Th's clean accuracy.
    needs_gpu: computing it without one takes an explicit flag.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    description: str
    task: Task
    network: Network
    regularizer: Regularizer
    pixel_alpha: Annotated[Float, Field(gt=0)]
    optimization: Optimization
    protocol: Protocol = "released"
    seeds: Annotated[Int, Field(ge=2)]
    main_seeds: Count | None = None
    selection: Selection
    studies: StudySizes
    neural: NeuralStudy
    white_box: WhiteBoxStudy
    defences: dict[str, AnyDefence]
    needs_gpu: bool = False

    def faults(self) -> Iterator[str]:
        for label in CLAIMED_DEFENCES:
            if label not in self.defences:
                yield f"defences lack '{label}', with which claims of notebook 14 compare"
        for label in ("none", "S^Th"):
            if label in self.defences:
                yield f"defences name '{label}', which is a curve already"


def load_profile(name: str | Path) -> Profile:
    """A profile that ships, by name, or a YAML file, by path.  Raises SpecError naming what is wrong."""
    shipped = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    path = PROFILES / f"{name}.yaml" if str(name) in shipped else Path(name)
    if path.suffix in (".yaml", ".yml") and not path.is_file():
        raise SpecError(f"profile file {path} does not exist")
    if path.suffix not in (".yaml", ".yml"):
        raise SpecError(f"unknown profile '{name}'; allowed: {', '.join(shipped)}, or the path of a .yaml file")
    values = _read_yaml(path)
    if not isinstance(values, dict):
        raise SpecError(f"profile {path} must be a mapping of keys to values, got {_short.repr(values)}")
    profile = build(Profile, values, where=f"profile {path}: ")
    found = list(_faults_of_studies(profile))
    if profile.name in shipped and path.resolve() != (PROFILES / f"{profile.name}.yaml").resolve():
        found.append(f"name '{profile.name}' is taken by the one that ships; give it another")
    if found:
        raise SpecError(f"profile {path}: {'; '.join(found)}")
    return profile


def _faults_of_studies(profile: Profile) -> Iterator[str]:
    """What the curves of its studies cannot be, which shows in none of its parts by itself."""
    own, sizes = profile.regularizer, profile.studies
    for index, k in enumerate(sizes.pairs_per_step):
        yield from (f"studies.pairs_per_step.{index}: {fault}" for fault in too_many_pairs(k, own.count))
    for index, count in enumerate(sizes.image_counts):
        yield from (f"studies.image_counts.{index}: {fault}" for fault in too_many_pairs(own.pairs_per_step, count))
    for field in ("regularization_sets", "colour_sets"):
        for index, one in enumerate(getattr(sizes, field)):
            yield from (f"studies.{field}.{index}: {fault}" for fault in _pairs_of(one, own))
    yield from (f"studies.component_set: {fault}" for fault in _pairs_of(sizes.component_set, own))
    threshold = sizes.component_set.threshold or own.threshold
    if sizes.low_threshold >= threshold:
        yield f"studies.low_threshold: {sizes.low_threshold:g} must lie below the threshold, {threshold:g}"
    for index, one in enumerate(sizes.architectures):
        misfits = _misfit(one.name, profile.task.size, one.width or WIDTHS[one.name])
        yield from (f"studies.architectures.{index}: {fault}" for fault in misfits)
    for index, one in enumerate(sizes.variants):
        yield from (f"studies.variants.{index}: {fault}" for fault in _pairs_of(one.regularization_set, own))


def _pairs_of(one: RegularizationSet, own: Regularizer) -> Iterator[str]:
    return too_many_pairs(own.pairs_per_step, one.count or own.count)


class _Loader(yaml.SafeLoader):
    """As YAML's own, but it notes every key that is given twice, of which the last would win."""

    def __init__(self, text: str):
        super().__init__(text)
        self.twice: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line, name = key.start_mark.line + 1, getattr(key, "value", None)
            if not isinstance(name, str):
                continue
            if name in seen:
                where = f"lines {seen[name]} and {line}" if line > seen[name] else f"line {line}"
                self.twice.append(f"key '{name}' is given twice, in {where}")
            seen[name] = line
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> Any:
    """What a YAML file holds.  Raises SpecError where it is none, and for keys given twice."""
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        values = loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: also an impossible date or number
        raise SpecError(f"profile {path} is not YAML: {' '.join(str(error).split())}") from error
    if loader.twice:
        raise SpecError(f"profile {path}: {'; '.join(loader.twice)}")
    return values

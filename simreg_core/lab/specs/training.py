"""What is trained."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from simreg_core.lab.specs.base import (
    COMPUTATION_VERSION,
    Count,
    Epochs,
    Float,
    ImageSetName,
    Int,
    LearningRate,
    Size,
    Spec,
    Version,
    Width,
    no_truth,
)
from simreg_core.lab.specs.defence import AnyFrontEnd, AnyRule, FrontEndSpec, rules_module
from simreg_core.lab.specs.neural import NeuralExperiment, Published
from simreg_core.names import (
    LAYERS,
    OF_ONE_SIZE,
    PAIRS_PER_STEP,
    SIMILARITIES,
    THRESHOLD,
    ArchitectureName,
    Protocol,
    TargetSimilarity,
    check_fit,
)

if TYPE_CHECKING:
    from simreg_core.defences import Artefact


# (width of images) of which every strided convolution is given at least as many columns as its stride. Below, oneDNN
# 3.13.3 (torch 2.15.0) leaves columns of the weight's gradient unwritten in bfloat16, on CPUs with AVX-512 or AMX; the
# other networks have this at every size that they take.
LEAST_WIDTH_IN_BFLOAT16 = {"torchvision-resnet18": 17}


class Task(Spec):
    """Labelled images to be classified.

    images: name of an image set.  size: (height, width).  channels: 1 or 3.
    validation_images: cut off the training images where the set has no validation images of its own.
    train_images: a class-balanced choice of that many, the same for every seed; None: all.
    augment: 'none', 'flip', or 'crop-flip' (reflect-pad 4, random crop, flip).
    """

    images: ImageSetName
    size: Size
    channels: Annotated[Literal[1, 3], BeforeValidator(no_truth)] = 1
    validation_images: Count = 500
    train_images: Count | None = None
    augment: Literal["none", "flip", "crop-flip"] = "none"


class Network(Spec):
    """A network of `simreg_core.model`, or of `simreg_core.architectures`.

    width: 64 is the paper's, and torchvision's where `architectures` has it.  shift, gain: see `ResNet`.
    blur: sigma of a `defences.GaussianBlur` in front of a ResNet, in pixels.  front_end: any other.
    """

    name: Literal["resnet10", "resnet18", "resnet34", ArchitectureName] = "resnet18"
    width: Width = 64
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
        own: Any = FrontEndSpec.of(values["front_end"])
        if values.get("blur") is not None:
            raise ValueError(f"a network has one front end: give 'blur' or '{own.kind}'")
        return {**values, "front_end": None, "blur": own.sigma} if own.kind == "blur" else values

    def faults(self) -> Iterator[str]:
        if self.name in LAYERS and (self.blur is not None or self.front_end is not None):
            yield f"a front end goes with a ResNet, not with '{self.name}'"


class Regularizer(Spec):
    """alpha * L_sim; fields as in `SimilarityRegularizer`.

    images, size: regularization set; the task's size where size is empty.  count: N, number of images.
    augment_once: how each image is augmented, once, when it is loaded: the released code does 'crop-flip' for CIFAR
        and 'flip' for ImageNet.
    target: beside S^Th and S^pixel two controls: 'shuffled', S^Th with its images permuted, and 'zero', all targets 0;
        'neural', the mean of the similarities that the predictors `neural` give, or `matrix`, a .npy of your own in the
        data folder's `similarities/`; and 'shuffled_neural', the same with its images permuted.
    alpha: 0 passes the pair batches through the network without any loss: only their batch-norm statistics act.

    similarity: how maps are compared, a name of `names.SIMILARITIES`; None: the paper's cosine.
    target_similarity: of 'threshold': of which similarity of images the targets are made, with as many +1 and -1 as
        S^Th has at this threshold; None: the cosine of pixels, S^Th itself.
    low_pass: the images are blurred, once, after `augment_once`; sigma in pixels.

    None in the rest is what the released code does; other values are for the audit of notebook 13:
    eps: of `similarity_loss`; None: 1e-5.
    statistics: of batch norm on pair batches; None: 'shared'.
    subtract: of S^pixel; None: the mean image.
    augment_each: the images are augmented anew at every draw.
    mean_in_validation: the running means of the feature maps follow after each epoch too, as often as there are class
        batches in the validation images.
    """

    images: ImageSetName
    size: Size | None = None
    count: Annotated[Int, Field(ge=2)] = 5000
    augment_once: Literal["none", "flip", "crop-flip"] = "none"
    target: Literal["threshold", "pixel", "shuffled", "zero", "neural", "shuffled_neural"] = "threshold"
    neural: tuple[NeuralExperiment, ...] | None = None
    matrix: str | None = None
    threshold: Annotated[Float, Field(gt=0, lt=1)] = THRESHOLD
    pairs: Literal["all", "high", "low", "double", "positive", "negative"] = "all"
    low_threshold: Annotated[Float, Field(gt=0, lt=1)] | None = None
    pairs_per_step: Count = PAIRS_PER_STEP
    alpha: Annotated[Float, Field(ge=0, le=1e30)] = 10.0
    eps: Annotated[Float, Field(ge=1e-6, lt=1)] | None = None  # below, rounding makes it a logarithm of 0
    statistics: Literal["separate", "frozen"] | None = None
    subtract: Literal["own_mean"] | None = None
    augment_each: Literal["flip", "crop-flip"] | None = None
    mean_in_validation: Literal[True] | None = None
    similarity: str | None = None
    target_similarity: TargetSimilarity | None = None
    low_pass: Annotated[Float, Field(gt=0)] | None = None

    def faults(self) -> Iterator[str]:
        given = (bool(self.neural), self.matrix is not None)
        if self.target in ("neural", "shuffled_neural"):
            if sum(given) != 1:
                yield f"target '{self.target}' needs either 'neural' (predictors) or 'matrix' (a .npy file)"
            if any(one.predictor is None and not isinstance(one.source, Published) for one in self.neural or ()):
                yield "each of 'neural' needs a predictor: trials exist of the recorded images only"
        elif any(given):
            yield f"'neural' and 'matrix' go with a neural target, not with '{self.target}'"
        yield from self._faults_of_similarity() if self.similarity else too_many_pairs(self.pairs_per_step, self.count)
        if self.target_similarity is not None and (self.target, self.subtract) != ("threshold", None):
            yield f"target_similarity goes with target 'threshold' and no 'subtract', got '{self.target}'"
        low = self.low_threshold
        if self.pairs == "double" and (low is None or low >= self.threshold):
            yield f"pairs 'double' needs low_threshold below threshold={self.threshold:g}, got {low}"

    def _faults_of_similarity(self) -> Iterator[str]:
        """The faults of settings that another measure than the cosine does not take."""
        allowed = [name for name in SIMILARITIES if name != "cosine"]
        if self.similarity not in allowed:
            yield f"similarity: got '{self.similarity}'; allowed: {', '.join(allowed)}, or none for the cosine"
            return
        if self.eps is not None:
            yield f"similarity '{self.similarity}' has no eps, got {self.eps}"
        if not SIMILARITIES[self.similarity].whole:
            yield from too_many_pairs(self.pairs_per_step, self.count)
            return
        if self.pairs != "all":
            yield f"similarity '{self.similarity}' compares groups of images: pairs must be all, not {self.pairs}"
        if not 2 <= self.pairs_per_step <= self.count // 2:
            yield (
                f"similarity '{self.similarity}' compares the 2k images of a step: pairs_per_step must lie in "
                f"[2, {self.count // 2}] for {self.count} images, got {self.pairs_per_step}"
            )
        if self.target == "zero":
            yield f"similarity '{self.similarity}' needs targets that differ from pair to pair, not target 'zero'"


def too_many_pairs(pairs_per_step: int, count: int) -> Iterator[str]:
    """The fault of more pairs in a step than `count` images have."""
    if pairs_per_step > (most := count * (count - 1) // 2):
        yield f"pairs_per_step={pairs_per_step} exceeds the {most} pairs of {count} images"


class Optimization(Spec):
    """SGD; learning rate * decay^phase, phases of `phase_epochs` epochs, back to the first after `phases`.

    precision: 'bfloat16' for the passes through the network (fast on a GPU); empty: float32, the reference, in which
        a training gives the same bits on every run; of a GPU see `training.repeatable`.
    """

    epochs: Epochs = 40
    batch_size: Count = 64
    learning_rate: LearningRate = 0.1
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
    version: Version = COMPUTATION_VERSION

    @property
    def title(self) -> str:
        """For a reader: 'resnet18, threshold, seed 0'."""
        target: str = "none" if self.regularizer is None else self.regularizer.target
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
                rules_module().stages_of(self)
            except ValueError as error:
                yield f"adversarial: {error}"
        name, own = self.network.name, self.regularizer
        size = None if own is None or own.size == self.task.size else own.size
        if size is not None and own.images == self.task.images and self.protocol == "strict":
            yield "under 'strict', regularizer.size must be the task's where both use one image set"
        if name in LAYERS:
            yield from misfit(name, self.task.size, self.network.width)
        if size is not None and name in OF_ONE_SIZE:
            yield f"'{name}' takes images of one size: regularizer.size must be the task's, or left out"
        elif size is not None and name in LAYERS:
            yield from misfit(name, size, self.network.width)
        narrowest = min(width for _, width in (self.task.size, size or self.task.size))
        least = LEAST_WIDTH_IN_BFLOAT16.get(name, 0)
        if self.optimization.precision is not None and narrowest < least:
            yield (
                f"'{name}' in {self.optimization.precision} takes images of at least {least} columns, got {narrowest}: "
                "some CPUs give a wrong gradient below; leave out optimization.precision, or give larger images"
            )


class Fit(Spec):
    """An artefact of a defence, fitted to the training images of a task and seed before any network is trained.

    Its key tells nothing of the defence but the artefact's own settings, so that trainings which ask for the same
    share it.
    """

    defence: AnyRule
    artefact: str
    task: Task
    seed: Annotated[Int, Field(ge=0)] = 0
    version: Version = COMPUTATION_VERSION

    @property
    def made(self) -> "Artefact":
        """What is fitted."""
        return self.defence.made.artefacts()[self.artefact]

    @cached_property
    def key(self) -> str:
        """As `Spec.key`."""
        own = self.model_dump(mode="json", exclude_none=True, exclude={"defence", "artefact"})
        made: Any = self.made
        canonical = json.dumps({**own, "kind": type(made).__name__, **asdict(made)}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """For a reader: 'dictionary of 160 atoms, seed 0'."""
        return f"{self.made.words()}, seed {self.seed}"

    @property
    def needs_training(self) -> bool:
        """Whether there is something to fit: always."""
        return True


AnyExperiment = Experiment | NeuralExperiment  # what can be measured
Trainable = AnyExperiment | Fit  # what can be trained or fitted


def misfit(name: str, size: tuple[int, int], width: int) -> Iterator[str]:
    """The fault of an architecture that cannot have this size of images or this width."""
    try:
        check_fit(name, size, width)
    except ValueError as error:
        yield str(error)

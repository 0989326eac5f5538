"""How big the studies of the dissertation (Bakiskan 2022) are: notebooks 20 and 21."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from simreg_core.defences.partial import CODES, Code
from simreg_core.defences.polarized_training import farthest
from simreg_core.lab.specs.base import Count, Epsilons, Float, Int, LearningRate, Seeds, Spec, Width, twice
from simreg_core.lab.specs.evaluation import more_than_attacked
from simreg_core.lab.specs.training import Network, Optimization, Task

EpsilonEnd = Annotated[Float, Field(gt=0, le=1)]


class PartialNetwork(Spec):
    """A network of notebook 20.

    name: how the figure calls it.  cuts, singles: see `defences.partial.parts`, in rising order; the first cut is what
    "few early modules" means.
    """

    name: str
    network: Network
    cuts: Annotated[tuple[Count, ...], Field(min_length=2)]
    singles: Annotated[tuple[Annotated[Int, Field(ge=0)], ...], Field(min_length=2)]

    def faults(self) -> Iterator[str]:
        for field in ("cuts", "singles"):
            numbers = getattr(self, field)
            if list(numbers) != sorted(set(numbers)):
                yield f"{field} of '{self.name}' must rise, got {', '.join(map(str, numbers))}"


class PartialStudy(Spec):
    """Notebook 20 of a profile: partial adversarial training.

    codes: of `defences.PartialTraining`, the four of the claims among them; the others are controls.
    epsilon: of training and attacks.  steps: of PGD in training.  seeds: of each curve.
    images, attack_steps, restarts, queries, autoattack_images, autoattack_budget: see `LogitsEvaluation`.
    transfer_steps, layer_steps: of PGD in transferred attacks, and in what is measured layer by layer.
    """

    task: Task
    optimization: Optimization
    networks: Annotated[tuple[PartialNetwork, ...], Field(min_length=1)]
    codes: tuple[Code, ...] = CODES[:4]
    epsilon: EpsilonEnd
    steps: Count
    seeds: Seeds
    images: Count | None = None
    attack_steps: Count = 40
    restarts: Count = 2
    queries: Count = 200
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None
    transfer_steps: Count = 10
    layer_steps: Count = 20

    def faults(self) -> Iterator[str]:
        for name in twice(one.name for one in self.networks):
            yield f"networks name '{name}' twice"
        for code in twice(self.codes):
            yield f"codes have '{code}' twice"
        if lacking := [code for code in CODES[:4] if code not in self.codes]:
            yield f"codes lack {', '.join(lacking)}, which claims of notebook 20 compare"
        if first := [code for code in self.codes if code not in CODES]:
            yield f"codes have {', '.join(first)}, which is stage one; allowed: {', '.join(CODES)}"
        yield from more_than_attacked(self.autoattack_images, self.images)


class PolarizingTask(Spec):
    """A task of notebook 21.

    name: how the figure calls it.  threshold: c of the front end.  pixel_threshold: of the quantized pixels.
    epsilon: of adversarial training, and where all attacks are made.  epsilons: more of them, for curves.
    """

    name: str
    task: Task
    threshold: Annotated[Float, Field(gt=0, lt=1)]
    pixel_threshold: Annotated[Float, Field(gt=0, lt=1)] = 0.5
    epsilon: EpsilonEnd
    epsilons: Epsilons

    def faults(self) -> Iterator[str]:
        reach = farthest(self.threshold)
        if self.epsilon > reach:
            yield (
                f"epsilon {self.epsilon:g} of '{self.name}' makes every activation unsafe: none in [-1, 1] is farther "
                f"than {reach:g} from ±{self.threshold:g}"
            )
        if self.epsilon in self.epsilons:
            yield f"epsilons of '{self.name}' have epsilon, {self.epsilon:g}, again"
        if self.task.channels != 1:
            yield f"task.channels of '{self.name}' must be 1: the front end's filters see one channel"


class PolarizingStudy(Spec):
    """Notebook 21 of a profile: the polarizing front end.

    width: of the classifier, which is the source's 'lenet', 32 there.
    optimization: of the networks without a front end; polarizing ones have its batches, and Adam with learning_rate.
    weight: λ at the end of stages one and two, see `PolarizedTraining`.
    stage_epochs: of each of the three stages; the quantized pixels, which have one stage, get three times as many.
    adversarial_steps, warm_up: of PGD in adversarial training, see `PGDTraining`.  seeds: of each curve.
    images, steps, restarts, queries, few_steps, autoattack_images, autoattack_budget: see `FrontEndEvaluation`.
    ways: of the quantizer, beside the whole front end as the identity.  annealed: steepnesses, one after another.
    certificates: epsilons of the curve of certified images.
    """

    tasks: Annotated[tuple[PolarizingTask, ...], Field(min_length=1)]
    width: Width = 32
    optimization: Optimization
    learning_rate: LearningRate = 1e-3
    weight: Annotated[Float, Field(gt=0)] = 1.0
    stage_epochs: Count
    adversarial_steps: Count
    warm_up: Annotated[Float, Field(gt=0, lt=1)] | None = None
    seeds: Seeds
    images: Count | None = None
    steps: Count = 40
    restarts: Count = 2
    queries: Count = 200
    few_steps: Count = 20
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None
    ways: Annotated[tuple[str, ...], Field(min_length=1)] = ("identity", "tanh8")
    annealed: tuple[str, ...] = ("tanh2", "tanh4", "tanh8", "tanh32")
    certificates: Annotated[Epsilons, Field(min_length=2)]

    def faults(self) -> Iterator[str]:
        for name in twice(one.name for one in self.tasks):
            yield f"tasks name '{name}' twice"
        yield from more_than_attacked(self.autoattack_images, self.images)

"""Hebbian networks: how big their study, notebook 23, is, and what is measured of them layer by layer."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from simreg_core.defences.hebbian_training import ALPHAS
from simreg_core.lab.specs.base import Count, Epsilons, Float, Int, LearningRate, Seeds, Spec, Width, twice
from simreg_core.lab.specs.dissertation import EpsilonEnd
from simreg_core.lab.specs.evaluation import Evaluation, more_than_attacked
from simreg_core.lab.specs.training import Network, Optimization, Task
from simreg_core.names import UNIT_BLOCKS, Corruption

SHARED_CORRUPTIONS: tuple[Corruption, ...] = (  # of the source's 16 those that `corruptions` has, in its order
    "gaussian_noise", "shot_noise", "impulse_noise", "snow", "fog", "frost", "brightness", "defocus_blur",
    "motion_blur", "zoom_blur", "contrast", "elastic_transform", "pixelate",
)  # fmt: skip


class HebbianEvaluation(Evaluation):
    """Of a network of blocks: accuracy under Gaussian noise, and SNR and sparsity of each block.

    epsilon: standard deviation of the noise, clamped to [0, 1].  draws: of it, for accuracy; the first is for SNR.
    """

    attack: Literal["hebbian"] = "hebbian"
    epsilon: EpsilonEnd
    draws: Count = 3


class HebbianStudy(Spec):
    """Notebook 23 of a profile: Hebbian networks.

    network: 'unit-vgg' or 'unit-vgg16'.  narrow: width of the narrower standard network.
    blocks: Hebbian ones of the main networks.  counts: other numbers of them, for figure 5.10.
    alphas, active, keep, learning_rate: see `HebbianTraining`; all networks are trained by it.
    noise: standard deviation of the noise of comparison.  noises: of the curve.
    noise_strength, blur_strength: of augmentation; chosen on validation images for the clean accuracy of HaH.
    epsilon: of adversarial training, and where all L-infinity attacks are made.  epsilons: more of them, for curves.
    l2: of PGD.  adversarial_steps: of PGD in training.  seeds: of each curve.
    adversarial_epsilon: of adversarial training where it is another, as in table 5.2 (8/255, attacked at 2/255).
    Under noise as many images are seen as by `studies.test_images`.
    images, steps, restarts, queries, few_steps, autoattack_images, autoattack_budget: see `FrontEndEvaluation`.
    minimum_images, minimum_steps: see `MinimumNormEvaluation`.
    corruption_images, corruptions, severities: see `CorruptionEvaluation`.
    """

    task: Task
    network: Network
    narrow: Annotated[Width, Field(ge=2)]
    optimization: Optimization
    blocks: Count
    counts: Annotated[tuple[Annotated[Int, Field(ge=1)], ...], Field(min_length=1)]
    alphas: tuple[Annotated[Float, Field(ge=0)], ...] = ALPHAS
    active: Annotated[Float, Field(gt=0, lt=1)] = 0.1
    keep: Annotated[Float, Field(gt=0, lt=1)] = 0.2
    learning_rate: LearningRate = 1e-3
    noise: EpsilonEnd
    noises: Annotated[Epsilons, Field(min_length=3)]
    noise_strength: EpsilonEnd
    blur_strength: Annotated[Float, Field(gt=0)]
    epsilon: EpsilonEnd
    epsilons: Epsilons
    l2: Annotated[Float, Field(gt=0)]
    adversarial_steps: Count
    adversarial_epsilon: EpsilonEnd | None = None
    seeds: Seeds
    images: Count | None = None
    steps: Count = 40
    restarts: Count = 2
    queries: Count = 200
    few_steps: Count = 20
    autoattack_images: Count | None = None
    autoattack_budget: tuple[Count, Count, Count] | None = None
    minimum_images: Count
    minimum_steps: Count = 100
    corruption_images: Count | None = None
    corruptions: Annotated[tuple[Corruption, ...], Field(min_length=1)] = SHARED_CORRUPTIONS
    severities: Annotated[tuple[Annotated[Int, Field(ge=1, le=5)], ...], Field(min_length=1)] = (5,)

    def faults(self) -> Iterator[str]:
        most = UNIT_BLOCKS.get(self.network.name)
        if most is None:
            yield f"network.name must be one of {', '.join(UNIT_BLOCKS)}, got '{self.network.name}'"
            return
        for count in (self.blocks, *self.counts):
            if count > most:
                yield f"{count} Hebbian blocks are more than the {most} of '{self.network.name}'"
        for count in twice((self.blocks, *self.counts)):
            yield f"blocks and counts have {count} twice"
        if max(self.blocks, *self.counts) > len(self.alphas):
            yield f"alphas must have one for each of {max(self.blocks, *self.counts)} blocks, got {len(self.alphas)}"
        if self.narrow >= self.network.width:
            yield f"narrow must be below network.width, {self.network.width}, got {self.narrow}"
        if self.epsilon in self.epsilons:
            yield f"epsilons have epsilon, {self.epsilon:g}, again"
        yield from more_than_attacked(self.autoattack_images, self.images)

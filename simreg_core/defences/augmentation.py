"""Gaussian-noise augmentation, and a blur in front of the network.  Images are [b, c, h, w], float in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simreg_core.defences.adversarial import check_strength
from simreg_core.defences.base import TASK, FrontEndSettings, Rule, cross_entropy
from simreg_core.later import Later

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from simreg_core.defences.blur import GaussianBlur

attacks = Later("simreg_core.attacks")


def noisy(x: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Gaussian-noise augmentation: x + deviation * N(0, 1), clamped to [0, 1].

    Arguments and errors as `attacks.gaussian_noise`, whose strict protocol it is.
    """
    return attacks.gaussian_noise(x, deviation, protocol="strict", generator=generator).adversarial


@dataclass(frozen=True)
class NoiseTraining(Rule):
    """Trained on `noisy` images.  epsilon: standard deviation of the noise, in (0, 1]."""

    epsilon: float

    def __post_init__(self):
        check_strength(self.epsilon)

    def losses(
        self, network: nn.Module, x: Tensor, y: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        return {TASK: cross_entropy(network, noisy(x, self.epsilon, generator), y)}

    def passes(self) -> float:
        return 0

    def words(self) -> str:
        return f"trained on gaussian images, epsilon {self.epsilon:g}"


@dataclass(frozen=True)
class Blur(FrontEndSettings):
    """Settings of a `GaussianBlur`."""

    sigma: float = 1.5

    def __post_init__(self):
        check_sigma(self.sigma)

    def build(self) -> GaussianBlur:
        from simreg_core.defences.blur import GaussianBlur

        return GaussianBlur(self.sigma)


def check_sigma(sigma: float) -> None:
    """Raises ValueError for a sigma that is not positive and finite."""
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be positive, got {sigma}")

"""Gaussian-noise augmentation, and a blur in front of the network.  Images are [b, c, h, w], float in [0, 1]."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core import attacks
from simreg_core.defences.adversarial import check_strength
from simreg_core.defences.base import TASK, FrontEnd, Rule, cross_entropy


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


class GaussianBlur(FrontEnd):
    """A fixed Gaussian blur as front end, for example nn.Sequential(GaussianBlur(), network).

    sigma: > 0, in pixels; 1.5 in Li et al. (2023). The kernel reaches ceil(2.5 * sigma) pixels to each side and the
    image continues circularly outside itself. [b, c, h, w] -> the same; h and w at least the reach.
    """

    draws_random_numbers = False
    ways = {"blur": ("exact",)}  # noqa: RUF012

    def __init__(self, sigma: float = 1.5):
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.sigma, self.reach = sigma, math.ceil(2.5 * sigma)
        weights = torch.exp(-torch.arange(-self.reach, self.reach + 1).square() / (2 * sigma**2))
        self.register_buffer("weights", weights / weights.sum(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < self.reach:
            raise ValueError(f"this blur needs {self.reach} pixels a side, got {x.shape[2]}x{x.shape[3]}")
        channels, line = x.shape[1], self.weights.to(x).repeat(x.shape[1], 1, 1)
        x = F.pad(x, (self.reach,) * 4, mode="circular")
        x = F.conv2d(x, line[:, :, None, :], groups=channels)
        return F.conv2d(x, line[:, :, :, None], groups=channels)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"

"""A blur in front of the network.  Images are [b, c, h, w], float in [0, 1]."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from simreg_core.defences.augmentation import check_sigma
from simreg_core.defences.front_end import FrontEnd


class GaussianBlur(FrontEnd):
    """A fixed Gaussian blur as front end, for example nn.Sequential(GaussianBlur(), network).

    sigma: > 0, in pixels; 1.5 in Li et al. (2023). The kernel reaches ceil(2.5 * sigma) pixels to each side and the
    image continues circularly outside itself. [b, c, h, w] -> the same; h and w at least the reach.
    """

    draws_random_numbers = False
    ways = {"blur": ("exact",)}  # noqa: RUF012

    def __init__(self, sigma: float = 1.5):
        super().__init__()
        check_sigma(sigma)
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

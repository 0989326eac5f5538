"""A simulated population of V1 cells, which stands in for V1 where there are no data."""

import math

import torch
from torch import Tensor

from simreg_core.pixels import check_images

CELLS = ("v1", "linear", "luminance")
PERIODS = (0.3, 1.2)  # of the Gabors, in shorter sides of the image: mouse V1 prefers low frequencies
ENVELOPE = 0.35  # standard deviation of a receptive field, in periods
SEMI_SATURATION = 0.05  # drive at which normalization sets in, where 1 is a grating of full contrast


class GaborPopulation:
    """Simple and complex cells on gray images, with divisive normalization.

    size: (height, width) of the images, at least 8 each.  neurons: >= 2; half of them simple, half complex.
    seed: of the cells' places, orientations and frequencies: another seed is another animal.
    mean_rate: scale of the responses to one trial, about twice their mean.  gain: standard deviation of the log of a
    gain that all cells share on a trial.
    cells: 'v1', or a control whose rates are affine in the pixels: 'linear' Gabors, or 'luminance', the Gabors'
    envelopes without their waves.

    A simple cell's drive is its half-rectified Gabor response, a complex cell's the root of the summed squares of a
    pair in quadrature; each squared drive is divided by a constant plus the mean squared drive of the population.
    Raises ValueError for anything outside these bounds.
    Source: the standard model (Carandini & Heeger 2012); no value is fitted to a recording.
    """

    def __init__(
        self,
        size: tuple[int, int],
        neurons: int = 100,
        seed: int = 0,
        mean_rate: float = 0.15,
        gain: float = 0.3,
        cells: str = "v1",
    ):
        if neurons < 2:
            raise ValueError(f"neurons must be at least 2, a simple and a complex cell, got {neurons}")
        if min(size) < 8:
            raise ValueError(f"images must have at least 8 pixels a side, got {size[0]}x{size[1]}")
        if cells not in CELLS:
            raise ValueError(f"unknown cells '{cells}'; allowed: {', '.join(CELLS)}")
        if not (mean_rate > 0 and gain >= 0):
            raise ValueError(f"mean_rate must be positive and gain not negative, got {mean_rate} and {gain}")
        self.size, self.neurons, self.mean_rate, self.gain, self.cells = tuple(size), neurons, mean_rate, gain, cells
        with torch.device("cpu"):  # whatever the default one is
            self.simple = torch.arange(neurons) < neurons / 2
            self.envelope, self.even, self.odd = _gabors(size, neurons, torch.Generator().manual_seed(seed))

    def rates(self, images: Tensor) -> Tensor:
        """Noise-free responses, [images, neurons], >= 0, float64, on the CPU, where the cells are.

        images: [n, 1, height, width] in [0, 1].  Raises ValueError for other shapes or ranges.
        """
        images = check_images(images)
        if tuple(images.shape[1:]) != (1, *self.size):
            raise ValueError(f"images must be gray, {self.size[0]}x{self.size[1]}, got {list(images.shape)}")
        contrast = 2 * images.cpu().double().flatten(1) - 1  # of each pixel, in [-1, 1]
        if self.cells != "v1":
            return self.mean_rate * (1 + contrast @ (self.even if self.cells == "linear" else self.envelope).T)
        even, odd = contrast @ self.even.T, contrast @ self.odd.T
        squared = torch.where(self.simple, 2 * even.clamp_min(0).square(), (even.square() + odd.square()) / 2)
        pool = squared.mean(dim=1, keepdim=True)
        return self.mean_rate * squared / (SEMI_SATURATION**2 + pool)

    def trials(self, images: Tensor, trials: int, generator: torch.Generator) -> Tensor:
        """Poisson responses, [trials, images, neurons].  trials: >= 1."""
        if trials < 1:
            raise ValueError(f"trials must be at least 1, got {trials}")
        rates = self.rates(images)
        drawn = {"generator": generator, "device": "cpu", "dtype": torch.float64}
        gains = (self.gain * torch.randn(trials, len(images), 1, **drawn)).exp()
        return torch.poisson(rates * gains, generator=generator).float()


def _gabors(size: tuple[int, int], neurons: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Envelopes, and pairs of Gabors in quadrature that give nothing to uniform light; [neurons, pixels], L1 norm 1."""
    height, width = size
    place_y, place_x, angle, phase, octave = torch.rand(5, neurons, 1, generator=generator, dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    # cells look at the middle two thirds
    dy = y.flatten() - height * (1 / 6 + place_y * 2 / 3) + 0.5
    dx = x.flatten() - width * (1 / 6 + place_x * 2 / 3) + 0.5
    period = min(size) * PERIODS[0] * (PERIODS[1] / PERIODS[0]) ** octave
    envelope = torch.exp(-(dx**2 + dy**2) / (2 * (ENVELOPE * period) ** 2))
    along = dx * (math.pi * angle).cos() + dy * (math.pi * angle).sin()
    waves = [envelope * torch.cos(2 * math.pi * (along / period + phase) + shift) for shift in (0, -math.pi / 2)]
    # without a mean under the envelope
    waves = [wave - envelope * wave.sum(dim=1, keepdim=True) / envelope.sum(dim=1, keepdim=True) for wave in waves]
    return tuple(field / field.abs().sum(dim=1, keepdim=True) for field in (envelope, *waves))

"""Fourier view of perturbations: where in frequency an attack puts its power."""

import math

import torch
from torch import Tensor

HALF_NYQUIST = 0.25  # cycles/pixel
RADIAL_BINS = 24  # the published radial curve has vertices at multiples of 1/24


def mean_power_spectrum(perturbations: Tensor) -> Tensor:
    """Mean of |FFT2(x_adv - x)|^2 over images and channels, zero frequency in the centre (Li et al. 2023).

    perturbations: [n, c, h, w], n >= 1, in pixel units.
    Returns [h, w] in pixel units squared; entry [h // 2, w // 2] is the zero frequency.
    Raises ValueError for another shape, no image, or values that are not finite.
    """
    if perturbations.ndim != 4 or len(perturbations) == 0:
        raise ValueError(f"perturbations must have shape [n, c, h, w] with n >= 1, got {list(perturbations.shape)}")
    if not torch.isfinite(perturbations).all():
        raise ValueError("perturbations hold NaN or infinite values; leave failed images out")
    power = torch.fft.fft2(perturbations.double()).abs().square()
    return torch.fft.fftshift(power, dim=(-2, -1)).mean(dim=(0, 1))


def cumulative_radial_profile(power: Tensor, bins: int = RADIAL_BINS) -> tuple[Tensor, Tensor]:
    """Share of power up to each radius (paper, v2 Fig. 7, right).

    power: [h, w], centred, not negative, not all zero.
    bins: rings of equal width from the zero frequency to the corner of the plane.
    Returns radius [bins] = 0, 1/bins, ..., (bins-1)/bins in units of the corner's radius
    (sqrt(1/2) cycles/pixel), and cumulative [bins] in [0, 1]: the power of the rings up to and with that one.
    Raises ValueError for another shape, negative, NaN or no power, or bins < 2.
    """
    if bins < 2:
        raise ValueError(f"bins must be at least 2, got {bins}")
    radius = _radius(power) / math.sqrt(0.5)
    # a frequency on the edge of a ring belongs to it, however its radius was rounded
    ring = (radius * bins + 1e-9).long().clamp_max(bins - 1)
    rings = torch.zeros(bins, dtype=power.dtype, device=power.device).index_add_(0, ring.flatten(), power.flatten())
    edges = torch.arange(bins, dtype=power.dtype, device=power.device) / bins
    return edges, rings.cumsum(0) / rings.sum()


def _radius(power: Tensor) -> Tensor:
    """Distance of each entry of a centred spectrum from the zero frequency, [h, w] in cycles/pixel.

    Raises ValueError for another shape, or power that is negative, NaN or all zero.
    """
    if power.ndim != 2:
        raise ValueError(f"power must have shape [h, w], got {list(power.shape)}")
    total = power.sum().item()
    if not (power.min() >= 0 and 0 < total < math.inf):
        raise ValueError(f"power must be finite, not negative and not all zero; it sums to {total:g}")
    fy, fx = (torch.fft.fftshift(torch.fft.fftfreq(n, dtype=torch.float64, device="cpu")) for n in power.shape)
    return (fy[:, None].square() + fx.square()).sqrt().to(power.device)


def half_power_frequency(radius: Tensor, cumulative: Tensor) -> float:
    """Where the cumulative profile crosses one half, in the units of `radius`, by linear interpolation.

    radius, cumulative: [bins], both not decreasing.  A profile that starts above one half crosses at radius[0].
    Raises ValueError for shapes that differ or a profile that never reaches one half.
    """
    if radius.shape != cumulative.shape or radius.ndim != 1:
        raise ValueError(f"radius {list(radius.shape)} and cumulative {list(cumulative.shape)} must be [bins] both")
    if not cumulative[-1] >= 0.5:
        raise ValueError(f"the profile ends at {cumulative[-1]:.3g}, below one half")
    after = int((cumulative >= 0.5).nonzero()[0])
    if after == 0:
        return radius[0].item()
    low, high = cumulative[after - 1], cumulative[after]
    share = (0.5 - low) / (high - low)
    return (radius[after - 1] + share * (radius[after] - radius[after - 1])).item()


def high_frequency_share(power: Tensor, cutoff: float = HALF_NYQUIST) -> float:
    """Share of power at frequencies above `cutoff`, along either axis or both: by radius.

    power: [h, w], centred, not negative, not all zero.  cutoff: cycles/pixel, in (0, sqrt(1/2)).
    Returns a number in [0, 1]; white noise gives about 0.80 with the default.
    Raises ValueError as `cumulative_radial_profile`, and for another cutoff.
    """
    if not 0 < cutoff < math.sqrt(0.5):
        raise ValueError(f"cutoff must lie in (0, {math.sqrt(0.5):.4f}) cycles/pixel, got {cutoff}")
    radius, total = _radius(power), power.sum()
    return (power[radius > cutoff * (1 + 1e-9)].sum() / total).item()


def filter_power(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean power spectrum of a convolution's filters, each scaled to unit norm first, zero frequency in the centre.

    weight: [out, in, kh, kw]; filters that are all zero are left out.  size: of the plane, at least the kernel's;
    filters are padded with zeros to it, which interpolates their spectrum.
    Returns [h, w].  Raises ValueError for another shape, a plane that is too small, or where every filter is zero.
    """
    if weight.ndim != 4:
        raise ValueError(f"weight must have shape [out, in, kh, kw], got {list(weight.shape)}")
    if size[0] < weight.shape[2] or size[1] < weight.shape[3]:
        raise ValueError(f"size must be at least the kernel's {list(weight.shape[2:])}, got {list(size)}")
    weight = weight.double()
    norms = weight.flatten(1).norm(dim=1)
    if not (norms > 0).any():
        raise ValueError("every filter is zero")
    scaled = weight[norms > 0] / norms[norms > 0].reshape(-1, 1, 1, 1)
    power = torch.fft.fft2(scaled, s=size).abs().square()
    return torch.fft.fftshift(power, dim=(-2, -1)).sum(dim=1).mean(dim=0)

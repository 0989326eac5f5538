"""Spectra of a pure cosine and of white noise, where the answers are known."""

import math

import pytest
import torch

from simreg_core.spectra import (
    cumulative_radial_profile,
    filter_power,
    half_power_frequency,
    high_frequency_share,
    mean_power_spectrum,
)


def cosine(fy: int, fx: int, n: int = 32, amplitude: float = 1.0):
    y, x = torch.meshgrid(*[torch.arange(n, dtype=torch.float64)] * 2, indexing="ij")
    return amplitude * torch.cos(2 * math.pi * (fy * y + fx * x) / n)[None, None]


@pytest.mark.parametrize(("fy", "fx"), [(0, 5), (3, 4), (-7, 2)])
def test_a_cosine_is_two_points(fy, fx):
    power = mean_power_spectrum(cosine(fy, fx, amplitude=0.5))
    found = {tuple(index) for index in (power > 1e-6).nonzero().tolist()}
    assert found == {(16 + fy, 16 + fx), (16 - fy, 16 - fx)}
    # |FFT|^2 of A cos is (A n^2 / 2)^2 at each of the two
    assert power.max().item() == pytest.approx((0.5 * 32 * 32 / 2) ** 2)


def test_parseval(generator):
    perturbations = torch.randn(5, 3, 8, 12, generator=generator, dtype=torch.float64)
    power = mean_power_spectrum(perturbations)
    torch.testing.assert_close(power.sum() / (8 * 12), perturbations.square().sum(dim=(2, 3)).mean())


@pytest.mark.parametrize(("fy", "fx"), [(0, 5), (3, 4), (8, 8), (10, 15)])
def test_half_power_frequency_of_a_cosine(fy, fx):
    radius, cumulative = cumulative_radial_profile(mean_power_spectrum(cosine(fy, fx)))
    exact = math.hypot(fy / 32, fx / 32) / math.sqrt(0.5)
    assert radius.tolist() == [i / 24 for i in range(24)]
    assert abs(half_power_frequency(radius, cumulative) - exact) <= 1 / 24
    ring = int(exact * 24 + 1e-9)
    assert cumulative[ring].item() == pytest.approx(1)
    assert cumulative[ring - 1].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n", [16, 32, 64])
def test_frequencies_on_the_edge_of_a_ring_are_rounded_alike(n):
    # along the diagonal the radius of frequency f is 2f/n exactly, so with n/2 rings each begins one
    for f in range(n // 2):
        _, cumulative = cumulative_radial_profile(mean_power_spectrum(cosine(f, f, n)), bins=n // 2)
        assert cumulative[f].item() == pytest.approx(1)
        assert f == 0 or cumulative[f - 1].item() < 1e-9


def test_white_noise_fills_the_plane(generator):
    power = mean_power_spectrum(torch.randn(3000, 1, 16, 16, generator=generator))
    assert power.std() / power.mean() < 0.05
    _, cumulative = cumulative_radial_profile(torch.ones(400, 400))
    # inside the Nyquist circle (radius sqrt(1/2) of the corner) lies pi/4 of the square
    assert cumulative[16].item() == pytest.approx(math.pi / 4, abs=0.005)


def test_half_power_is_interpolated():
    radius, cumulative = torch.tensor([0.0, 0.5]), torch.tensor([0.25, 0.75])
    assert half_power_frequency(radius, cumulative) == pytest.approx(0.25)
    assert half_power_frequency(radius, torch.tensor([0.6, 1.0])) == 0


def test_errors():
    with pytest.raises(ValueError, match="n >= 1"):
        mean_power_spectrum(torch.zeros(0, 1, 4, 4))
    with pytest.raises(ValueError, match="NaN"):
        mean_power_spectrum(torch.full((1, 1, 4, 4), float("nan")))
    with pytest.raises(ValueError, match="sums to 0"):
        cumulative_radial_profile(torch.zeros(4, 4))
    with pytest.raises(ValueError, match="bins must be at least 2"):
        cumulative_radial_profile(torch.ones(4, 4), bins=1)
    with pytest.raises(ValueError, match="below one half"):
        half_power_frequency(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.4]))


def test_a_high_frequency_is_one_above_the_cutoff():
    columns = torch.arange(32, dtype=torch.float64)
    slow, fast = (torch.cos(2 * math.pi * f * columns).expand(1, 1, 32, 32) for f in (7 / 32, 9 / 32))
    assert high_frequency_share(mean_power_spectrum(slow)) == pytest.approx(0, abs=1e-12)
    assert high_frequency_share(mean_power_spectrum(fast)) == pytest.approx(1)
    assert high_frequency_share(mean_power_spectrum(2 * slow + fast)) == pytest.approx(1 / 5)


def test_a_frequency_at_the_cutoff_is_not_high():
    at = torch.cos(2 * math.pi * torch.arange(32, dtype=torch.float64) / 4).expand(1, 1, 32, 32)
    assert high_frequency_share(mean_power_spectrum(at)) == pytest.approx(0, abs=1e-12)


def test_white_noise_has_the_share_of_the_planes_area(generator):
    noise = torch.randn(400, 1, 32, 32, generator=generator)
    assert high_frequency_share(mean_power_spectrum(noise)) == pytest.approx(1 - math.pi / 16, abs=0.01)


def test_filters_count_alike_and_zero_ones_not_at_all():
    flat, alternating = torch.ones(1, 3, 3), torch.tensor([[1.0, -1, 1]]).expand(3, 3)[None]
    weight = torch.stack([flat, 100 * alternating, torch.zeros(1, 3, 3)])
    alone = [filter_power(one[None], (16, 16)) for one in (flat, alternating)]
    torch.testing.assert_close(filter_power(weight, (16, 16)), (alone[0] + alone[1]) / 2)
    assert filter_power(weight, (16, 16)).mean().item() == pytest.approx(1)  # Parseval: unit norm
    assert high_frequency_share(alone[0]) < 0.2 < 0.8 < high_frequency_share(alone[1])


def test_errors_of_shares_and_filters():
    with pytest.raises(ValueError, match="cutoff must lie in"):
        high_frequency_share(torch.ones(8, 8), 0.8)
    with pytest.raises(ValueError, match="every filter is zero"):
        filter_power(torch.zeros(2, 1, 3, 3), (8, 8))
    with pytest.raises(ValueError, match="at least the kernel's"):
        filter_power(torch.ones(2, 1, 7, 7), (5, 8))

"""The simulated population behaves as V1 does."""

import pytest
import torch
from torch.nn import functional as F

from simreg_core import neural

SIZE = (12, 12)


@pytest.fixture
def images(generator):
    """Smooth random images."""
    rough = torch.rand(150, 1, 5, 5, generator=generator)
    return F.interpolate(rough, SIZE, mode="bicubic", align_corners=True).clamp(0, 1)


def grating(phase, period=8.0, size=SIZE):
    x = torch.arange(size[1]).expand(size).double()
    return (0.5 + 0.5 * torch.cos(2 * torch.pi * x / period + phase))[None, None]


def test_complex_cells_care_less_for_the_phase_than_simple_ones():
    population = neural.GaborPopulation(SIZE, 200, seed=0)
    phases = torch.arange(8) * torch.pi / 4
    rates = population.rates(torch.cat([grating(phase) for phase in phases]))
    modulation = rates.std(dim=0) / rates.mean(dim=0)
    assert modulation[population.simple].median() > 2 * modulation[~population.simple].median()


def test_uniform_light_drives_no_gabor_and_luminance_cells_alone():
    dark, light = (torch.full((2, 1, *SIZE), level) for level in (0.2, 0.8))
    for cells, differs in (("v1", False), ("linear", False), ("luminance", True)):
        population = neural.GaborPopulation(SIZE, 20, cells=cells)
        assert torch.allclose(population.rates(dark), population.rates(light)) != differs


def test_normalization_saturates_with_contrast(images):
    population = neural.GaborPopulation(SIZE, 50)
    rates = [population.rates(0.5 + contrast * (images - 0.5)).mean() for contrast in (0.1, 0.2, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] < rates[3]
    assert rates[3] < 2 * rates[2]  # four times, without normalization
    assert rates[1] > 2 * rates[0]


def test_affine_controls_are_affine(images):
    population = neural.GaborPopulation(SIZE, 20, cells="linear")
    halfway = population.rates((images[:2] + images[2:4]) / 2)
    assert torch.allclose(halfway, (population.rates(images[:2]) + population.rates(images[2:4])) / 2, atol=1e-6)


def test_trials_average_to_the_rates_times_the_mean_gain(images, generator):
    population = neural.GaborPopulation(SIZE, 20, mean_rate=3.0, gain=0.3)
    trials = population.trials(images[:20], 4000, generator)
    expected = population.rates(images[:20]) * torch.tensor(0.3**2 / 2).exp()
    assert torch.allclose(trials.double().mean(dim=0), expected, rtol=0.1, atol=0.05)
    # a shared gain: more variance than Poisson, and cells vary together
    assert trials.double().var(dim=0).mean() > 1.1 * expected.mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neurons": 1}, "neurons must be at least 2, a simple and a complex cell, got 1"),
        ({"size": (4, 12)}, "at least 8 pixels a side, got 4x12"),
        ({"cells": "grid"}, "unknown cells 'grid'; allowed: v1, linear, luminance"),
        ({"mean_rate": 0}, "mean_rate must be positive"),
    ],
)
def test_a_population_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        neural.GaborPopulation(**{"size": SIZE, **arguments})


def test_images_of_another_size_and_no_trial_are_refused(images, generator):
    population = neural.GaborPopulation((16, 16), 10)
    with pytest.raises(ValueError, match="gray, 16x16"):
        population.rates(images)
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        neural.GaborPopulation(SIZE, 10).trials(images, 0, generator)


def test_one_seed_is_one_animal():
    a, b, c = (neural.GaborPopulation(SIZE, 10, seed=seed).even for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)

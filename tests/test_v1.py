"""The V1 predictor: recovers what it is fitted to, computes what the published one does, refuses what is not it."""

import pytest
import torch
from torch.nn import functional as F

from simreg_core import neural, v1

SIZE = (12, 12)


@pytest.fixture
def images(generator):
    """Smooth random images."""
    rough = torch.rand(150, 1, 5, 5, generator=generator)
    return F.interpolate(rough, SIZE, mode="bicubic", align_corners=True).clamp(0, 1)


def make_predictor(seed=0, size=SIZE, neurons=10, **shape):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return v1.V1Predictor(size, neurons, **{"channels": 8, "kernel": 5, "layers": 1, **shape})


@pytest.fixture
def fitted(images):
    population = v1.GaborPopulation(SIZE, 10, seed=1, mean_rate=2.0)
    trials = population.trials(images, 4, torch.Generator().manual_seed(2))
    predictor = make_predictor()
    return predictor, trials, v1.fit_predictor(predictor, images, trials, torch.arange(20), epochs=15)


# fitting


def test_fitting_predicts_images_that_it_has_not_seen(fitted):
    _, _, fit = fitted
    assert fit.correlations[:5].min() > 0.6  # the simple cells; complex ones take longer
    assert min(fit.held_out_loss) < fit.held_out_loss[0]
    assert fit.correlations.shape == (10,)


def test_fitting_twice_gives_the_same_predictor(fitted, images):
    predictor, trials, fit = fitted
    again = make_predictor()
    assert v1.fit_predictor(again, images, trials, torch.arange(20), epochs=15).train_loss == fit.train_loss
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), predictor.parameters(), strict=True))


def test_the_best_epoch_is_kept(fitted, images):
    predictor, trials, fit = fitted
    rates = predictor.rates(images[:20])
    loss = F.poisson_nll_loss(rates, trials.mean(dim=0)[:20], log_input=False, eps=1e-6)
    assert loss.item() == pytest.approx(min(fit.held_out_loss), rel=1e-5)


def test_fitting_stops_early_where_nothing_is_to_be_learned(images, generator):
    noise = torch.poisson(torch.ones(1, 150, 4), generator=generator)
    fit = v1.fit_predictor(make_predictor(neurons=4), images, noise, torch.arange(20), epochs=40, patience=3)
    assert len(fit.train_loss) < 40
    assert fit.correlations.abs().max() < 0.6


def test_one_trial_mean_is_as_good_as_its_trials(images, fitted):
    """The Poisson loss is linear in the response."""
    _, trials, fit = fitted
    predictor = make_predictor()
    means = trials.mean(dim=0, keepdim=True)
    assert v1.fit_predictor(predictor, images, means, torch.arange(20), epochs=15).train_loss == fit.train_loss


def test_silent_neurons_are_counted_and_have_no_say(images, generator):
    trials = torch.poisson(torch.rand(2, 150, 3, generator=generator), generator=generator)
    trials[:, :, 1] = 0
    predictor = make_predictor(neurons=3)
    fit = v1.fit_predictor(predictor, images, trials, torch.arange(20), epochs=2)
    assert fit.silent.tolist() == [False, True, False]
    assert fit.correlations[1] == 0
    assert torch.isfinite(predictor.rates(images)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, r, h: (x[:100], r, h), r"shape \[trials, 100, neurons\] for 100 images, got \[4, 150, 10\]"),
        (lambda x, r, h: (x, r - 1, h), "needs responses that are not negative, the smallest is -1"),
        (lambda x, r, h: (x, r / 0, h), "NaN or infinite"),
        (lambda x, r, h: (x, r, torch.arange(2)), "held_out must name 3 to 148 of the 150 images, got 2"),
        (lambda x, r, h: (x, r, torch.arange(150)), "got 150"),
        (lambda x, r, h: (2 * x, r, h), r"pixels must lie in \[0, 1\]"),
    ],
)
def test_fitting_refuses(fitted, images, change, message):
    _, trials, _ = fitted
    with pytest.raises(ValueError, match=message):
        v1.fit_predictor(make_predictor(), *change(images, trials, torch.arange(20)))


# the predictor


def test_a_neuron_reads_its_own_point(images):
    """Zero weights everywhere but one channel: the rate is that channel of the map, there."""
    predictor = make_predictor(neurons=1).eval()
    with torch.no_grad():
        predictor.positions.copy_(torch.tensor([[1.0, -1.0]]))  # x right, y top
        predictor.features.zero_()[3] = 1.0
        maps = predictor.core((images - 0.5) / 0.25)
        assert torch.allclose(predictor(images)[:, 0], F.elu(maps[:, 3, 0, -1]) + 1, atol=1e-5)


def test_rates_are_positive_and_the_mode_is_kept(images):
    predictor = make_predictor().train()
    assert (predictor.rates(images) > 0).all()
    assert predictor.training


@pytest.mark.parametrize("shape", [(3, 1, 10, 12), (3, 3, 12, 12)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"takes gray images \[b, 1, 12, 12\]"):
        make_predictor().rates(torch.rand(shape))


def test_images_smaller_than_the_kernel_are_refused():
    with pytest.raises(ValueError, match="8x8 are smaller than the first kernel, 9x9"):
        v1.V1Predictor((8, 8), 5)


def test_predicted_similarity_leaves_out_what_is_not_predicted(fitted, images):
    predictor, *_ = fitted
    v = torch.ones(10)
    v[5:] = -1
    rates = predictor.rates(images).double()
    expected = neural.response_similarity(rates[:, :5] * 2)
    found = v1.predicted_similarity(predictor, images, v1.neuron_weights(2 * torch.ones(10), v))
    assert torch.allclose(found, expected)
    assert v1.neuron_weights() is None


# the published predictor


@pytest.fixture
def published(generator):
    """Random tensors with the names and shapes of the published file, fewer neurons."""
    bias = {"readout.mouse.bias": torch.zeros(7)}
    shapes = v1._published_shapes(bias, "readout.mouse.")
    tensors = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: one.abs() if "running_var" in name else one for name, one in tensors.items()}


def test_the_published_tensors_give_the_published_computation(published):
    """Against the computation written out with functions alone."""
    images = torch.rand(3, 1, 36, 64, generator=torch.Generator().manual_seed(0))
    x = (images * 255 - 113.5) / 59.6
    for layer in range(4):
        at = f"core.features.layer{layer}."
        if layer == 0:
            x = F.conv2d(x, published[f"{at}conv.weight"])
        else:
            x = F.conv2d(x, published[f"{at}ds_conv.in_depth_conv.weight"])
            x = F.conv2d(x, published[f"{at}ds_conv.spatial_conv.weight"], padding=3, groups=64)
            x = F.conv2d(x, published[f"{at}ds_conv.out_depth_conv.weight"])
        norm = [published[f"{at}norm.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        x = F.elu(F.batch_norm(x, *norm))
    r = "readout.mouse."
    first, second = ([published[f"{r}mu_transform.{i}.{part}"] for part in ("weight", "bias")] for i in (0, 2))
    hidden = F.elu(published[f"{r}source_grid"] @ first[0].T + first[1])
    mu = torch.tanh(hidden @ second[0].T + second[1])
    expected = []
    for neuron in range(7):
        at = F.grid_sample(x, mu[neuron].expand(3, 1, 1, 2), align_corners=True)[:, :, 0, 0]
        expected.append(F.elu(at @ published[f"{r}_features"][0, :, 0, neuron] + published[f"{r}bias"][neuron]) + 1)
    found = v1.V1Predictor.from_published(published).rates(images)
    assert torch.allclose(found, torch.stack(expected, dim=1), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("core.features.layer2.norm.bias"), "'core.features.layer2.norm.bias' is missing"),
        (lambda t: t.update({"core.extra": torch.zeros(1)}), "'core.extra' is unknown"),
        (
            lambda t: t.update({"core.features.layer0.conv.weight": torch.zeros(64, 1, 7, 7)}),
            r"'core.features.layer0.conv.weight' is \[64, 1, 7, 7\], expected \[64, 1, 9, 9\]",
        ),
        (lambda t: t["readout.mouse._features"].fill_(torch.nan), "'readout.mouse._features' holds NaN"),
        (lambda t: t.update({"readout.other.bias": torch.zeros(7)}), r"one mouse, got \['mouse', 'other'\]"),
        (lambda t: t.clear(), "one mouse, got none"),
    ],
)
def test_tensors_that_do_not_fit_are_named(published, change, message):
    change(published)
    with pytest.raises(ValueError, match=message):
        v1.V1Predictor.from_published(published)


def test_something_else_than_tensors_is_refused():
    with pytest.raises(ValueError, match="mapping from names to tensors"):
        v1.V1Predictor.from_published([1, 2])


# the simulated population


def grating(phase, period=8.0, size=SIZE):
    x = torch.arange(size[1]).expand(size).double()
    return (0.5 + 0.5 * torch.cos(2 * torch.pi * x / period + phase))[None, None]


def test_complex_cells_care_less_for_the_phase_than_simple_ones():
    population = v1.GaborPopulation(SIZE, 200, seed=0)
    phases = torch.arange(8) * torch.pi / 4
    rates = population.rates(torch.cat([grating(phase) for phase in phases]))
    modulation = rates.std(dim=0) / rates.mean(dim=0)
    assert modulation[population.simple].median() > 2 * modulation[~population.simple].median()


def test_uniform_light_drives_no_gabor_and_luminance_cells_alone():
    dark, light = (torch.full((2, 1, *SIZE), level) for level in (0.2, 0.8))
    for cells, differs in (("v1", False), ("linear", False), ("luminance", True)):
        population = v1.GaborPopulation(SIZE, 20, cells=cells)
        assert torch.allclose(population.rates(dark), population.rates(light)) != differs


def test_normalization_saturates_with_contrast(images):
    population = v1.GaborPopulation(SIZE, 50)
    rates = [population.rates(0.5 + contrast * (images - 0.5)).mean() for contrast in (0.1, 0.2, 0.5, 1.0)]
    assert rates[0] < rates[1] < rates[2] < rates[3]
    assert rates[3] < 2 * rates[2]  # four times, without normalization
    assert rates[1] > 2 * rates[0]


def test_affine_controls_are_affine(images):
    population = v1.GaborPopulation(SIZE, 20, cells="linear")
    halfway = population.rates((images[:2] + images[2:4]) / 2)
    assert torch.allclose(halfway, (population.rates(images[:2]) + population.rates(images[2:4])) / 2, atol=1e-6)


def test_trials_average_to_the_rates_times_the_mean_gain(images, generator):
    population = v1.GaborPopulation(SIZE, 20, mean_rate=3.0, gain=0.3)
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
        v1.GaborPopulation(**{"size": SIZE, **arguments})


def test_images_of_another_size_and_no_trial_are_refused(images, generator):
    population = v1.GaborPopulation((16, 16), 10)
    with pytest.raises(ValueError, match="gray, 16x16"):
        population.rates(images)
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        v1.GaborPopulation(SIZE, 10).trials(images, 0, generator)


def test_one_seed_is_one_animal():
    a, b, c = (v1.GaborPopulation(SIZE, 10, seed=seed).even for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)

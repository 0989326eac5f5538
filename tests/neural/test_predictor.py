"""The V1 predictor recovers what it is fitted to."""

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


def make_predictor(seed=0, size=SIZE, neurons=10, **shape):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return neural.V1Predictor(size, neurons, **{"channels": 8, "kernel": 5, "layers": 1, **shape})


@pytest.fixture
def fitted(images):
    population = neural.GaborPopulation(SIZE, 10, seed=1, mean_rate=2.0)
    trials = population.trials(images, 4, torch.Generator().manual_seed(2))
    predictor = make_predictor()
    return predictor, trials, neural.fit_predictor(predictor, images, trials, torch.arange(20), epochs=15)


def test_fitting_predicts_images_that_it_has_not_seen(fitted):
    _, _, fit = fitted
    assert fit.correlations[:5].min() > 0.6  # the simple cells; complex ones take longer
    assert min(fit.held_out_loss) < fit.held_out_loss[0]
    assert fit.correlations.shape == (10,)


def test_fitting_twice_gives_the_same_predictor(fitted, images):
    predictor, trials, fit = fitted
    again = make_predictor()
    assert neural.fit_predictor(again, images, trials, torch.arange(20), epochs=15).train_loss == fit.train_loss
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), predictor.parameters(), strict=True))


def test_the_best_epoch_is_kept(fitted, images):
    predictor, trials, fit = fitted
    rates = predictor.rates(images[:20])
    loss = F.poisson_nll_loss(rates, trials.mean(dim=0)[:20], log_input=False, eps=1e-6)
    assert loss.item() == pytest.approx(min(fit.held_out_loss), rel=1e-5)


def test_fitting_stops_early_where_nothing_is_to_be_learned(images, generator):
    noise = torch.poisson(torch.ones(1, 150, 4), generator=generator)
    fit = neural.fit_predictor(make_predictor(neurons=4), images, noise, torch.arange(20), epochs=40, patience=3)
    assert len(fit.train_loss) < 40
    assert fit.correlations.abs().max() < 0.6


def test_one_trial_mean_is_as_good_as_its_trials(images, fitted):
    """The Poisson loss is linear in the response."""
    _, trials, fit = fitted
    predictor = make_predictor()
    means = trials.mean(dim=0, keepdim=True)
    assert neural.fit_predictor(predictor, images, means, torch.arange(20), epochs=15).train_loss == fit.train_loss


def test_silent_neurons_are_counted_and_have_no_say(images, generator):
    trials = torch.poisson(torch.rand(2, 150, 3, generator=generator), generator=generator)
    trials[:, :, 1] = 0
    predictor = make_predictor(neurons=3)
    fit = neural.fit_predictor(predictor, images, trials, torch.arange(20), epochs=2)
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
        neural.fit_predictor(make_predictor(), *change(images, trials, torch.arange(20)))


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
        neural.V1Predictor((8, 8), 5)


def test_predicted_similarity_leaves_out_what_is_not_predicted(fitted, images):
    predictor, *_ = fitted
    v = torch.ones(10)
    v[5:] = -1
    rates = predictor.rates(images).double()
    expected = neural.response_similarity(rates[:, :5] * 2)
    found = neural.predicted_similarity(predictor, images, neural.neuron_weights(2 * torch.ones(10), v))
    assert torch.allclose(found, expected)
    assert neural.neuron_weights() is None

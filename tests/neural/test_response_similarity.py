"""Similarities of responses: against numpy and scipy, invariances, known answers, refusals."""

import numpy as np
import pytest
import scipy.stats
import torch

from simreg_core import neural, pixel_similarity

C = neural.similarity_correlation


def upper(matrix):
    return matrix.numpy()[np.triu_indices(len(matrix), 1)]


@pytest.fixture
def responses(generator):
    return torch.rand(20, 30, generator=generator, dtype=torch.float64)


@pytest.fixture
def two(generator):
    """Two similarities of 40 images that share part of their structure."""
    shared = torch.randn(40, 10, generator=generator, dtype=torch.float64)
    own = torch.randn(2, 40, 10, generator=generator, dtype=torch.float64)
    return [neural.response_similarity(torch.cat([shared, one], dim=1)) for one in own]


# response_similarity


def test_equals_the_cosine_of_centred_responses(responses):
    centred = responses.numpy() - responses.numpy().mean(axis=0)
    expected = np.corrcoef(centred, rowvar=True)  # not the same: it subtracts each image's mean
    cosine = centred @ centred.T / np.outer(*[np.linalg.norm(centred, axis=1)] * 2)
    found = neural.response_similarity(responses)
    assert np.allclose(found, cosine)
    assert not np.allclose(found, expected)


def test_pixels_as_responses_give_pixel_similarity(generator):
    images = torch.rand(12, 1, 8, 8, generator=generator)
    assert torch.allclose(neural.response_similarity(images.flatten(1)), pixel_similarity(images), atol=1e-5)


def test_rotating_scaling_and_shifting_the_population_changes_nothing(responses, generator):
    rotation, _ = torch.linalg.qr(torch.randn(30, 30, generator=generator, dtype=torch.float64))
    found = neural.response_similarity(responses)
    assert torch.allclose(neural.response_similarity(3 * responses @ rotation + 5), found)


def test_weights_scale_neurons_and_zero_leaves_one_out(responses):
    weights = torch.ones(30, dtype=torch.float64)
    weights[10:] = 0
    assert torch.allclose(neural.response_similarity(responses, weights), neural.response_similarity(responses[:, :10]))
    weights[:10] = 2
    assert torch.allclose(neural.response_similarity(responses, weights), neural.response_similarity(responses[:, :10]))


def test_an_average_response_is_similar_to_nothing():
    responses = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    assert neural.response_similarity(responses)[2].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: (r[0],), r"shape \[images, neurons\]"),
        (lambda r: (r[:1],), "at least two images"),
        (lambda r: (torch.where(r > 0.9, torch.nan, r),), "values that are NaN"),
        (lambda r: (r, torch.ones(7)), r"weights must have shape \[30\], one per neuron, got \[7\]"),
        (lambda r: (r, -torch.ones(30)), "weights must not be negative"),
        (lambda r: (r, torch.zeros(30)), "nor all 0"),
    ],
)
def test_response_similarity_refuses(responses, change, message):
    with pytest.raises(ValueError, match=message):
        neural.response_similarity(*change(responses))


# reliability


def test_weights_recover_signal_over_noise(generator):
    signal = torch.tensor([0.5, 1.0, 2.0])
    noise = torch.tensor([1.0, 2.0, 0.5])
    images = signal * torch.randn(400, 3, generator=generator)
    repeats = images + noise * torch.randn(30, 400, 3, generator=generator)
    found = neural.reliability(repeats, splits=3)
    # the trial mean keeps a thirtieth of the noise variance
    expected = ((signal**2 + noise**2 / 30) / noise**2).sqrt()
    assert torch.allclose(found.weights.float(), expected, rtol=0.1)


def test_neurons_that_never_fire_or_never_vary_are_counted_and_left_out(generator):
    repeats = torch.rand(4, 10, 5, generator=generator)
    repeats[:, :, 1] = 0
    repeats[:, :, 3] = repeats[:1, :, 3]
    found = neural.reliability(repeats)
    assert found.silent.tolist() == [False, True, False, False, False]
    assert found.constant.tolist() == [False, False, False, True, False]
    assert (found.weights == 0).tolist() == [False, True, False, True, False]


def test_split_half_is_one_without_noise_and_near_zero_without_signal(generator):
    images = torch.rand(30, 20, generator=generator)
    tiny = 1e-6 * torch.rand(6, 30, 20, generator=generator)
    found = neural.reliability(images + tiny)
    assert found.split_half > 0.999
    assert found.ceiling > 0.999
    noise = neural.reliability(torch.rand(6, 30, 20, generator=generator))
    assert abs(noise.split_half) < 0.1


def test_the_ceiling_is_about_how_well_the_trial_mean_matches_the_truth(generator):
    truth = torch.rand(60, 40, generator=generator, dtype=torch.float64)
    repeats = truth + 0.5 * torch.randn(8, 60, 40, generator=generator, dtype=torch.float64)
    matched = C(neural.response_similarity(repeats.mean(dim=0)), neural.response_similarity(truth))
    assert neural.reliability(repeats).ceiling == pytest.approx(matched, abs=0.06)


@pytest.mark.parametrize(
    ("repeats", "arguments", "message"),
    [
        (torch.rand(1, 5, 3), {}, "at least two trials of each image, got 1"),
        (torch.rand(3, 2, 3), {}, "at least three images, got 2"),
        (torch.rand(5, 3), {}, r"shape \[trials, images, neurons\], got \[5, 3\]"),
        (torch.zeros(3, 5, 4), {}, "none of the 4 neurons varies from trial to trial: 4 never fire"),
        (torch.rand(3, 5, 3), {"splits": 0}, "splits must be at least 1, got 0"),
        (torch.full((3, 5, 3), torch.inf), {}, "NaN or infinite"),
    ],
)
def test_reliability_refuses(repeats, arguments, message):
    with pytest.raises(ValueError, match=message):
        neural.reliability(repeats, **arguments)


# averages and checks


def test_average_of_similarities(two):
    assert torch.allclose(neural.averaged_similarity(two), (two[0] + two[1]) / 2)


def test_averaging_refuses_none_and_different_sizes(two):
    with pytest.raises(ValueError, match="at least one"):
        neural.averaged_similarity([])
    with pytest.raises(ValueError, match="of 10 and of 40 images"):
        neural.averaged_similarity([two[0], two[1][:10, :10]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[:5], r"must be square, got shape \[5, 40\]"),
        (lambda s: s.triu(), "must be symmetric; entries across the diagonal differ by up to"),
        (lambda s: 2 * s, r"must lie in \[-1, 1\]"),
        (lambda s: s.fill_(torch.nan), "holds 1600 values that are NaN"),
        (lambda s: s.long(), "floating-point numbers, got torch.int64"),
        (lambda s: s[:30, :30], "is of 30 images, but there are 40"),
    ],
)
def test_a_matrix_that_is_no_similarity_is_refused(two, change, message):
    with pytest.raises(ValueError, match=message):
        neural.check_similarity(change(two[0]), images=40)


def test_rounding_beyond_one_is_clamped(two):
    assert neural.check_similarity(two[0] * (1 + 1e-5)).max() == 1


# comparison


def test_correlations_equal_those_of_scipy(two):
    assert C(*two) == pytest.approx(scipy.stats.pearsonr(*map(upper, two)).statistic)
    tied = [one.mul(5).round() / 5 for one in two]
    assert C(*tied, ranks=True) == pytest.approx(scipy.stats.spearmanr(*map(upper, tied)).statistic)


def test_a_resample_is_the_correlation_over_its_pairs(two):
    """The quadratic forms against a plain bootstrap that lists the pairs."""
    found = neural.correlation_interval(*two, resamples=200, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    i, j = np.triu_indices(40, 1)
    plain = []
    for _ in range(2):  # drawn a hundred at once
        for chosen in torch.randint(40, (100, 40), generator=generator).numpy():
            different = chosen[i] != chosen[j]
            a, b = (one.numpy()[chosen[i], chosen[j]][different] for one in two)
            plain.append(np.corrcoef(a, b)[0, 1])
    assert found == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])))


def test_the_interval_covers_the_true_correlation_about_as_often_as_it_says():
    """Resampling pairs instead of images would cover far less: pairs that share an image move together."""
    generator = torch.Generator().manual_seed(7)

    def similarities(images):
        x = torch.randn(images, 12, generator=generator, dtype=torch.float64)
        return neural.response_similarity(x[:, :8]), neural.response_similarity(x[:, 4:])

    truth = C(*similarities(1500))
    covered = 0
    for _ in range(60):
        low, high = neural.correlation_interval(*similarities(60), resamples=200, generator=generator)
        covered += low < truth < high
    assert covered >= 50


def test_mantel_p_is_small_for_related_and_uniform_for_unrelated_similarities(two):
    assert neural.mantel_test(*two, permutations=199) == pytest.approx(1 / 200)
    generator = torch.Generator().manual_seed(3)
    ps = []
    for _ in range(100):
        unrelated = torch.randn(2, 20, 5, generator=generator, dtype=torch.float64)
        ps.append(neural.mantel_test(*map(neural.response_similarity, unrelated), 99, generator))
    assert scipy.stats.kstest(ps, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: neural.similarity_correlation(a, b[:5, :5]), "of the same images"),
        (lambda a, b: neural.similarity_correlation(a[:2, :2], b[:2, :2]), "at least three images, got 2"),
        (lambda a, b: neural.correlation_interval(a, b, resamples=1), "resamples must be at least 10, got 1"),
        (lambda a, b: neural.correlation_interval(a, b, confidence=95), r"confidence must lie in \(0, 1\), got 95"),
        (lambda a, b: neural.mantel_test(a, b, permutations=0), "permutations must be at least 1, got 0"),
    ],
)
def test_comparisons_refuse(two, call, message):
    with pytest.raises(ValueError, match=message):
        call(*two)


def test_a_similarity_that_does_not_vary_has_no_correlation(two):
    assert np.isnan(C(two[0], torch.zeros(40, 40)))

"""Drawing pairs: each once per epoch, in a random order that a generator decides; what is refused."""

import pytest
import torch

from simreg_core import PairSampler, pixel_similarity, threshold_targets
from simreg_core.pairs import PAIR_RANGES, _permute


def in_range(s, pairs, high, low):
    return {
        "all": True,
        "high": abs(s) > high,
        "low": abs(s) < high,
        "double": abs(s) > high or abs(s) < low,
        "positive": s > high or abs(s) < high,
        "negative": s < -high or abs(s) < high,
    }[pairs]


@pytest.mark.parametrize("pairs", PAIR_RANGES)
def test_an_epoch_draws_each_pair_of_its_range_once(pairs, generator):
    similarity = pixel_similarity(torch.rand(25, 1, 2, 2, generator=generator))
    targets = threshold_targets(similarity, 0.6)
    sampler = PairSampler(similarity, targets, pairs, threshold=0.6, low_threshold=0.2)
    expected = {
        (i, j) for i in range(25) for j in range(i + 1, 25) if in_range(similarity[i, j].item(), pairs, 0.6, 0.2)
    }
    assert len(sampler) == len(expected) > 0
    drawn = []
    for _ in range(len(sampler)):
        rows, cols, target = sampler.draw(1, generator)
        assert target.item() == targets[rows, cols].item()
        drawn.append((rows.item(), cols.item()))
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) == expected


def test_a_new_epoch_has_another_order_and_drops_the_rest(generator):
    similarity = pixel_similarity(torch.rand(6, 1, 3, 3, generator=generator))
    sampler = PairSampler(similarity, similarity)  # 15 pairs
    epochs = []
    for _ in range(2):
        batches = [sampler.draw(4, generator) for _ in range(3)]  # three are left, fewer than four
        epochs.append([pair for rows, cols, _ in batches for pair in zip(rows.tolist(), cols.tolist(), strict=True)])
        assert len(set(epochs[-1])) == 12
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(("drawn_before", "steps"), [(0, 3), (0, 10), (2, 9), (3, 1)])
def test_many_draws_at_once_are_those_one_after_another(drawn_before, steps):
    similarity = pixel_similarity(torch.rand(6, 1, 3, 3, generator=torch.Generator().manual_seed(1)))
    one, many = PairSampler(similarity, similarity), PairSampler(similarity, similarity)  # 15 pairs, epochs of 3 draws
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    for _ in range(drawn_before):
        one.draw(4, generators[0])
        many.draw(4, generators[1])
    expected = [one.draw(4, generators[0]) for _ in range(steps)]
    for row, got in zip(zip(*expected, strict=True), many.draw_many(steps, 4, generators[1]), strict=True):
        assert torch.equal(torch.stack(row), got)


def test_draws_depend_on_the_generator_alone():
    similarity = pixel_similarity(torch.rand(40, 1, 3, 3, generator=torch.Generator().manual_seed(1)))

    def draw(seed):
        rows, cols, _ = PairSampler(similarity, similarity).draw(20, torch.Generator().manual_seed(seed))
        return rows.tolist(), cols.tolist()

    assert draw(5) == draw(5) != draw(6)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 65, 1000, 4950])
def test_the_order_is_a_permutation(count, generator):
    keys = torch.randint(0, 2**31, (6,), generator=generator)
    assert sorted(_permute(torch.arange(count), count, keys).tolist()) == list(range(count))


def test_first_draws_are_uniform():
    # chi-square of 15 pairs over 600 first draws: mean 14, s.d. 5.3; a pair that is never first adds 43
    similarity = pixel_similarity(torch.rand(6, 1, 3, 3, generator=torch.Generator().manual_seed(2)))
    generator = torch.Generator().manual_seed(4)
    counts = torch.zeros(6, 6)
    for _ in range(600):
        rows, cols, _ = PairSampler(similarity, similarity).draw(1, generator)
        counts[rows, cols] += 1
    rows, cols = torch.triu_indices(6, 6, offset=1)
    assert 2 < ((counts[rows, cols] - 40).square() / 40).sum() < 36


def test_state_goes_on_with_the_same_pairs(generator):
    similarity = pixel_similarity(torch.rand(20, 1, 3, 3, generator=generator))
    first, second = PairSampler(similarity, similarity), PairSampler(similarity, similarity)
    first.draw(7, generator)
    second.load_state(first.state())
    unused = torch.Generator()
    assert first.draw(7, unused)[0].tolist() == second.draw(7, unused)[0].tolist()


@pytest.mark.parametrize("draws", [0, 3])
def test_state_is_one_tensor_of_one_shape(draws, generator):
    similarity = pixel_similarity(torch.rand(6, 1, 3, 3, generator=generator))
    first, second = PairSampler(similarity, similarity), PairSampler(similarity, similarity)
    for _ in range(draws):
        first.draw(2, generator)
    second.draw(5, torch.Generator())  # elsewhere
    second.load_state(first.state())
    assert first.state().shape == (7,)
    assert torch.equal(first.state(), second.state())
    own, copied = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    for _ in range(8):
        assert all(map(torch.equal, first.draw(2, own), second.draw(2, copied)))
    with pytest.raises(ValueError, match=r"shape \[7\], got \[6\]"):
        second.load_state(torch.zeros(6, dtype=torch.int64))


@pytest.mark.parametrize("pairs", PAIR_RANGES)
def test_the_default_device_does_not_matter(pairs, generator):
    similarity = pixel_similarity(torch.rand(25, 1, 2, 2, generator=generator))
    with torch.device("meta"):  # as "cuda" where there is a GPU
        sampler = PairSampler(similarity, threshold_targets(similarity, 0.6), pairs, 0.6, 0.2)
        drawn = [*sampler.draw(3, generator), *sampler.draw_many(5, 3, generator)]
        sampler.load_state(sampler.state())
        drawn += sampler.draw(3, generator)
    assert {one.device.type for one in [*drawn, sampler.state()]} == {"cpu"}


def test_sampler_errors(generator):
    similarity = pixel_similarity(torch.rand(8, 1, 9, 9, generator=generator))
    targets = threshold_targets(similarity, 0.5)
    with pytest.raises(ValueError, match="unknown pair range 'some'; allowed: all, high"):
        PairSampler(similarity, targets, "some")
    with pytest.raises(ValueError, match="needs a threshold"):
        PairSampler(similarity, targets, "high")
    with pytest.raises(ValueError, match=r"low_threshold in \(0, 0.5\), got 0.7"):
        PairSampler(similarity, targets, "double", threshold=0.5, low_threshold=0.7)
    with pytest.raises(ValueError, match=r"k must lie in \[1, 28\].*got 29"):
        PairSampler(similarity, targets).draw(29, generator)
    with pytest.raises(ValueError, match=r"k must be a whole number in \[1, 28\], got 2.5"):
        PairSampler(similarity, targets).draw(2.5, generator)
    with pytest.raises(ValueError, match=r"low_threshold must be a number in \(0, 1\), got '0.2'"):
        PairSampler(similarity, targets, "double", threshold=0.5, low_threshold="0.2")
    with pytest.raises(ValueError, match="shape of similarity"):
        PairSampler(similarity, targets[:4, :4])
    with pytest.raises(ValueError, match=r"targets must lie in \[-1, 1\]"):
        PairSampler(similarity, targets * 2 + 3)
    with pytest.raises(ValueError, match="NaN"):
        PairSampler(similarity * float("nan"), targets)


def test_an_empty_range_says_which_threshold_would_give_pairs(generator):
    similarity = pixel_similarity(torch.rand(8, 1, 9, 9, generator=generator))
    off_diagonal = similarity[~torch.eye(8, dtype=torch.bool)].abs()
    with pytest.raises(ValueError, match=f"largest .S. is {off_diagonal.max():.4f}; a threshold below"):
        PairSampler(similarity, similarity, "high", threshold=0.99)
    with pytest.raises(ValueError, match=f"a threshold above {off_diagonal.min():.4f} would give pairs"):
        PairSampler(similarity, similarity, "low", threshold=1e-9)


def test_targets_that_are_not_symmetric_are_refused():
    targets = torch.zeros(2000, 2000)
    targets[1500, 3] = 0.5
    with pytest.raises(ValueError, match=r"targets must be symmetric; entries across the diagonal differ by up to 0.5"):
        PairSampler(torch.zeros(2000, 2000), targets)

"""Similarities beside the cosine of pixels against their definitions; targets of equal shares."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch.nn import functional as F

from simreg_core import pixel_similarity, threshold_targets
from simreg_core.names import TARGET_SIMILARITIES
from simreg_core.other_similarities import (
    blurred_similarity,
    matched_targets,
    rbf_similarity,
    ssim_similarity,
    target_similarity,
    untrained_similarity,
)


@pytest.fixture
def images(generator):
    return torch.rand(9, 1, 12, 15, generator=generator, dtype=torch.float64)


def test_ssim_of_every_window_is_that_of_scikit_image(images):
    found = ssim_similarity(images, window=7, stride=1)
    for i in range(3):
        for j in range(4):
            pair = images[i, 0].numpy(), images[j, 0].numpy()
            expected = structural_similarity(*pair, win_size=7, data_range=1, use_sample_covariance=False)
            assert found[i, j].item() == pytest.approx(expected)


def test_ssim_of_a_table_has_one_window_a_place():
    rows = torch.rand(4, 1, 1, 30, generator=torch.Generator().manual_seed(1))
    assert ssim_similarity(rows).diagonal().allclose(torch.ones(4))  # a window of 1x1


def test_rbf_is_a_gaussian_of_the_distance(images):
    found = rbf_similarity(images)
    flat = images.flatten(1).numpy()
    squares = np.array([[((a - b) ** 2).sum() for b in flat] for a in flat])
    pairs = torch.tensor(squares[np.triu_indices(9, 1)])
    np.testing.assert_allclose(found.numpy(), np.exp(-squares / pairs.median().item()), atol=1e-12)


def test_a_blur_leaves_coarse_differences_only(generator):
    fine = torch.rand(6, 1, 16, 16, generator=generator)
    coarse = F.interpolate(torch.rand(6, 1, 4, 4, generator=generator), size=(16, 16), mode="nearest")
    alone, both = blurred_similarity(coarse), blurred_similarity(coarse / 2 + fine / 2)
    upper = tuple(torch.triu_indices(6, 6, offset=1))
    plain = pixel_similarity(coarse / 2 + fine / 2)
    assert (both - alone)[upper].abs().mean() < 0.5 * (plain - alone)[upper].abs().mean()


def test_an_untrained_network_is_the_same_for_a_seed_and_leaves_the_random_state(images):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = untrained_similarity(images, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, untrained_similarity(images, seed=1))
    assert not torch.allclose(first, untrained_similarity(images, seed=2))
    assert first.diagonal().allclose(torch.ones(9, dtype=torch.float64))
    twice = untrained_similarity(torch.cat([images, images[:1]]), seed=1)
    assert twice[0, -1].item() == pytest.approx(1)


@pytest.mark.parametrize("name", TARGET_SIMILARITIES)
def test_every_similarity_is_symmetric_and_largest_of_an_image_with_itself(name, generator):
    found = target_similarity(name, torch.rand(8, 3, 16, 16, generator=generator))
    assert found.allclose(found.T, atol=1e-6)
    assert (found.diagonal() + 1e-6 >= found.max(dim=1).values).all()


def test_an_unknown_similarity_is_refused(images):
    with pytest.raises(ValueError, match="unknown target similarity 'l1'; allowed: euclidean, ssim, blurred"):
        target_similarity("l1", images)


def test_matched_targets_have_the_same_shares_and_the_extreme_pairs(generator):
    pixels = torch.rand(20, 1, 4, 4, generator=generator)
    like = threshold_targets(pixel_similarity(pixels), 0.3)
    other = torch.randn(20, 20, generator=generator)
    other = other + other.T
    found = matched_targets(other, like)
    assert torch.equal(found, found.T)
    assert torch.equal(found.diagonal(), like.diagonal())
    for target in (-1, 0, 1):
        assert (found == target).sum() == (like == target).sum() > 0
    off = ~torch.eye(20, dtype=torch.bool)
    assert other[off & (found == 1)].min() > other[off & (found == 0)].max()
    assert other[off & (found == -1)].max() < other[off & (found == 0)].min()
    assert torch.equal(matched_targets(pixel_similarity(pixels), like), like)  # of its own similarity: S^Th again
    with pytest.raises(ValueError, match=r"similarity \[3, 3\] and targets \[2, 2\] differ in shape"):
        matched_targets(torch.eye(3), torch.eye(2))

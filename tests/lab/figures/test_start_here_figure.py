"""The pairs of the first figure are as similar as their title says, and such that one can see it."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from simreg_core.lab.figures import start_here
from simreg_core.lab.figures.start_here import clearest_pairs


def patterns():
    """Two faint images that are alike, two strong ones that are, and the negative of a strong one; similarities."""
    stripes, faint = np.tile([0.0, 1.0], (4, 2)), np.tile([0.5, 0.6, 0.6, 0.5], (4, 1))
    images = np.stack([faint, faint, stripes, stripes * 0.9, 1 - stripes])
    centred = (images - images.mean(axis=(1, 2), keepdims=True)).reshape(5, -1)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return images, unit @ unit.T


def test_of_pairs_that_are_alike_the_one_with_most_contrast_is_shown():
    images, similarity = patterns()
    assert similarity[0, 1] == similarity.max() == pytest.approx(similarity[2, 3])
    assert clearest_pairs(images, similarity, (1.0,)) == [(2, 3)]
    assert clearest_pairs(images, similarity, (-1.0,)) == [(2, 4)]
    assert clearest_pairs(images, similarity, (1.0, -1.0)) == [(2, 3), (2, 4)]  # no such pair without one of them
    assert clearest_pairs(images, similarity, (1.0, 1.0)) == [(2, 3), (0, 1)]  # others are left


def test_pairs_are_as_similar_as_the_nearest_within_the_tolerance():
    generator = np.random.default_rng(0)
    similarity = generator.uniform(-1, 1, (30, 30))
    similarity = (similarity + similarity.T) / 2
    for (i, j), wanted in zip(clearest_pairs(generator.random((30, 4, 4)), similarity, (0.4,)), (0.4,), strict=True):
        above = similarity[np.triu_indices(30, k=1)]
        assert abs(similarity[i, j] - wanted) <= np.abs(above - wanted).min() + start_here.NEAR


def test_the_picture_shows_pairs_with_their_mean_image_taken_off_and_the_share_of_each_target():
    generator = np.random.default_rng(1)
    images = generator.random((12, 4, 4))
    centred = (images - images.mean(axis=0)).reshape(12, -1)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    similarity = unit @ unit.T
    picture = start_here._picture_of(images, similarity, (0.2, 0.4))
    *pairs, pixel, low, high, _ = picture.axes
    above, below = np.reshape(pairs, (2, -1))
    for upper, lower in zip(above, below, strict=True):
        one, other = (ax.images[0].get_array().ravel() for ax in (upper, lower))
        written = float(upper.get_title().removeprefix("S = ").replace("−", "-"))
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) == pytest.approx(written, abs=0.006)
    share = (np.abs(similarity[np.triu_indices(12, k=1)]) > 0.4).mean()
    assert high.get_title().endswith(f"{share:.1%} at ±1")
    assert np.abs(low.images[0].get_array()).sum() > np.abs(high.images[0].get_array()).sum()
    assert np.asarray(pixel.images[0].get_array()) == pytest.approx(similarity)
    plt.close(picture)

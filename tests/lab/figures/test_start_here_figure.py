"""The pairs of the first figure are as similar as their title says, and such that one can see it."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from simreg_core.lab.figures import figure, start_here
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


def test_pairs_are_shown_with_their_mean_image_taken_off():
    generator = np.random.default_rng(1)
    images = generator.random((12, 4, 4))
    centred = (images - images.mean(axis=0)).reshape(12, -1)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    picture = plt.figure()
    start_here._pairs(picture, images, unit @ unit.T)
    above, below = np.reshape(picture.axes, (2, -1))
    for upper, lower in zip(above, below, strict=True):
        one, other = (ax.images[0].get_array().ravel() for ax in (upper, lower))
        written = float(upper.get_title().removeprefix("S = ").replace("−", "-"))
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) == pytest.approx(written, abs=0.006)
    plt.close(picture)


def test_the_matrices_are_those_of_the_records(monkeypatch):
    similarity = np.array([[1, 0.5, -0.9], [0.5, 1, 0.1], [-0.9, 0.1, 1]])
    pairs = similarity[np.triu_indices(3, k=1)]
    layers = {"none": [[pairs, 0 * pairs]], "S^Th": [[-pairs, pairs]]}
    arrays = {
        "pixel_pairs": {name: [pairs] for name in layers},
        "layer_pairs": layers,
        "layer_weights": {"S^Th": [[0.25, 0.75]]},
    }
    study = figure("00_start_here").open("quick")
    of = {name: {series: np.array(value) for series, value in own.items()} for name, own in arrays.items()}
    monkeypatch.setattr(type(study), "arrays", lambda self, name, group: of[name])
    (_, pixel, _), (title, target, _), (_, without, (none,)), (_, with_loss, (regularized,)) = start_here.matrices(
        study
    )
    assert pixel == pytest.approx(similarity)
    assert f"Th = {study.profile.regularizer.threshold:g}" in title
    assert target.tolist() == [[1, 1, -1], [1, 1, 0], [-1, 0, 1]]
    assert (none, regularized) == ("none", "S^Th")
    assert without[0, 1:] == pytest.approx(0.25 * similarity[0, 1:])
    assert with_loss[0, 1:] == pytest.approx(0.5 * similarity[0, 1:])
    assert (without.diagonal() == 1).all()


def test_the_slider_without_a_kernel_has_a_picture_for_each_threshold_and_is_small():
    study = figure("00_start_here").open("quick", count=40)
    html = start_here.threshold_slider(study)
    assert html.count("data:image/png;base64") == 18
    assert len(html) < 1_000_000
    similarity = start_here.shown(study).similarity.numpy()
    table = start_here.thresholds(study).set_index("threshold")
    pairs = similarity[np.triu_indices(40, k=1)]
    assert table.loc[0.2, "share_minus_one"] == pytest.approx((pairs < -0.2).mean())
    assert table.loc[0.2, "share_plus_one"] == pytest.approx((pairs > 0.2).mean())
    assert (table.loc[0.2] > 0).all()

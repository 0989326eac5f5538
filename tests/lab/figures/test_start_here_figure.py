"""The pairs of the first figure are as similar as their title says, and such that one can see it."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from simreg_core.lab import pretrained
from simreg_core.lab.figures import figure, kit_attacks, start_here
from simreg_core.lab.figures.start_here import clearest_pairs
from simreg_core.lab.make.notebooks import NOTEBOOKS
from simreg_core.lab.select import selection_ratios


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Figure 00 of quick, from the committed records only."""
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path))
    return figure("00_start_here").open("quick")


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
    start_here._pairs(picture, images, unit @ unit.T, 0.3)
    above, below = np.reshape(picture.axes, (2, -1))
    targets = set()
    for upper, lower in zip(above, below, strict=True):
        one, other = (ax.images[0].get_array().ravel() for ax in (upper, lower))
        similarity = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        written = float(upper.get_title().removeprefix("S = ").replace("−", "-"))
        assert similarity == pytest.approx(written, abs=0.006)
        target = int(lower.get_xlabel().removeprefix("target ").replace("−", "-"))
        assert target == (1 if similarity > 0.3 else -1 if similarity < -0.3 else 0)
        targets.add(target)
    assert targets == {1, 0, -1}
    plt.close(picture)


def test_the_picture_has_pairs_targets_both_networks_and_published_noise_curves(study):
    picture = start_here.draw(study, "released")
    titles = [ax.get_title() for ax in picture.findobj(plt.Axes)]
    assert sum(title.startswith("S = ") for title in titles) == 6
    assert [title.split("\n")[1] for title in titles if title.startswith(start_here.S_CNN)] == [
        "without the loss",
        "with the loss",
    ]
    dashed = [line for line in picture.findobj(plt.Line2D) if line.get_linestyle() == "--" and len(line.get_xdata())]
    for series, look in kit_attacks.main_looks("MNIST").items():
        published = kit_attacks.published_curve(look, "gaussian")
        own = [line for line in dashed if line.get_color() == look.colour and len(line.get_xdata()) == len(published)]
        assert len(own) == (series in study.series), series
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


def test_the_slider_over_alpha_shows_the_networks_of_notebook_03(study, monkeypatch):
    monkeypatch.setattr(start_here, "_slider", lambda figure, frame, values, _: (figure, frame, values))
    picture, frame, alphas = start_here.alpha_slider(study)
    assert alphas == list(study.profile.selection.alphas)
    table = figure("03_hyperparameter_selection").open("quick").table()
    ratios = selection_ratios(table, "gaussian")
    for alpha in alphas:
        frame(alpha)
        none, *lines = picture.axes[0].lines
        assert len(lines) == len(study.profile.selection.thresholds)
        shown = [tuple(line.get_ydata() / none.get_ydata()) for line in lines]
        own = ratios[ratios["alpha"] == alpha].sort_values("threshold")
        assert np.array(shown) == pytest.approx(own[["clean", "robust"]].to_numpy())
        assert f"α = {alpha:g}" in picture.get_suptitle()
    plt.close(picture)


def test_both_sliders_of_the_notebook_are_small_and_need_no_kernel(study):
    html = start_here.alpha_slider(study) + start_here.threshold_slider(study)
    assert "://" not in html  # nor the network
    assert html.count("<button") == 2 * len(start_here.BUTTONS)
    assert html.count("▶</button>") == 2
    assert html.count("data:image/png;base64") == len(study.profile.selection.alphas) + 18
    assert html.count('<img alt="') == html.count("<img") == 2
    assert len(set(re.findall(r"(anim\w+) = new Animation", html))) == 2  # each player has its own
    assert html == start_here.alpha_slider(study) + start_here.threshold_slider(
        study
    )  # publishing again changes nothing
    assert len(html) < 600_000
    assert (NOTEBOOKS / "00_start_here.ipynb").stat().st_size < 1_000_000


def test_the_slider_over_alpha_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RECORDS", str(tmp_path))
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path))
    assert "Notebook 03 trains the networks" in start_here.alpha_slider(figure("00_start_here").open("quick"))
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_the_reader_is_measured_as_those_of_the_figure(study):
    network = pretrained("quick", "S^Th").train()
    measured = start_here.under_noise(study, network)
    assert network.training
    table = study.table()
    own = table[(table["series"] == "S^Th") & (table["seed"] == 0) & (table["attack"] == "gaussian")]
    assert measured["epsilon"].tolist() == own["epsilon"].tolist()
    assert measured["accuracy"].to_numpy() == pytest.approx(own["value"].to_numpy(), abs=2 / 500)  # other kernels

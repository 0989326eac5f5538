"""The figure of layer weights shows seeds as lines, since their mean hides which layer wins in each."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from simreg_core.lab.figures import figure, layer_weights
from simreg_core.lab.figures.kit import SEEDS, finding
from simreg_core.lab.specs import load_profile


@pytest.fixture
def study():
    yield figure("10_layer_weights").study(load_profile("quick"))
    plt.close("all")


def test_every_seed_is_a_line_over_training_and_over_layers(study):
    during, *after = study.draw().axes
    weights = study.arrays("layer_weights")
    first = next(iter(weights.values()))
    seeds, epochs, layers = first.shape
    lines = [line for line in during.lines if line.get_gid() == SEEDS]
    assert [len(line.get_ydata()) for line in lines] == [epochs + 1] * seeds * layers
    assert [line.get_ydata()[-1] for line in lines[:seeds]] == pytest.approx(first[:, -1, 0])  # of the stem
    for ax, values in zip(after, weights.values(), strict=True):
        lines = [line for line in ax.lines if line.get_gid() == SEEDS]
        assert np.array([line.get_ydata() for line in lines]) == pytest.approx(values[:, -1])


def test_it_says_its_finding_and_in_how_many_seeds_a_layer_wins(study):
    assert study.draw().get_suptitle() == finding(study, "low-layers")
    final = np.array([[0.6, 0.4, 0, 0, 0], [0.1, 0.9, 0, 0, 0], [0.8, 0.2, 0, 0, 0]])
    assert layer_weights._winners(final) == "largest: stem (2 of 3)"


@pytest.mark.parametrize(("seeds", "intervals"), [(1, 0), (2, 0), (3, 5)])
def test_no_interval_is_drawn_of_fewer_seeds_than_a_verdict_takes(seeds, intervals):
    _, ax = plt.subplots()
    final = np.array([[0.5, 0.2, 0.1, 0.1, 0.1], [0.4, 0.3, 0.1, 0.1, 0.1], [0.5, 0.2, 0.1, 0.1, 0.1]])[:seeds]
    layer_weights._after_training(ax, final, "photos")
    assert ax.get_title() == f"photos, n = {seeds}\nlargest: stem ({seeds} of {seeds})"
    assert sum(drawn.has_yerr for drawn in ax.containers) == intervals
    assert [drawn.lines[0].get_ydata()[0] for drawn in ax.containers] == pytest.approx(final.mean(axis=0))
    plt.close("all")

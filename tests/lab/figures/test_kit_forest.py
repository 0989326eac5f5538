"""Rows of effects show mean, interval, seeds and published effect, and nothing that was not measured."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up import attack_table

from simreg_core.lab.claims import mean_interval
from simreg_core.lab.figures import kit_forest
from simreg_core.lab.figures.kit import SEEDS
from simreg_core.lab.figures.kit_attacks import MAIN_LOOKS
from simreg_core.lab.figures.kit_forest import PUBLISHED, Effect, Row, forest_column, published_gain
from simreg_core.lab.figures.target_components import PUBLISHED_PARTS
from simreg_core.lab.series import HIGH, LOOKS, LOW, NONE, PIXEL, THRESHOLD

FOUR = pd.Series([0.1, 0.2, 0.3, 0.6])


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def drawn(ax, gid):
    """The points of the lines with this gid."""
    return [sorted(line.get_xdata()) for line in ax.lines if line.get_gid() == gid]


def test_a_row_has_its_mean_interval_seeds_and_published_effect(ax):
    forest_column(ax, [Row("one", {"noise": (Effect(FOUR, series="a", published=0.5),)})], "noise", xlabel="x")
    assert drawn(ax, "a") == [[pytest.approx(0.3)]]
    assert drawn(ax, SEEDS) == [FOUR.tolist()]
    assert drawn(ax, PUBLISHED) == [[0.5]]
    assert [pytest.approx(mean_interval(FOUR))] == [x for x in drawn(ax, None) if len(x) == 2]
    assert len(drawn(ax, NONE)) == 1  # the line of no effect
    assert (ax.get_title(), ax.get_xlabel()) == ("noise", "x")


def test_two_seeds_have_no_interval_and_a_size_that_is_infinite_no_mean(ax):
    rows = [
        Row("two", {"noise": (Effect(FOUR[:2], series="a"),)}),
        Row("failed", {"noise": (Effect(pd.Series([1.0, math.inf, 2.0]), series="b"),)}),
        Row("left out"),
    ]
    forest_column(ax, rows, "noise", xlabel="x", names=True)
    assert drawn(ax, "a") == [[pytest.approx(0.15)]]
    assert [x for x in drawn(ax, None) if len(x) == 2] == []
    said = {text.get_text(): text.get_gid() for text in ax.texts if text.get_text()}
    assert said == {"not measurable": "b", "not measured": None}
    assert [text.get_text() for text in ax.get_yticklabels()] == ["two", "failed", "left out"]


def test_groups_have_their_names_above_their_rows(ax):
    rows = [Row(name, {"noise": (Effect(FOUR),)}, group) for name, group in (("a", "one"), ("b", "one"), ("c", "two"))]
    forest_column(ax, rows, "noise", xlabel="x", names=True)
    below = {text.get_text(): text.get_position()[1] for text in ax.get_yticklabels()}
    assert sorted(below, key=below.__getitem__) == ["one", "a", "b", "two", "c"]
    assert ax.get_ylim()[0] > below["c"]
    assert ax.get_ylim()[1] < below["one"]


@pytest.mark.parametrize("values", [[0.5, 1, 12, 3], [0.98, 1, 1.04, 1.05]])
def test_ratios_have_a_logarithmic_axis_with_ticks_in_every_range(ax, values):
    forest_column(ax, [Row("one", {"size": (Effect(pd.Series(values)),)})], "size", xlabel="x", line=1.0)
    low, high = ax.get_xlim()
    assert ax.get_xscale() == "log"
    assert 0 < low < min(values) <= max(values) < high
    assert len([tick for tick in ax.get_xticks() if low <= tick <= high]) >= 3


def test_columns_are_the_gains_of_the_claims():
    table = attack_table(none=0, **{"S^Th": 2})
    columns = kit_forest.effects_of_attacks(table, "S^Th", "released")
    means = {title: effects[0].values.mean() for title, effects in columns.items()}
    expected = {"Gaussian noise": 0.1, "Transferred FGSM": 0.1, "No attack": 0}
    assert {title: means[title] for title in expected} == pytest.approx(expected)
    assert means["Boundary attack"] == pytest.approx(1.2, abs=0.01)
    assert kit_forest.images_in_words(table) == "5 images"
    rows = [Row("S^Th", columns), Row("one", {"x": (Effect(FOUR[:2]),)})]
    assert kit_forest.seeds_in_words(rows) == "n = 2 to 4"


def test_published_effects_are_those_of_whole_published_curves():
    none = MAIN_LOOKS[NONE]
    part = {name: LOOKS[name].beside(PUBLISHED_PARTS[name]) for name in (THRESHOLD, LOW, HIGH, PIXEL)}
    over_low = published_gain(part[THRESHOLD], none, "gaussian") - published_gain(part[LOW], none, "gaussian")
    assert over_low == pytest.approx(0.197, abs=1e-3)  # as the claim says
    assert published_gain(part[LOW], none, "boundary") == pytest.approx(1.92 / 2.78)
    assert published_gain(part[HIGH], none, "gaussian", clean=True) < -0.3
    assert published_gain(part[LOW], none, "fgsm") is None  # its first point could be read off only
    assert published_gain(part[PIXEL], none, "gaussian") is None

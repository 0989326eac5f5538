"""Spectra by frequency: each radius is a ring of its own, and the figure says on how much it rests."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from simreg_core.lab.figures import figure
from simreg_core.lab.figures.frequency_spectra import cumulative_by_frequency
from simreg_core.lab.figures.kit import SEEDS, finding
from simreg_core.lab.figures.kit_forest import PUBLISHED
from simreg_core.lab.specs import load_profile


def test_each_radius_is_a_ring():
    power = np.zeros((2, 4, 4))  # frequencies -1/2, -1/4, 0, 1/4 along both axes
    power[0, 2, 2] = power[0, 2, 3] = power[0, 1, 2] = power[0, 0, 0] = 1  # 0, two of 1/4, and the corner
    power[1] = 3
    radius, cumulative = cumulative_by_frequency(power)
    assert radius == pytest.approx(np.sqrt([0, 1 / 8, 2 / 8, 4 / 8, 5 / 8, 1]))
    assert cumulative[0] == pytest.approx([0.25, 0.75, 0.75, 0.75, 0.75, 1])
    assert cumulative[1] == pytest.approx(np.array([1, 5, 9, 11, 15, 16]) / 16)  # how many frequencies each ring has


def test_no_ring_of_a_small_plane_is_empty():
    for n in (16, 28, 32):
        _, cumulative = cumulative_by_frequency(np.ones((1, n, n)))
        assert (np.diff(cumulative[0]) > 0).all()  # a ring without a frequency would be a stair


def test_the_figure_shows_what_it_finds_and_on_how_much_it_rests():
    study = figure("06_frequency_spectra").study(load_profile("quick"))
    picture = study.draw()
    assert picture.get_suptitle() == finding(study, "half-power")
    *maps, _, profiles, half, difference = picture.axes
    for ax in maps:
        assert (ax.get_xlim(), ax.get_ylim()) == (
            tuple(ax.images[0].get_extent()[:2]),
            tuple(ax.images[0].get_extent()[2:]),
        )
    assert [[text.get_text() for text in ax.texts] for ax in (profiles, half)] == [["24 images × 16 seeds"]] * 2
    (mean,) = (line for line in difference.lines if line.get_gid() == "S^Th")
    assert mean.get_xdata() == pytest.approx(study.judge()[0].estimate)
    (dots,) = (line for line in difference.lines if line.get_gid() == SEEDS)
    assert np.mean(dots.get_xdata()) == pytest.approx(study.judge()[0].estimate)
    (diamond,) = (line for line in difference.lines if line.get_gid() == PUBLISHED)
    assert diamond.get_xdata() == pytest.approx(0.113)
    plt.close(picture)


def test_its_csv_has_the_curve_that_is_drawn():
    study = figure("06_frequency_spectra").study(load_profile("quick"))
    numbers = study.numbers()
    own = numbers[(numbers["quantity"] == "cumulative_power_by_frequency") & (numbers["series"] == "S^Th")]
    radius, cumulative = cumulative_by_frequency(study.arrays("power")["S^Th"])
    assert own.pivot_table(index="seed", columns="radius", values="value").to_numpy() == pytest.approx(cumulative)
    assert own["radius"].unique() == pytest.approx(radius)

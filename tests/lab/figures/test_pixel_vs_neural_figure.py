"""The figure of V1 leads with real responses and the printed r; the simulation comes last and is named so."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from simreg_core.lab.claims import mean_interval
from simreg_core.lab.figures import figure, pixel_vs_neural
from simreg_core.lab.figures.kit import SEEDS, finding
from simreg_core.lab.specs import load_profile


@pytest.fixture(scope="module")
def study():
    yield figure("01_pixel_vs_neural_similarity").study(load_profile("quick"))
    plt.close("all")


@pytest.fixture(scope="module")
def axes(study):
    return {ax.get_title().partition("\n")[0].partition(",")[0]: ax for ax in study.draw().axes}


def test_it_leads_with_real_responses_beside_the_printed_correlation(study, axes):
    assert study.draw().get_suptitle() == finding(study, "pixel-neural", "as-printed")
    assert list(axes)[:4] == ["V1 predictor", "V1 region 1", "V1 region 2", "V1 region 3"]
    assert axes["V1 predictor"].get_title() == "V1 predictor, 1000 images\nr = 0.22, printed 0.83"
    assert axes["V1 region 1"].get_title() == "V1 region 1, 50 images\nr = 0.30, ceiling 0.91"
    assert list(axes).index("simulated V1") > list(axes).index("Real responses (bars: 95 % interval over images)")


def test_colours_mean_the_same_share_of_pairs_in_every_scatter(axes):
    scatters = [axes[name].images[0] for name in ("V1 predictor", "V1 region 1", "V1 region 2", "V1 region 3")]
    assert {(one.norm.vmin, one.norm.vmax) for one in scatters} == {pixel_vs_neural.SHARES}
    for one in scatters:
        assert one.get_array().sum() == pytest.approx(1)


def test_every_condition_of_a_real_series_has_its_interval_over_images(study, axes):
    forest = axes["Real responses (bars: 95 % interval over images)"]
    found = pixel_vs_neural.correlations(study.table()).query("group == 'recorded'")
    drawn = [container.lines[2][0].get_segments()[0][:, 0] for container in forest.containers]
    expected = found[["pearson_low", "pearson_high"]].to_numpy()
    assert sorted(map(tuple, np.round(drawn, 6))) == sorted(map(tuple, np.round(expected, 6)))
    labels = [label.get_text() for label in forest.get_yticklabels()]
    assert labels[:2] == ["whole images", "cut to receptive fields"]


def test_conditions_of_the_simulation_have_dots_for_animals_and_a_t_interval(study, axes):
    forest = axes["What would give more (dots: animals)"]
    found = pixel_vs_neural.correlations(study.table()).query("group == 'simulated'")
    dots = [line.get_xdata() for line in forest.lines if line.get_gid() == SEEDS]
    by_condition = [own["pearson"].tolist() for _, own in found.groupby("condition", sort=False)]
    assert [list(one) for one in dots] == by_condition
    first = forest.containers[0].lines[2][0].get_segments()[0][:, 0]
    assert first == pytest.approx(mean_interval(np.array(by_condition[0])))


def test_two_animals_have_no_interval():
    assert np.isnan(pixel_vs_neural._interval(np.array([0.1, 0.2]))[1:]).all()
    assert pixel_vs_neural._interval(np.array([0.1, 0.2]))[0] == pytest.approx(0.15)

"""Gains are paired by seed, have t-intervals, and stand beside the published gain of the right task."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_up import attack_table, made_up

from simreg_core.lab.claims import mean_interval
from simreg_core.lab.figures import figure
from simreg_core.lab.figures.kit import SEEDS
from simreg_core.lab.figures.kit_attacks import MAIN_LOOKS, main_looks
from simreg_core.lab.figures.kit_gains import (
    INTERVALS,
    PUBLISHED,
    gain_curves,
    gains_by_epsilon,
    mean_interval_of,
    published_by_number,
    published_mean_gain,
    size_ratios,
    with_gains,
)
from simreg_core.lab.figures.other_tasks import looks_beside, tasks
from simreg_core.lab.series import NONE, PIXEL, THRESHOLD
from simreg_core.lab.specs import load_profile

TARGETS = {"none": 0, "S^pixel": 1, "S^Th": 2}


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """With gains of S^Th under the largest ε that differ from seed to seed."""
    chosen = (table["series"] == "S^Th") & ((table["epsilon"] == 0.1) | (table["attack"] == "boundary"))
    table.loc[chosen, "value"] += 0.02 * table.loc[chosen, "seed"]
    return table


@pytest.fixture
def ax():
    picture, ax = plt.subplots()
    yield ax
    plt.close(picture)


def lines(ax, gid: str) -> list:
    return [line for line in ax.lines if line.get_gid() == gid]


def test_gains_are_paired_by_the_seeds_that_both_have():
    table = attack_table(**TARGETS)
    table = table[(table["series"] != "S^Th") | (table["seed"] > 0)]
    found = gains_by_epsilon(table, "S^Th", "gaussian")
    assert list(found.index) == [1, 2, 3]
    assert found[0.0].tolist() == pytest.approx([0, 0, 0])
    assert found[0.1].tolist() == pytest.approx([0.2, 0.2, 0.2])


def test_too_few_seeds_have_no_interval():
    assert mean_interval_of([1.0, 2.0, 4.0])[1:] == mean_interval(np.array([1.0, 2.0, 4.0]))
    mean, low, high = mean_interval_of([1.0, 2.0])
    assert mean == 1.5
    assert np.isnan([low, high]).all()


def test_a_curve_of_gains_has_mean_interval_seeds_and_the_published_gain(ax):
    gain_curves(ax, spread(attack_table(**TARGETS)), main_looks("MNIST"), "gaussian", "released")
    (curve,) = lines(ax, "S^Th")
    assert curve.get_ydata() == pytest.approx([0, 0.23])
    band = ax.collections[1].get_paths()[0].vertices
    assert ax.collections[1].get_gid() == INTERVALS
    low, high = mean_interval(np.array([0.2, 0.22, 0.24, 0.26]))
    assert sorted(band[band[:, 0] == 0.1][:, 1])[0] == pytest.approx(low)
    assert sorted(band[band[:, 0] == 0.1][:, 1])[-1] == pytest.approx(high)
    assert sorted(lines(ax, SEEDS)[1].get_ydata())[-4:] == pytest.approx([0.2, 0.22, 0.24, 0.26])
    assert lines(ax, PUBLISHED)[1].get_ydata()[-1] == pytest.approx(0.578 - 0.122)  # MNIST, S^Th minus none
    assert list(lines(ax, NONE)[0].get_ydata()) == [0, 0]


@pytest.mark.parametrize(("same", "fill"), [(True, "k"), (False, "white")])
def test_ratios_of_sizes_stand_beside_the_published_ratio(ax, same, fill):
    size_ratios(ax, spread(attack_table(**TARGETS)), MAIN_LOOKS, same)
    (mean,) = lines(ax, "S^Th")
    each = [(2.5 + 0.5 + 0.03 * seed) / (2 + 0.5 + 0.01 * seed) for seed in range(4)]
    assert mean.get_ydata() == pytest.approx([np.mean(each)])
    assert lines(ax, INTERVALS)[1].get_ydata() == pytest.approx(mean_interval(np.array(each)))
    (published,) = lines(ax, PUBLISHED)  # S^pixel has none
    assert (published.get_ydata()[0], published.get_markerfacecolor()) == (pytest.approx(5.19 / 2.78), fill)


def test_published_gains_are_those_of_the_claims():
    def claimed(name: str, key: str) -> dict[str, float]:
        return next(dict(one.published) for one in figure(name).claims if one.key == key)

    none = MAIN_LOOKS[NONE]
    for attack in ("gaussian", "fgsm", "boundary"):
        published = published_mean_gain(MAIN_LOOKS[THRESHOLD], none, attack)
        assert published == pytest.approx(claimed("02_attack_curves", attack)["CIFAR-10"], abs=6e-4)
    mnist = published_mean_gain(main_looks("MNIST")[THRESHOLD], main_looks("MNIST")[NONE], "gaussian")
    assert mnist == pytest.approx(claimed("02_attack_curves", "gaussian")["MNIST"], abs=6e-4)
    by_count = published_by_number("N", (100, 1000, 5000), "gaussian")
    suffices = claimed("08_image_count_study", "count-suffices")["CIFAR-10"]
    assert by_count[1000] - by_count[5000] / 2 == pytest.approx(suffices, abs=6e-4)
    assert np.mean(list(published_by_number("k", (4, 8, 16, 32), "gaussian").values())) == pytest.approx(
        claimed("07_batch_size_study", "every-k")["CIFAR-10"], abs=6e-4
    )
    assert published_by_number("k", (5,), "gaussian") == {}


def test_the_csv_has_the_paired_gains():
    numbers = with_gains(spread(attack_table(**TARGETS)))
    (row,) = numbers[
        (numbers["metric"] == "gain over none") & (numbers["series"] == "S^Th") & (numbers["epsilon"] == 0.1)
        & (numbers["attack"] == "gaussian")
    ].to_dict("records")  # fmt: skip
    gains = np.array([0.2, 0.22, 0.24, 0.26])
    assert (row["mean"], row["sem"]) == (pytest.approx(gains.mean()), pytest.approx(gains.std(ddof=1) / 2))
    assert (row["seeds"], row["attempted"]) == (4, 20)
    ratios = numbers[numbers["metric"] == "ratio to none"]
    assert ratios["series"].tolist() == ["S^pixel", "S^Th"]
    assert ratios["mean"].iloc[0] == pytest.approx(np.mean([(2.75 + s / 100) / (2.5 + s / 100) for s in range(4)]))


def by_number(name: str, column: str, numbers: tuple[int, ...], letter: str):
    table = attack_table(none=0, **{f"{letter} = {one}": place + 1 for place, one in enumerate(numbers)})
    table[column] = table["series"].map({f"{letter} = {one}": one for one in numbers})
    return made_up(name, table)


def test_the_gain_is_drawn_at_the_number_of_images_and_the_published_one_at_its_own():
    picture = by_number("08_image_count_study", "count", (10, 50, 500), "N").draw()
    gaussian = picture.axes[0]
    assert [
        (line.get_xdata()[0], line.get_ydata()[0]) for line in gaussian.lines if "N = " in (line.get_gid() or "")
    ] == [(10, pytest.approx(0.05)), (50, pytest.approx(0.1)), (500, pytest.approx(0.15))]
    assert [line.get_xdata()[0] for line in lines(gaussian, PUBLISHED)] == [100, 1000, 5000]
    assert lines(gaussian, PUBLISHED)[0].get_markerfacecolor() == "white"  # photographs are no CIFAR-10
    assert gaussian.lines[-1].get_ydata()[0] == pytest.approx(0.075)  # half the gain of the largest
    plt.close(picture)


@pytest.mark.parametrize("profile", ["mnist", "cifar-small"])
def test_other_tasks_stand_beside_published_curves_of_the_same_task_only(profile):
    found = {name: looks_beside(one)[THRESHOLD].published for name, one in tasks(load_profile(profile)).items()}
    if profile == "mnist":
        digits = {"gaussian": ("S_Th", "2a MNIST-MNIST R18")}
        assert found == {"main task": digits, "photographs, ResNet10": None, "MNIST digits, ResNet18": digits}
    else:
        assert found == dict.fromkeys(("main task", "ResNet34"), MAIN_LOOKS[THRESHOLD].published)


def test_a_published_mean_over_another_grid_is_not_drawn():
    mnist = load_profile("mnist")
    other = mnist.changed(studies=mnist.studies.changed(epsilons=mnist.studies.epsilons.changed(gaussian=0.3)))
    assert looks_beside(other)[THRESHOLD].published is None
    colour = mnist.changed(task=mnist.task.changed(channels=3))
    assert looks_beside(colour)[THRESHOLD].published is None
    assert looks_beside(None)[PIXEL].published is None


def test_every_task_target_and_attack_has_a_row_with_its_interval():
    groups = [spread(attack_table(**TARGETS)).assign(group=name) for name in ("main task", "digits, ResNet10")]
    study = made_up("12_other_tasks_and_depths", pd.concat(groups))
    picture = study.draw()
    noises, sizes = picture.axes
    assert [text.get_text() for text in noises.get_yticklabels()][:2] == ["no attack", "Gaussian noise"]
    means = lines(noises, "S^Th")
    assert len(means) == 2 * 5
    assert [line.get_xdata()[0] for line in means[:2]] == pytest.approx(
        [0, 0.115]
    )  # clean, and the mean over 0 and 0.1
    low, high = mean_interval(np.array([0.1, 0.11, 0.12, 0.13]))
    assert list(lines(noises, INTERVALS)[6].get_xdata()) == pytest.approx([low, high])
    assert len(lines(sizes, "S^Th")) == 2
    plt.close(picture)


def test_two_seeds_are_drawn_without_intervals():
    table = attack_table(**TARGETS, **{"S^neural": 1, "shuffled S^neural": 0})
    study = made_up("02_attack_curves", table[table["seed"] < 2])
    picture = study.draw()
    bars = picture.axes[5]
    assert all(np.isnan(line.get_ydata()).all() for line in lines(bars, INTERVALS))
    assert len(lines(bars, "S^Th")) == 1
    plt.close(picture)


def test_the_headline_is_drawn_beside_published_mnist_where_the_task_is_mnist():
    study = figure("02_attack_curves").study(load_profile("mnist"))
    study.__dict__["_table"] = attack_table(**TARGETS, **{"S^neural": 1, "shuffled S^neural": 0})
    picture = study.draw()
    labels = [text.get_text() for text in picture.legends[0].get_texts()]
    assert labels[-1] == "published, MNIST, ResNet18"
    dashed = [line for line in picture.axes[0].lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert [line.get_ydata()[-1] for line in dashed] == [0.122, 0.167, 0.578]
    assert not [one for one in picture.axes[1].lines if one.get_linestyle() == "--" and len(one.get_xdata())]
    plt.close(picture)

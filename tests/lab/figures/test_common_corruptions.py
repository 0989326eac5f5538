"""The official corruption files are taken where they are; the rows of the figure are sorted within their group."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from simreg_core.lab.figures import figure
from simreg_core.lab.figures.common_corruptions import GAINS, corruption_rows, published_group_gain, small
from simreg_core.lab.figures.kit_attacks import set_looks
from simreg_core.lab.specs import load_profile
from simreg_core.names import GROUPS


def test_official_corruption_files_are_taken_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))

    def sources(profile):
        blocks = figure("05_common_corruptions").open(profile).blocks
        return {evaluation.source for block in blocks for evaluation in block.evaluations}

    assert sources("paper") == {"generated"}
    (tmp_path / "CIFAR-10-C").mkdir()
    assert sources("paper") == {"files"}
    assert sources("quick") == {"generated"}  # its task is not CIFAR-10
    paper = load_profile("paper")
    small = figure("05_common_corruptions").experiments(paper.changed(task=paper.task.changed(size=(28, 28))))
    assert {evaluation.source for block in small for evaluation in block.evaluations} == {"generated"}


def test_rows_are_sorted_by_the_gain_of_the_first_set_below_the_mean_of_their_group():
    bonuses = {"shot_noise": 0.1, "impulse_noise": 0.3, "gaussian_noise": 0.2, "snow": -0.5}
    rows = [
        (series, seed, name, 4, 0.5 + bonus * bonuses.get(name, 0))
        for series, bonus in (("none", 0), ("photos", 1), ("mine", -1))
        for names in GROUPS.values()
        for name in names
        for seed in range(4)
    ]
    table = pd.DataFrame(rows, columns=["series", "seed", "corruption", "severity", "value"]).assign(metric="accuracy")
    found = corruption_rows(table, set_looks(table))
    assert len(found) == 15 + len(GROUPS)
    high = [row for row in found if row.group == "High frequency"]
    assert [row.label for row in high] == ["mean (0.50)", "impulse (0.50)", "Gaussian (0.50)", "shot (0.50)"]
    assert [row.columns[GAINS][0].values.mean() for row in high] == pytest.approx([0.2, 0.3, 0.2, 0.1])
    assert [row.columns[GAINS][1].values.mean() for row in high] == pytest.approx([-0.2, -0.3, -0.2, -0.1])
    assert [one.published for one in high[0].columns[GAINS]] == [published_group_gain("high", "photos"), None]
    assert [row.label for row in found if row.group == "Low frequency"][-1] == "snow (0.50)"
    assert published_group_gain("high", "photos") == pytest.approx(0.198, abs=0.01)


def test_the_small_picture_has_the_mean_of_each_group_and_names_the_sets():
    study = figure("05_common_corruptions").study(load_profile("quick"))
    picture = small(study)
    (ax,) = picture.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        f"{one}\nfrequency" for one in ("Low", "Medium", "High")
    ]
    sets = ["mnist-5k", "digits", "photos-foreign"]
    drawn = [line.get_gid() for line in ax.lines if line.get_gid() in set(study.table()["series"]) - {"none"}]
    assert len(drawn) == 3 * len(set(drawn)) == 3 * len(sets)
    assert ax.get_legend_handles_labels()[1] == ["own images", "digits", "photographs"]
    plt.close(picture)

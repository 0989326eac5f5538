"""Saved figures are whole and the same on every run; published curves are the digitized ones."""

import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from simreg_core.lab.figures import LOOKS, image_count_study, set_looks, target_components
from simreg_core.lab.files import StoreError
from simreg_core.lab.plotting import published_curve, save_plain, summarize


def test_published_curves():
    none = published_curve(LOOKS["none"], "gaussian")
    assert (none["x"].iloc[0], none["y"].iloc[0]) == (0, 0.88)
    assert (none["x"].iloc[-1], none["y"].iloc[-1]) == (0.1, 0.143)
    assert len(published_curve(LOOKS["S^Th"], "fgsm")) == 10
    assert published_curve(LOOKS["none"], "boundary")["y"].tolist() == [2.78]
    assert published_curve(LOOKS["S^pixel"], "boundary").empty
    assert published_curve(LOOKS["S^Th"], "uniform").empty


def test_a_set_stands_beside_the_published_one_that_plays_its_part():
    looks = set_looks(["none", "photos", "photos-foreign", "digits"])
    assert published_curve(looks["photos"], "boundary")["y"].tolist() == [5.98]  # CIFAR-10 for a CIFAR-10 task
    assert published_curve(looks["photos-foreign"], "boundary")["y"].tolist() == [5.19]  # ImageNet
    assert published_curve(looks["digits"], "gaussian").empty
    assert all(look.published is None for look in set_looks(["none", "photos"], with_published=False).values())


def attack_table(series):
    rows = []
    for name in series:
        for seed in (0, 1):
            rows += [(name, seed, attack, e, "accuracy", 0.5) for attack in ("gaussian", "fgsm") for e in (0.0, 0.1)]
            rows.append((name, seed, "boundary", None, "median_squared_l2_per_pixel", 1e-3))
    table = pd.DataFrame(rows, columns=["series", "seed", "attack", "epsilon", "metric", "value"])
    return table.assign(protocol="released", attempted=5, failed=0)


def dashed(ax):
    return [line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata())]


def test_curves_say_their_seeds_and_show_the_published_ones():
    figure = image_count_study(attack_table(["none", "N = 10", "N = 50", "N = 500"]))
    gaussian = figure.axes[0]
    assert [text.get_text() for text in gaussian.get_legend().get_texts()][1] == "N = 10 (n = 2)"
    ends = [line.get_ydata()[-1] for line in dashed(gaussian)]
    assert ends == pytest.approx([0.143, 0.211, 0.495, 0.403], abs=0.001)  # none, 100, 1000 and 5000 images
    plt.close(figure)


def test_parts_and_controls_are_all_drawn():
    from simreg_core.lab import studies

    parts = [studies.LOW, studies.HIGH, studies.POSITIVE, studies.NEGATIVE, studies.DOUBLE]
    controls = [studies.SHUFFLED, studies.ZERO, studies.NO_LOSS]
    figure = target_components(attack_table(["none", "S^pixel", "S^Th", *parts, *controls]))
    above, below = figure.subfigs
    published = 1
    assert len(above.legends[0].get_texts()) == 1 + 2 + len(parts) + published
    assert len(below.legends[0].get_texts()) == 1 + 1 + len(controls) + published
    assert len(dashed(figure.axes[2])) == 7  # none, S^Th and the five parts have a published size
    plt.close(figure)


def test_summarize_averages_repeats_before_seeds():
    rows = [("a", seed, repeat, 10.0 * seed + repeat) for seed in (0, 1) for repeat in (0, 2)]
    table = pd.DataFrame(rows, columns=["series", "seed", "repeat", "value"])
    table = table.assign(attack="x", protocol="released", metric="m", attempted=5, failed=1)
    (row,) = summarize(table).to_dict("records")
    assert (row["mean"], row["sem"], row["seeds"]) == (6.0, 5.0, 2)
    assert (row["attempted"], row["failed"]) == (20, 4)


def test_saved_twice_gives_the_same_files(tmp_path):
    def save(folder):
        figure, ax = plt.subplots()
        ax.plot([0, 1], [1, 0])
        paths = save_plain(figure, tmp_path / folder / "one", pd.DataFrame({"x": [1.5]}), {"made": "here"})
        plt.close(figure)
        return [path.read_bytes() for path in paths]

    assert save("a") == save("b")
    assert json.loads((tmp_path / "a" / "one.json").read_text()) == {"made": "here"}
    assert sorted(path.suffix for path in (tmp_path / "a").iterdir()) == [".csv", ".json", ".pdf", ".png"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    figure, _ = plt.subplots()
    with pytest.raises(StoreError, match="cannot write"):
        save_plain(figure, tmp_path / "file" / "one", pd.DataFrame(), {})
    plt.close(figure)

"""Saved figures are whole and the same on every run; published curves are the digitized ones."""

import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up import attack_table, made_up

from simreg_core.lab.figures.kit import save_whole, summarize
from simreg_core.lab.figures.kit_attacks import MAIN_LOOKS, published_curve, set_looks
from simreg_core.lab.files import StoreError


def test_published_curves():
    none = published_curve(MAIN_LOOKS["none"], "gaussian")
    assert (none["x"].iloc[0], none["y"].iloc[0]) == (0, 0.88)
    assert (none["x"].iloc[-1], none["y"].iloc[-1]) == (0.1, 0.143)
    assert len(published_curve(MAIN_LOOKS["S^Th"], "fgsm")) == 10
    assert published_curve(MAIN_LOOKS["none"], "boundary")["y"].tolist() == [2.78]
    assert published_curve(MAIN_LOOKS["S^pixel"], "boundary").empty
    assert published_curve(MAIN_LOOKS["S^Th"], "uniform").empty


def test_a_set_stands_beside_the_published_one_that_plays_its_part():
    looks = set_looks(attack_table(**dict.fromkeys(["none", "photos", "photos-foreign", "digits"], 0)))
    assert published_curve(looks["photos"], "boundary")["y"].tolist() == [5.98]  # CIFAR-10 for a CIFAR-10 task
    assert published_curve(looks["photos-foreign"], "boundary")["y"].tolist() == [5.19]  # ImageNet
    assert published_curve(looks["digits"], "gaussian").empty
    assert all(
        look.published is None for look in set_looks(attack_table(none=0, photos=0), with_published=False).values()
    )


def dashed(ax):
    return [line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata())]


def test_curves_say_their_seeds_and_show_the_published_ones():
    table = attack_table(**{"none": 0, "N = 10": 0, "N = 50": 1, "N = 500": 2})
    table["count"] = table["series"].map({"N = 10": 10, "N = 50": 50, "N = 500": 500})
    figure = made_up("08_image_count_study", table).draw()
    gaussian = figure.axes[0]
    assert [text.get_text() for text in gaussian.get_legend().get_texts()][1] == "N = 10 (n = 4)"
    ends = [line.get_ydata()[-1] for line in dashed(gaussian)]
    assert ends == pytest.approx([0.143, 0.211, 0.495, 0.403], abs=0.001)  # none, 100, 1000 and 5000 images
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
        paths = save_whole(figure, tmp_path / folder / "one", pd.DataFrame({"x": [1.5]}), {"made": "here"})
        plt.close(figure)
        return [path.read_bytes() for path in paths]

    assert save("a") == save("b")
    assert json.loads((tmp_path / "a" / "one.json").read_text()) == {"made": "here"}
    assert sorted(path.suffix for path in (tmp_path / "a").iterdir()) == [".csv", ".json", ".pdf", ".png"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    figure, _ = plt.subplots()
    with pytest.raises(StoreError, match="cannot write"):
        save_whole(figure, tmp_path / "file" / "one", pd.DataFrame(), {})
    plt.close(figure)

"""Saved figures are whole and the same on every run; published curves are the digitized ones."""

import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from simreg_core.lab.plotting import published_curve, save_plain, summarize
from simreg_core.lab.store import StoreError


def test_published_curves():
    none = published_curve("gaussian", "none")
    assert (none["x"].iloc[0], none["y"].iloc[0]) == (0, 0.88)
    assert (none["x"].iloc[-1], none["y"].iloc[-1]) == (0.1, 0.143)
    assert len(published_curve("fgsm", "S^Th")) == 10
    assert published_curve("boundary", "none")["y"].tolist() == [2.78]
    assert published_curve("boundary", "S^pixel").empty


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

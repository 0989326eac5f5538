"""What the picture of the claims shows is what claims.json says, and the same claims give the same bytes."""

import json

import matplotlib.pyplot as plt
import pytest

from simreg_core.lab.claims import NOT_ACCEPTED, VERDICTS
from simreg_core.lab.figures.kit import save_picture
from simreg_core.lab.make import verdicts
from simreg_core.lab.make.forest import AXES, SHAPES, forest
from simreg_core.lab.protocol_of_claims import HEADLINE
from simreg_core.lab.specs import PROJECT, load_profile


@pytest.fixture(scope="module")
def rows():
    return json.loads((PROJECT / "figures" / "quick" / "claims.json").read_text())


@pytest.fixture(scope="module")
def picture(rows):
    made = forest(rows, "quick")
    yield made
    plt.close(made)


def drawn(picture) -> dict:
    """The lines of a picture by their names."""
    lines = [line for ax in picture.axes for line in ax.lines if line.get_gid() is not None]
    return {line.get_gid(): line for line in lines}


def test_what_is_drawn_is_what_the_json_says(rows, picture):
    lines, expected = drawn(picture), {}
    for row in rows:
        if row["estimate"] is not None:
            expected[f"effect {row['key']} {row['verdict']}"] = [row["estimate"]]
        if row["low"] is not None:
            expected[f"interval {row['key']}"] = [row["low"], row["high"]]
        expected |= {f"published {row['key']} {task}": [value] for task, value in row["published"].items()}
    assert {name: list(line.get_xdata()) for name, line in lines.items()} == expected
    for ax in picture.axes:  # nothing lies outside of its axis
        low, high = ax.get_xlim()
        assert all(low <= x <= high for line in ax.lines for x in line.get_xdata())


def test_a_published_effect_is_filled_where_it_is_of_the_same_task(rows, picture):
    lines = drawn(picture)
    same = {row["key"]: row["same"] for row in rows}
    assert lines["published pixel-neural mouse V1"].get_markerfacecolor() == "k"
    assert same["gaussian"] == 0.284
    assert lines["published gaussian MNIST"].get_markerfacecolor() == "k"
    assert lines["published gaussian CIFAR-10"].get_markerfacecolor() == "white"


def test_verdicts_differ_in_shape_and_colour_together():
    assert set(SHAPES) == {*VERDICTS, NOT_ACCEPTED}
    assert len({(look["marker"], look["mfc"]) for look in SHAPES.values()}) == len(SHAPES)
    filled = [look for look in SHAPES.values() if look["mfc"] != "white"]
    assert len({look["marker"] for look in filled}) == len({look["color"] for look in filled}) == len(filled)


def test_every_axis_has_one_unit_and_every_sentence_fits(picture):
    assert {ax.get_xlabel() for ax in picture.axes} <= set(AXES)
    picture.canvas.draw()
    right = picture.bbox.x1
    for text in (text for ax in picture.axes for text in ax.texts):
        assert text.get_window_extent().x1 <= right, text.get_text()
    assert min(text.get_fontsize() for ax in picture.axes for text in ax.texts) >= 6  # points, at one column


def test_words_in_place_of_an_effect_cover_nothing(rows):
    bare = [{**row, "estimate": None, "low": None, "high": None, "verdict": "not measured"} for row in rows]
    picture = forest(bare, "quick")
    picture.canvas.draw()
    for ax in picture.axes:
        words = [text.get_window_extent() for text in ax.texts if text.get_text() == "not measured"]
        marks = [line for line in ax.lines if str(line.get_gid()).startswith("published")]
        assert words
        for box in words:
            assert box.x0 >= 0
            assert box.x1 <= picture.bbox.x1
            for x, y in (ax.transData.transform((line.get_xdata()[0], line.get_ydata()[0])) for line in marks):
                assert not box.contains(x, y)
    plt.close(picture)


def test_a_sentence_of_two_notebooks_names_them(rows, picture):
    said = [text.get_text().replace("\n", " ") for ax in picture.axes for text in ax.texts]
    twice = [row for row in rows if row["key"] in ("not-batch-norm", "loss")]
    assert len({row["claim"] for row in twice}) == 1
    assert [line[-13:] for line in said if "pairs without loss" in line] == ["(notebook 11)", "(notebook 17)"]
    assert sum("(notebook" in line for line in said) == 2


def test_the_claims_are_drawn_once_and_again_where_the_picture_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SIMREG_FIGURES", str(tmp_path / "figures"))
    drawn = []
    monkeypatch.setattr("simreg_core.lab.make.forest.forest", lambda *given: drawn.append(given) or plt.figure())
    (tmp_path / "figures" / "quick").mkdir(parents=True)
    for _ in range(2):
        verdicts.write_claims(load_profile("quick"))
    assert len(drawn) == 2  # of all claims, and of the headline
    for name in ("claims.png", "claims_headline.png"):
        before = len(drawn)
        (tmp_path / "figures" / "quick" / name).unlink()
        verdicts.write_claims(load_profile("quick"))
        assert len(drawn) == before + 2
    claims = json.loads((tmp_path / "figures" / "quick" / "claims.json").read_text())
    assert drawn[0][0] == claims
    assert [row["key"] for row in drawn[1][0]] == [row["key"] for row in claims if row["key"] in HEADLINE]


def test_the_committed_pictures_are_those_of_the_committed_claims_to_the_byte(rows, picture, tmp_path):
    headline = forest([row for row in rows if row["group"] == "headline"], "quick")
    made = [*save_picture(picture, tmp_path / "claims"), *save_picture(headline, tmp_path / "claims_headline")]
    plt.close(headline)
    for path in made:
        assert path.read_bytes() == (PROJECT / "figures" / "quick" / path.name).read_bytes()

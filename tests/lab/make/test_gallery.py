"""The README's small pictures: one panel, with its names, and letters that can be read at the README's width."""

import re

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from simreg_core.lab.make.gallery import SMALL, save_first_panel
from simreg_core.lab.specs import PROJECT

QUICK = PROJECT / "figures" / "quick"
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_first_panel_is_saved_with_its_names_and_nothing_else(tmp_path):
    picture, ((first, second), (below, _)) = plt.subplots(2, 2, figsize=(7, 5), sharex="col", layout="constrained")
    first.plot([0, 1], label="none (n = 8)")
    below.set_xlabel("ε")
    second.set_title("not this one")
    picture.legend(*first.get_legend_handles_labels(), loc="outside lower center")
    with plt.rc_context({"savefig.dpi": 100}):
        save_first_panel(picture, tmp_path / "small.png")
    assert first.get_xlabel() == "ε"
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["none"]
    assert not second.get_visible()
    with Image.open(tmp_path / "small.png") as shown:
        assert 200 < shown.width < 450  # of 700
    plt.close(picture)


@pytest.mark.parametrize("name", SMALL.findall(README))
def test_letters_can_be_read_at_the_width_of_the_readme(name):
    """8 points at 200 dots per inch are 22 pixels; scaled down, 7 are left at least."""
    (width,) = re.findall(rf'small/{name}\.png" width="(\d+)"', README)
    with Image.open(QUICK / "small" / f"{name}.png") as shown:
        assert 22 * int(width) / shown.width >= 7

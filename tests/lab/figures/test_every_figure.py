"""Every figure draws all of its series; a new figure is one new module and its notebook."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import matplotlib.pyplot as plt
import nbformat
import pytest
from made_up import attack_table, made_up
from pages import FILES

from simreg_core.lab import figures
from simreg_core.lab.figures import FIGURES, figure
from simreg_core.lab.specs import PROJECT, SpecError


def test_a_figure_that_leaves_out_a_series_is_refused(monkeypatch):
    own = figure("09_colour")
    monkeypatch.setattr(figures, "FIGURES", {"09_colour": replace(own, draw=lambda study, protocol: few(study))})

    def few(study):
        table = study.table()
        fewer = made_up("09_colour", table[table["series"] != "photos-foreign"])
        return own.draw(fewer, "released")

    table = attack_table(**{"none": 0, "photos": 1, "photos-foreign": 1})
    with pytest.raises(ValueError, match="09_colour does not draw the series 'photos-foreign'"):
        made_up("09_colour", table).draw()


def test_a_new_set_is_drawn_by_itself():
    picture = made_up("09_colour", attack_table(**{"none": 0, "mnist-5k-coloured": 1, "mine": 1, "yours": 2})).draw()
    labels = [text.get_text() for text in picture.legends[0].get_texts()]
    assert labels == ["none (n = 4)", "own images (n = 4)", "mine (n = 4)", "yours (n = 4)"]
    plt.close(picture)


def test_a_module_without_a_figure_or_with_a_name_twice_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    (tmp_path / "no_figure_here.py").write_text("")
    with pytest.raises(SpecError, match=r"lab/figures/no_figure_here\.py has no FIGURE; a file that figures share"):
        list(FIGURES)
    (tmp_path / "no_figure_here.py").unlink()
    (tmp_path / "second_colour.py").write_text(
        "from dataclasses import replace\nfrom simreg_core.lab.figures.colour import FIGURE\n"
    )
    with pytest.raises(SpecError, match=r"second_colour\.py: another module has the figure '09_colour' already"):
        list(FIGURES)


def test_a_new_figure_is_one_module_and_its_notebook(tmp_path):
    """All of the way from quick's records, in a copy of the project with one module and one notebook more."""
    ignored = shutil.ignore_patterns("__pycache__", "*.ipynb")
    for folder in ("simreg_core", "notebooks"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=ignored)
    (tmp_path / "figures" / "reference").mkdir(parents=True)
    shutil.copy(PROJECT / "figures" / "reference" / "digitized.csv", tmp_path / "figures" / "reference")
    (tmp_path / "figures" / "quick").mkdir()
    (tmp_path / "figures" / "quick" / "records").symlink_to(PROJECT / "figures" / "quick" / "records")
    (tmp_path / "simreg_core" / "lab" / "figures" / "toy.py").write_text(FILES["simreg_core/lab/figures/toy.py"])
    code = (
        'profile = "quick"',
        "from simreg_core.lab.figures import figure\n\nstudy = figure('89_toy').open(profile).run()",
        "study.draw();",
        "study.save()\nstudy.verdicts()",
    )
    cells = [nbformat.v4.new_code_cell(source) for source in code]
    cells[0].metadata.tags = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "notebooks" / "89_toy.ipynb")
    own = {"PYTHONPATH": str(tmp_path), "SIMREG_RUNS": str(tmp_path / "runs")}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIMREG_")} | own

    def make():
        command = [sys.executable, "-m", "simreg_core", "figures", "--profile", "quick", "--only", "89_toy"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "89_toy: drawn to" in make()
    made = json.loads((tmp_path / "figures" / "quick" / "89_toy.json").read_text())
    assert {one["series"] for one in made["records"]} == {"none", "mine"}
    claims = json.loads((tmp_path / "figures" / "quick" / "claims.json").read_text())
    assert [(row["claim"], row["n"]) for row in claims if row["key"] == "mine-helps"] == [("Mine helps", 3)]
    assert "89_toy: up to date" in make()

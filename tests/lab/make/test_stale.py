"""A figure is drawn anew after a change of what it depends on, and of nothing else."""

import json
import shutil

import pytest

from simreg_core.lab.make import stale
from simreg_core.lab.make.notebooks import notebook_paths
from simreg_core.lab.specs import PROJECT


@pytest.mark.parametrize(
    ("changed", "redrawn"),
    [
        ("simreg_core/lab/running/ray.py", set()),
        ("simreg_core/attacks/pgd.py", set()),
        ("simreg_core/lab/plotting.py", {"01_pixel_vs_neural_similarity", "16_cost", "14_white_box"}),
        ("simreg_core/lab/claims.py", {"01_pixel_vs_neural_similarity", "16_cost", "14_white_box"}),
        ("simreg_core/lab/audit_figures.py", {"14_white_box"}),
        ("simreg_core/lab/similarity_figure.py", {"01_pixel_vs_neural_similarity"}),
        ("simreg_core/lab/cost.py", {"16_cost"}),
        ("notebooks/16_cost.ipynb", {"16_cost"}),
    ],
)
def test_a_figure_is_stale_after_a_change_of_what_it_depends_on_only(changed, redrawn, tiny, tmp_path, monkeypatch):
    names = ("01_pixel_vs_neural_similarity", "14_white_box", "16_cost")
    for folder in ("simreg_core", "notebooks", "figures/reference"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(stale, "PROJECT", tmp_path)

    def inputs():
        return {name: stale.inputs_of(tmp_path / "notebooks" / f"{name}.ipynb", tiny, None) for name in names}

    before = inputs()
    path = tmp_path / changed
    text = path.read_text()
    path.write_text(text.replace('"source": [', '"source": ["1\\n",') if path.suffix == ".ipynb" else text + "\n")
    assert {name for name in names if inputs()[name] != before[name]} == redrawn


def test_every_module_of_figures_belongs_to_a_notebook():
    files = {file for path in notebook_paths() for file in stale.sources_of(path.stem)}
    assert {PROJECT / "simreg_core" / "lab" / name for name in ("figures.py", "audit_figures.py")} <= files
    for file in files:
        assert file.is_file()
    for path in notebook_paths():  # a module of figures that a notebook imports counts for it
        code = "".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
        used = {name for name in ("figures", "audit_figures", "similarity_figure") if f" {name}." in code}
        assert used <= {file.stem for file in stale.sources_of(path.stem)}, path.stem

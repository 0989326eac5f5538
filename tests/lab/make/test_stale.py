"""A figure is drawn anew after a change of what it depends on, and of nothing else."""

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
        ("simreg_core/lab/figures/kit.py", {"01_pixel_vs_neural_similarity", "16_cost", "14_white_box"}),
        ("simreg_core/lab/series.py", {"01_pixel_vs_neural_similarity", "16_cost", "14_white_box"}),
        ("simreg_core/lab/claims.py", {"01_pixel_vs_neural_similarity", "16_cost", "14_white_box"}),
        ("simreg_core/lab/figures/white_box.py", {"14_white_box"}),
        ("simreg_core/lab/figures/pixel_vs_neural.py", {"01_pixel_vs_neural_similarity"}),
        ("simreg_core/lab/figures/cost.py", {"16_cost"}),
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
    modules = set((PROJECT / "simreg_core" / "lab" / "figures").glob("*.py"))
    assert {path for path in modules if path.name != "__init__.py"} <= files
    assert all(file.is_file() for file in files)

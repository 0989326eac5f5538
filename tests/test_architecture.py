"""docs/architecture.md: short, and true of the tree."""

import re
from pathlib import Path

import pytest

from simreg_core.lab.figures import FIGURES

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
PICTURE = PAGE.split("```text\n")[1].split("```")[0]
ROOTS = ("simreg_core", "tests", "notebooks", "figures", "benchmarks", "docs")


def paths() -> list[str]:
    """Paths that the text or its links name."""
    named = [name for name in re.findall(r"`([\w./]+)`", PAGE) if name.split("/")[0] in ROOTS]
    linked = [str(Path("docs", link)) for link in re.findall(r"\]\(([\w./]+)\)", PAGE)]
    drawn = [f"simreg_core/{name}" for name in re.findall(r"\b(lab/[\w./]+)", PICTURE) if "NAME" not in name]
    return [*named, *linked, *drawn]


def test_it_is_short():
    assert len(PAGE.splitlines()) <= 150


def test_no_file_is_above_the_limit_of_the_page():
    assert "No file above 400 lines" in PAGE
    folders = ("simreg_core", "tests", "benchmarks", "docs", "notebooks")
    files = [path for folder in folders for path in (PROJECT / folder).rglob("*.py")]
    assert len(files) > 300
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert [f"{path.relative_to(PROJECT)}: {count}" for path, count in lines.items() if count > 400] == []


def test_every_path_exists():
    assert len(paths()) > 60
    new = {"simreg_core/defences/hebbian.py"}  # the example of a file to write
    assert [path for path in paths() if path not in new and not (PROJECT / path).exists()] == []


@pytest.mark.parametrize("package", sorted(path.parent for path in (PROJECT / "simreg_core").rglob("__init__.py")))
def test_every_package_is_named(package):
    assert f"`{package.relative_to(PROJECT)}/`" in PAGE


def test_every_file_of_the_methods_own_folder_is_named():
    files = {path.name for path in (PROJECT / "simreg_core").glob("*.py")}
    unnamed = files - {"__init__.py", "__main__.py", "later.py", "numbers.py", "pixels.py"}
    assert [name for name in sorted(unnamed) if f"`simreg_core/{name}`" not in PAGE] == []


def test_the_module_of_figure_02_is_as_said():
    assert FIGURES["02_attack_curves"].draw.__module__ == "simreg_core.lab.figures.attack_curves"
    assert "figure 02 is `simreg_core/lab/figures/attack_curves.py`" in PAGE

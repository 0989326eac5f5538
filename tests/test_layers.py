"""The method never imports the laboratory."""

import ast
from pathlib import Path

import simreg_core

PACKAGE = Path(simreg_core.__file__).parent
METHOD = [
    path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in ("lab", "__main__.py")  # the command is the laboratory's
]


def imported_by(path: Path) -> set[str]:
    """Full names of all that a file imports anywhere in it, also inside functions."""
    here = ("simreg_core", *path.relative_to(PACKAGE).parent.parts)
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) + 1 - node.level]] if node.level else []
            base += [node.module] if node.module else []
            names |= {".".join([*base, alias.name]) for alias in node.names}
    return names


def of_the_laboratory(path: Path) -> set[str]:
    return {name for name in imported_by(path) if name.split(".")[:2] == ["simreg_core", "lab"]}


def test_the_method_never_imports_the_laboratory():
    assert {path.parent.name for path in METHOD} == {"simreg_core", "attacks", "defences", "neural"}
    assert {path: names for path in METHOD if (names := of_the_laboratory(path))} == {}


def test_such_an_import_would_be_found(tmp_path, monkeypatch):
    for line in (
        "import simreg_core.lab.store",
        "from simreg_core import lab",
        "def f():\n    from simreg_core.lab.store import Store",
        "from ..lab import store",
    ):
        monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
        (tmp_path / "attacks").mkdir(exist_ok=True)
        (tmp_path / "attacks" / "toy.py").write_text(line)
        assert of_the_laboratory(tmp_path / "attacks" / "toy.py")

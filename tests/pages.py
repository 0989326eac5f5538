"""The code blocks of docs/adding.md, which are files to add, rows of tables and profiles."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PARTS = [text.split("\n", 1) for kind, text in BLOCKS if kind == "python"]  # first line, the rest
FILES = {first[2:]: rest for first, rest in PARTS if first.startswith("# simreg_core/")}
ROWS = {first.removeprefix("# row of "): rest for first, rest in PARTS if first.startswith("# row of ")}
PROFILES = {re.match(r"name: (\S+)", text).group(1): text for kind, text in BLOCKS if kind == "yaml"}


def added(place: str, folder: Path, monkeypatch) -> ModuleType:
    """The module of a file of the page, as if it lay at its place in the package."""
    path = folder / Path(place).name
    path.write_text(FILES[place], encoding="utf-8")
    name = place.removesuffix(".py").replace("/", ".")
    described = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(described)
    monkeypatch.setitem(sys.modules, name, module)
    described.loader.exec_module(module)
    package, _, last = name.rpartition(".")
    monkeypatch.setattr(sys.modules[package], last, module, raising=False)
    return module

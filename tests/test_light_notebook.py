"""Notebook 91 runs with torch, numpy and the method only, in a clone that is not installed; the loss does something."""

import json
import re
import subprocess
import sys

import pytest

from simreg_core.lab.make.notebooks import NOTEBOOKS, notebook_paths
from simreg_core.lab.specs import PROJECT

PATH = NOTEBOOKS / "91_light_package.ipynb"
CODE = ["".join(cell["source"]) for cell in json.loads(PATH.read_text())["cells"] if cell["cell_type"] == "code"]
ELSEWHERE = ("matplotlib", "pandas", "pydantic", "sklearn", "scipy", "torchvision", "safetensors", "simreg_core.lab")
BLOCKED = "import sys\nsys.modules.update(dict.fromkeys({names!r}))\n"


def run(code: str, folder) -> subprocess.CompletedProcess:
    """Run in a process that finds none of these packages."""
    command = [sys.executable, "-c", BLOCKED.format(names=ELSEWHERE) + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_it_runs_with_the_light_package_only():
    small = CODE[0].replace("steps = 150", "steps = 40").replace("seeds = 2", "seeds = 1")
    assert small.count("40") == 1
    done = run("\n".join([small, *CODE[1:], "print(repr(plt))"]), NOTEBOOKS)
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^(noise|without|with) +(.*)$", done.stdout, re.MULTILINE))
    without, with_loss = ([float(value) for value in rows[name].split()] for name in ("without", "with"))
    assert rows["noise"].split() == ["0.00", "0.10", "0.20", "0.30", "0.40", "0.50"]
    assert min(without[0], with_loss[0]) > 0.8
    assert without[-1] < 0.7 * without[0]
    assert without != with_loss
    assert done.stdout.endswith("None\n")  # no matplotlib, no picture


@pytest.mark.parametrize("package", ["", str(PROJECT)])
def test_its_first_cell_finds_or_installs_the_package(package, tmp_path):
    """pip is not let do it: what it is asked is looked at."""
    asked = "import subprocess\nsubprocess.run = lambda command, check: print(command[1:])\n"
    without = "import importlib.util\nimportlib.util.find_spec = lambda name: None\n"
    (tmp_path / "notebooks").mkdir()
    parameters = CODE[0].replace('package = ""', f"package = {package!r}")
    done = run(asked + without + parameters + "\n" + CODE[1], tmp_path / "notebooks")
    assert done.stdout == (f"{['-m', 'pip', 'install', '--quiet', package]}\n" if package else "")
    assert done.stderr.endswith("ModuleNotFoundError: simreg_core is not here: say in `package` what pip installs\n")


def test_a_clone_that_is_not_installed_is_taken(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "simreg_core").symlink_to(PROJECT / "simreg_core")
    head = CODE[1].split("\nif importlib", 1)[0]
    hidden = "import importlib.util\nimportlib.util.find_spec = lambda name: None\n"
    done = run(hidden + CODE[0] + "\n" + head + "\nprint(sys.path[0])", tmp_path / "notebooks")
    assert (done.stdout, done.stderr) == ("..\n", "")


def test_it_is_no_figure():
    assert PATH not in notebook_paths()

"""The command `simreg`: the laboratory's, or one line that says what to install."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def run(code: str, folder: Path) -> subprocess.CompletedProcess:
    code = f"import sys; {code or None}; from simreg_core.__main__ import main; sys.argv = ['simreg', '--help']; main()"
    environment = {**os.environ, "SIMREG_RUNS": str(folder)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_the_command_is_the_laboratorys(tmp_path):
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"simreg": "simreg_core.__main__:main"}
    done = run("", tmp_path)
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("figures", "status", "publish"))


@pytest.mark.parametrize("package", ["typer", "pydantic", "pandas"])
def test_without_the_laboratorys_packages_one_line_says_what_to_install(package, tmp_path):
    done = run(f"sys.modules[{package!r}] = None", tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"needs the extra 'lab', {package} is not installed" in done.stderr
    assert done.stderr.endswith('pip install -e ".[lab]"\n')
    assert done.stderr.count("\n") == 1


def test_a_fault_of_the_package_itself_is_not_hidden(tmp_path):
    done = run("sys.modules['simreg_core.lab.store'] = None", tmp_path)
    assert done.returncode == 1
    assert "ModuleNotFoundError: import of simreg_core.lab.store halted" in done.stderr

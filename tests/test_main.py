"""The command `simreg`: the laboratory's, or one line that says what to install."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from simreg_core.lab.records import commit

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


INTERRUPTED = """
import sys
from simreg_core.__main__ import main

class Interrupting:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt

def interrupted(*_):
    raise KeyboardInterrupt

if {early}:
    sys.meta_path.insert(0, Interrupting())
else:
    from simreg_core.lab import cli
    cli.load_profile = interrupted
sys.argv = ["simreg", "figures"]
main()
"""


@pytest.mark.parametrize("early", [True, False])
def test_a_command_that_is_stopped_says_so_in_one_line(early):
    code = INTERRUPTED.format(early=early)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "simreg: stopped; run again to go on\n"


SAYING = """
import os

class Stopped:
    def write(self, text):
        os.kill(os.getpid(), 2)
        return sys.__stderr__.write(text)

    def flush(self):
        sys.__stderr__.flush()

sys.stderr = Stopped()
"""


def test_a_second_stop_while_the_first_is_said_changes_nothing():
    code = INTERRUPTED.format(early=False).replace("main()\n", SAYING + "main()\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "simreg: stopped; run again to go on\n")


def test_a_closed_standard_output_harms_nothing(tmp_path):
    code = "import subprocess; from simreg_core.__main__ import _open_closed_streams; _open_closed_streams();"
    code += "print('said'); subprocess.run(['sh', '-c', 'echo said'], check=True); open('file', 'w').write('whole')"
    subprocess.run(
        ["sh", "-c", f'exec {sys.executable} -c "{code}" >&-'],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        check=True,
    )
    assert (tmp_path / "file").read_text() == "whole"


def test_windows_is_told_of_wsl(tmp_path):
    done = run("sys.modules['fcntl'] = None", tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "simreg: the command needs Linux or macOS; under Windows, run it in WSL\n",
    )


INSTALLED_ALONE = """
from simreg_core.lab.folders import folder_of
from simreg_core.lab.make.notebooks import notebook_paths
from simreg_core.lab.records import commit
from simreg_core.lab.specs import load_profile
print(commit())
print(folder_of("SIMREG_RUNS"), folder_of("SIMREG_FIGURES"))
for call in (lambda: load_profile("quick"), notebook_paths):
    try:
        call()
    except ValueError as error:
        print(error)
"""


def test_installed_without_its_folder_it_says_so_and_writes_beside_nothing_of_python(tmp_path):
    shutil.copytree(PROJECT / "simreg_core", tmp_path / "site" / "simreg_core", ignore=lambda *_: ["__pycache__"])
    user = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "mine"]):
        subprocess.run(["git", *user, *command], cwd=tmp_path, check=True)
    names = {"SIMREG_RUNS", "SIMREG_FIGURES", "PYTHONPATH"}
    here = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED_ALONE],
        cwd=tmp_path,
        env={**here, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    commit, folders, profile, notebooks = done.stdout.splitlines()
    assert commit == "('unknown', True)"  # not that of the repository around it
    assert folders == f"{tmp_path / 'runs'} {tmp_path / 'figures'}"
    alone = "simreg is installed without its profiles and notebooks"
    assert profile.startswith(f"unknown profile 'quick': {alone}")
    assert notebooks.startswith(alone)


def test_the_commit_is_that_of_this_checkout():
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert commit()[0] == head.stdout.strip()

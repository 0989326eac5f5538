"""`simreg clean` removes what no profile wants, only when told to, and never what a computation holds."""

import os
import subprocess
import sys

import pytest
from conftest import TINY

from simreg_core.lab import recipes
from simreg_core.lab.cli import main
from simreg_core.lab.files import StoreError
from simreg_core.lab.make import clean
from simreg_core.lab.specs import load_profile
from simreg_core.lab.store import Store

QUICK = load_profile("quick")


@pytest.fixture
def filled(tmp_path, monkeypatch) -> Store:
    """A store with a network and a record that quick wants, those that it does not want, and what else gathers."""
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(clean, "shipped_profiles", lambda: [QUICK])  # all of them take some seconds to plan
    store = Store()
    evaluation = recipes.noise(QUICK, "gaussian")
    for one in (recipes.experiment(QUICK, "S^Th", 0), recipes.experiment(QUICK, "S^Th", 0, alpha=0.123)):
        for path in (store.weights_path(one), store.record_paths(one, evaluation)[0]):
            write(path)
    for name in ("made/corrupted-images/a.safetensors", "notebooks/quick/00.ipynb", "explored/quick-1/00.png"):
        write(store.root / name)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write(store.root / "records" / f".a.json.{os.uname().nodename}.{gone.pid}")
    for name in ("drawn/quick/00.txt", "checksums/a.txt", "computing.lock", "mine.txt"):
        write(store.root / name)
    return store


def write(path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["simreg", "clean", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code or 0


def files(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()}


def test_it_says_what_there_is_and_removes_nothing(filled, monkeypatch, capsys):
    before = files(filled)
    assert run(monkeypatch) == 0
    said = capsys.readouterr().out
    assert f"{filled.root}: can be removed: 0.0 MB\n" in said
    assert "      0.0 MB       1  networks that no profile wants\n" in said
    assert "nothing is removed; --yes removes it" in said
    assert files(filled) == before


def test_what_profiles_want_stays(filled, monkeypatch):
    assert run(monkeypatch, "--yes") == 0
    one, evaluation = recipes.experiment(QUICK, "S^Th", 0), recipes.noise(QUICK, "gaussian")
    assert files(filled) == {
        f"experiments/{one.key}/weights.safetensors",
        f"records/{one.key}/{evaluation.key}.json",
        *("drawn/quick/00.txt", "checksums/a.txt", "computing.lock", "mine.txt"),
    }
    assert run(monkeypatch, "--everything", "--yes") == 0
    assert files(filled) == {"drawn/quick/00.txt", "checksums/a.txt", "computing.lock", "mine.txt"}


def test_the_results_of_a_profile_that_is_named_stay(filled, monkeypatch):
    own = recipes.experiment(load_profile(TINY), "none", 0)
    write(filled.weights_path(own))
    assert run(monkeypatch, "--yes", "--keep", TINY) == 0
    assert filled.is_trained(own)
    assert run(monkeypatch, "--yes") == 0
    assert not filled.is_trained(own)


COMPUTES = """
import sys
from simreg_core.lab.store import Store
with Store().computing():
    print("computing", flush=True)
    sys.stdin.read()
"""


def test_nothing_is_removed_while_a_process_computes(filled, monkeypatch, capsys):
    before = files(filled)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", COMPUTES], **pipes) as other:
        assert other.stdout.readline() == "computing\n"
        assert run(monkeypatch, "--yes") == 2
        assert f"process {other.pid} computes here; try again when it has ended" in capsys.readouterr().err
        assert files(filled) == before
        with pytest.raises(StoreError, match="computes here"):
            clean.remove(clean.parts_of(filled, [])[0], filled)
        other.stdin.close()
    assert run(monkeypatch, "--yes") == 0
    assert files(filled) < before


def test_every_shipped_profile_is_asked():
    names = {one.name for one in clean.shipped_profiles()}
    assert {"quick", "paper", "cifar-small"} <= names


def test_an_empty_store_has_nothing_to_remove(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(clean, "shipped_profiles", lambda: [QUICK])
    assert run(monkeypatch) == 0
    assert "stays: 0.0 MB" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()

"""RECOMPUTE=1 continues where it was killed, under the store's lock; two settings say where figures and records lie."""

import fcntl
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from simreg_core.lab.files import write_text
from simreg_core.lab.image_files import DataError
from simreg_core.lab.images import load_image_set
from simreg_core.lab.inputs import checksums
from simreg_core.lab.make import figures
from simreg_core.lab.specs import PROJECT, SpecError, load_profile
from simreg_core.lab.store import Store

LAYERS = "10_layer_weights"  # four networks


def is_held(path) -> bool:
    """Whether a file or folder is locked."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_locked() -> bool:
    """Whether the store is."""
    lock = Store().root / "computing.lock"
    return lock.is_file() and is_held(lock)


@pytest.fixture
def seen():
    """Whether the store was locked each time that something was computed, deleted or drawn."""
    return {"computed": [], "deleted": [], "drawn": []}


@pytest.fixture
def make(tiny, tmp_path, monkeypatch, seen):
    """Makes figures; trainings and records are feigned, and nothing is drawn.  Returns the keys of what was trained.

    killed: after so many trainings.
    """
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SIMREG_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setattr("simreg_core.lab.running.estimate.describe", lambda *_: "")
    monkeypatch.setattr(figures, "run_notebooks", lambda *_: seen["drawn"].append(is_locked()))
    forget = Store.forget
    monkeypatch.setattr(Store, "forget", lambda *given: seen["deleted"].append(is_locked()) or forget(*given))

    def make(*only, killed=None, again=True, profile=tiny):
        trained = []

        def compute(todo, store, *_):
            seen["computed"].append(is_locked())
            for one in todo.trainings:
                if len(trained) == killed:
                    raise KeyboardInterrupt
                store.save_trained(one, {"weight": torch.zeros(1)}, {"inputs": checksums(one)})
                trained.append(one.key)
            for measurement in todo.measurements:
                write_text(store.record_paths(*measurement)[0], "{}")

        monkeypatch.setattr("simreg_core.lab.running.compute.compute", compute)
        try:
            figures.make_figures(profile, str(TINY), again, only)
        except KeyboardInterrupt:
            assert killed is not None
        return trained

    return make


def test_no_other_process_draws_meanwhile(make, tiny, tmp_path, monkeypatch):
    held = []
    for name in ("run_notebooks", "write_claims"):
        monkeypatch.setattr(figures, name, lambda *_: held.append(is_held(tmp_path / "figures" / tiny.name)))
    make(LAYERS)
    assert held == [True, True]
    assert not is_held(tmp_path / "figures" / tiny.name)


def test_a_killed_recompute_continues_where_it_was(make):
    first = make(LAYERS, killed=2)
    rest = make(LAYERS)
    assert len(first) == len(rest) == 2
    assert not set(first) & set(rest)
    assert make(LAYERS) == first + rest  # it was finished: all of it again


def test_another_selection_starts_over_and_the_order_of_names_is_none(make):
    both = (LAYERS, "16_cost")
    first = make(*both, killed=1)
    assert first not in (make(*reversed(both), killed=1), [])
    assert make(LAYERS, killed=1) == first  # another selection
    assert make(LAYERS, killed=1) != first


def test_once_everything_is_finished_no_selection_is_under_way(make):
    first = make(LAYERS, killed=1)
    assert len(make(LAYERS, again=False)) == 3
    assert make(LAYERS, killed=1) == first


def test_replaced_images_start_an_unfinished_recompute_over(make, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "data"))

    def fill(seed):
        rng = np.random.default_rng(seed)
        for place in (tmp_path / "data" / "mine" / split / name for split in ("train", "test") for name in "ab"):
            place.mkdir(parents=True, exist_ok=True)
            for index in range(40):
                Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(place / f"{index}.png")
        load_image_set.cache_clear()

    fill(0)
    profile = tiny.changed(task=tiny.task.changed(images="mine", train_images=None, validation_images=8))
    first = make(LAYERS, killed=1, profile=profile)
    fill(1)
    with pytest.raises(DataError, match="not what result"):
        make(LAYERS, again=False, profile=profile)
    assert make(LAYERS, killed=1, profile=profile) == first
    load_image_set.cache_clear()


def test_a_call_plans_once(make, monkeypatch):
    planned, whole = [], figures.plan
    monkeypatch.setattr(figures, "plan", lambda *given: planned.append(given) or whole(*given))
    make(LAYERS, again=False)
    assert len(planned) == 1


def test_the_store_is_locked_from_what_is_deleted_to_what_is_used(make, seen):
    make(LAYERS)
    assert seen["computed"] == [True]
    assert seen["deleted"] == [True] * 4
    assert seen["drawn"] == [False]  # the kernels may have to compute


def test_what_is_wrong_in_several_notebooks_is_said_once_with_their_names(tiny, monkeypatch):
    def study(words):
        def fail(profile):
            raise SpecError(words)

        return SimpleNamespace(is_of=lambda profile: True, study=fail)

    wrong = {f"{number:02}_a": study("same") for number in range(6)} | {"07_b": study("other")}
    monkeypatch.setattr(figures, "FIGURES", wrong)
    with pytest.raises(SpecError, match=r"^00_a, 01_a, 02_a and 3 more: same; 07_b: other$"):
        figures.studies_of(tiny)
    with pytest.raises(SpecError, match=r"^05_a, 01_a: same$"):
        figures.studies_of(tiny, ["05_a", "01_a"])


def test_figures_elsewhere_are_drawn_from_the_committed_records(make, seen, tmp_path, capsys):
    assert make(again=False, profile=load_profile("quick")) == []
    assert "quick: nothing to compute; the figures are drawn from published records" in capsys.readouterr().out
    assert (seen["computed"], seen["drawn"]) == ([], [False])
    written = [path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert written == ["claims.txt"]  # which says that the picture of the claims is drawn


def test_records_lie_where_their_setting_says(make, tmp_path, monkeypatch, capsys):
    there = tmp_path / "records" / "quick" / "records"
    there.mkdir(parents=True)
    monkeypatch.setenv("SIMREG_RECORDS", str(tmp_path / "records"))
    todo = figures.missing(load_profile("quick"), Store(published=there), [LAYERS])
    assert len(todo.measurements) > 0
    for experiment, evaluation in todo.measurements:
        place = f"{experiment.key}/{evaluation.key}.json"
        (there / place).parent.mkdir(exist_ok=True)
        shutil.copyfile(PROJECT / "figures" / "quick" / "records" / place, there / place)
    assert make(LAYERS, again=False, profile=load_profile("quick")) == []


def test_where_nothing_can_be_kept_figures_and_claims_are_written_all_the_same(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "file" / "runs"))
    monkeypatch.setenv("SIMREG_FIGURES", str(tmp_path / "figures"))
    figures.make_figures(load_profile("quick"), "quick", False, ("16_cost",))
    written = {path.name for path in (tmp_path / "figures" / "quick").iterdir()}
    assert {"16_cost.png", "16_cost.csv", "16_cost.json", "claims.md"} <= written
    assert "its outputs are not kept" in capsys.readouterr().out

"""Published records are replaced under the store's lock, with an index."""

import shutil
from pathlib import Path

import pytest
from test_make_figures import is_held, is_locked

from simreg_core.lab.files import StoreError
from simreg_core.lab.folders import published_folder
from simreg_core.lab.make import publish
from simreg_core.lab.make.figures import measurements_of, studies_of
from simreg_core.lab.running.plan import Plan
from simreg_core.lab.specs import PROJECT
from simreg_core.lab.store import Store

COMMITTED = PROJECT / "figures" / "recordings" / "records"


def test_recordings_are_replaced_under_the_lock(tmp_path, monkeypatch):
    folder, locked = tmp_path / "recordings" / "records", []
    folder.mkdir(parents=True)
    (folder / "old.json").touch()
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(publish, "RECORDINGS", folder)
    forget = Store.forget
    monkeypatch.setattr(Store, "forget", lambda *given: locked.append(is_locked()) or forget(*given))

    def compute(todo, store, *_):
        locked.append(is_locked())
        assert (folder / "old.json").is_file()
        for experiment, evaluation in todo.measurements:
            place = f"{experiment.key}/{evaluation.key}.json"
            (store.root / "records" / place).parent.mkdir(parents=True)
            shutil.copyfile(COMMITTED / place, store.root / "records" / place)

    monkeypatch.setattr("simreg_core.lab.running.compute.compute", compute)
    publish.publish_recordings()
    assert locked == [True] * 5
    assert not is_locked()
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert files == {path.relative_to(COMMITTED) for path in COMMITTED.rglob("*") if path.is_file()}
    assert (folder / "INDEX.csv").read_bytes() == (COMMITTED / "INDEX.csv").read_bytes()


def test_of_one_notebook_the_records_of_others_stay(tiny, tmp_path, monkeypatch):
    layers, corruptions = "10_layer_weights", "05_common_corruptions"
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SIMREG_RECORDS", str(tmp_path / "figures"))
    monkeypatch.setattr(
        publish, "studies_of", lambda profile, only=(): studies_of(profile, only or (layers, corruptions))
    )
    folder, places = published_folder(tiny), {}
    for name in (layers, corruptions):
        for measurement in measurements_of(studies_of(tiny, (name,))):
            own, published = Store(published=folder).record_paths(*measurement)
            places[published] = name
            for path, text in ((own, "new"), (published, "old")):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{text} {name}", encoding="utf-8")
    monkeypatch.setattr(publish, "plan", lambda measurements, store: Plan((), ()))  # all there
    monkeypatch.setattr(publish, "write_index", lambda folder, studies: None)
    publish.publish(tiny, (layers,))
    assert {text.split()[0] for text in map(Path.read_text, places)} == {"old", "new"}
    assert all(path.read_text() == f"{'new' if name == layers else 'old'} {name}" for path, name in places.items())
    lost = next(path for path, name in places.items() if name == corruptions)
    lost.unlink()
    with pytest.raises(StoreError, match="lacks records of notebooks that are not named; publish all notebooks"):
        publish.publish(tiny, (layers,))
    publish.publish(tiny)
    assert lost.read_text() == f"new {corruptions}"


def test_no_other_process_draws_while_quick_is_published(tiny, tmp_path, monkeypatch):
    held, quick = [], tiny.model_copy(update={"name": "quick"})
    for name in ("RUNS", "RECORDS", "FIGURES"):
        monkeypatch.setenv(f"SIMREG_{name}", str(tmp_path / name.lower()))
    monkeypatch.setattr(publish, "plan", lambda measurements, store: Plan((), ()))  # all there
    for name in ("_copy_records", "run_notebooks", "put_claims_into", "write_gallery", "write_defences_pages"):
        monkeypatch.setattr(publish, name, lambda *_: held.append(is_held(tmp_path / "figures" / "quick")))
    (tmp_path / "figures" / "quick").mkdir(parents=True)
    publish.publish(quick)
    assert held == [False, True, True, True, True]

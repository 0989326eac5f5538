"""Published records are replaced under the store's lock, with an index."""

import shutil

from test_make_figures import is_locked

from simreg_core.lab.make import publish
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

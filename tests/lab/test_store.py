"""Records and checkpoints: whole or not at all, and refused where they do not fit."""

import errno
import math

import pytest
import torch

from simreg_core.lab import store as store_module
from simreg_core.lab import studies
from simreg_core.lab.store import Record, Store, StoreError, Value, provenance, read_tensors, write_tensors, write_text
from simreg_core.lab.training import build_network


@pytest.fixture
def experiment(tiny):
    return studies.experiment(tiny, "S^Th", 0)


@pytest.fixture
def record(tiny, experiment):
    evaluation = studies.noise(tiny, "gaussian", "strict")
    return Record(
        experiment_key=experiment.key,
        evaluation_key=evaluation.key,
        experiment=experiment,
        evaluation=evaluation,
        values=(
            Value(metric="accuracy", epsilon=0.1, value=0.5, attempted=10),
            Value(metric="l2", value=math.inf, attempted=10, failed=7),
        ),
        provenance=provenance(torch.device("cpu"), 1.5, image_set="digits/test", checksum="0" * 16),
    )


def test_a_record_comes_back_as_it_was(store, record):
    store.save_record(record)
    assert store.record(record.experiment, record.evaluation) == record


def test_a_record_says_what_is_needed_to_trust_it(record):
    made = record.provenance
    assert made.commit
    assert made.libraries["torch"] == torch.__version__.split("+")[0]
    assert made.device.startswith("cpu")


def test_published_records_are_the_fallback(tmp_path, record):
    published = Store(tmp_path / "elsewhere")
    published.save_record(record)
    store = Store(tmp_path / "runs", published=tmp_path / "elsewhere" / "records")
    assert store.record(record.experiment, record.evaluation) == record
    own = record.model_copy(update={"values": ()})
    store.save_record(own)
    assert store.record(record.experiment, record.evaluation) == own


def test_a_corrupt_record_is_named(store, record):
    store.save_record(record)
    path = store.record_paths(record.experiment, record.evaluation)[0]
    path.write_text(path.read_text()[:200])
    with pytest.raises(StoreError, match=f"record {path} is corrupt"):
        store.record(record.experiment, record.evaluation)


def test_a_record_of_another_specification_is_refused(store, record):
    store.save_record(record)
    path = store.record_paths(record.experiment, record.evaluation)[0]
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(StoreError, match="made from another specification"):
        store.record(record.experiment, record.evaluation)


def test_weights_of_another_network_are_refused(store, experiment):
    wider = build_network(experiment.changed(network={**experiment.network.model_dump(), "width": 4}), 10)
    store.save_trained(experiment, wider.state_dict(), {})
    with pytest.raises(StoreError, match=r"is of another network: 'head.weight' is \[10, 32\] there and \[10, 16\]"):
        store.load_weights(experiment, build_network(experiment, 10))


def test_weights_of_another_experiment_are_refused(store, experiment):
    network = build_network(experiment, 10)
    write_tensors(store.weights_path(experiment), network.state_dict(), {"key": "another"})
    with pytest.raises(StoreError, match=f"belongs to experiment another, not {experiment.key}"):
        store.load_weights(experiment, network)


def test_missing_and_corrupt_checkpoints_are_named(store, experiment):
    path = store.weights_path(experiment)
    with pytest.raises(StoreError, match=f"{path} is missing"):
        read_tensors(path)
    network = build_network(experiment, 10)
    store.save_trained(experiment, network.state_dict(), {})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StoreError, match=f"{path} is corrupt"):
        store.load_weights(experiment, network)


def full_disk(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    write_text(path, "old")
    monkeypatch.setattr(store_module.os, "fsync", full_disk)
    with pytest.raises(StoreError, match=f"cannot write {path}: no space left on the disk"):
        write_text(path, "new")
    with pytest.raises(StoreError, match="no space left"):
        write_tensors(tmp_path / "value.safetensors", {"x": torch.zeros(2)}, {})
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "value.json", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_travels_whole_or_not_at_all(store, tmp_path, tiny, experiment):
    store.save_resume(experiment, {"a": torch.zeros(2)}, [])
    assert sorted(store.checkpoint_files(experiment)) == ["experiment.json", "resume.safetensors"]
    there = Store(tmp_path / "there")
    there.receive_checkpoint(experiment, store.checkpoint_files(experiment))
    assert there.load_resume(experiment)[1] == []
    store.save_trained(experiment, {"a": torch.ones(2)}, {"epochs": []})
    files = store.checkpoint_files(experiment)
    broken = {**files, "weights.safetensors": files["weights.safetensors"][:-1]}
    with pytest.raises(StoreError, match="is corrupt"):
        there.receive_checkpoint(experiment, broken)
    assert not there.is_trained(experiment)
    with pytest.raises(StoreError, match=f"belongs to experiment {experiment.key}, not "):
        there.receive_checkpoint(studies.experiment(tiny, "S^Th", 1), files)
    with pytest.raises(StoreError, match=r"came with '\.\./evil', which is no file of a checkpoint"):
        there.receive_checkpoint(experiment, {"../evil": b""})
    there.receive_checkpoint(experiment, files)
    assert there.checkpoint_files(experiment) == files  # the state for resuming is gone
    assert not list(there.root.rglob(".*"))


def test_a_record_travels_and_is_checked_where_it_arrives(store, tmp_path, record):
    store.save_record(record)
    content = store.record_bytes(record.experiment, record.evaluation)
    there = Store(tmp_path / "there")
    there.receive_record(record.experiment, record.evaluation, content)
    assert there.record(record.experiment, record.evaluation) == record
    other = record.experiment.changed(seed=1)
    with pytest.raises(StoreError, match="made from another specification"):
        there.receive_record(other, record.evaluation, content)
    with pytest.raises(StoreError, match="is corrupt"):
        there.receive_record(other, record.evaluation, b"")
    assert there.record(other, record.evaluation) is None

"""Records and checkpoints: whole or not at all, and refused where they do not fit."""

import json
import math
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from simreg_core.lab import recipes
from simreg_core.lab.files import StoreError, unsealed, write_text
from simreg_core.lab.records import Record, Value, provenance
from simreg_core.lab.specs import PROJECT
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import read_tensors, write_tensors
from simreg_core.lab.training import build_network


@pytest.fixture
def experiment(tiny):
    return recipes.experiment(tiny, "S^Th", 0)


@pytest.fixture
def record(tiny, experiment):
    evaluation = recipes.noise(tiny, "gaussian", "strict")
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
    with pytest.raises(StoreError, match=f"record {path} is corrupt.*; delete it to compute it again"):
        store.record(record.experiment, record.evaluation)


def test_a_record_of_another_specification_is_refused(store, record):
    store.save_record(record)
    other = record.experiment.changed(seed=1)
    path = store.record_paths(other, record.evaluation)[0]
    write_text(path, store.record_paths(record.experiment, record.evaluation)[0].read_text())
    with pytest.raises(StoreError, match="made from another specification"):
        store.record(other, record.evaluation)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"value": 0.5', '"value": 0.51', "its checksum '[0-9a-f]{32}' does not fit its content"),
        ('"failed": 7', '"failed": 6', "does not fit"),
        ('"python": "3', '"python": "4', "does not fit"),
        ('"checksum": "', '"checksum": "0', "does not fit"),
        ('"checksum": "', '"image_checksum": "', "it has no checksum"),
    ],
)
def test_an_edited_record_is_refused(store, record, old, new, problem):
    store.save_record(record)
    path = store.record_paths(record.experiment, record.evaluation)[0]
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(StoreError, match=f"record {path} is corrupt or edited: .*{problem}.*; delete it"):
        store.record(record.experiment, record.evaluation)


def test_all_committed_records_are_whole_and_possible():
    for folder in ("quick", "recordings"):
        paths = sorted((PROJECT / "figures" / folder / "records").rglob("*.json"))
        assert paths
        for path in paths:
            document = unsealed(path.read_bytes(), f"record {path}", "")
            Record.model_validate_json(json.dumps(document))


def test_an_edited_history_is_refused(store, experiment):
    store.save_trained(experiment, {"a": torch.ones(2)}, {"seconds": 1.5})
    assert store.history(experiment) == {"seconds": 1.5}
    path = store.weights_path(experiment).with_name("history.json")
    path.write_text(path.read_text().replace("1.5", "2.5"))
    with pytest.raises(StoreError, match=f"training history {path} is corrupt or edited.*delete its folder"):
        store.history(experiment)


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


def test_a_flipped_bit_in_a_checkpoint_is_noticed(store, experiment):
    network = build_network(experiment, 10)
    store.save_trained(experiment, network.state_dict(), {})
    store.save_resume(experiment, {"a": torch.ones(2), "empty": torch.zeros(0), "one": torch.tensor(0.5)}, [{"x": 1}])
    assert store.load_resume(experiment)[1] == [{"x": 1}]
    for path, place in (
        (store.weights_path(experiment), -1),  # in the last weight
        (
            store.resume_path(experiment),
            store.resume_path(experiment).read_bytes().index(b": 1}") + 2,
        ),  # in the history
    ):
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
    for load in (lambda: store.load_weights(experiment, network), lambda: store.load_resume(experiment)):
        with pytest.raises(StoreError, match=r"checkpoint .* is corrupt or edited: .* does not fit .*; delete it"):
            load()


def test_equal_checkpoints_have_equal_files(tmp_path):
    files = [tmp_path / str(number) for number in range(8)]
    for path in files:
        write_tensors(path, {"b": torch.ones(2), "a": torch.zeros(1)}, {"key": "k", "history": "h", "more": "m"})
    assert len({path.read_bytes() for path in files}) == 1


@pytest.mark.parametrize("notes", ["{", "3", "[1]", "null"])
def test_notes_that_no_store_wrote_are_refused(tmp_path, notes):
    save_file({"a": torch.zeros(1)}, tmp_path / "x", metadata={"notes": notes})
    with pytest.raises(StoreError, match=r"checkpoint .*x is corrupt: .*; delete it"):
        read_tensors(tmp_path / "x")


def test_a_checkpoint_without_a_checksum_is_refused(store, experiment):
    path = store.weights_path(experiment)
    store.save_trained(experiment, {"a": torch.ones(2)}, {})
    save_file(load_file(path), path, metadata={"key": experiment.key})
    with pytest.raises(StoreError, match=f"checkpoint {path} is corrupt or edited: it has no checksum; delete it"):
        store.trained_tensors(experiment)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(store, experiment, number):
    network = build_network(experiment, 10)
    weights = network.state_dict()
    weights["head.weight"][0, 0] = number
    with pytest.raises(StoreError, match=f"experiment {experiment.key} is not stored.*'head.weight' is not finite"):
        store.save_trained(experiment, weights, {})
    assert not store.root.exists()
    write_tensors(store.weights_path(experiment), weights, {"key": experiment.key})
    with pytest.raises(StoreError, match=r"weights.safetensors is of no use: 'head.weight' is not finite; delete"):
        store.load_weights(experiment, network)


def test_whether_a_record_is_there_is_known_without_reading_it(store, record, tmp_path):
    measured = record.experiment, record.evaluation
    assert not store.has_record(*measured)
    write_text(store.record_paths(*measured)[0], "{}")
    assert store.has_record(*measured)
    assert not Store(tmp_path / "other").has_record(*measured)
    assert Store(tmp_path / "other", published=store.root / "records").has_record(*measured)


def test_nothing_is_deleted_under_a_process_that_computes(store, record):
    store.save_record(record)
    holder = f"""
import fcntl, time
from pathlib import Path
root = Path({str(store.root)!r})
with (root / "computing.lock").open("w") as file:  # as `computing` does, without importing torch
    fcntl.flock(file, fcntl.LOCK_EX)
    print("holding", flush=True)
    time.sleep(1)
    print(len(list(root.glob("records/**/*.json"))), flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holding\n"
    store.forget(record.experiment, record.evaluation)
    assert process.communicate()[0] == "1\n"  # while it held the store
    assert store.record(record.experiment, record.evaluation) is None


def test_who_computes_may_take_the_lock_again(store, tmp_path):
    with store.computing(), Store(tmp_path / "runs", published=tmp_path).computing() as waited:
        assert not waited
    with store.computing() as waited:
        assert not waited


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
        there.receive_checkpoint(recipes.experiment(tiny, "S^Th", 1), files)
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

"""Images that were replaced under the same name are noticed: by records, networks and half-finished trainings."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from simreg_core.lab import inputs, recipes
from simreg_core.lab.image_files import DataError
from simreg_core.lab.images import load_image_set
from simreg_core.lab.inputs import Checksums, Images, checksums, inputs_of
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.predictors import fit
from simreg_core.lab.recordings import Recording, write_recording
from simreg_core.lab.running.plan import plan
from simreg_core.lab.specs import NeuralExperiment, Predictor, Recorded
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import read_tensors
from simreg_core.lab.training import train

CPU = torch.device("cpu")


@pytest.fixture
def fill(tmp_path, monkeypatch):
    """Writes the images of a seed into the data folder."""
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "data"))

    def written(seed, split="train", each=20, name="mine"):
        rng = np.random.default_rng(seed)
        for class_name in "ab":
            place = tmp_path / "data" / name / split / class_name
            place.mkdir(parents=True, exist_ok=True)
            for index in range(each):
                Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(place / f"{index}.png")
        load_image_set.cache_clear()

    yield written
    load_image_set.cache_clear()


@pytest.fixture
def profile(tiny, fill):
    for split in ("train", "test"):
        fill(0, split)
    return tiny.changed(
        task=tiny.task.changed(images="mine", size=(8, 8), train_images=None, validation_images=8),
        network=tiny.network.changed(width=8),
        regularizer=tiny.regularizer.changed(images="mine", count=10),
        optimization=tiny.optimization.changed(batch_size=16, epochs=1),
    )


@pytest.fixture
def measured(profile, store):
    """A trained network and a record of it."""
    one, attack = recipes.experiment(profile, "S^Th", 0), recipes.noise(profile, "gaussian").changed(images=12)
    train(one, store, CPU)
    evaluate(one, attack, store, CPU)
    assert not plan([(one, attack)], store)
    return one, attack


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_record_of_other_images_is_refused(measured, store, fill, split):
    fill(1, split)
    with pytest.raises(
        DataError, match=f"image set 'mine', {split}, 8x8x1.*: not what result .* was made from"
    ) as error:
        plan([measured], store)
    assert "make figures RECOMPUTE=1" in str(error.value)
    fill(0, split)  # put back
    assert not plan([measured], store)


def test_a_network_of_other_images_is_refused_where_it_would_be_used_again(measured, store, fill):
    one, attack = measured
    shutil.rmtree(store.root / "records")
    fill(1)
    with pytest.raises(DataError, match=f"not what result {one.key} was made from"):
        plan([measured], store)
    with pytest.raises(DataError, match="not what result"):
        plan((), store, [one])
    store.forget(one, attack)
    assert len(plan([measured], store).trainings) == 1


def test_only_records_of_images_that_are_there_are_read(measured, store, tmp_path, monkeypatch):
    read = []
    whole = Store.record
    monkeypatch.setattr(Store, "record", lambda *given: read.append(given) or whole(*given))
    assert not plan([measured], store)
    assert len(read) == 1
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "elsewhere"))
    assert not plan([measured], store)
    assert len(read) == 1


def test_records_without_the_images_are_taken_silently(measured, store, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "elsewhere"))
    assert not plan([measured], store)
    published = Store(tmp_path / "other runs", published=store.root / "records")
    assert not plan([measured], published)


def test_a_record_that_lists_no_inputs_is_compared_by_its_checksums(measured, store, fill):
    one, _ = measured
    attack = measured[1].changed(images=None)
    record = evaluate(one, attack, store, CPU)
    bare = record.provenance.model_copy(update={"inputs": None})
    store.save_record(record.model_copy(update={"provenance": bare}))
    assert not plan([(one, attack)], store)
    fill(1, "test")
    with pytest.raises(DataError, match="image set 'mine', test"):
        plan([(one, attack)], store)


def test_a_training_begun_on_other_images_starts_over(profile, store, tmp_path, fill):
    two = profile.optimization.changed(epochs=2)
    one = recipes.experiment(profile, "none", 0).changed(optimization=two)

    def killed(share):
        if share == 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(one, store, CPU, killed)
    assert store.load_resume(one) is not None
    fill(1)
    train(one, store, CPU)
    fresh = Store(tmp_path / "fresh")
    train(one, fresh, CPU)
    ours, theirs = (read_tensors(where.weights_path(one))[0] for where in (store, fresh))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())
    assert store.history(one)["inputs"] == fresh.history(one)["inputs"]


def test_a_recording_that_was_replaced_is_noticed(tmp_path, monkeypatch, store):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))

    def record(seed):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (25, 1, 8, 8), generator=generator).byte()
        responses = torch.rand(2, 25, 5, generator=generator)
        write_recording(Recording("mine", images, responses, source="test"), tmp_path / "recordings" / "mine")

    record(0)
    one = NeuralExperiment(source=Recorded(recording="mine"), predictor=Predictor(kernel=3, channels=2, epochs=1))
    fit(one, store, CPU)
    assert not plan((), store, [one])
    record(1)
    with pytest.raises(DataError, match="recording 'mine': not what result"):
        plan((), store, [one])


def test_bundled_sets_have_no_inputs_and_leave_records_and_histories_as_they_were(tiny, store):
    one = recipes.experiment(tiny, "S^Th", 0)
    assert inputs_of(one, recipes.fgsm(tiny)) == []
    assert checksums(one) == {}


def test_a_checksum_is_kept_until_a_file_is_written(fill, store, monkeypatch):
    fill(0)
    one = Images("mine", "train", (8, 8), 1)
    decoded = []
    whole = inputs.unwrap(load_image_set)
    monkeypatch.setattr(inputs, "unwrap", lambda _: lambda *given: decoded.append(given) or whole(*given))
    first = Checksums(store)(one)
    assert Checksums(store)(one) == first == load_image_set("mine", "train", (8, 8), 1).checksum
    assert len(decoded) == 1
    fill(1)
    assert Checksums(store)(one) != first
    assert Checksums(store)(Images("mine", "train", (8, 8), 1, 10)) != first
    assert len(decoded) == 3

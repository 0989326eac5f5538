"""Recordings from files: every layout read, what is damaged named, nothing half written."""

import json

import numpy as np
import pytest
import torch

from simreg_core.lab.image_files import DataError
from simreg_core.lab.published_predictor import load_published_predictor
from simreg_core.lab.recordings import (
    Recording,
    load_recording,
    load_similarity,
    read_antolik,
    read_recording,
    read_sensorium,
    simulate,
    write_recording,
)
from simreg_core.lab.specs import Simulated


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def recording(generator):
    images = torch.randint(0, 256, (12, 1, 10, 14), generator=generator, dtype=torch.uint8)
    responses = torch.rand(3, 12, 5, generator=generator)
    return Recording("mine", images, responses, torch.rand(3, 12, 2, generator=generator), "a test")


# the plain layout


def test_what_is_written_is_read(recording, data):
    write_recording(recording, data / "recordings" / "mine")
    found = load_recording("mine")
    assert (found.name, found.source) == ("mine", "a test")
    assert torch.equal(found.images, recording.images)
    assert torch.equal(found.responses, recording.responses)
    assert torch.equal(found.behaviour, recording.behaviour)
    assert found.checksum == recording.checksum


def test_behaviour_may_be_missing_and_meta_may_say_more(recording, data):
    write_recording(recording, data / "r")
    (data / "r" / "behaviour.npy").unlink()
    (data / "r" / "meta.json").write_text(json.dumps({"name": "mine", "source": "a test", "animal": "mouse"}))
    assert read_recording(data / "r").behaviour is None


def save(path, array):
    np.save(path, array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "responses.npy").unlink(), r"responses.npy cannot be read as an array"),
        (lambda f: (f / "responses.npy").write_bytes(b"no numpy"), r"responses.npy cannot be read as an array"),
        (lambda f: save(f / "images.npy", np.zeros((12, 10, 14))), r"holds \[12, 10, 14\] float64; expected .* uint8"),
        (lambda f: save(f / "responses.npy", np.zeros((3, 12, 5), complex)), "holds complex128; expected numbers"),
        (lambda f: save(f / "responses.npy", np.ones((3, 11, 5))), "responses to 11 images, but 12 images"),
        (lambda f: save(f / "responses.npy", np.ones((12, 5))), r"must be \[trials, images, neurons\], got \[12, 5\]"),
        (lambda f: save(f / "responses.npy", np.full((3, 12, 5), np.nan)), "responses hold NaN"),
        (lambda f: save(f / "responses.npy", np.zeros((3, 12, 5))), "every response is 0; were the responses"),
        (lambda f: save(f / "behaviour.npy", np.zeros((3, 9, 2))), r"behaviour must be \[3, 12, variables\], got"),
        (lambda f: (f / "meta.json").write_text("{"), "meta.json cannot be read"),
        (lambda f: (f / "meta.json").write_text('{"name": "mine"}'), "lacks a text 'source'"),
    ],
)
def test_a_folder_that_does_not_fit_is_named(recording, data, change, message):
    write_recording(recording, data / "r")
    change(data / "r")
    with pytest.raises(DataError, match=message):
        read_recording(data / "r")


def test_a_pickle_is_not_opened(recording, data):
    write_recording(recording, data / "r")
    np.save(data / "r" / "responses.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="allow_pickle"):
        read_recording(data / "r")


def test_an_unknown_recording_says_where_to_put_one():
    with pytest.raises(
        DataError, match=r"unknown recording 'rat': put it into .*recordings as a folder with images.npy"
    ):
        load_recording("rat")


def test_silent_neurons_are_counted(recording):
    responses = recording.responses.clone()
    responses[:, :, 2] = 0
    assert Recording("r", recording.images, responses).silent.tolist() == [False, False, True, False, False]


# Sensorium 2022


@pytest.fixture
def mouse(data):
    """Ten trials: images 7 and 9 shown four and five times in 'test', one image in 'train'."""
    folder = data / "recordings" / "mouse"
    ids = np.array([7, 9, 7, 9, 3, 9, 7, 9, 7, 9])
    tiers = np.array(["test"] * 4 + ["train"] + ["test"] * 5)
    for part in ("data/images", "data/responses", "data/behavior", "meta/trials"):
        (folder / part).mkdir(parents=True)
    np.save(folder / "meta/trials/tiers.npy", tiers)
    np.save(folder / "meta/trials/frame_image_id.npy", ids)
    for trial, one in enumerate(ids):
        picture = np.full((1, 8, 16), one, dtype=np.float32)
        picture[0, :4, :4] += np.arange(16).reshape(4, 4)  # mean 7.5
        np.save(folder / f"data/images/{trial}.npy", picture)
        np.save(folder / f"data/responses/{trial}.npy", np.array([trial, 1.0, one], dtype=np.float64))
        np.save(folder / f"data/behavior/{trial}.npy", np.array([[trial, 0, 0]], dtype=np.float64))
    return folder


def test_sensorium_trials_are_put_together_by_image(mouse, capsys):
    found = load_recording("mouse/test")
    assert found.responses[:, :, 0].tolist() == [[0, 1], [2, 3], [6, 5], [8, 7]]
    assert found.responses[:, :, 2].tolist() == [[7, 9]] * 4
    assert found.behaviour[:, :, 0].tolist() == [[0, 1], [2, 3], [6, 5], [8, 7]]
    assert found.images.shape == (2, 1, 2, 4)
    assert found.images[0, 0, 0].tolist() == [14, 7, 7, 7]  # 7 + 7.5, halves to even
    assert "1 of 9 trials left out, so that every image has 4" in capsys.readouterr().out


def test_sensorium_damage_is_named(mouse):
    with pytest.raises(DataError, match="unknown tier 'live' of mouse; allowed: train, validation, test, final_test"):
        read_sensorium(mouse, "live")
    with pytest.raises(DataError, match="no trials of tier 'validation'"):
        read_sensorium(mouse, "validation")
    np.save(mouse / "data/responses/3.npy", np.zeros(2))
    with pytest.raises(DataError, match="trials of 2 and of 3 values"):
        read_sensorium(mouse)
    (mouse / "data/responses/3.npy").unlink()
    with pytest.raises(DataError, match=r"responses/3.npy cannot be read"):
        read_sensorium(mouse)


def test_withheld_responses_are_refused(mouse):
    for path in (mouse / "data/responses").iterdir():
        np.save(path, np.zeros(3))
    with pytest.raises(DataError, match="every response is 0; were the responses of these images withheld"):
        read_sensorium(mouse)


# Antolik et al. 2016


def test_the_antolik_pack_is_read_by_region(data, generator):
    (data / "recordings").mkdir()
    images = np.arange(4 * 31 * 31).reshape(4, 31, 31).astype(np.uint8)
    responses = torch.rand(8, 4, 6, generator=generator).numpy()
    np.savez(data / "recordings" / "pack.npz", region2_images=images, region2_responses=responses)
    found = load_recording("pack/2")
    assert found.responses.shape == (8, 4, 6)
    assert np.array_equal(found.images[:, 0], images)
    with pytest.raises(DataError, match="unknown region '4'; allowed: 1, 2, 3"):
        load_recording("pack/4")
    with pytest.raises(DataError, match="cannot be read as a pack of Antolik"):
        read_antolik(data / "recordings" / "pack.npz", 1)
    (data / "recordings" / "pack.npz").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match="cannot be read as a pack of Antolik"):
        load_recording("pack/2")


# simulation


def test_a_simulated_recording_says_so_and_is_repeatable():
    spec = Simulated(count=40, trials=3, neurons=8)
    first, second, other = simulate(spec, 0), simulate(spec, 0), simulate(spec, 1)
    assert "simulated" in first.name
    assert "simulated" in first.source
    assert first.responses.shape == (3, 40, 8)
    assert first.checksum == second.checksum != other.checksum
    assert torch.equal(first.images, other.images)


# the published predictor and matrices


def test_a_missing_predictor_says_where_to_get_it():
    with pytest.raises(DataError, match=r"not at .*predictors.*get it from github.com/sinzlab/sensorium"):
        load_published_predictor()


def test_a_file_that_is_not_the_predictor_is_refused(data):
    (data / "predictors").mkdir()
    path = data / "predictors" / "sensorium_sota_model.pth"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="is not a file of tensors"):
        load_published_predictor()
    torch.save({"conv.weight": torch.zeros(3)}, path)
    with pytest.raises(DataError, match=r"sensorium_sota_model.pth: .* readout of one mouse, got none"):
        load_published_predictor()
    torch.save(torch.nn.Linear(2, 2), path)  # a pickled object, which could run code when it is opened
    with pytest.raises(DataError, match="is not a file of tensors"):
        load_published_predictor()


def test_a_matrix_of_ones_own(data):
    (data / "similarities").mkdir()
    matrix = np.eye(5)
    np.save(data / "similarities" / "mine.npy", matrix)
    assert torch.equal(load_similarity("mine.npy", 5), torch.eye(5))
    for array, message in (
        (np.eye(4), "is of 4 images, but there are 5"),
        (np.eye(5, dtype=int), "holds int64; expected floating point"),
        (np.triu(np.ones((5, 5))), "must be symmetric"),
        (np.ones((5, 4)), "must be square"),
    ):
        np.save(data / "similarities" / "mine.npy", array)
        with pytest.raises(DataError, match=f"mine.npy.*{message}"):
            load_similarity("mine.npy", 5)
    with pytest.raises(DataError, match=r"other.npy cannot be read"):
        load_similarity("other.npy", 5)


def test_counts_of_spikes_are_written_and_read_as_numbers(tmp_path):
    counts = torch.randint(0, 5, (3, 12, 5), generator=torch.Generator().manual_seed(0))
    write_recording(Recording("mine", torch.zeros(12, 1, 10, 14, dtype=torch.uint8), counts), tmp_path)
    assert torch.equal(read_recording(tmp_path).responses, counts.float())

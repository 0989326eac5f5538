"""The sparse-coding front end through the socket: the dictionary as an artefact, two stages, what is refused."""

import pytest
import torch

from simreg_core.lab import recipes
from simreg_core.lab.files import StoreError
from simreg_core.lab.specs import SpecError
from simreg_core.lab.training import build_network, train
from simreg_core.lab.training.artefacts import fit_artefact
from simreg_core.lab.training.assembly import ARTEFACT, starting_network

CPU = torch.device("cpu")


@pytest.fixture
def sparse(tiny):
    """A function that gives an experiment of few images and one epoch a stage."""

    def make(**fields):
        task = tiny.task.changed(train_images=100, validation_images=30)
        small = tiny.changed(task=task, optimization={"epochs": 1, "batch_size": 32})
        rule = {"method": "sparse_coding", "atoms": 12, "stride": 4, "kept": 3, "batches": 5, "batch_size": 20}
        return recipes.experiment(small, "none", 0).changed(adversarial={**rule, "widths": (6, 4), **fields})

    return make


def final(experiment, store):
    return store.load_weights(experiment, build_network(experiment, 10))


def test_the_dictionary_is_stored_once_and_never_trained(sparse, store):
    one, other = sparse(), sparse(kept=5, dropout=0.5, signs="lost")
    (fit,) = one.fits
    assert other.fits[0].key == fit.key  # the encoder's settings are not the dictionary's
    assert sparse(centred=True).fits[0].key != fit.key
    assert fit.title == "dictionary of 12 atoms, 4x4 patches, seed 0"
    with pytest.raises(StoreError, match=f"{fit.key}"):
        train(one, store, CPU)
    fit_artefact(fit, store, CPU)
    atoms = store.trained_tensors(fit)[ARTEFACT]
    train(one, store, CPU)
    network = final(one, store)
    assert torch.equal(network.front_end.dictionary, atoms)
    begun = starting_network(one, 10, store)
    moved = {name: not torch.equal(value, network.get_parameter(name)) for name, value in begun.named_parameters()}
    assert all(moved[name] for name in moved if name.startswith("front_end.decoder.first"))
    assert moved["classifier.head.weight"]
    assert not any("dictionary" in name for name in moved)


def test_unsupervised_the_decoder_is_trained_first_and_then_stays(sparse, store):
    one = sparse(training="unsupervised", quantizer="off")
    fit_artefact(one.fits[0], store, CPU)
    train(one, store, CPU)
    epochs = store.history(one)["epochs"]
    assert [row["stage"] for row in epochs] == [1, 2]
    network, begun = final(one, store), starting_network(one, 10, store)
    assert not network.reconstructing
    assert epochs[0]["task_loss"] < 1  # a squared error of pixels, not a cross-entropy of 2.3
    one_epoch = one.adversarial.made.stages(1)
    assert (one_epoch[0].trainable, one_epoch[1].trainable) == (("front_end.decoder",), ("classifier",))
    assert not torch.equal(network.front_end.decoder.third.weight, begun.front_end.decoder.third.weight)


def test_a_dictionary_of_other_patches_is_refused(sparse, store):
    one = sparse()
    (fit,) = one.fits
    store.save_trained(fit, {ARTEFACT: torch.rand(12, 64)}, {"seconds": 0})
    with pytest.raises(StoreError, match=r"\[12, 64\], but the network's 'front_end.dictionary' takes \[12, 16\]"):
        train(one, store, CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": 13}, "kept must be at most the 12 atoms of the dictionary, got 13"),
        ({"dropout": 1}, r"dropout must lie in \[0, 1\)"),
        ({"stride": 5}, "it leaves pixels out; got 5"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_they_are_named(sparse, changes, message):
    with pytest.raises(SpecError, match=message):
        sparse(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 20}, "patch must fit into the image, 16x16; got 20x20"),
        ({"patch": 5, "stride": 3}, "leaves 2 of 16 pixels a side out"),
    ],
)
def test_patches_that_do_not_cover_the_image_are_refused_before_training(sparse, changes, message):
    with pytest.raises(ValueError, match=message):
        build_network(sparse(**changes), 10)

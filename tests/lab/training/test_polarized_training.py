"""The polarizing front end through the socket: three stages, frozen filters, the drift of the released code."""

from itertools import pairwise

import pytest
import torch

from simreg_core.lab import recipes
from simreg_core.lab.store import Store
from simreg_core.lab.training import build_network
from simreg_core.lab.training.loop import Run
from simreg_core.lab.training.resume import state_of

CPU = torch.device("cpu")


@pytest.fixture
def polarized(tiny):
    """A function that gives an experiment of few images and one epoch a stage."""

    def make(**fields):
        task = tiny.task.changed(train_images=130, validation_images=30)
        small = tiny.changed(task=task, optimization={"epochs": 2, "batch_size": 32})
        return recipes.experiment(small, "none", 0).changed(adversarial={"method": "polarizing", **fields})

    return make


class Killed(Exception):
    pass


def filters_by_epoch(experiment, store, until=None):
    """The filters after each epoch; the training is killed after `until` of them."""
    found = []

    class Watched(Run):
        def _note(self, losses, started):
            super()._note(losses, started)
            found.append(self.network.front_end.weight.detach().clone())
            self.quantizing = self.network.front_end.quantizing

    def saved(run):
        if until is not None and len(run.history) > until:
            raise Killed
        return state_of(run)

    run = Watched(experiment, store, CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simreg_core.lab.training.checkpoints.state_of", saved)
        patch.setattr("simreg_core.lab.training.checkpoints.SECONDS", 0.0)  # a state after every epoch
        try:
            run.finish(lambda work: None)
        except Killed:
            return found
    assert run.quantizing
    return found


def final(experiment, store):
    return store.load_weights(experiment, build_network(experiment, 10)).state_dict()


def test_filters_are_trained_in_two_stages_and_then_stay_bit_for_bit(polarized, store):
    experiment = polarized()
    filters = filters_by_epoch(experiment, store)
    assert len(filters) == 6
    moved = [not torch.equal(one, other) for one, other in pairwise(filters)]
    assert moved == [True, True, True, False, False]
    epochs = store.history(experiment)["epochs"]
    assert [one["stage"] for one in epochs] == [1, 1, 2, 2, 3, 3]
    assert ["polarization_loss" in one for one in epochs] == [True] * 4 + [False] * 2
    network = store.load_weights(experiment, build_network(experiment, 10))
    before = network.front_end.filters_before
    assert torch.equal(before[1], filters[1].flatten(1))
    assert torch.equal(before[2], filters[3].flatten(1))
    assert not torch.equal(before[0], before[1])
    assert network.front_end.quantizing
    levels = network.front_end(torch.rand(2, 1, 16, 16))
    assert set(levels.unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_the_released_drift_moves_the_filters_a_little(polarized, store):
    filters = filters_by_epoch(polarized(freezing="drift"), store)
    drift = (filters[-1] - filters[3]).abs().max()
    trained = (filters[3] - filters[1]).abs().max()
    assert 0 < drift < 0.02  # at most .002 on MNIST and .007 on Fashion-MNIST in the released files
    assert drift < trained


def test_controls(polarized, store):
    frozen = filters_by_epoch(polarized(filters="frozen"), store)
    assert all(torch.equal(one, frozen[0]) for one in frozen)
    network = build_network(polarized(filters="pixels"), 10)
    assert not [*network.front_end.parameters()]
    assert network.front_end.quantizing
    assert "no polarization" in polarized(weight=0.0).adversarial.made.words()


def test_a_training_killed_in_the_third_stage_ends_with_the_same_bits(polarized, store, tmp_path):
    experiment, other = polarized(), Store(tmp_path / "other")
    filters_by_epoch(experiment, store)
    assert len(filters_by_epoch(experiment, other, until=5)) == 6
    assert len(other.load_resume(experiment)[1]) == 5
    filters_by_epoch(experiment, other)
    expected, found = final(experiment, store), final(experiment, other)
    assert all(torch.equal(expected[name], found[name]) for name in expected)

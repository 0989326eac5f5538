"""A recorded step on a CPU, with a recorder that runs the step again: the inputs must arrive where it reads."""

import pytest
import torch

from simreg_core.lab.training.replay import WARM_UP, Replayed


def test_recorded_steps_get_new_inputs_and_change_what_lives_on():
    total, recorded = torch.zeros(2), []

    def step(batch, augmentation, pairs):
        assert pairs is None
        total.add_(batch + augmentation[0])

    def record(run):
        recorded.append(run)
        return run

    replayed = Replayed(step, record)
    expected = torch.zeros(2)
    for call in range(WARM_UP + 4):
        batch, flips = torch.tensor([call, 2.0]), torch.tensor([10.0, call])
        replayed(batch, (flips,), None)
        expected += batch + flips
        batch.fill_(-1e9)  # the caller's own tensors may change afterwards
        assert torch.equal(total, expected)
        assert len(recorded) == (call >= WARM_UP)


def test_inputs_of_another_shape_are_refused():
    replayed = Replayed(lambda one: None, lambda run: run)
    for _ in range(WARM_UP + 1):
        replayed(torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        replayed(torch.zeros(4))

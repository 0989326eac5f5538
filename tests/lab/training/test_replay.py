"""A recorded step on a CPU, with a recorder that runs the step again: the inputs must arrive where it reads."""

import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from simreg_core.lab.training.replay import WARM_UP, Replayed


class Failing:
    """Records by keeping the function, or not at all.  error: what then is raised."""

    def __init__(self, error):
        self.error = error

    def warm_up(self, run):
        run()

    def record(self, run):
        if self.error is not None:
            raise self.error
        return run


def test_a_step_that_cannot_be_recorded_goes_on_as_it_is_and_says_so_once():
    total = torch.zeros(1)
    replayed = Replayed(total.add_, Failing(RuntimeError("operation not permitted\nwhen stream is capturing")))
    for _ in range(WARM_UP):
        replayed(torch.ones(1))
    with pytest.warns(UserWarning, match="could not be recorded.*RuntimeError: operation not permitted when"):
        replayed(torch.ones(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replayed(torch.ones(1))
    assert total == WARM_UP + 2


@pytest.mark.parametrize("words", ["CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED"])
def test_a_recording_without_memory_says_so(words):
    """So that the task is put back: on a full GPU no step would run."""
    replayed = Replayed(lambda one: None, Failing(RuntimeError(words)))
    for _ in range(WARM_UP):
        replayed(torch.ones(1))
    with pytest.raises(torch.OutOfMemoryError, match=words):
        replayed(torch.ones(1))


def test_recorded_steps_get_new_inputs_and_change_what_lives_on():
    total, recorded = torch.zeros(2), []

    def step(batch, augmentation, pairs):
        assert pairs is None
        total.add_(batch + augmentation[0])

    class Again:
        """Records a function by keeping it."""

        def warm_up(self, run):
            run()

        def record(self, run):
            recorded.append(run)
            return run

    replayed = Replayed(step, Again())
    expected = torch.zeros(2)
    for call in range(WARM_UP + 4):
        batch, flips = torch.tensor([call, 2.0]), torch.tensor([10.0, call])
        replayed(batch, (flips,), None)
        expected += batch + flips
        batch.fill_(-1e9)  # the caller's own tensors may change afterwards
        assert torch.equal(total, expected)
        assert len(recorded) == (call >= WARM_UP)


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func).split(".")[1])
        return func(*args, **(kwargs or {}))


def test_the_inputs_of_a_step_are_copied_a_type_at_a_time():
    """A launch of each took as long as a kernel of the step."""
    replayed = Replayed(lambda *inputs: None, Failing(None))
    inputs = (torch.ones(2), (torch.tensor([1, 2]), torch.tensor([True])), (torch.tensor([3]), torch.ones(3)), None)
    for _ in range(WARM_UP + 1):
        replayed(*inputs)
    with Operations() as done:
        replayed(*inputs)
    assert done.names == ["_foreach_copy_"] * 3


def test_inputs_of_another_shape_are_refused():
    replayed = Replayed(lambda one: None, Failing(None))
    for _ in range(WARM_UP + 1):
        replayed(torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        replayed(torch.zeros(4))

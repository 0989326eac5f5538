"""The state of a training is written seldom, and nothing but the epoch under way is lost where it is stopped."""

import pytest
import torch

from simreg_core.lab import recipes
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import read_tensors
from simreg_core.lab.training import Run, checkpoints, train

CPU = torch.device("cpu")
EPOCHS = 5


@pytest.fixture
def experiment(tiny):
    longer = tiny.changed(
        task=tiny.task.changed(train_images=64),
        optimization={**tiny.optimization.model_dump(), "epochs": EPOCHS, "batch_size": 32},
    )
    return recipes.experiment(longer, "S^Th", 0)


@pytest.fixture
def written(monkeypatch) -> list[int]:
    """The epochs whose state was written."""
    epochs, save = [], Store.save_resume

    def noting(self, experiment, state, history):
        epochs.append(len(history))
        save(self, experiment, state, history)

    monkeypatch.setattr(Store, "save_resume", noting)
    return epochs


def stop_in(epoch: int):
    """Stops a training in the midst of an epoch, from 1."""
    steps = 0

    def step(self, *drawn):
        nonlocal steps
        steps += 1
        if steps == 2 * epoch:
            raise KeyboardInterrupt
        plain(self, *drawn)

    plain = Run._step
    return step


@pytest.mark.parametrize(("tick", "expected"), [(30, [1, 2, 3, 4, 5]), (10, [1, 4]), (1, [1])])
def test_a_state_is_written_every_half_minute_at_most(experiment, store, written, monkeypatch, tick, expected):
    clock = iter(range(0, 1000, tick))  # read once an epoch, and once more where a state is written
    monkeypatch.setattr(checkpoints, "monotonic", lambda: next(clock))
    train(experiment, store, CPU)
    assert written == expected


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_training_that_is_stopped_loses_the_epoch_under_way_only(
    experiment, store, tmp_path, written, monkeypatch, epoch
):
    undisturbed = Store(tmp_path / "undisturbed")
    train(experiment, undisturbed, CPU)
    written.clear()
    with monkeypatch.context() as patched:
        patched.setattr(Run, "_step", stop_in(epoch))
        with pytest.raises(KeyboardInterrupt):
            train(experiment, store, CPU)
    assert written == sorted({1, epoch - 1})
    assert len(store.load_resume(experiment)[1]) == epoch - 1
    train(experiment, store, CPU)
    found, expected = (read_tensors(one.weights_path(experiment))[0] for one in (store, undisturbed))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_the_best_weights_are_copied_where_they_changed(experiment, store):
    run = Run(experiment, store, CPU)
    with checkpoints.Checkpoints(run) as states:
        found = []
        for better in (False, False, True):
            if better:
                run.best = run._copy_of_weights()
            states.after_epoch()
            found.append({name: one.data_ptr() for name, one in states._state.items()})
    first, second, third = found
    best = [name for name in first if name.startswith("best.")]
    assert [first[name] for name in best] == [second[name] for name in best]
    assert not {first[name] for name in best} & {third[name] for name in best}
    assert first["network.head.weight"] != second["network.head.weight"]

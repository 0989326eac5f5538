"""The state of a regularizer: it draws the same pairs after it was saved, copied or averaged."""

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from simreg_core import SimilarityRegularizer, resnet18


@pytest.fixture
def images(generator):
    return torch.rand(20, 1, 16, 16, generator=generator)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return resnet18(width=4)


def test_state_dict_goes_on_with_the_same_losses(model, images):
    first = SimilarityRegularizer(model, model.features, images, seed=1)
    for _ in range(3):
        first()
    twin_model = copy.deepcopy(model)
    second = SimilarityRegularizer(twin_model, twin_model.features, images, seed=2)
    second.load_state_dict(first.state_dict())
    for _ in range(20):  # past the end of an epoch: the generator's state counts too
        assert first().item() == second().item()


def small_task(images, seed=0):
    """What a user saves as a whole: a network and its regularizer."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    regularizer = SimilarityRegularizer(network, ["0", "1"], images, targets="pixel", pairs_per_step=7, seed=seed)
    return nn.ModuleDict({"network": network, "regularizer": regularizer})


def drawn(task, steps=60):
    """Rows of many draws, past the end of an epoch: the generator counts too."""
    return task["regularizer"].draw_many(steps)[0].tolist()


def test_a_state_dict_is_tensors_that_safetensors_takes(images, tmp_path):
    first, second = small_task(images, seed=1), small_task(images, seed=2)
    for steps in (0, 3):  # before the first epoch, and inside it
        for _ in range(steps):
            first["regularizer"]()
        assert all(isinstance(one, torch.Tensor) for one in first.state_dict().values())
        save_file(first.state_dict(), tmp_path / "task.safetensors")
        second.load_state_dict(load_file(tmp_path / "task.safetensors"))
        assert second["regularizer"]().item() == first["regularizer"]().item()
        assert drawn(second) == drawn(first)


@pytest.mark.parametrize("change", ["half", "double", "bfloat16", "float"])
def test_precision_does_not_touch_the_order_of_pairs(images, change):
    task, expected = small_task(images), small_task(images)
    task["regularizer"]()
    expected["regularizer"]()
    getattr(task, change)()
    task["regularizer"]().backward()
    expected["regularizer"]()
    # a user's tool may change every tensor, that of the bytes too
    task.load_state_dict({name: getattr(one, change)() for name, one in task.state_dict().items()})
    assert drawn(task) == drawn(expected)


def test_copies_and_pickles_draw_the_same_pairs(images):
    task = small_task(images)
    task["regularizer"]()
    copies = [copy.deepcopy(task), pickle.loads(pickle.dumps(task))]
    expected = drawn(task)
    assert all(drawn(one) == expected for one in copies)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_averaged_model_keeps_its_own_order_of_pairs(images, use_buffers):
    task = small_task(images)
    averaged = AveragedModel(task, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    expected = drawn(copy.deepcopy(task))
    for _ in range(3):
        task["regularizer"]()
        averaged.update_parameters(task)
    assert drawn(averaged.module) == expected
    other = small_task(images, seed=5)
    other.load_state_dict(averaged.module.state_dict())
    assert drawn(other) == drawn(averaged.module)


def test_states_that_cannot_be_taken_up_are_refused(images):
    task = small_task(images)
    before = task.state_dict()
    task["regularizer"]()
    after = task.state_dict()
    bytes_of = "regularizer.pair_state"
    mean = {name: 0.9 * before[name] + 0.1 * after[name] for name in before}
    cut = {**after, bytes_of: ((before[bytes_of].int() + after[bytes_of].int()) // 2).byte()}
    short = {**after, bytes_of: after[bytes_of][:-1]}
    for state in (mean, cut, short, {**after, bytes_of: torch.full((5116,), float("nan"))}):
        with pytest.raises(RuntimeError, match=r"'pair_state', .* is not what a regularizer wrote; an average of"):
            task.load_state_dict(state)
    old = {name: one for name, one in after.items() if name != bytes_of}
    with pytest.raises(RuntimeError, match=r"'regularizer\._extra_state' is of an earlier version of simreg"):
        task.load_state_dict({**old, "regularizer._extra_state": {"position": torch.tensor(3)}})
    with pytest.raises(RuntimeError, match=r'Missing key.*"regularizer\.pair_state"'):
        task.load_state_dict(old)
    expected = drawn(copy.deepcopy(task))
    task.load_state_dict(old, strict=False)
    assert drawn(task) == expected

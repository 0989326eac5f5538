"""One pass in parts against one pass a part, in each mode, on a network with batch norm at several depths."""

import copy

import pytest
import torch

from simreg_core import resnet18
from simreg_core.batch_norm import normalized_by_part


@pytest.fixture
def network():
    torch.manual_seed(0)
    return resnet18(width=2).train()


@pytest.fixture
def images(generator):
    return torch.rand(12, 1, 16, 16, generator=generator)


def statistics(network):
    return {name: value for name, value in network.state_dict().items() if "running" in name or "tracked" in name}


def test_one_pass_equals_a_pass_a_part(network, images):
    other = copy.deepcopy(network)
    expected = torch.cat([other(images[:8]), other(images[8:])])
    with normalized_by_part(network, [8, 4]):
        together = network(images)
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-4)
    for name, value in statistics(other).items():
        torch.testing.assert_close(statistics(network)[name], value, atol=1e-5, rtol=1e-4)
    together.sum().backward()
    expected.sum().backward()
    for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-3, rtol=1e-3)


def test_separate_statistics_leave_the_running_ones(network, images):
    before = copy.deepcopy(statistics(network))
    with normalized_by_part(network, [8, 4]):
        shared = network(images)
    network.load_state_dict(before, strict=False)
    with normalized_by_part(network, [8, 4], "separate"):
        separate = network(images)
    torch.testing.assert_close(separate, shared)
    assert all(torch.equal(value, before[name]) for name, value in statistics(network).items())


def test_frozen_statistics_are_those_of_eval_mode(network, images):
    network(images)  # so that the running statistics are no longer 0 and 1
    before = copy.deepcopy(statistics(network))
    with normalized_by_part(network, [8, 4], "frozen"):
        frozen = network(images)
    torch.testing.assert_close(frozen, network.eval()(images))
    assert all(torch.equal(value, before[name]) for name, value in statistics(network).items())


def test_nothing_is_left_behind(network, images):
    with pytest.raises(RuntimeError, match="channels"), normalized_by_part(network, [12]):
        network(images.repeat(1, 3, 1, 1))
    assert not [module for module in network.modules() if "forward" in vars(module)]
    with pytest.raises(ValueError, match="unknown pair statistics 'mine'"), normalized_by_part(network, [12], "mine"):
        pass

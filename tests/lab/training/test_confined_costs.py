"""Costs of the defence socket that move their block and nothing before it."""

from dataclasses import dataclass

import pytest
import torch
from toy_rules import CPU, Toy, equal, weights

from simreg_core.defences import (
    Stage,
)
from simreg_core.defences.base import cross_entropy
from simreg_core.lab.training import build_network, train


@dataclass(frozen=True)
class Hebbian(Toy):
    """A cost of the stem's filters, which moves the stem's convolution and nothing else."""

    cost: float = 1.0
    confine: bool = True

    def losses(self, network, x, y, progress, generator):
        maps = network.features(x)
        return {
            "task": 0.0 * cross_entropy(network, x, y),  # so that only the cost moves anything
            "strength": -self.cost * (maps[1].mean() + maps[0].square().mean()),
        }

    def gradients(self, network):
        return {"strength": ("stage1",)} if self.confine else {}

    def stages(self, epochs):
        return (Stage(1, rates=(0.1,), ends_with="last"),)


def test_a_cost_moves_its_block_and_nothing_before(toy, store):
    confined, flowing = toy(Hebbian), toy(Hebbian, confine=False)
    start = dict(build_network(confined, 10).named_parameters())
    for experiment, moves in ((confined, {"stage1"}), (flowing, {"stage1", "stem"})):
        train(experiment, store, CPU)
        trained = weights(experiment, store)
        assert {name.partition(".")[0] for name in start if not torch.equal(start[name], trained[name])} == moves
    assert "strength_loss" in store.history(confined)["epochs"][0]


def test_a_confined_cost_has_the_gradient_of_a_detached_input(toy, store, monkeypatch):
    """One step with the cost of a block on its input detached gives the same weights of that block."""

    @dataclass(frozen=True)
    class Detached(Hebbian):
        def losses(self, network, x, y, progress, generator):
            first, second, *_ = network.features(x)
            again = network.stage1.eval()(first.detach())
            network.stage1.train()
            return {"task": 0.0 * cross_entropy(network, x, y) - again.mean(), "strength": second.mean() * 0}

        def gradients(self, network):
            return {}

    @dataclass(frozen=True)
    class Confined(Hebbian):
        def losses(self, network, x, y, progress, generator):
            first, second, *_ = network.features(x)
            again = network.stage1.eval()(first)
            network.stage1.train()
            return {"task": 0.0 * cross_entropy(network, x, y) + second.mean() * 0, "strength": -again.mean()}

    found = []
    for name, rule in (("detached", Detached), ("confined", Confined)):
        experiment = toy(rule, name)
        train(experiment, store, CPU)
        found.append(weights(experiment, store))
    for name in found[0]:
        if name.startswith("stage1"):
            torch.testing.assert_close(found[0][name], found[1][name])
    assert equal(*found, part="head")


@dataclass(frozen=True)
class NoSuchBlock(Hebbian):
    def gradients(self, network):
        return {"strength": ("stage9",)}


def test_a_block_that_does_not_exist_is_named(toy, store):
    with pytest.raises(ValueError, match="toy NoSuchBlock: the network has no parameters 'stage9'; its parts: stem"):
        train(toy(NoSuchBlock), store, CPU)

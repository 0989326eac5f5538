"""What a network costs, against what its layers do."""

import pytest
import torch
from torch import nn

from simreg_core.lab import recipes
from simreg_core.lab.measuring.cost import cost, training_passes
from simreg_core.lab.measuring.subject import Attacked
from simreg_core.lab.specs import CostEvaluation, Experiment, build

CPU = torch.device("cpu")


def metrics(one, store) -> dict[str, float]:
    subject = Attacked.opened(one, CostEvaluation(), store, CPU)
    return {value.metric: value.value for value in cost(subject).values}


def test_multiply_adds_are_those_of_all_convolutions_and_products(tiny, store, trained_once):
    one = recipes.experiment(tiny, "none", 0)
    trained_once(store, one)
    subject = Attacked.opened(one, CostEvaluation(), store, CPU)
    expected, hooks = [], []

    def count(module, _, made):
        filters = module.weight[0].numel()
        expected.append(filters * made[0].numel())

    for module in subject.network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_hook(count))
    subject.network(subject.pixels[:1])
    found = metrics(one, store)
    assert found["multiply_adds"] == sum(expected) > 1e4
    assert found["parameters"] == sum(own.numel() for own in subject.network.parameters())
    assert found["training_multiply_adds"] == sum(expected) * training_passes(one)


def test_a_front_end_costs_more_than_none(tiny, store, trained_once):
    plain = recipes.experiment(tiny, "none", 0)
    behind = recipes.defended(tiny, tiny.defences["blur"], 0)
    trained_once(store, plain, behind)
    assert metrics(behind, store)["multiply_adds"] > metrics(plain, store)["multiply_adds"]


def test_passes_of_a_training(tiny):
    """5 steps an epoch of 64 of the 300 images, forwards and backwards; PGD adds its steps, pairs their images."""
    plain = recipes.experiment(tiny, "none", 0)
    steps = tiny.optimization.epochs * -(-300 // 64)
    assert training_passes(plain) in (3 * 64 * steps, 3 * 64 * (steps - tiny.optimization.epochs))  # the last, if whole
    of_batch = training_passes(plain) / 64
    assert training_passes(recipes.defended(tiny, tiny.defences["adversarial training"], 0)) == of_batch * 64 * 3
    assert training_passes(recipes.experiment(tiny, "S^Th", 0)) == of_batch * (64 + 2 * 4)
    half = recipes.experiment(tiny, "S^Th", 0, images="photos-foreign", size=(8, 16), threshold=0.5)
    assert training_passes(half) == of_batch * (64 + 4)


def test_a_parents_training_counts(tiny):
    rule = {"method": "partial", "epsilon": 0.02, "steps": 1}
    of = {"task": tiny.task, "network": tiny.network, "optimization": tiny.optimization}
    first = build(Experiment, {**of, "adversarial": {**rule, "code": "A1"}})
    late = {**rule, "code": "A1N2", "cut": 4, "parent": {"adversarial": {**rule, "code": "A1"}}}
    second = build(Experiment, {**of, "adversarial": late})
    plain = training_passes(recipes.experiment(tiny, "none", 0))
    assert training_passes(first) == pytest.approx(2 * plain)
    assert training_passes(second) == pytest.approx(3 * plain)

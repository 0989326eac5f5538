"""A network of blocks under noise, and block by block, against the blocks themselves."""

import pytest
import torch

from simreg_core import layers as measure
from simreg_core.defences.hebbian import hebbian_blocks, logits_and_costs
from simreg_core.lab import recipes
from simreg_core.lab.figures.hebbian import experiment
from simreg_core.lab.measuring import hebbian
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.measuring.subject import Attacked
from simreg_core.lab.specs import HebbianEvaluation
from simreg_core.lab.store import Store
from simreg_core.lab.training import train

CPU = torch.device("cpu")


@pytest.fixture
def opened(tiny, store, trained_once):
    def make(**fields):
        one = experiment(tiny, 0, "HaH")
        trained_once(store, one)
        return Attacked.opened(one, HebbianEvaluation(epsilon=0.3, images=40, draws=2, **fields), store, CPU)

    return make


def test_what_is_measured_is_of_the_blocks(opened):
    subject = opened()
    found = hebbian.hebbian(subject)
    accuracies = [(one.epsilon, one.repeat) for one in found.values if one.metric == "accuracy"]
    assert accuracies == [(0.0, None), (0.3, 0), (0.3, 1)]
    by_layer = {(one.metric, one.condition, one.layer): one.value for one in found.values if one.layer is not None}
    assert len(by_layer) == 7 * 4
    shown = hebbian._noisy(subject, 0)
    assert shown.min() == 0
    assert shown.max() == 1  # clamped
    first = measure.snr_db(subject.pixels, shown)
    assert by_layer["snr_db", None, 0] == pytest.approx(first, abs=1e-4)  # the images themselves
    block = hebbian_blocks(subject.network)[0]
    with torch.no_grad():
        x = subject.pixels.expand(-1, 3, -1, -1)
        y, out = block.responses(x), block(x)
        second = measure.snr_db(out, block(shown.expand(-1, 3, -1, -1)))
    assert by_layer["activation_sparsity", hebbian.RESPONSES, 0] == pytest.approx(measure.activation_sparsity(y))
    assert by_layer["activation_sparsity", hebbian.OUTPUTS, 0] == pytest.approx(measure.activation_sparsity(out))
    assert by_layer["snr_db", None, 1] == pytest.approx(second, abs=1e-3)
    assert all(0.1 <= value <= 1 for (metric, *_), value in by_layer.items() if metric == "fixed_channels")


def test_draws_differ_and_repeat(opened):
    subject = opened()
    assert torch.equal(hebbian._noisy(subject, 0), hebbian._noisy(opened(), 0))
    assert not torch.equal(hebbian._noisy(subject, 0), hebbian._noisy(subject, 1))


def test_a_network_without_blocks_is_refused(tiny):
    evaluation = HebbianEvaluation(epsilon=0.1)
    lacks = kind_of(evaluation).lacks
    (line,) = lacks(recipes.experiment(tiny, "none", 0), evaluation, None)
    assert line == "'hebbian' needs a network of blocks, unit-vgg or unit-vgg16, not 'resnet10'"
    assert list(lacks(experiment(tiny, 0, "HaH"), evaluation, None)) == []


def test_a_training_makes_its_costs_larger(tiny, store, trained_once):
    costs = {}
    for name, fields in (("HaH", {"cost": 30.0}), ("no HaH cost", {})):
        one = experiment(tiny, 0, name, **fields)
        trained_once(store, one)
        assert all(("hebbian_loss" in epoch) == (name == "HaH") for epoch in store.history(one)["epochs"])
        subject = Attacked.opened(one, HebbianEvaluation(epsilon=0.3, images=40), store, CPU)
        with torch.no_grad():
            costs[name] = logits_and_costs(subject.network, subject.pixels, 0.1, 1.0)[1]
    assert all(one > other for one, other in zip(*costs.values(), strict=True))


def test_a_killed_training_ends_with_the_same_bits(tiny, store, tmp_path):
    one = experiment(tiny, 0, "HaH", blocks=1).changed(optimization={"epochs": 2, "batch_size": 64})
    train(one, store, CPU)
    other = Store(tmp_path / "other")

    def stop(share):
        if other.load_resume(one) is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(one, other, CPU, stop)
    train(one, other, CPU)
    expected, found = store.trained_tensors(one), other.trained_tensors(one)
    assert all(torch.equal(expected[name], found[name]) for name in expected)

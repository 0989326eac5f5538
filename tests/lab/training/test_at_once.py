"""A step that does much at once against one that does one thing after another: every bit is the same."""

import pytest
import torch
from torch.nn import functional as F

from simreg_core import batch_norm
from simreg_core.batch_norm import normalized_by_part
from simreg_core.lab import recipes
from simreg_core.lab.store import Store
from simreg_core.lab.training import Run
from simreg_core.lab.training.resume import state_of
from simreg_core.model import resnet18
from simreg_core.similarity import Cosine

CPU = torch.device("cpu")
STEPS = 30
CASES = {  # target, what else the regularizer has, precision, and the batches that batch norm counts in a step
    "none": ("none", {}, None, 1),
    "none, bfloat16": ("none", {}, "bfloat16", 1),
    "shared": ("S^Th", {}, None, 3),
    "shared, bfloat16": ("S^Th", {}, "bfloat16", 3),
    "separate": ("S^Th", {"statistics": "separate"}, None, 1),
    "frozen": ("S^Th", {"statistics": "frozen"}, None, 1),
    "alpha 0": ("S^Th", {"alpha": 0.0}, None, 3),
    "linear CKA": ("S^Th", {"similarity": "linear_cka"}, None, 2),
}


def one_after_another(run, monkeypatch):
    """The operations as torch writes them."""
    run.at_once = None
    monkeypatch.setattr(batch_norm, "_is_plain", lambda *given: False)
    monkeypatch.setattr(Cosine, "of_layer", lambda self, maps: F.cosine_similarity(*maps.chunk(2), dim=1))


def after_steps(run) -> dict[str, torch.Tensor]:
    run.network.train()
    for drawn in zip(*run.draw(STEPS), strict=True):
        run._step(*drawn)
    return {**state_of(run), **run.sums}


@pytest.mark.parametrize(("name", "contiguous"), [*((name, False) for name in CASES), ("none", True), ("shared", True)])
def test_steps_give_the_bits_of_plain_ones(tiny, tmp_path, monkeypatch, name, contiguous):
    """Weights, momentum, running statistics and means, counters, and the sums of the losses."""
    target, changes, precision, batches = CASES[name]
    small = tiny.changed(
        task=tiny.task.changed(train_images=STEPS * 8),
        optimization={**tiny.optimization.model_dump(), "batch_size": 8, "precision": precision},
    )
    one = recipes.experiment(small, target, 0)
    if changes:
        one = one.changed(regularizer={**one.regularizer.model_dump(), **changes})
    runs = [Run(one, Store(tmp_path), CPU) for _ in range(2)]
    if contiguous:
        for run in runs:
            run.network.to(memory_format=torch.contiguous_format)
    found = after_steps(runs[0])
    one_after_another(runs[1], monkeypatch)
    expected = after_steps(runs[1])
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert {
        int(value) for name, value in found.items() if name.startswith("network.") and name.endswith("tracked")
    } == {batches * STEPS}


def test_only_rules_whose_steps_are_alike_do_much_at_once(tiny, tmp_path):
    """Others may pass a batch several times: their gradients would be added in another order."""
    one = recipes.experiment(tiny, "S^Th", 0)
    assert Run(one, Store(tmp_path), CPU).at_once is not None
    adversarial = one.changed(adversarial=tiny.defences["TRADES"].model_dump())
    assert Run(adversarial, Store(tmp_path), CPU).at_once is None


def test_a_network_is_as_it_was_after_a_step(tiny, tmp_path):
    run = Run(recipes.experiment(tiny, "S^Th", 0), Store(tmp_path), CPU)
    before = {name: (id(tensor), tensor.dtype) for name, tensor in run.network.named_parameters()}
    kept = [{name: set(vars(module)) for name, module in run.network.named_modules()}]
    run.network.train()
    for drawn in zip(*run.draw(1), strict=True):
        run._step(*drawn)
    assert {name: (id(tensor), tensor.dtype) for name, tensor in run.network.named_parameters()} == before
    assert kept == [{name: set(vars(module)) for name, module in run.network.named_modules()}]


def test_frozen_weights_get_no_gradient(tiny, tmp_path):
    run = Run(recipes.experiment(tiny, "S^Th", 0), Store(tmp_path), CPU)
    frozen = [run.network.stage2[0].bn1.weight, run.network.stage2[0].conv1.weight]
    for weight in frozen:
        weight.requires_grad_(False)
    run.network.train()
    for drawn in zip(*run.draw(1), strict=True):
        run._step(*drawn)
    assert [weight.grad for weight in frozen] == [None, None]
    assert run.network.stage2[0].bn1.bias.grad.abs().sum() > 0


def twice(loss_of, inputs):
    """The gradient of a function of a gradient."""
    first = torch.autograd.grad(loss_of(), inputs, create_graph=True)
    return torch.autograd.grad(sum(one.square().sum() for one in first), inputs)


def test_a_cosine_can_be_differentiated_twice(generator):
    maps = torch.randn(8, 30, generator=generator, requires_grad=True)
    ours = twice(lambda: (Cosine().of_layer(maps) ** 3).sum(), [maps])
    theirs = twice(lambda: (F.cosine_similarity(*maps.chunk(2), dim=1) ** 3).sum(), [maps])
    torch.testing.assert_close(ours, theirs)
    dead = torch.zeros(4, 5, requires_grad=True)
    Cosine().of_layer(dead).sum().backward()
    assert not dead.grad.any()


def test_batch_norm_by_part_can_be_differentiated_twice(generator, monkeypatch):
    torch.manual_seed(0)
    network = resnet18(width=2).train()
    images = torch.rand(6, 1, 16, 16, generator=generator)

    def loss():
        with normalized_by_part(network, [3, 3], "separate"):
            return network(images).square().mean()

    weights = [network.stem[0].weight, network.stem[1].weight, network.stage1[0].bn1.bias]
    ours = twice(loss, weights)
    monkeypatch.setattr(batch_norm, "_is_plain", lambda *given: False)
    torch.testing.assert_close(ours, twice(loss, weights))

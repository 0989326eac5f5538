"""What a rule fits once and stores: artefacts of the defence socket."""

import pickle
from dataclasses import dataclass

import pytest
import torch
from conftest import in_this_process
from torch import nn
from toy_rules import CPU, Toy, resumes_to_the_same_bits, weights

from simreg_core.defences import (
    Artefact,
    Parent,
    Stage,
)
from simreg_core.lab.files import StoreError
from simreg_core.lab.make.words import describe
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.running.compute import compute
from simreg_core.lab.running.plan import plan
from simreg_core.lab.specs import (
    NoiseEvaluation,
)
from simreg_core.lab.training import fit_artefact, train


@dataclass(frozen=True)
class Components(Artefact):
    """Principal components of the images' left upper patches."""

    count: int

    def fit(self, images, generator):
        patches = images[torch.randperm(len(images), generator=generator)[:200], :, :4, :4].flatten(1)
        return torch.linalg.svd(patches - patches.mean(dim=0), full_matrices=False).Vh[: self.count]

    def words(self):
        return f"{self.count} components"


class Projected(nn.Module):
    """Every 4x4 patch projected on a few components, in front of a network."""

    def __init__(self, base, count):
        super().__init__()
        self.base = base
        self.register_buffer("components", torch.zeros(count, 16))

    def forward(self, x):
        h, w = x.shape[2:]
        patches = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
        projected = patches @ self.components.T @ self.components
        return self.base(nn.functional.fold(projected.transpose(1, 2), (h, w), 4, stride=4))


@dataclass(frozen=True)
class Sparse(Toy):
    count: int = 8
    rate: float = 0.05

    def network(self, base):
        return Projected(base, self.count)

    def artefacts(self):
        return {"components": Components(self.count)}

    def stages(self, epochs):
        return (Stage(epochs, rates=(self.rate,) * epochs),)


def test_an_artefact_is_fitted_once_for_all_that_ask_for_the_same(toy, store, tmp_path):
    first, second, other = (toy(Sparse, **fields) for fields in ({}, {"rate": 0.1}, {"count": 4}))
    (fit,), (again,), (third,) = (one.fits for one in (first, second, other))
    assert fit.key == again.key != third.key
    assert first.key != second.key
    evaluation = NoiseEvaluation(attack="gaussian", epsilons=(0.0,), images=20)
    todo = plan([(first, evaluation), (second, evaluation)], store)
    assert [one.key for one in todo.trainings] == [fit.key, first.key, second.key]
    assert describe(fit) == "8 components of digits"
    assert pickle.loads(pickle.dumps(fit)).key == fit.key
    fit_artefact(fit, store, CPU)
    assert store.is_trained(again)
    for one in (first, second):
        train(one, store, CPU)
    components = weights(first, store)["components"]
    assert torch.equal(components, weights(second, store)["components"])
    torch.testing.assert_close(components @ components.T, torch.eye(8), atol=1e-5, rtol=0)
    assert evaluate(first, evaluation, store, CPU).values[0].attempted == 20
    assert resumes_to_the_same_bits(first, tmp_path, epochs=2, prepared=[(fit, fit_artefact)])


@dataclass(frozen=True)
class SparseFromParent(Sparse):
    parent: Parent = None


def test_a_plan_with_parent_and_artefact_is_computed_whole(toy, store):
    toy(Sparse)  # a parent with an artefact and another network of its own
    experiment = toy(SparseFromParent, "child", parent={"adversarial": {"method": "toy", "count": 6}})
    evaluation = NoiseEvaluation(attack="gaussian", epsilons=(0.0, 0.2), images=20)

    todo = plan([(experiment, evaluation)], store)
    assert [type(one).__name__ for one in todo.trainings] == ["Fit", "Fit", "Experiment", "Experiment"]
    compute(todo, store, "toys", executor=in_this_process)
    assert not plan([(experiment, evaluation)], store)
    assert store.record(experiment, evaluation).values[0].value > 0.1
    names = weights(experiment, store).keys()
    assert {"components", "base.components", "base.base.head.weight"} <= names


@dataclass(frozen=True)
class WrongBuffer(Sparse):
    def artefacts(self):
        return {"components": Components(4), "no": Components(5)}


def test_an_artefact_that_does_not_fit(toy, store):
    experiment = toy(WrongBuffer)
    for fit in experiment.fits:
        fit_artefact(fit, store, CPU)
    with pytest.raises(StoreError, match=r"holds \[4, 16\], but the network's 'components' takes \[8, 16\]"):
        train(experiment, store, CPU)

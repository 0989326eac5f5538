"""Partial adversarial training through the socket: stage one once, frozen parts, resumed, measured."""

import pytest
import torch

from simreg_core.defences.partial import in_order
from simreg_core.lab import recipes
from simreg_core.lab.running.compute import missing_image_sets
from simreg_core.lab.running.plan import Plan, plan
from simreg_core.lab.specs import NoiseEvaluation, SpecError, dependencies
from simreg_core.lab.store import Store
from simreg_core.lab.training import build_network, train
from simreg_core.lab.training.loop import Run

CPU = torch.device("cpu")
STAGE_ONE = {"method": "partial", "code": "A1", "epsilon": 0.05, "steps": 1}


@pytest.fixture
def child(tiny):
    """A function that gives an experiment of stage two."""

    def make(code="A1N2", **fields):
        parent = {"adversarial": {**STAGE_ONE, "code": code[:2] if code[1] == "1" else code[2:]}}
        base = recipes.experiment(tiny, "none", 0)
        return base.changed(adversarial={**STAGE_ONE, "code": code, "parent": parent, **fields})

    return make


def tensors(experiment, store):
    return store.load_weights(experiment, build_network(experiment, 10)).state_dict()


def test_stage_one_is_trained_once_and_its_part_stays(child, store, trained_once):
    first, second, single = child(cut=6), child(cut=10), child(single=3)
    evaluation = NoiseEvaluation(attack="gaussian", epsilons=(0.0,), images=10)
    todo = plan([(one, evaluation) for one in (first, second, single)], store)
    assert todo.trainings == (first.parent, first, second, single)
    assert first.parent.adversarial.code == "A1"
    assert dependencies(single) == (first.parent,)
    trained_once(store, first.parent)
    for one in (first, single):
        train(one, store, CPU)
    base, after, other = (tensors(one, store) for one in (first.parent, first, single))
    network = build_network(first, 10)
    order = in_order(network, torch.zeros(1, 1, *first.task.size))
    for place, own in enumerate(order.values()):
        for name in own:
            assert torch.equal(base[name], after[name]) == (place < 6)
            assert torch.equal(base[name], other[name]) == (place != 3)
    assert not torch.equal(base["stem.1.running_mean"], after["stem.1.running_mean"])  # it follows, as in the source
    held = child(cut=6, statistics="hold")
    train(held, store, CPU)
    assert torch.equal(base["stem.1.running_mean"], tensors(held, store)["stem.1.running_mean"])


def test_a_killed_second_stage_ends_with_the_same_bits(child, store, trained_once, tmp_path, monkeypatch):
    experiment, other = child("A1N2", cut=8), Store(tmp_path / "other")
    for place in (store, other):
        trained_once(place, experiment.parent)
    train(experiment, store, CPU)

    def killed(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        real = Store.save_resume
        patched.setattr(Store, "save_resume", lambda self, *given: (real(self, *given), killed(self))[1])
        with pytest.raises(KeyboardInterrupt):
            Run(experiment, other, CPU).finish(lambda work: None)
    assert other.load_resume(experiment) is not None
    train(experiment, other, CPU)
    expected, found = tensors(experiment, store), tensors(experiment, other)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_cut_outside_the_modules_is_said_before_anything_is_trained(child):
    experiment = child(cut=25)
    (line,) = missing_image_sets(Plan((experiment,), ()))
    assert "method 'partial'" in line
    assert "cut must lie in [1, 24], so that both parts have modules; got 25" in line
    assert missing_image_sets(Plan((child(cut=24),), ())) == []
    with pytest.raises(SpecError, match="code 'A1N2' needs a parent trained as 'A1', got 'N1'"):
        child(cut=3, parent={"adversarial": {**STAGE_ONE, "code": "N1"}})

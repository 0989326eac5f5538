"""What the defence socket carries, a toy of each: stages, optimizers, parents, progress, and rows of the registry."""

import pickle
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from toy_rules import CPU, Toy, equal, resumes_to_the_same_bits, train_until, weights

from simreg_core import defences
from simreg_core.defences import (
    FrontEnd,
    FrontEndSettings,
    Parent,
    Rule,
    Stage,
)
from simreg_core.defences.base import cross_entropy
from simreg_core.lab import recipes
from simreg_core.lab.figures import white_box
from simreg_core.lab.files import StoreError
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.running.compute import _stages
from simreg_core.lab.running.estimate import Costs
from simreg_core.lab.running.plan import plan
from simreg_core.lab.specs import (
    Experiment,
    NoiseEvaluation,
    Profile,
    SpecError,
    build,
    dependencies,
)
from simreg_core.lab.store import Store
from simreg_core.lab.training import build_network, train
from simreg_core.lab.training.rules import Row

# (1) stages


@dataclass(frozen=True)
class TwoStages(Toy):
    """All by SGD, then the end set afresh and trained by Adam, the beginning left as it is; then Adam goes on."""

    first: int = 1

    def stages(self, epochs):
        late = ("stage4", "head")
        return (
            Stage(self.first, ends_with="last"),
            Stage(2, "adam", rates=(0.01, 0.001), trainable=late, ends_with="last"),
            Stage(1, None, rates=(0.001,), trainable=("head",), ends_with="last"),
        )

    def begin(self, stage, network):
        if stage == 1:
            network.head.reset_parameters()


def test_stages_have_their_own_parts_and_optimizers(toy, tmp_path):
    experiment = toy(TwoStages)
    store = Store(tmp_path / "short")
    train(experiment, store, CPU)
    assert [(row["epoch"], row["stage"]) for row in store.history(experiment)["epochs"]] == [
        (1, 1), (2, 2), (3, 2), (4, 3),
    ]  # fmt: skip
    state, before = weights(experiment, store), Store(tmp_path / "killed")
    train_until(experiment, before, 1)
    after_first = {
        name.removeprefix("network."): tensor
        for name, tensor in before.load_resume(experiment)[0].items()
        if name.startswith("network.")
    }
    names = [name for name, _ in build_network(experiment, 10).named_parameters()]
    frozen = [name for name in names if name.startswith(("stem", "stage1"))]
    assert frozen
    assert all(torch.equal(state[name], after_first[name]) for name in frozen)
    assert not torch.equal(state["stem.1.running_mean"], after_first["stem.1.running_mean"])
    assert not torch.equal(state["head.weight"], after_first["head.weight"])
    later = Store(tmp_path / "later")
    train_until(experiment, later, 2)
    kinds = {name.rpartition(".")[2] for name in later.load_resume(experiment)[0] if name.startswith("optimizer.")}
    assert kinds >= {"exp_avg", "exp_avg_sq", "step"}


def test_a_training_killed_in_any_stage_ends_with_the_same_bits(toy, tmp_path):
    assert resumes_to_the_same_bits(toy(TwoStages), tmp_path, epochs=4)


@dataclass(frozen=True)
class BestThenNothing(Toy):
    """A stage that ruins what the one before has learned; what was best of each goes on."""

    def stages(self, epochs):
        return (Stage(2), Stage(1, "sgd", rates=(30.0,)))


def test_a_stage_may_end_with_its_best_weights(toy, store):
    experiment = toy(BestThenNothing)
    train(experiment, store, CPU)
    history = store.history(experiment)["epochs"]
    first, ruined = min(row["validation_loss"] for row in history[:2]), history[2]["validation_loss"]
    assert ruined > first == store.history(experiment)["best_loss"]


# (2) parents


@dataclass(frozen=True)
class StartsFrom(Toy):
    parent: Parent
    frozen: bool = True

    def stages(self, epochs):
        return (Stage(1, trainable=("head",) if self.frozen else None, ends_with="last"),)


PARENT = {"adversarial": {"method": "pgd", "epsilon": 0.05, "steps": 2}}


def test_a_training_starts_from_its_parent_which_is_trained_once(toy, store):
    experiment = toy(StartsFrom, parent=PARENT)
    other = toy(StartsFrom, parent=PARENT, frozen=False)
    parent = experiment.parent
    assert parent.key == other.parent.key
    assert parent.adversarial.method == "pgd"
    assert dependencies(experiment) == (parent,)
    evaluation = NoiseEvaluation(attack="gaussian", epsilons=(0.0, 0.1), images=20)
    todo = plan([(experiment, evaluation), (other, evaluation)], store)
    assert todo.trainings == (parent, experiment, other)
    trained = [[task[1][0] for task in stage] for stage in _stages(todo, store, _NoCosts())[:-1]]
    assert trained == [[], [parent], [experiment, other]]
    for one in todo.trainings:
        train(one, store, CPU)
    before, after = weights(parent, store), weights(experiment, store)
    for name, _ in build_network(experiment, 10).named_parameters():
        assert torch.equal(before[name], after[name]) == (not name.startswith("head"))
    assert not torch.equal(before["stem.0.weight"], weights(other, store)["stem.0.weight"])
    assert evaluate(experiment, evaluation, store, CPU).values[0].value > 0.1
    assert build(Experiment, experiment.model_dump(mode="json")) == experiment == pickle.loads(pickle.dumps(experiment))


class _NoCosts(Costs):
    def training(self, experiment):
        return 1.0

    def evaluation(self, experiment, evaluation):
        return 1.0


def test_a_parent_has_the_same_network(toy, store):
    with pytest.raises(SpecError, match=r"adversarial: unknown key 'parent.network'.*width.*4"):
        toy(StartsFrom, parent={**PARENT, "network": {"name": "resnet10", "width": 4}})
    experiment = toy(StartsFrom, parent={})
    with pytest.raises(StoreError, match=f"{experiment.parent.key}"):  # not trained yet
        train(experiment, store, CPU)
    narrow = experiment.parent.changed(network={"name": "resnet10", "width": 4})
    store.save_trained(experiment.parent, build_network(narrow, 10).state_dict(), {})
    with pytest.raises(StoreError, match=r"of another network: 'head.weight' is \[10, 32\] there and \[10, 64\]"):
        train(experiment, store, CPU)


# (6) progress


@dataclass(frozen=True)
class Growing(Toy):
    """A loss that grows within its stage, whose places are noted."""

    seen = []  # noqa: RUF012

    def losses(self, network, x, y, progress, generator):
        self.seen.append(progress)
        return {**super().losses(network, x, y, progress, generator), "grown": progress * network(x).square().mean()}

    def stages(self, epochs):
        return (Stage(2, ends_with="last"), Stage(1, ends_with="last"))


def test_progress_is_the_place_inside_the_stage(toy, store):
    experiment = toy(Growing)
    Growing.seen.clear()
    train(experiment, store, CPU)
    steps = len(Growing.seen) // 3
    expected = [i / (2 * steps) for i in range(2 * steps)] + [i / steps for i in range(steps)]
    assert Growing.seen == pytest.approx(expected)
    assert "grown_loss" in store.history(experiment)["epochs"][0]
    plain = toy(Toy, "plain toy")
    train(plain, store, CPU)
    assert not equal(weights(experiment, store), weights(plain, store))


# what is refused


def test_a_row_that_lacks_a_facet_is_refused_by_name():
    @dataclass(frozen=True)
    class Half(Rule):
        def losses(self, network, x, y, progress, generator):
            return {}

    with pytest.raises(TypeError, match="defence 'half': Half lacks passes, words"):
        Row("half", Half)

    class NoSettings(Toy):
        def __init__(self, strength):
            pass

    with pytest.raises(TypeError, match="defence 'half': argument 'strength' of NoSettings has no type"):
        Row("half", NoSettings)

    class Thawed(FrontEndSettings):
        def build(self):
            raise AssertionError("it is refused before it is built")

    with pytest.raises(TypeError, match="defence 'half': Thawed must be a frozen dataclass"):
        Row("half", Thawed)
    with pytest.raises(TypeError, match="defence 'half': Linear must be a Rule, a FrontEnd or its FrontEndSettings"):
        Row("half", nn.Linear)


def test_stages_that_cannot_be(toy):
    with pytest.raises(SpecError, match=r"^adversarial: a stage needs at least 1 epoch, got 0$"):
        toy(TwoStages, first=0)
    with pytest.raises(ValueError, match="optimizer must be 'sgd', 'adam' or None, got 'lbfgs'"):
        Stage(1, "lbfgs")
    with pytest.raises(ValueError, match="a stage of 2 epochs needs as many learning rates, got 1"):
        Stage(2, rates=(0.1,))

    @dataclass(frozen=True)
    class NoStages(Toy):
        def stages(self, epochs):
            return ()

    with pytest.raises(SpecError, match="method 'toy' has no stages"):
        toy(NoStages)


@dataclass(frozen=True)
class Unnamed(Toy):
    def losses(self, network, x, y, progress, generator):
        return {"other": cross_entropy(network, x, y)}


def test_a_rule_without_a_task_loss_is_refused(toy, store):
    with pytest.raises(ValueError, match=r"toy Unnamed: losses must be named task.*got other"):
        train(toy(Unnamed), store, CPU)


def test_an_unknown_method_is_one_line(tiny):
    with pytest.raises(
        SpecError,
        match=r"^adversarial: unknown method 'toys'; allowed: pgd, .*partial, polarizing, sparse_coding, hebbian$",
    ):
        recipes.experiment(tiny, "none", 0).changed(adversarial={"method": "toys"})
    with pytest.raises(SpecError, match=r"adversarial: epsilon must lie in \(0, 1\].*got 25"):
        recipes.experiment(tiny, "none", 0).changed(adversarial={"method": "pgd", "epsilon": 25})


def test_a_state_of_an_earlier_version_is_refused(tiny, store):
    experiment = recipes.experiment(tiny, "none", 0)
    train_until(experiment, store, 1)
    state, history = store.load_resume(experiment)
    del state["format"]
    store.save_resume(experiment, state, history)
    with pytest.raises(StoreError, match=r"resume.* is of an earlier version of simreg and cannot go on; delete it"):
        train(experiment, store, CPU)


# profiles


def test_profiles_name_their_defences(tiny):
    assert list(white_box.defended(tiny)) == [
        "none", "S^Th", "adversarial training", "TRADES", "noise augmentation", "blur",
    ]  # fmt: skip
    values = tiny.model_dump()
    for change, message in (
        ({"x": {"method": "toys"}}, "defences.x: unknown method 'toys'"),
        ({"x": {"kind": "toys"}}, "defences.x: unknown kind 'toys'"),
        ({"x": {"sigma": 1}}, "defences.x: a defence is a rule, .*, or a front end"),
        ({"none": {"kind": "blur"}}, "defences name 'none', which is a curve already"),
    ):
        with pytest.raises(SpecError, match=message):
            build(Profile, {**values, "defences": {**values["defences"], **change}})
    with pytest.raises(SpecError, match="defences lack 'adversarial training'"):
        build(Profile, {**values, "defences": {}})


def test_a_blur_has_one_key_however_it_is_given(tiny):
    network = tiny.network.model_dump()
    by_kind = tiny.network.changed(front_end={"kind": "blur", "sigma": 1.5})
    assert by_kind == tiny.network.changed(blur=1.5)
    assert isinstance(defences.GaussianBlur(), FrontEnd)
    with pytest.raises(SpecError, match="one front end: give 'blur' or 'blur'"):
        tiny.changed(network={**network, "blur": 1.0, "front_end": {"kind": "blur"}})
    with pytest.raises(SpecError, match="a front end goes with a ResNet, not with 'vgg'"):
        tiny.changed(network={"name": "vgg", "width": 8, "blur": 1.0})

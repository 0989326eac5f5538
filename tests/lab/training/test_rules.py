"""What the defence socket carries, a toy of each: stages, optimizers, parents, artefacts, front ends, costs."""

import pickle
from dataclasses import dataclass

import pytest
import torch
from conftest import in_this_process
from torch import nn

from simreg_core import attacks, defences
from simreg_core.defences import (
    Artefact,
    FrontEnd,
    FrontEndSettings,
    Parent,
    Rule,
    Stage,
    differentiated,
    replace_gradient,
)
from simreg_core.defences.base import cross_entropy
from simreg_core.lab import recipes
from simreg_core.lab.figures import white_box
from simreg_core.lab.files import StoreError
from simreg_core.lab.make.words import describe
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.running.compute import _stages, compute
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
from simreg_core.lab.tensors import read_tensors
from simreg_core.lab.training import build_network, fit_artefact, train
from simreg_core.lab.training.rules import FRONT_ENDS, RULES, Row

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Toy(Rule):
    """Plain training; the others change one thing of it."""

    def losses(self, network, x, y, progress, generator):
        return {"task": cross_entropy(network, x, y)}

    def passes(self):
        return 0

    def words(self):
        return f"toy {type(self).__name__}"


@pytest.fixture
def toy(monkeypatch, tiny):
    """A function that registers a rule as 'toy' and gives an experiment trained by it."""

    def register(rule, name="toy", **fields) -> Experiment:
        monkeypatch.setitem(RULES, name, Row(name, rule))
        network = {"name": "resnet10", "width": 8}
        return recipes.experiment(tiny.changed(network=network), "none", 0).changed(
            adversarial={"method": name, **fields}
        )

    return register


def weights(experiment, store):
    return read_tensors(store.weights_path(experiment))[0]


def equal(first, second, part=""):
    return all(torch.equal(first[name], second[name]) for name in first if name.startswith(part))


class Killed(Exception):
    pass


def train_until(experiment, store, epochs):
    """Train, and kill it after so many epochs."""
    shares = []

    def kill(share):
        shares.append(share)
        if len(shares) == 1 + epochs:
            raise Killed

    with pytest.raises(Killed):
        train(experiment, store, CPU, kill)


def resumes_to_the_same_bits(experiment, tmp_path, epochs, prepared=()):
    stores = []
    for stop in (None, *range(1, epochs)):
        store = Store(tmp_path / f"killed after {stop}")
        for one, trainer in prepared:
            trainer(one, store, CPU)
        if stop is not None:
            train_until(experiment, store, stop)
        train(experiment, store, CPU)
        stores.append(store)
    found = [weights(experiment, store) for store in stores]
    return all(equal(found[0], other) for other in found[1:])


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


# (3) artefacts


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


# (4) front ends


class Quantized(FrontEnd):
    """Pixels of a few levels; an attacker may pass through as if it were not there."""

    draws_random_numbers = False
    ways = {"quantizer": ("exact", "identity")}  # noqa: RUF012

    def __init__(self, levels: int = 4):
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        self.levels = levels

    def forward(self, x):
        value = (x * (self.levels - 1)).round() / (self.levels - 1)
        return value if self.way["quantizer"] == "exact" else replace_gradient(value, x)


@dataclass(frozen=True)
class QuantizedSettings(FrontEndSettings):
    """The same, for a file that loads torch only where the module is built."""

    levels: int = 4

    def __post_init__(self):
        if self.levels < 2:
            raise ValueError(f"levels must be at least 2, got {self.levels}")

    def build(self):
        return Quantized(self.levels)


@pytest.mark.parametrize("made", [Quantized, QuantizedSettings])
def test_a_front_end_is_differentiated_in_several_ways(made, monkeypatch, tiny):
    monkeypatch.setitem(FRONT_ENDS, "quantized", Row("quantized", made))
    network = {"name": "resnet10", "width": 8, "front_end": {"kind": "quantized", "levels": 3}}
    experiment = recipes.experiment(tiny.changed(network=network), "none", 0)
    assert experiment.network.front_end.levels == 3
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    model = build_network(experiment, 10).eval()
    pixels = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = model(pixels).argmax(dim=1)
    exact = attacks.pgd(model, pixels, labels, 0.1, steps=5, random_start=False, seed=0)
    assert (exact.adversarial == pixels).all()  # its gradient is zero everywhere
    with differentiated(model, quantizer="identity"):
        passed = attacks.pgd(model, pixels, labels, 0.1, steps=5, random_start=False, seed=0)
        assert torch.equal(model(pixels).argmax(dim=1), labels)
    assert (passed.adversarial != pixels).any()
    assert model.front_end.way == {"quantizer": "exact"}
    for ways, message in (
        ({"quantizer": "smooth"}, "'quantizer' is differentiated as 'exact' or 'identity', not 'smooth'"),
        ({"decoder": "exact"}, "no front end has a part 'decoder'; parts of this network: quantizer"),
    ):
        with pytest.raises(ValueError, match=message), differentiated(model, **ways):
            pass
    with pytest.raises(SpecError, match="levels must be at least 2, got 1"):
        tiny.changed(network={**network, "front_end": {"kind": "quantized", "levels": 1}})


class Noisy(FrontEnd):
    """Random numbers in training and in test."""

    draws_random_numbers = True
    ways = {"noise": ("exact",)}  # noqa: RUF012

    def forward(self, x):
        return x + 0.05 * torch.randn_like(x)


def test_a_random_front_end_says_so_and_trains_to_the_same_bits(monkeypatch, tiny, tmp_path):
    monkeypatch.setitem(FRONT_ENDS, "noisy", Row("noisy", Noisy))
    network = {"name": "resnet10", "width": 8, "front_end": {"kind": "noisy"}}
    experiment = recipes.experiment(tiny.changed(network=network), "none", 0)
    assert resumes_to_the_same_bits(experiment, tmp_path, epochs=2)
    store = Store(tmp_path / "killed after None")
    assert evaluate(experiment, NoiseEvaluation(attack="gaussian", epsilons=(0.0,), images=20), store, CPU)


def test_a_front_end_without_a_facet_is_refused_as_it_is_defined():
    with pytest.raises(TypeError, match="front end Silent lacks 'draws_random_numbers'"):

        class Silent(FrontEnd):
            ways = {"a": ("exact",)}  # noqa: RUF012


# (5) gradients


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
            return Quantized()

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

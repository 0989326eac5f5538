"""White-box evaluations end to end: records, warnings of a network that hides its gradient, defences as trainings."""

import math
from dataclasses import replace

import pytest
import torch

from simreg_core import attacks
from simreg_core.lab import recipes
from simreg_core.lab.figures import figure, protocol_audit
from simreg_core.lab.images import ImageSet
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.subject import Attacked
from simreg_core.lab.measuring.white_box import minimum_norm, white_box
from simreg_core.lab.series import THRESHOLD
from simreg_core.lab.specs import (
    DefenceSpec,
    MinimumNormEvaluation,
    SpecError,
    TransferEvaluation,
    WhiteBoxEvaluation,
    build,
    dependencies,
    stream,
)
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import read_tensors
from simreg_core.lab.training import train

CPU = torch.device("cpu")


@pytest.fixture
def trained(tiny, store, trained_once):
    experiment = recipes.experiment(tiny, "none", 0)
    trained_once(store, experiment)
    return experiment


def attack(**changes):
    values = {"epsilons": (0.0, 0.05, 0.5), "epsilon": 0.05, "images": 20, "steps": 4, "queries": 20}
    return WhiteBoxEvaluation(**{**values, **changes})


def values_of(record):
    return {(one.condition, one.epsilon): one.value for one in record.values}


def test_a_record_of_white_box_attacks(trained, store):
    record = evaluate(trained, attack(), store, CPU)
    found = values_of(record)
    assert {name for name, _ in found} == {"PGD", "FGSM", "PGD, 1 step", "Square"}
    assert found["PGD", 0.0] >= found["PGD", 0.05] >= found["PGD", 0.5]
    assert found["PGD", 0.5] <= 0.2  # of ten classes, where every image can be gray
    assert len(record.arrays["fooled"]["0.05"]) == 20
    assert store.record(trained, attack()) == record  # warnings and all


def test_warnings_of_a_network_that_hides_its_gradient(generator):
    class Rounded(torch.nn.Module):
        """A linear network behind pixels of two bits: its gradient is zero everywhere."""

        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Parameter(torch.randn(64, 4, generator=generator))

        def forward(self, x):
            return (x * 3).round().flatten(1) @ self.weights / 3

    network = Rounded().eval()
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=generator).byte()
    with torch.no_grad():
        labels = network(images.float() / 255).argmax(dim=1)
    few = attack(epsilons=(0.1,), epsilon=0.1, queries=200)
    shown = ImageSet("random", "test", images, labels, tuple("abcd"))
    warnings = white_box(
        Attacked(experiment=None, evaluation=few, network=network, images=shown, store=None, device=CPU)
    ).warnings
    assert any("zero in every pixel" in warning for warning in warnings)
    assert any("a black-box attack fools" in warning for warning in warnings)


def wrong_on_all(trained, evaluation, store):
    """A network and images of which it gets none right."""
    subject = Attacked.opened(trained, evaluation, store, CPU)
    wrong = (subject.network(subject.pixels).argmax(dim=1) + 1) % 10
    return replace(subject, images=replace(subject.images, labels=wrong))


def test_a_network_that_is_wrong_on_all_images_has_accuracy_0_and_a_warning(trained, store):
    """Its attacks have nothing to attack, and refuse; a run of days would end there."""
    few = {"autoattack_images": 10, "autoattack_budget": (2, 2, 4)}
    for evaluation in (attack(**few), attack(norm="l2", epsilon=None, epsilons=(0.0, 0.5))):
        none = white_box(wrong_on_all(trained, evaluation, store))
        some = evaluate(trained, evaluation, store, CPU)
        assert {(one.condition, one.epsilon, one.attempted) for one in none.values} == {
            (one.condition, one.epsilon, one.attempted) for one in some.values
        }
        assert {one.value for one in none.values} == {0}
        assert none.arrays["fooled"].keys() == some.arrays["fooled"].keys()
        assert "no image of them rightly" in none.warnings[0]


def test_a_network_that_is_wrong_on_the_images_of_autoattack_has_accuracy_0_there(trained, store):
    evaluation = attack(autoattack_images=10, autoattack_budget=(2, 2, 4))
    subject = Attacked.opened(trained, evaluation, store, CPU)
    labels = subject.network(subject.pixels).argmax(dim=1)
    labels[:10] = (labels[:10] + 1) % 10
    found = white_box(replace(subject, images=replace(subject.images, labels=labels)))
    (of_autoattack,) = [one for one in found.values if "AutoAttack" in one.condition]
    assert (of_autoattack.value, of_autoattack.attempted) == (0, 10)
    assert max(one.value for one in found.values) > 0


def test_a_network_that_is_wrong_on_all_images_is_at_distance_0(trained, store):
    for norm, metrics in (("linf", ["median_linf"]), ("l2", ["median_l2", "median_squared_l2_per_pixel"])):
        evaluation = MinimumNormEvaluation(norm=norm, images=13, steps=2)
        found = minimum_norm(wrong_on_all(trained, evaluation, store))
        assert [(one.metric, one.value, one.attempted, one.failed) for one in found.values] == [
            (metric, 0, 13, 0) for metric in metrics
        ]
        assert found.arrays["sizes"] == [0] * 13
        assert "no image of them rightly" in found.warnings[0]


@pytest.mark.parametrize("norm", ["linf", "l2", "l0"])
def test_a_record_of_smallest_perturbations(trained, store, norm):
    record = evaluate(trained, MinimumNormEvaluation(norm=norm, images=13, steps=20), store, CPU)
    assert record.values[0].metric == f"median_{norm}"
    subject = Attacked.opened(trained, record.evaluation, store, CPU)
    again = attacks.minimum_norm(
        subject.network, subject.pixels, subject.labels, norm=norm, steps=20, seed=stream(0, "minimum norm")
    )
    sizes = sorted(getattr(again, norm).tolist())
    assert record.arrays["sizes"] == pytest.approx(sizes, abs=1e-6)
    assert record.values[0].value == pytest.approx(sizes[6])
    assert 0 < sizes[-1] < math.inf  # a misclassified image needs no change


def test_transferred_attacks_need_their_surrogates(tiny, trained, store, trained_once):
    surrogates = tuple(recipes.experiment(tiny, "none", seed) for seed in (1, 2))
    evaluation = TransferEvaluation(name="none", epsilons=(0.0, 0.3), surrogates=surrogates, images=20, steps=3)
    assert dependencies(trained, evaluation) == surrogates
    trained_once(store, *surrogates)
    found = values_of(evaluate(trained, evaluation, store, CPU))
    assert found["PGD from none", 0.0] == found["momentum from none", 0.0] == found["FGSM from none", 0.0]
    assert found["momentum from none", 0.3] < found["momentum from none", 0.0]
    with pytest.raises(ValueError, match="is the surrogate of this attack itself"):
        evaluate(surrogates[0], evaluation, store, CPU)


@pytest.mark.parametrize(
    "spec",
    [
        DefenceSpec.of({"method": "pgd", "epsilon": 0.05, "steps": 2}),
        DefenceSpec.of({"method": "trades", "epsilon": 0.05, "steps": 2, "beta": 6}),
        DefenceSpec.of({"method": "gaussian", "epsilon": 0.1}),
    ],
    ids=lambda spec: spec.method,
)
def test_defences_are_trained_and_resumed_bit_for_bit(tiny, tmp_path, spec, trained_once):
    experiment = recipes.experiment(tiny, "none", 0).changed(adversarial=spec)
    undisturbed, killed = Store(tmp_path / "a"), Store(tmp_path / "b")
    train(experiment, undisturbed, CPU)

    def kill(share):
        if killed.resume_path(experiment).is_file() or share == 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(experiment, killed, CPU, kill)
    train(experiment, killed, CPU)
    first, second = (read_tensors(own.weights_path(experiment))[0] for own in (undisturbed, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    trained_once(undisturbed, recipes.experiment(tiny, "none", 0))
    plain = read_tensors(undisturbed.weights_path(recipes.experiment(tiny, "none", 0)))[0]
    assert not torch.equal(first["head.weight"], plain["head.weight"])


@pytest.mark.parametrize(
    "label",
    [
        "fresh augmentation",
        "running mean follows in validation",
        "own mean subtracted",
        "pairs with frozen statistics",
        "ε = 0.01 in the loss",
        protocol_audit.ALL_CHANGED,
    ],
)
def test_each_change_of_the_audit_changes_the_training(tiny, store, trained_once, label):
    flipped = tiny.changed(task={**tiny.task.model_dump(), "augment": "flip"})
    study = figure("13_protocol_audit").study(flipped)
    first, second = (study.blocks[0].series[name][0] for name in (THRESHOLD, label))
    trained_once(store, first)
    train(second, store, CPU)
    first, second = (store.history(one)["epochs"][-1] for one in (first, second))
    assert first["similarity_loss"] != second["similarity_loss"]


def test_impossible_specifications():
    with pytest.raises(SpecError, match="unknown key 'beta'"):
        DefenceSpec.of({"method": "pgd", "epsilon": 0.1, "beta": 6})
    with pytest.raises(SpecError, match=r"epsilon 0.2 must be one of epsilons"):
        build(WhiteBoxEvaluation, {"epsilons": (0.0, 0.1), "epsilon": 0.2})

"""Attackers who know a front end, the worst over them, and the certificate, of a polarizing network."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from simreg_core.defences.polarizing import STEEPNESS, PolarizingFrontEnd, quantized
from simreg_core.lab import recipes
from simreg_core.lab.measuring import front_end
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.measuring.subject import Attacked, correct
from simreg_core.lab.specs import FrontEndEvaluation, SpecError
from simreg_core.lab.training import build_network, train

CPU = torch.device("cpu")
WAYS = (*(("quantizer", way) for way in ("identity", *STEEPNESS)), ("polarizer", "identity"))
ANNEALED = tuple(("quantizer", way) for way in STEEPNESS)


@pytest.fixture(scope="module")
def settings():
    return {"epsilon": 0.1, "ways": WAYS, "steps": 2, "restarts": 1, "queries": 20, "images": 60}


@pytest.fixture
def polarized(tiny):
    def make(**fields):
        task = tiny.task.changed(train_images=200, validation_images=30)
        small = tiny.changed(task=task, optimization={"epochs": 2, "batch_size": 32})
        rule = {"method": "polarizing", "width": 4, **fields}
        return recipes.experiment(small, "none", 0).changed(adversarial=rule)

    return make


@pytest.fixture
def opened(polarized, settings, store, trained_once):
    """A function: the polarizing network, trained, with its images."""

    def make(**changes):
        experiment = polarized()
        trained_once(store, experiment)
        evaluation = FrontEndEvaluation(**{**settings, **changes})
        return Attacked.opened(experiment, evaluation, store, CPU)

    return make


def test_every_attacker_is_there_and_the_worst_is_per_image(polarized, settings, store):
    experiment, unquantized = polarized(), polarized(until=2)
    for one in (experiment, unquantized):
        train(one, store, CPU)
    nearly = build_network(unquantized, 10)
    assert not nearly.front_end.quantizing
    evaluation = FrontEndEvaluation(
        **settings,
        surrogates=(unquantized,),
        certificates=(0.0, 0.001, 0.1, 1.0),
        annealed=ANNEALED,
        epsilons=(0.05, 0.5),
        few_steps=1,
        margin_loss=True,
    )
    assert [*kind_of(evaluation).lacks(experiment, evaluation, None)] == []
    record = evaluate(experiment, evaluation, store, CPU)
    curves = {*(f"{part}: {way}" for part, way in WAYS), "annealed", "from surrogate 1", "Square", "FGSM", "worst"}
    for epsilon, names in ((0.1, {*curves, "BIM", "margin loss"}), (0.05, curves), (0.5, curves)):
        found = [one for one in record.values if one.metric == "accuracy" and one.epsilon == epsilon]
        accuracies = {one.condition: one.value for one in found}
        assert set(accuracies) == names
        assert accuracies["worst"] <= min(accuracies.values())
    clean = [one.value for one in record.values if one.metric == "accuracy" and one.epsilon == 0]
    assert clean[0] >= accuracies["worst"]
    shares = [one.value for one in record.values if one.metric == "certified"]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0  # at a large epsilon nothing is certified, and the record says so
    subject = Attacked.opened(experiment, evaluation, store, CPU)
    distances = subject.network.front_end.distances(subject.pixels)
    torch.testing.assert_close(torch.tensor(record.arrays["distances"]), distances)
    assert shares[1] == (distances >= 0.001).float().mean()
    weights = [store.load_weights(one, build_network(one, 10)).front_end.weight for one in (experiment, unquantized)]
    assert torch.equal(*weights)  # the surrogate is the network's own second stage


def test_a_network_without_a_front_end_is_attacked_along_its_gradient(tiny, settings, store, trained_once):
    experiment = recipes.experiment(tiny, "none", 0)
    trained_once(store, experiment)
    auto = {"autoattack_images": 6, "autoattack_budget": (2, 2, 4)}
    evaluation = FrontEndEvaluation(**{**settings, "ways": (), "images": 20}, **auto)
    assert kind_of(evaluation).passes(evaluation, 20) > kind_of(evaluation).passes(
        evaluation.changed(autoattack_images=None), 20
    )
    record = evaluate(experiment, evaluation, store, CPU)
    found = {one.condition: one for one in record.values if one.epsilon}
    assert set(found) == {"PGD", "FGSM", "BIM", "Square", "AutoAttack, reduced", "worst"}
    assert found["AutoAttack, reduced"].attempted == 6
    assert found["worst"].value <= found["PGD"].value


def test_the_margin_loss_is_climbed_through_the_first_way_of_the_quantizer(opened, monkeypatch):
    subject, calls, made, apgd = opened(margin_loss=True), [], [], front_end.attacks.apgd

    def noted(network, *arguments, **how):
        calls.append((network.front_end.way["quantizer"], how["loss"], how["steps"], how["restarts"]))
        made.append(apgd(network, *arguments, **how).adversarial)
        return SimpleNamespace(adversarial=made[0])

    monkeypatch.setattr(front_end.attacks, "apgd", noted)
    record = front_end.front_end(subject)
    assert calls == [("identity", "dlr", 2, 1)]
    (found,) = (one.value for one in record.values if one.condition == "margin loss")
    assert found == correct(subject.network, made[0], subject.labels).double().mean()
    both = [subject.evaluation.changed(margin_loss=on) for on in (True, None)]
    assert kind_of(both[0]).passes(both[0], 60) - kind_of(both[1]).passes(both[1], 60) == 60 * 3 * 2


def test_the_annealed_walk_goes_on_where_it_was_and_keeps_what_it_found(opened, monkeypatch):
    subject = opened(annealed=ANNEALED, steps=8, restarts=2)
    calls, pgd = [], front_end.attacks.pgd

    def noted(network, *arguments, start=None, **how):
        found = pgd(network, *arguments, start=start, **how)
        calls.append((network.front_end.way["quantizer"], start, found.adversarial, how["steps"]))
        return found

    monkeypatch.setattr(front_end.attacks, "pgd", noted)
    kept = front_end._annealed(subject, front_end._Made(), 0.1, 8, 2, 0)
    assert [way for way, *_ in calls] == 2 * [*STEEPNESS]
    assert {steps for *_, steps in calls} == {2}
    for (_, _, ended, _), (_, start, _, _) in pairwise(calls[:4]):
        assert start is ended
    assert calls[4][1] is None
    right = [front_end.correct(subject.network, one, subject.labels) for one in (calls[3][2], calls[7][2], kept)]
    assert torch.equal(right[2], right[0] & right[1])


def test_a_certificate_that_lies_is_a_warning(opened, monkeypatch):
    subject = opened(epsilon=1.0, certificates=(1.0,))
    assert not any("certified" in one for one in front_end.front_end(subject).warnings)
    monkeypatch.setattr(PolarizingFrontEnd, "distances", lambda self, x: torch.full((len(x),), 2.0))
    found = front_end.front_end(subject)
    assert any("images are fooled although they are certified" in one for one in found.warnings)


class Masked(nn.Module):
    """A network behind the quantizer itself, whose gradient is zero."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = self.network.front_end
        z = own.activations(x)
        return self.network.classifier(quantized(z, own.threshold) + 0 * z)


class Noisy(nn.Module):
    """A network behind a front end that draws random numbers, and says so."""

    draws_random_numbers = True

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network((x + 0.2 * torch.randn_like(x)).clamp(0, 1))


@pytest.mark.parametrize(
    ("masked", "warning"),
    [(Masked, "of the attack's gradients are zero in every pixel"), (Noisy, "give other logits the second time")],
)
def test_a_masked_variant_is_flagged(opened, masked, warning):
    subject = opened(ways=())
    honest = front_end.front_end(replace(subject, network=subject.network)).warnings
    assert not any(warning in one for one in honest)
    own = replace(subject, network=masked(subject.network).eval())
    assert any(warning in one for one in front_end.front_end(own).warnings)


def test_a_network_that_is_wrong_on_every_image(opened):
    subject = opened(epsilons=(0.05,), few_steps=1)
    images = subject.images
    wrong = (subject.network(subject.pixels).argmax(dim=1) + 1) % 10
    found = front_end.front_end(replace(subject, images=replace(images, labels=wrong)))
    assert [(one.epsilon, one.value) for one in found.values] == [(0.0, 0), (0.1, 0), (0.05, 0)]
    assert len(found.warnings) == 1


def test_what_cannot_be_is_said_before_anything_is_trained(polarized, settings, tiny):
    evaluation = FrontEndEvaluation(**settings, certificates=(0.1,))
    lines = [*kind_of(evaluation).lacks(polarized(filters="pixels"), evaluation, None)]
    (line,) = lines  # quantized pixels certify too
    assert "no front end has a part 'polarizer'; parts of this network: quantizer" in line
    plain = [*kind_of(evaluation).lacks(recipes.experiment(tiny, "none", 0), evaluation, None)]
    assert len(plain) == len(WAYS) + 1
    assert plain[-1].endswith("certifies nothing; leave certificates empty")
    with pytest.raises(SpecError, match="ways name quantizer=identity twice"):
        evaluation.changed(ways=(("quantizer", "identity"),) * 2)
    with pytest.raises(SpecError, match=r"epsilons have epsilon, 0.1, again"):
        evaluation.changed(epsilons=(0.1,), few_steps=2)
    with pytest.raises(SpecError, match="epsilons and few_steps belong together"):
        evaluation.changed(epsilons=(0.2,))


def test_autoattack_behind_a_quantizer_is_refused(polarized, settings):
    evaluation = FrontEndEvaluation(**settings, autoattack_images=6)

    class Look:
        classes = staticmethod(lambda name: 10)

    lines = [*kind_of(evaluation).lacks(polarized(), evaluation, Look())]
    assert ["AutoAttack's gradients are zero" in one for one in lines] == [True]
    assert [*kind_of(evaluation).lacks(polarized(until=2), evaluation, Look())] == []

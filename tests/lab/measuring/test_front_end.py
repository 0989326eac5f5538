"""Attackers who know a front end, the worst over them, and the certificate, of a polarizing network."""

import pytest
import torch

from simreg_core.defences.polarizing import STEEPNESS, PolarizingFrontEnd
from simreg_core.lab import recipes
from simreg_core.lab.measuring import front_end
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.measuring.subject import Attacked
from simreg_core.lab.specs import FrontEndEvaluation, SpecError
from simreg_core.lab.training import build_network, train

CPU = torch.device("cpu")
WAYS = (*(("quantizer", way) for way in ("identity", *STEEPNESS)), ("polarizer", "identity"))


@pytest.fixture(scope="module")
def settings():
    return {"epsilon": 0.1, "ways": WAYS, "steps": 2, "restarts": 1, "queries": 20, "images": 60}


@pytest.fixture
def polarized(tiny):
    def make(**fields):
        task = tiny.task.changed(train_images=200, validation_images=30)
        small = tiny.changed(task=task, optimization={"epochs": 2, "batch_size": 32})
        return recipes.experiment(small, "none", 0).changed(adversarial={"method": "polarizing", **fields})

    return make


def test_every_attacker_is_there_and_the_worst_is_per_image(polarized, settings, store):
    experiment, unquantized = polarized(), polarized(until=2)
    for one in (experiment, unquantized):
        train(one, store, CPU)
    nearly = build_network(unquantized, 10)
    assert not nearly.front_end.quantizing
    evaluation = FrontEndEvaluation(**settings, surrogates=(unquantized,), certificates=(0.0, 0.001, 0.1, 1.0))
    assert [*kind_of(evaluation).lacks(experiment, evaluation, None)] == []
    record = evaluate(experiment, evaluation, store, CPU)
    accuracies = {one.condition: one.value for one in record.values if one.metric == "accuracy" and one.epsilon}
    assert set(accuracies) == {*(f"{part}: {way}" for part, way in WAYS), "from surrogate 1", "Square", "worst"}
    assert accuracies["worst"] <= min(accuracies.values())
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


def test_a_certificate_that_lies_is_a_warning(polarized, settings, store, monkeypatch):
    experiment = polarized()
    train(experiment, store, CPU)
    evaluation = FrontEndEvaluation(**{**settings, "epsilon": 1.0}, certificates=(1.0,))
    subject = Attacked.opened(experiment, evaluation, store, CPU)
    assert not any("certified" in one for one in front_end.front_end(subject).warnings)
    monkeypatch.setattr(PolarizingFrontEnd, "distances", lambda self, x: torch.full((len(x),), 2.0))
    found = front_end.front_end(subject)
    assert any("images are fooled although they are certified" in one for one in found.warnings)


def test_what_cannot_be_is_said_before_anything_is_trained(polarized, settings, tiny):
    evaluation = FrontEndEvaluation(**settings, certificates=(0.1,))
    lines = [*kind_of(evaluation).lacks(polarized(filters="pixels"), evaluation, None)]
    assert "no front end has a part 'polarizer'; parts of this network: quantizer" in lines[0]
    assert lines[1].endswith("certifies nothing; leave certificates empty")
    plain = [*kind_of(evaluation).lacks(recipes.experiment(tiny, "none", 0), evaluation, None)]
    assert len(plain) == len(WAYS) + 1
    with pytest.raises(SpecError, match="ways name quantizer=identity twice"):
        evaluation.changed(ways=(("quantizer", "identity"),) * 2)

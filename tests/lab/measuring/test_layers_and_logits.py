"""What is measured layer by layer, and of logits under attack, of trained networks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simreg_core import attacks
from simreg_core.lab import recipes
from simreg_core.lab.measuring import logits as measuring
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.registry import in_words, kind_of
from simreg_core.lab.measuring.subject import Attacked
from simreg_core.lab.specs import LayersEvaluation, LogitsEvaluation, stream
from simreg_core.lab.training import build_network
from simreg_core.layers import circular_singular_values, filter_sparsity
from simreg_core.logits import margins

CPU = torch.device("cpu")


@pytest.fixture
def trained(tiny, store, trained_once):
    experiments = [recipes.experiment(tiny, "none", seed) for seed in (0, 2)]
    trained_once(store, *experiments)
    return experiments


def value(record, metric, **where):
    (found,) = [
        one.value
        for one in record.values
        if one.metric == metric and all(getattr(one, k) == v for k, v in where.items())
    ]
    return found


def test_layers_are_those_of_the_network_as_it_was_trained(trained, store):
    evaluation = LayersEvaluation(epsilon=0.05, steps=2, surrogate=trained[1], images=8)
    record = evaluate(trained[0], evaluation, store, CPU)
    network = store.load_weights(trained[0], build_network(trained[0], 10)).eval()
    names = record.arrays["convolutions"]
    assert names[:2] == ["stem.0", "stage1.0.conv1"]
    assert len(record.arrays["modules"]) == 25
    subject = Attacked.opened(trained[0], evaluation, store, CPU)
    stem = network.stem[0](network.gain * (subject.pixels - network.shift)).flatten(1)
    for condition in ("own attack", "common perturbation", "noise"):
        own = record.arrays["psr"][condition]
        assert set(own) == {"l1", "l2", "linf"}
        assert own["l2"]["mean_of_ratios"][3] == value(record, "psr_db", condition=condition, layer=3)
        assert len(own["linf"]["ratio_of_means"]) == len(names)
    seed = stream(evaluation.seed, "layers")
    walked = attacks.pgd(subject.network, subject.pixels, subject.labels, 0.05, steps=2, early_leave=False, seed=seed)
    moved = network.stem[0](network.gain * (walked.adversarial - network.shift)).flatten(1)
    ratio = ((moved - stem).norm(dim=1) / stem.norm(dim=1)).mean()
    assert value(record, "psr_db", condition="own attack", layer=0) == pytest.approx(
        20 * ratio.log10().item(), abs=0.01
    )
    sparsity = filter_sparsity(network.stem[0].weight)
    assert value(record, "filter_sparsity", layer=0) == pytest.approx(sparsity.mean().item(), abs=1e-3)
    norm = record.arrays["batch_norm"]["stage1.0.bn1"]
    np.testing.assert_allclose(norm["variance"], network.stage1[0].bn1.running_var, atol=1e-4)
    spectrum = record.arrays["singular_values"]["stage1.0.conv1"]
    exact = circular_singular_values(network.stage1[0].conv1.weight, (16, 16))
    assert spectrum["circular"][0] == 1
    assert spectrum["circular"][-1] == pytest.approx((exact[-1] / exact[0]).item(), abs=1e-3)
    assert len(spectrum["circular"]) == 33
    assert spectrum["zero"][0] == 1


def test_logits_under_attack(trained, store):
    evaluation = LogitsEvaluation(epsilon=0.05, steps=3, restarts=1, queries=20, images=20)
    record = evaluate(trained[0], evaluation, store, CPU)
    subject = Attacked.opened(trained[0], evaluation, store, CPU)
    with torch.no_grad():
        clean = subject.network(subject.pixels)
    at = {"epsilon": 0.0, "condition": "PGD"}
    assert value(record, "cross_entropy", **at) == pytest.approx(
        F.cross_entropy(clean, subject.labels).item(), rel=1e-4
    )
    assert value(record, "margin", **at) == pytest.approx(margins(clean, subject.labels).mean().item(), rel=1e-4)
    accuracies = {one.condition: one.value for one in record.values if one.metric == "accuracy" and one.epsilon}
    assert set(accuracies) == {"PGD", "FGSM", "PGD, 1 step", "Square", "worst"}
    assert accuracies["worst"] == min(accuracies.values())
    attacked, whole = (value(record, "cross_entropy", epsilon=e, condition="PGD") for e in (0.05, 0.0))
    assert attacked > whole
    assert value(record, "matched_cross_entropy", epsilon=0.05) > value(record, "matched_cross_entropy", epsilon=0.0)
    assert value(record, "temperature") > 0


class Masked(nn.Module):
    """A network behind a quantizer whose gradient is exactly zero."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network((x * 8).round() / 8)


def test_a_masked_network_is_flagged(trained, store):
    evaluation = LogitsEvaluation(epsilon=0.1, steps=3, restarts=1, queries=100, images=40)
    subject = Attacked.opened(trained[0], evaluation, store, CPU)
    honest = measuring.logits(subject)
    masked = measuring.logits(Attacked(**{**vars(subject), "network": Masked(subject.network).eval()}))
    assert any("gradients are zero in every pixel" in warning for warning in masked.warnings)
    assert not any("gradients are zero" in warning for warning in honest.warnings)


def test_what_cannot_be_measured_is_said(trained):
    evaluation = LayersEvaluation(epsilon=0.05, surrogate=trained[1])
    mlp = trained[0].changed(network={"name": "mlp", "width": 16})
    assert [*kind_of(evaluation).lacks(mlp, evaluation, None)] == [
        "'layers' needs a network of convolutions, not 'mlp'"
    ]
    assert in_words(evaluation) == "layer by layer, epsilon 0.05"
    assert in_words(LogitsEvaluation(epsilon=0.1)) == "logits under PGD, epsilon 0.1"

"""Attackers who know the sparse codes, the worst over them, other norms, draws; and what the codes are."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from simreg_core.defences.polarizing import quantized
from simreg_core.defences.sparse_coding import SparseCoder, coherence, top
from simreg_core.lab import recipes
from simreg_core.lab.measuring import code_attacks, sparse_codes
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.measuring.subject import Attacked
from simreg_core.lab.sparse_study import random_attackers
from simreg_core.lab.specs import CodeAttacker, CodeAttacksEvaluation, SparseCodesEvaluation, SpecError
from simreg_core.lab.training.artefacts import fit_artefact

CPU = torch.device("cpu")
SMOOTH = ("quantizer", "tanh4")
KNOWING = (
    CodeAttacker(name="smooth", phases=((SMOOTH, ("selection", "top 2T")),)),
    CodeAttacker(name="annealed", phases=tuple((("quantizer", way),) for way in ("tanh2", "tanh32"))),
    CodeAttacker(name="learned", phases=((("coder", "learned"),),)),
    CodeAttacker(name="DLR", phases=((SMOOTH,),), method="apgd-dlr"),
)
AVERAGING = (
    CodeAttacker(name="averaged", phases=((SMOOTH, ("draw", "unit")),), draws=3),
    CodeAttacker(name="copy", phases=((SMOOTH,),), mean=True),
)


@pytest.fixture
def sparse(tiny):
    def make(**fields):
        task = tiny.task.changed(train_images=128, validation_images=20)
        small = tiny.changed(task=task, optimization={"epochs": 3, "batch_size": 32})
        rule = {"method": "sparse_coding", "atoms": 12, "stride": 4, "kept": 3, "batches": 5, "batch_size": 20}
        rule |= {"widths": (6, 4), "epsilon": 0.02, "learning_rate": 0.1, **fields}
        return recipes.experiment(small, "none", 0).changed(adversarial=None if fields.get("none") else rule)

    return make


@pytest.fixture
def opened(sparse, store, trained_once):
    """A function: the network of a rule, trained, with its images and an evaluation."""

    def make(evaluation, **fields):
        experiment = sparse(**fields)
        trained_once(store, experiment, *evaluation.surrogates_needed)
        assert [*kind_of(evaluation).lacks(experiment, evaluation, None)] == []
        subject = Attacked.opened(experiment, evaluation, store, CPU)
        return subject

    return make


def by_condition(found, epsilon) -> dict:
    return {one.condition: one.value for one in found.values if one.epsilon == epsilon and one.draws is None}


def test_every_attacker_is_there_and_the_worst_is_per_image(opened, sparse):
    surrogates = (sparse(training="unsupervised", quantizer="off"), sparse(none=True))
    evaluation = CodeAttacksEvaluation(
        epsilon=0.05, attackers=KNOWING, steps=2, restarts=2, queries=2, images=20, epsilons=(0.01, 0.5),
        curves=("smooth",), few_steps=1, surrogates=surrogates, learned_steps=1,
    )  # fmt: skip
    subject = opened(evaluation)
    found = code_attacks.code_attacks(subject)
    transfers = {"from surrogate 1", "from surrogate 1, identity", "from surrogate 2"}
    curves = {"smooth", *transfers, "worst"}
    names = {*(one.name for one in KNOWING), *transfers, "Square", "FGSM", "worst"}
    for epsilon, expected in ((0.05, names), (0.01, curves), (0.5, curves)):
        accuracies = by_condition(found, epsilon)
        assert set(accuracies) == expected
        assert accuracies["worst"] <= min(accuracies.values())
    clean = by_condition(found, 0)[None]
    assert clean > 0.1
    assert by_condition(found, 0.5)["worst"] < clean


def test_a_random_network_is_attacked_over_draws_and_without_its_dropout(opened):
    attackers = (*AVERAGING, *random_attackers(2))
    evaluation = CodeAttacksEvaluation(
        epsilon=0.05, attackers=attackers, steps=1, restarts=1, images=12, draws=(1, 3), draw_steps=1, learned_steps=1
    )
    subject = opened(evaluation, dropout=0.3, kept=8, draws=3)
    found = code_attacks.code_attacks(subject)
    assert set(by_condition(found, 0.05)) == {*(one.name for one in attackers), "FGSM", "worst"}
    assert {"whole front end learned", "annealed, through that mean"} < {one.name for one in attackers}
    rows = {one.draws: one.value for one in found.values if one.draws is not None}
    assert set(rows) == {1, 3}
    assert not any("second time" in one for one in found.warnings)  # it says that it draws
    assert subject.network.draws == 3
    assert code_attacks.code_attacks(subject).values == found.values  # seeded


@pytest.mark.parametrize(("norm", "epsilon"), [("l2", 0.5), ("l1", 4.0)])
def test_other_norms(opened, sparse, norm, epsilon, monkeypatch):
    attackers = (CodeAttacker(name="CE", phases=((SMOOTH,),), method="apgd-ce"),)
    evaluation = CodeAttacksEvaluation(
        norm=norm, epsilon=epsilon, attackers=attackers, steps=3, restarts=1, images=20, surrogates=(sparse(none=True),)
    )
    calls, apgd = [], code_attacks.attacks.apgd
    noted = lambda network, *given, **how: (calls.append(how.get("early_leave", True)), apgd(network, *given, **how))[1]  # noqa: E731
    monkeypatch.setattr(code_attacks.attacks, "apgd", noted)
    found = by_condition(code_attacks.code_attacks(opened(evaluation)), epsilon)
    assert set(found) == {f"{name}, {norm.upper()}" for name in ("CE", "from surrogate 1", "worst")}
    assert calls == [True, False]  # what is transferred is pushed on, whatever the surrogate says


class Masked(nn.Module):
    """A network behind the quantizer itself, whose gradient is zero."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = self.network.front_end
        chosen = own.select(own.projections(x))
        code = own.sizes * quantized(chosen / own.sizes, own.threshold)
        return self.network.classifier(own.decoder(code, x.shape[2:]).clamp(0, 1))


def test_a_masked_variant_is_flagged(opened):
    plain = (CodeAttacker(name="PGD"),)
    evaluation = CodeAttacksEvaluation(epsilon=0.05, attackers=plain, steps=2, restarts=1, queries=4, images=30)
    subject, warning = opened(evaluation), "gradients are zero in every pixel"
    assert not any(warning in one for one in code_attacks.code_attacks(subject).warnings)
    masked = code_attacks.code_attacks(replace(subject, network=Masked(subject.network).eval()))
    assert any(warning in one for one in masked.warnings)


def test_a_network_that_is_wrong_on_every_image_has_the_rows_of_any_other(opened, sparse):
    attackers = (KNOWING[0], KNOWING[3])
    evaluation = CodeAttacksEvaluation(
        epsilon=0.05, attackers=attackers, steps=1, restarts=1, queries=1, images=12, epsilons=(0.01,),
        curves=("smooth",), few_steps=1, surrogates=(sparse(training="unsupervised", quantizer="off"),),
    )  # fmt: skip
    subject = opened(evaluation)
    wrong = (subject.network(subject.pixels).argmax(dim=1) + 1) % 10
    found = code_attacks.code_attacks(replace(subject, images=replace(subject.images, labels=wrong)))
    rows = [(one.epsilon, one.condition) for one in found.values]
    assert rows == [(one.epsilon, one.condition) for one in code_attacks.code_attacks(subject).values]
    assert {one.value for one in found.values} == {0}
    assert found.warnings == (code_attacks.NOTHING_RIGHT,)


def test_a_random_network_that_is_wrong_on_every_image_has_its_draws(opened):
    evaluation = CodeAttacksEvaluation(
        epsilon=0.05, attackers=AVERAGING, steps=1, restarts=1, images=12, draws=(1, 3), draw_steps=1
    )
    subject = opened(evaluation, dropout=0.3, kept=8, draws=3)
    always = torch.full_like(subject.labels, -100)  # no class
    found = code_attacks.code_attacks(replace(subject, images=replace(subject.images, labels=always)))
    assert {one.draws: one.value for one in found.values if one.draws is not None} == {1: 0, 3: 0}


def test_what_the_codes_are(opened, sparse):
    evaluation = SparseCodesEvaluation(epsilon=0.02, steps=3, images=40, surrogate=sparse(none=True))
    subject = opened(evaluation)
    found = sparse_codes.sparse_codes(subject)
    values, own, x = {one.metric: one.value for one in found.values}, subject.network.front_end, subject.pixels
    assert (values["coherence"], values["nearest_atom"]) == pytest.approx(coherence(own.dictionary))
    projections = own.projections(x)
    kept = top(projections, 3).bool()
    passing = (kept & ((projections / own.sizes).abs() > own.threshold)).sum() / kept.sum()
    assert values["passing"] == pytest.approx(passing.item())
    assert values["nonzero_a_patch"] == pytest.approx(3 * passing.item())
    assert values["flipped"] == 0  # proven: beta is 3
    assert 0 < values["changed"] < 1
    assert 0 < values["same_top"] <= 1
    assert torch.tensor(found.arrays["atoms"]).shape == (12, 1, 4, 4)
    assert torch.tensor(found.arrays["coefficients"]).shape == (12, 4)
    for counts in found.arrays["correlations"].values():
        assert sum(counts) == pytest.approx(1000, abs=0.1)


def test_without_a_margin_signs_do_flip(opened, sparse):
    """So the attack on the codes can find what the claim says is not there."""
    evaluation = SparseCodesEvaluation(epsilon=0.5, steps=5, images=20, surrogate=sparse(none=True))
    subject = opened(evaluation, centred=True, sparsity=0.1)  # a flat atom never turns: no pixel is negative
    subject.network.front_end.threshold = 0.01
    values = {one.metric: one.value for one in sparse_codes.sparse_codes(subject).values}
    assert values["flipped"] > 0
    code = SparseCoder.code(subject.network.front_end, subject.pixels)
    assert (code != 0).any()


def test_what_cannot_be_is_said_before_anything_is_trained(sparse):
    evaluation = CodeAttacksEvaluation(epsilon=0.05, attackers=(*KNOWING[:1], *AVERAGING), draws=(1,), draw_steps=1)
    lines = [*kind_of(evaluation).lacks(sparse(), evaluation, None)]
    assert "attacker 'averaged': no front end has a part 'draw'" in lines[0]
    assert "attacker 'copy'" in lines[1]
    assert "has no dropout" in lines[1]
    assert "draws no random numbers; leave draws empty" in lines[2]
    assert len([*kind_of(evaluation).lacks(sparse(none=True), evaluation, None)]) == 5
    auto = CodeAttacksEvaluation(epsilon=0.05, attackers=KNOWING[:1], autoattack_images=5)

    class Look:
        classes = staticmethod(lambda name: 10)
        count = staticmethod(lambda name, split: 100)

    (line,) = kind_of(auto).lacks(sparse(), auto, Look())
    assert "AutoAttack's gradients are not its own" in line
    assert [*kind_of(auto).lacks(sparse(quantizer="off"), auto, Look())] == []
    codes = SparseCodesEvaluation(epsilon=0.1, surrogate=sparse(none=True))
    (line,) = kind_of(codes).lacks(sparse(none=True), codes, None)
    assert line.endswith("has no sparse-coding front end")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "l1"}, "under 'l1' attackers use apgd-ce or apgd-dlr; pgd has smooth"),
        ({"attackers": KNOWING[:1] * 2}, "attackers name 'smooth' twice"),
        ({"curves": ("other",), "epsilons": (0.1,), "few_steps": 1}, "curves have 'other', which is no attacker"),
        ({"epsilons": (0.05,), "few_steps": 1, "curves": ("smooth",)}, "epsilons have epsilon, 0.05, again"),
        ({"epsilons": (0.1,)}, "epsilons, few_steps and curves belong together"),
        ({"draws": (1,)}, "draws and draw_steps belong together"),
        ({"epsilon": 2}, r"epsilon under 'linf' must lie in \(0, 1\], got 2"),
        ({"norm": "l2", "attackers": KNOWING[3:], "queries": 5}, "go with 'linf', not with 'l2'"),
        ({"attackers": ({"name": "a", "method": "apgd-ce", "phases": ((), ())},)}, "only pgd goes on where another"),
        ({"attackers": ({"name": "a", "phases": ((SMOOTH, SMOOTH),)},)}, "attacker 'a' names quantizer twice"),
    ],
)
def test_an_evaluation_that_cannot_be(changes, message):
    with pytest.raises(SpecError, match=message):
        CodeAttacksEvaluation(epsilon=0.05, attackers=KNOWING[:1]).changed(**changes)


def test_the_cost_grows_with_draws_and_restarts():
    one = CodeAttacksEvaluation(epsilon=0.05, attackers=AVERAGING, steps=2, restarts=1)
    passes = kind_of(one).passes
    assert passes(one.changed(restarts=2), 10) == 2 * passes(one, 10) == 2 * 10 * 3 * 2 * 4
    assert passes(one.changed(draws=(10,), draw_steps=1), 10) == passes(one, 10) + 10 * 3 * 10


def test_the_dictionary_of_the_evaluated_network_is_its_own(opened, sparse, store):
    evaluation = CodeAttacksEvaluation(epsilon=0.05, attackers=KNOWING[:1], images=10)
    subject = opened(evaluation)
    (fit,) = subject.experiment.fits
    fit_artefact(fit, store, CPU)
    assert torch.equal(subject.network.front_end.dictionary, store.trained_tensors(fit)["artefact"])

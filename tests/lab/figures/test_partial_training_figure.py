"""Figure 20: its experiments, its claims on made-up numbers, and what a profile without it does."""

import numpy as np
import pandas as pd
import pytest

from simreg_core.lab.claims import PLANNED_SEEDS
from simreg_core.lab.figures import figure
from simreg_core.lab.figures.partial_training import details
from simreg_core.lab.make.figures import paths_of, studies_of
from simreg_core.lab.partial_gains import CLAIMS
from simreg_core.lab.specs import PROJECT, SpecError, load_profile
from simreg_core.lab.study import COMPARED

NAME = "20_partial_adversarial_training"
CUTS, MODULES, SEEDS = (2, 4, 6, 8), (0, 3, 6), 5


def test_stage_one_is_shared_and_seeds_are_paired(tiny):
    blocks = figure(NAME).study(tiny).blocks
    logits, transfer, layers = blocks
    assert len(logits.series) == 2 + 4 * 2 + 2
    for code, seeds in logits.series.items():
        for seed, one in enumerate(seeds):
            assert one.seed == seed
            if one.parent is not None:
                base = "all adversarial" if "A1" in code else "all natural"
                assert one.parent == logits.series[base][seed]
    surrogates = {*transfer.evaluations[0].surrogates, layers.evaluations[0].surrogate}
    assert len(surrogates) == 1
    assert surrogates.isdisjoint(one for seeds in logits.series.values() for one in seeds)
    assert set(layers.series) == {"all adversarial", "all natural"}


def test_a_profile_without_it_says_so():
    quick = load_profile("quick")
    lacking = quick.changed(partial=None)
    assert NAME not in [study.name for study in studies_of(lacking)]
    assert NAME not in [path.stem for path in paths_of(lacking)]
    with pytest.raises(SpecError, match=f"profile 'quick' does not have {NAME}"):
        paths_of(lacking, [NAME])
    with pytest.raises(SpecError, match=f"profile 'trimmed' does not have {NAME}: its 'partial' is null"):
        figure(NAME).open("trimmed")


def test_quick_has_what_the_claims_need():
    own = load_profile("quick").partial
    assert own.seeds == PLANNED_SEEDS["dissertation"]
    assert all(one.cuts[0] <= 4 and len(one.cuts) == 4 for one in own.networks)
    assert [one.network.name for one in own.networks] == ["vgg", "resnet10"]
    paper = load_profile("paper").partial
    assert [one.network.name for one in paper.networks] == ["resnet18", "vgg16"]
    assert (paper.steps, paper.attack_steps, paper.layer_steps, paper.seeds) == (10, 100, 100, own.seeds)
    assert paper.epsilon == pytest.approx(8 / 255, abs=1e-6)
    for one, modules in zip(paper.networks, (41, 27), strict=True):
        assert one.cuts[0] <= 4
        assert one.cuts[-1] == modules - 1
        assert one.singles[-1] == modules - 1
    rates = [paper.optimization.learning_rate_at(epoch) for epoch in (0, 74, 75, 79)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": ["A1N2"]}, "codes lack N1A2, A2N1, N2A1, which claims of notebook 20 compare"),
        ({"codes": ["A1N2", "N1A2", "A2N1", "N2A1", "A1"]}, "codes have A1, which is stage one"),
        ({"images": 5, "autoattack_images": 6}, "autoattack_images=6 exceeds the 5 images"),
    ],
)
def test_a_study_that_cannot_be(tiny, changes, message):
    with pytest.raises(SpecError, match=message):
        tiny.partial.changed(**changes)


def test_cuts_must_rise(tiny):
    with pytest.raises(SpecError, match="cuts of 'ResNet10' must rise, got 4, 4"):
        tiny.partial.networks[0].changed(cuts=(4, 4))


def made_up(early: float) -> pd.DataFrame:
    """A table of a world in which early modules matter (1), or late ones (-1)."""
    rows = []

    def add(seed, code, metric, value, **where):
        one = {"group": "net", "attack": "logits", "seed": seed, "code": code, "metric": metric, "condition": "PGD"}
        rows.append({**one, "value": value + 0.001 * seed, "role": COMPARED, "attempted": 200, "chance": 0.1, **where})

    def logits(seed, code, accuracy, loss, **where):
        add(seed, code, "accuracy", accuracy, condition="worst", **where)
        add(seed, code, "accuracy", 0.6, role=None, **where)
        for metric in ("cross_entropy", "matched_cross_entropy", "margin"):
            add(seed, code, metric, loss, **where)

    for seed in range(SEEDS):
        logits(seed, "A1", 0.4, 1.0)
        logits(seed, "N1", 0.0, 8.0)
        for cut in CUTS:
            falls = 8 * np.exp(-0.25 * cut) if early > 0 else 8 - 0.1 * cut**2
            logits(seed, "A1N2", 0.1, falls, cut=cut)
            logits(seed, "N1A2", 0.38 - 0.045 * cut if early > 0 else 0.4, 3.0, cut=cut)
            logits(seed, "A2N1", 0.4, 1.0 if early > 0 else 4.0, cut=cut)
            logits(seed, "N2A1", 0.1 if early > 0 else 0.5, 4.0, cut=cut)
        for place in MODULES:
            logits(seed, "A1N2", 0.1 + early * 0.04 * place, 2.0, single=place)
        for layer in range(3):
            for code, growth, h in (("A1", 0.0, 0.3), ("N1", early * 3.0, 0.3 + early * 0.2)):
                for condition in ("own attack", "common perturbation", "noise"):
                    value, own = growth * layer - 20, {"attack": "layers", "layer": layer}
                    add(0 + seed, code, "psr_db", value, condition=condition, **own)
                add(seed, code, "filter_sparsity", h, condition=None, **own)
        for code in ("A1N2", "N2A1"):
            add(seed, code, "accuracy", 0.5, attack="transfer", condition="PGD from all natural", cut=2)
    return pd.DataFrame(rows).astype({"cut": float, "single": float})


def test_claims_hold_where_early_modules_matter():
    found = {one.key: one.measure(made_up(1)) for one in CLAIMS}
    for one in CLAIMS:
        values = found[one.key]
        assert len(values) == SEEDS
        assert (values > one.threshold).all(), one.key
    assert found["partial-depth"].tolist() == pytest.approx([1.0] * SEEDS)
    assert found["partial-psr"].tolist() == pytest.approx([10 ** (6 / 20)] * SEEDS)
    assert found["partial-asymmetry"].tolist() == pytest.approx([0.38 - 0.09 - 0.1] * SEEDS)
    assert found["partial-few-modules"].tolist() == pytest.approx([1.0] * SEEDS)


def test_claims_fail_where_late_modules_matter():
    for one in CLAIMS:
        assert (one.measure(made_up(-1)) < one.threshold).all(), one.key
        assert [*one.parts(made_up(-1))] == ["net"]


def test_details_have_the_positive_control():
    found = {one.key: one.measure(made_up(1)) for one in details(made_up(1))}
    assert found["partial-control"].tolist() == pytest.approx([0.4] * SEEDS)
    assert set(found) == {
        "partial-control",
        "partial-not-masked",
        *(f"partial-{c}" for c in ("A1N2", "N1A2", "A2N1", "N2A1")),
        "partial-fit",
        "partial-psr-early",
    }
    assert found["partial-fit"].tolist() == pytest.approx([1.0] * SEEDS, abs=1e-3)
    (bent,) = (one for one in details(made_up(-1)) if one.key == "partial-fit")
    assert (bent.measure(made_up(-1)) < bent.threshold).all()  # a loss that falls ever faster
    assert (found["partial-not-masked"] > 0).all()


def test_growth_in_early_layers_is_set_beside_that_in_late_ones():
    table, (early,) = made_up(1), (one for one in details(made_up(1)) if one.key == "partial-psr-early")
    assert early.measure(table).tolist() == pytest.approx([1.0] * SEEDS)  # the gap grows by 3 dB a layer
    own = (table["metric"] == "psr_db") & (table["code"] == "N1") & (table["layer"] == 1)
    for more, expected in ((2.0, 10 ** (4 / 20)), (-2.0, 10 ** (-4 / 20))):
        bent = table.assign(value=table["value"] + more * own)
        assert early.measure(bent).tolist() == pytest.approx([expected] * SEEDS)


def test_published_numbers_are_those_of_the_source():
    table = pd.read_csv(PROJECT / "figures" / "reference" / "dissertation-tables.csv")
    rows = table[table["column"] == "adversarial accuracy"].set_index("row")["value"].astype(float)
    difference = (rows["N1A2 early natural: conv"] - rows["N2A1 early natural: conv"]) / 100
    (one,) = (one for one in CLAIMS if one.key == "partial-asymmetry")
    assert one.published == {"CIFAR-10, ResNet-32": pytest.approx(difference)}

"""Figure 23: its experiments, its claims and its picture on made-up numbers, and what a profile without it does."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up import made_up

from simreg_core.lab.claims import CONTRADICTED, DIRECTION, PLANNED_SEEDS, judge
from simreg_core.lab.figures import figure
from simreg_core.lab.figures.hebbian import (
    CORRUPTION_NAMES,
    PUBLISHED_COLUMNS,
    PUBLISHED_CORRUPTIONS,
    PUBLISHED_ROWS,
    WAYS,
    named,
    published,
    rules,
)
from simreg_core.lab.hebbian_gains import (
    ABLATIONS,
    BASELINES,
    CLAIMS,
    COUNTS,
    EXACT,
    FREE,
    FROM_NO_THRESHOLD,
    HAH,
    L2,
    LINF,
    MAIN,
    MEAN,
    NO_THRESHOLD,
    OUTPUTS,
    PGD,
    PUBLISHED as TASK,
    RESPONSES,
    SQUARE,
    STANDARD,
    TEXT,
    THRESHOLDED,
    WORST,
    details,
)
from simreg_core.lab.measuring import front_end as attackers, hebbian as measuring, white_box
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.specs import ADVERSARIAL, FrontEndEvaluation, SpecError, load_profile
from simreg_core.lab.specs.hebbian import SHARED_CORRUPTIONS
from simreg_core.lab.study import COMPARED

NAME = "23_hebbian_networks"
SEEDS, EPSILON, SIGMA = 5, 0.1, 0.3
ALL = (STANDARD, HAH, TEXT, *ABLATIONS, MEAN, FREE, ADVERSARIAL, *BASELINES)


def test_every_network_is_attacked_by_who_knows_it(tiny):
    study = figure(NAME).study(tiny)
    assert set(study.series) == {*ALL, "1 block"}
    assert set(rules(tiny.hebbian)) == set(ALL)
    for block in study.blocks:
        ((name, (one,)),) = block.series.items()
        for evaluation in block.evaluations:
            assert list(kind_of(evaluation).lacks(one, evaluation, None)) == []
            assert all((own.seed, own.task) == (one.seed, one.task) for own in evaluation.surrogates_needed)
        attacks = [own for own in block.evaluations if isinstance(own, FrontEndEvaluation)]
        assert len(attacks) == (block.group == MAIN)
        for own in attacks:
            assert own.ways == (WAYS if name in THRESHOLDED else ())
            assert len(own.surrogates) == (2 if name in THRESHOLDED else 0)
    trained = {one.adversarial for block in study.blocks for (one,) in block.series.values()}
    assert len(trained) == len(ALL)  # 'narrower' has the standard network's rule, '1 block' one of its own
    assert {one.anti for one in trained if one.blocks} == {1.0, 0.1}


def test_a_profile_without_it_says_so():
    with pytest.raises(SpecError, match=f"profile 'cifar-small' does not have {NAME}: its 'hebbian' is null"):
        figure(NAME).open("cifar-small")


def test_quick_and_paper_have_what_the_claims_need():
    quick, paper = (load_profile(name).hebbian for name in ("quick", "paper"))
    for own in (quick, paper):
        assert own.seeds == PLANNED_SEEDS["dissertation"]
        assert own.noise in own.noises
        assert max(own.epsilons) == 0.5  # where every image can be gray
        assert own.corruptions == SHARED_CORRUPTIONS
    assert {0, quick.blocks, *quick.counts} == set(range(7))
    assert (paper.network.name, paper.blocks, paper.optimization.epochs) == ("unit-vgg16", 6, 100)
    assert paper.alphas[:6] == (4.5e-3, 2.5e-3, 1.3e-3, 1e-3, 0.8e-3, 0.5e-3)


def test_what_the_claims_set_side_by_side_meets_the_same_kinds_of_attack():
    for block in figure(NAME).study(load_profile("quick")).blocks:
        ((name, _),) = block.series.items()
        for own in block.evaluations:
            if isinstance(own, FrontEndEvaluation):
                assert (own.autoattack_images is not None) == (name in (STANDARD, HAH, ADVERSARIAL, *ABLATIONS))


def test_adversarial_training_has_the_source_s_epsilon():
    quick, paper = (load_profile(name).hebbian for name in ("quick", "paper"))
    assert rules(paper)[ADVERSARIAL]["strength"] == pytest.approx(8 / 255, abs=1e-6)  # table 5.2
    assert paper.epsilon == pytest.approx(2 / 255, abs=1e-5)  # table 5.1
    assert rules(quick)[ADVERSARIAL]["strength"] == quick.adversarial_epsilon == 2 * quick.epsilon


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": 8}, "8 Hebbian blocks are more than the 7 of 'unit-vgg'"),
        ({"counts": [2]}, "blocks and counts have 2 twice"),
        ({"alphas": [0.1]}, "alphas must have one for each of 2 blocks, got 1"),
        ({"keep": 0}, "keep"),
        ({"keep": 1}, "keep"),
        ({"active": 0}, "active"),
        ({"network": {"name": "vgg", "width": 4}}, "network.name must be one of unit-vgg, unit-vgg16, got 'vgg'"),
        ({"narrow": 4}, "narrow must be below network.width, 4, got 4"),
        ({"epsilons": [0.1]}, "epsilons have epsilon, 0.1, again"),
        ({"images": 5, "autoattack_images": 6}, "autoattack_images=6 exceeds the 5 images"),
    ],
)
def test_a_study_that_cannot_be(tiny, changes, message):
    with pytest.raises(SpecError, match=message):
        tiny.hebbian.changed(**changes)


def test_names_are_those_of_what_is_measured():
    """Drawing loads no torch, so the names stand twice."""
    assert (attackers.WORST, attackers.PGD, attackers.SQUARE) == (WORST, PGD, SQUARE)
    assert (measuring.RESPONSES, measuring.OUTPUTS) == (RESPONSES, OUTPUTS)
    names = [white_box._main_name(SimpleNamespace(norm=norm)) for norm in ("linf", "l2")]
    assert names == [LINF, L2]
    assert ": ".join(WAYS[0]) == EXACT


def robustness(good: bool) -> dict[str, float]:
    """How robust each network is; bad: everything is the other way round."""
    values = dict.fromkeys(ALL, 0.3)
    values |= {STANDARD: 0.1, HAH: 0.6, NO_THRESHOLD: 0.05, ADVERSARIAL: 0.4}
    return values if good else {name: 0.7 - value for name, value in values.items()}


def table_of(good: bool) -> pd.DataFrame:
    rows = []

    def add(series, seed, attack, metric, value, group=MAIN, **fields):
        one = {"group": group, "series": series, "seed": seed, "attack": attack, "metric": metric, "value": value}
        empty = dict.fromkeys(("condition", "epsilon", "role", "corruption", "severity", "layer", "repeat", "blocks"))
        rows.append({**empty, **one, "protocol": "strict", "attempted": 200, "failed": 0, "chance": 0.1, **fields})

    for seed in range(SEEDS):
        for name, own in robustness(good).items():
            own, known = own + 0.001 * seed, {"blocks": 2 if name == HAH else 0}
            add(name, seed, "hebbian", "accuracy", 0.95, epsilon=0.0, **known)
            for repeat in range(2):
                add(name, seed, "hebbian", "accuracy", own + 0.2, epsilon=SIGMA, role=COMPARED, repeat=repeat)
            for layer in range(4):
                add(name, seed, "hebbian", "snr_db", 10 * own, layer=layer, epsilon=SIGMA, role=COMPARED)
                for condition in (RESPONSES, OUTPUTS):
                    add(name, seed, "hebbian", "activation_sparsity", 1 - own, layer=layer, condition=condition)
                fixed = 0.9 if (name == FREE) == good else 0.2
                add(name, seed, "hebbian", "fixed_channels", fixed, layer=layer)
            conditions = {SQUARE: 0.1, WORST: 0.0 if good else -0.05}
            first = {EXACT: 0, FROM_NO_THRESHOLD: 0.1} if name in THRESHOLDED else {PGD: 0}
            for condition, more in {**first, **conditions}.items():
                value = max(own + more, 0)
                add(name, seed, "front_end", "accuracy", value, condition=condition, epsilon=EPSILON, role=COMPARED)
            add(name, seed, "white_box", "accuracy", own, condition=L2, epsilon=1.0)
            for epsilon in (0.0, SIGMA):
                add(name, seed, "gaussian", "accuracy", own if epsilon else 0.95, epsilon=epsilon)
            for corruption in SHARED_CORRUPTIONS:
                add(name, seed, "corruption", "accuracy", own, corruption=corruption, severity=5)
            add(name, seed, "corruption", "accuracy", 0.99, severity=0)
            for norm in ("linf", "l2", "l0"):
                add(name, seed, "minimum_norm", f"median_{norm}", 1 + own, condition="fast")
        for blocks, series in ((0, STANDARD), (1, "1 block"), (2, HAH), (3, "3 blocks")):
            own = 0.2 + 0.1 * (blocks if good else -blocks / 2)
            at = {"group": COUNTS, "blocks": blocks}
            add(series, seed, "hebbian", "accuracy", 0.97, epsilon=0.0, **at)
            add(series, seed, "hebbian", "accuracy", own, epsilon=SIGMA, role=COMPARED, **at)
            add(series, seed, "white_box", "accuracy", own, condition=LINF, epsilon=EPSILON, **at)
    return pd.DataFrame(rows)


def test_claims_hold_where_the_defence_works():
    table = table_of(good=True)
    found = {one.key: one.measure(table) for one in (*CLAIMS, *details(table))}
    for one in (*CLAIMS, *details(table)):
        assert len(found[one.key]) == SEEDS
        assert (found[one.key] > one.threshold).all(), one.key
    assert found["hebbian-sparser"].tolist() == pytest.approx([0.5] * SEEDS)
    assert found["hebbian-noise"].tolist() == pytest.approx([0.5] * SEEDS)
    assert found["hebbian-components"].tolist() == pytest.approx([(0.3 + 0.3 + 0.55) / 3] * SEEDS)
    assert found["hebbian-corruptions"].tolist() == pytest.approx([0.2] * SEEDS)
    assert found["hebbian-not-masked"].tolist() == pytest.approx([0] * SEEDS)
    assert found["hebbian-blocks"].tolist() == pytest.approx([1] * SEEDS)
    beside = {own.key: own.measure(table).mean() for one in CLAIMS for own in one.also}
    assert beside["snr"] == pytest.approx(5)
    assert beside["noise-training"] == pytest.approx(0.3)


def test_claims_fail_where_it_does_not():
    table = table_of(good=False)
    helped = "hebbian-control"
    for one in (*CLAIMS, *(own for own in details(table) if own.key != helped)):
        assert (one.measure(table) < one.threshold).all(), one.key


def test_a_component_that_does_harm_contradicts_the_claim():
    (claim,) = (one for one in CLAIMS if one.key == "hebbian-components")
    table = table_of(good=True)

    def verdict() -> str:
        return judge(claim, claim.measure(table), parts=claim.parts(table)).verdict

    assert verdict() == DIRECTION
    table.loc[(table["series"] == NO_THRESHOLD) & (table["condition"] == WORST), "value"] = 0.9
    assert verdict() == CONTRADICTED


def study_of(table: pd.DataFrame):
    study = made_up(NAME, table)
    own = study.profile.hebbian.changed(blocks=2, counts=[1, 3])
    study.__dict__["profile"] = study.profile.changed(hebbian=own)
    records = [(MAIN, HAH, SimpleNamespace(arrays={}, warnings=("one",))) for _ in range(SEEDS)]
    study.__dict__["_records"] = tuple(records)
    return study


def test_the_picture_has_every_series_and_the_published_tables():
    study = study_of(table_of(good=True))
    picture = study.draw()  # which raises for a series that it leaves out
    noise, snr, h, components, baselines, corruptions, blocks, sizes, each = picture.axes

    def diamonds(ax):
        return sorted(line.get_ydata()[0] for line in ax.lines if line.get_gid() == "published")

    tables = [published("5.1" if name == STANDARD else "5.3", row) for name, row in PUBLISHED_ROWS.items()]
    assert diamonds(components) == sorted(one[column] for one in tables for column in PUBLISHED_COLUMNS.values())
    assert len(diamonds(corruptions)) == 3 * 14
    assert not diamonds(baselines)
    assert [text.get_text() for text in each.get_yticklabels()][-1] == WORST
    assert len(blocks.get_legend().get_texts()) == 3
    picture.canvas.draw()
    assert blocks.get_legend().get_window_extent().y0 > blocks.transData.transform((0, 1))[1]  # it covers no accuracy
    assert all(len(ax.lines) for ax in (noise, snr, h, sizes))
    assert "5 records flagged" in [text.get_text() for text in picture.legends[0].get_texts()]
    assert picture.get_suptitle().startswith("Hebbian blocks raise accuracy under Gaussian noise (+0.50")
    plt.close(picture)


def test_published_numbers_are_those_of_the_source():
    found = {one.key: one for one in (*CLAIMS, *details(pd.DataFrame()))}
    rows = {name: published("5.1" if name == STANDARD else "5.3", row) for name, row in PUBLISHED_ROWS.items()}
    clean, noise, linf, l2 = PUBLISHED_COLUMNS.values()
    gain = rows[HAH] - rows[STANDARD]
    assert found["hebbian-noise"].published[TASK] == pytest.approx(gain[noise])
    assert found["hebbian-noise"].also[0].published[TASK] == pytest.approx(gain[clean])
    assert found["hebbian-helps"].published[TASK] == pytest.approx(gain[linf])
    assert found["hebbian-helps"].also[0].published[TASK] == pytest.approx(gain[l2])
    parts = [(rows[HAH] - rows[name])[column] for name in ABLATIONS for column in (noise, linf)]
    assert found["hebbian-components"].published[TASK] == pytest.approx(sum(parts) / 6, abs=1e-4)
    labels = [CORRUPTION_NAMES.get(one, one.replace("_", " ")) for one in SHARED_CORRUPTIONS]
    means = {name: published("5.2", row)[labels].mean() for name, row in PUBLISHED_CORRUPTIONS.items()}
    smaller = min(means[HAH] - means[ADVERSARIAL], means[ADVERSARIAL] - means[STANDARD])
    assert found["hebbian-corruptions"].published[TASK] == pytest.approx(smaller, abs=1e-4)
    contrast = {name: published("5.2", row)["contrast"] for name, row in PUBLISHED_CORRUPTIONS.items()}
    beside = {one.key: one.published for one in found["hebbian-corruptions"].also}
    assert beside["contrast"][TASK] == pytest.approx(contrast[HAH] - contrast[STANDARD])


def test_another_number_of_blocks_has_a_name():
    assert [named(count) for count in (1, 3)] == ["1 block", "3 blocks"]

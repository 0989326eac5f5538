"""Figure 21: its experiments, its claims and its picture on made-up numbers, and what a profile without it does."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_up import made_up

from simreg_core.lab.claims import HOLDS, PLANNED_SEEDS, UNDECIDED
from simreg_core.lab.figures import figure
from simreg_core.lab.figures.polarizing import RULES, experiment, published_table
from simreg_core.lab.make.figures import paths_of
from simreg_core.lab.measuring import front_end as attackers, polarization
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.polarizing_gains import (
    AUTHORS,
    BIM,
    CERTIFIED,
    CLAIMS,
    DRIFT,
    FGSM,
    FROZEN,
    OTHERS,
    PGD,
    PIXELS,
    POLARIZING,
    SQUARE,
    STAGE_ONE,
    STAGE_TWO,
    TRANSFERRED,
    UNPOLARIZED,
    UNQUANTIZED,
    UNTRAINED,
    WORST,
    details,
)
from simreg_core.lab.specs import ADVERSARIAL, PROJECT, FrontEndEvaluation, SpecError, load_profile
from simreg_core.lab.study import COMPARED

NAME = "21_polarizing_front_end"
SEEDS, EPSILON, EPSILONS = 5, 0.3, (0.1, 0.5)
ALL = ("none", ADVERSARIAL, *RULES)


def test_every_network_is_attacked_by_who_knows_it(tiny):
    study = figure(NAME).study(tiny)
    assert set(study.series) == set(ALL)
    for block in study.blocks:
        ((name, (one,)),) = block.series.items()
        for evaluation in block.evaluations:
            lacking = [line for line in kind_of(evaluation).lacks(one, evaluation, None) if "AutoAttack" not in line]
            assert lacking == []
            for surrogate in evaluation.surrogates_needed:
                assert (surrogate.seed, surrogate.task) == (one.seed, one.task)
                assert surrogate.adversarial is None or surrogate.adversarial.until == 2
        attacks = [own for own in block.evaluations if isinstance(own, FrontEndEvaluation)]
        quantizing = name not in ("none", ADVERSARIAL, UNQUANTIZED)
        assert [bool(own.ways and own.annealed and own.surrogates) for own in attacks] == [quantizing] * (name != DRIFT)
    rules = {one.adversarial for block in study.blocks for (one,) in block.series.values() if one.adversarial}
    assert len(rules) == len(ALL) - 1
    second = {one for own in study.blocks for ev in own.evaluations for one in ev.surrogates_needed}
    (unquantized,) = (block.series[UNQUANTIZED][0] for block in study.blocks[:8] if UNQUANTIZED in block.series)
    assert unquantized in second  # trained once


def test_a_profile_without_it_says_so():
    with pytest.raises(SpecError, match=f"profile 'cifar-small' does not have {NAME}"):
        paths_of(load_profile("cifar-small"), [NAME])
    with pytest.raises(SpecError, match=f"profile 'cifar-small' does not have {NAME}: its 'polarizing' is null"):
        figure(NAME).open("cifar-small")


def test_quick_and_paper_have_what_the_claims_need():
    quick, paper = (load_profile(name).polarizing for name in ("quick", "paper"))
    for own in (quick, paper):
        assert own.seeds == PLANNED_SEEDS["dissertation"]
        assert {(task.threshold, task.epsilon) for task in own.tasks} <= {(0.5, 0.3), (0.3, 0.1)}
        assert all(max(task.epsilons) == 0.5 for task in own.tasks)  # where every image can be gray
        assert all(len(published_table(task.task.images)) == 3 for task in own.tasks)
    assert [task.task.images for task in quick.tasks] == ["mnist-5k"]
    assert (quick.images, quick.steps, quick.restarts) == (200, 40, 2)
    assert [task.name for task in paper.tasks] == ["MNIST", "Fashion-MNIST"]
    (task,) = quick.tasks
    weights = {one: experiment(load_profile("quick"), task, 0, one).adversarial.weight for one in RULES}
    assert weights == {**dict.fromkeys((POLARIZING, UNQUANTIZED, DRIFT), 10), UNPOLARIZED: 0, FROZEN: 1, PIXELS: 1}
    assert (paper.steps, paper.restarts, paper.stage_epochs, paper.width) == (100, 20, 20, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"epsilon": 0.6},
            r"epsilon 0.6 of 'digits' makes every activation unsafe: none .* farther than 0.5 from ±0.5",
        ),
        ({"threshold": 0}, "threshold"),
        ({"threshold": -0.1}, "threshold"),
        ({"epsilon": 0.1}, "epsilons of 'digits' have epsilon, 0.1, again"),
        (
            {"task": {"images": "digits", "size": [16, 16], "channels": 3}},
            "task.channels of 'digits' must be 1: the front end's filters see one channel",
        ),
    ],
)
def test_a_task_that_cannot_be(tiny, changes, message):
    with pytest.raises(SpecError, match=message):
        tiny.polarizing.tasks[0].changed(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage_epochs": 0}, "stage_epochs"),
        ({"images": 5, "autoattack_images": 6}, "autoattack_images=6 exceeds the 5 images"),
        ({"certificates": [0.1]}, "certificates"),
    ],
)
def test_a_study_that_cannot_be(tiny, changes, message):
    with pytest.raises(SpecError, match=message):
        tiny.polarizing.changed(**changes)


def test_names_are_those_of_what_is_measured():
    """Drawing loads no torch, so the names stand twice."""
    for name, ours in {"WORST": WORST, "PGD": PGD, "FGSM": FGSM, "BIM": BIM, "SQUARE": SQUARE}.items():
        assert getattr(attackers, name) == ours
    assert polarization.STAGE_NAMES[:3] == (UNTRAINED, STAGE_ONE, STAGE_TWO)
    assert (polarization.CERTIFIED, polarization.OTHERS) == (CERTIFIED, OTHERS)


def worlds(good: bool) -> dict[str, float]:
    """Accuracy under the worst attack at the epsilon of comparison; bad: everything is the other way round."""
    values = {"none": 0.0, ADVERSARIAL: 0.85, POLARIZING: 0.7, UNQUANTIZED: 0.01, UNPOLARIZED: 0.2, FROZEN: 0.1}
    values[PIXELS] = 0.6
    bad = {"none": 0.6, ADVERSARIAL: 0.1, POLARIZING: 0.4, UNQUANTIZED: 0.5, UNPOLARIZED: 0.5, FROZEN: 0.5, PIXELS: 0.9}
    return values if good else bad


def table_of(good: bool) -> pd.DataFrame:
    rows = []

    def add(series, seed, attack, metric, value, condition=None, epsilon=None):
        role = COMPARED if epsilon == EPSILON else None
        one = {"group": "MNIST", "series": series, "seed": seed, "attack": attack, "protocol": "strict", "role": role}
        where = {"metric": metric, "condition": condition, "epsilon": epsilon, "attempted": 200, "failed": 0}
        rows.append({**one, **where, "value": value, "chance": 0.1})

    for seed in range(SEEDS):
        more = 0.001 * seed
        for name, value in worlds(good).items():
            add(name, seed, "front_end", "accuracy", 0.97, epsilon=0.0)
            quantizing = name not in ("none", ADVERSARIAL, UNQUANTIZED)
            known = [AUTHORS, "annealed", TRANSFERRED] if quantizing else [PGD]
            for epsilon in (EPSILON, *EPSILONS):
                own = value + more if epsilon == EPSILON else value * (1 - epsilon)
                conditions = [*known, FGSM, SQUARE, *([BIM] if epsilon == EPSILON else [])]
                for condition in conditions:
                    transferred = (0.05 if good else -0.02) if condition == TRANSFERRED else 0
                    add(name, seed, "front_end", "accuracy", min(own + 0.05 + transferred, 1), condition, epsilon)
                add(name, seed, "front_end", "accuracy", own, WORST, epsilon)
        for name in (POLARIZING, UNPOLARIZED, FROZEN, PIXELS, DRIFT):
            for epsilon in (0.001, EPSILON):
                certified = 0.5 if epsilon < 0.1 else 0.0
                add(name, seed, "polarization", "certified", certified, epsilon=epsilon)
                if certified:
                    add(name, seed, "polarization", "levels_kept", 1.0 if good else 0.8, CERTIFIED, epsilon)
                add(name, seed, "polarization", "levels_kept", 0.1, OTHERS, epsilon)
            if name != PIXELS:
                drifts = name == DRIFT if good else name != DRIFT
                add(name, seed, "polarization", "drift", 0.004 + more if drifts else 0.0)
                stages = ((UNTRAINED, 0.0, 0.03), (STAGE_ONE, 0.1, 0.2), (STAGE_TWO, 0.72, 0.02))
                for stage, pixel_like, danger in stages if good else [(*one[:1], 0.1, 1 - one[2]) for one in stages]:
                    add(name, seed, "polarization", "pixel_like", pixel_like, stage)
                    add(name, seed, "polarization", "danger", danger, stage, EPSILON)
    return pd.DataFrame(rows)


def test_claims_hold_where_the_defence_works():
    table = table_of(good=True)
    found = {one.key: one.measure(table) for one in (*CLAIMS, *details(table))}
    for one in (*CLAIMS, *details(table)):
        assert len(found[one.key]) == SEEDS
        assert (found[one.key] > one.threshold).all(), one.key
        assert [*one.parts(table)] == ["MNIST"]
    assert found["polarizing-helps"].tolist() == pytest.approx([0.7] * SEEDS)
    assert found["polarizing-below-adversarial"].tolist() == pytest.approx([0.15] * SEEDS)
    assert found["polarizing-over-pixels"].tolist() == pytest.approx([0.1] * SEEDS)
    assert found["polarizing-certificate"].tolist() == [0] * SEEDS
    assert found["polarizing-danger"].tolist() == pytest.approx([0.18] * SEEDS)


def test_claims_fail_where_it_does_not():
    table = table_of(good=False)
    for one in (*CLAIMS, *details(table)):
        assert (one.measure(table) < one.threshold).all(), one.key


def test_without_a_certified_image_nothing_is_decided_about_the_certificate():
    table = table_of(good=True)
    table = table[table["condition"] != CERTIFIED]
    found = {one.key: one.verdict for one in study_of(table).judge()}
    assert found["polarizing-certificate"] == UNDECIDED
    assert found["polarizing-helps"] in HOLDS


def test_what_stands_beside_the_certificate():
    (one,) = (one for one in CLAIMS if one.key == "polarizing-certificate")
    others, share = (own.measure(table_of(good=True)) for own in one.also)
    assert others.tolist() == pytest.approx([0.9] * SEEDS)
    assert share.tolist() == [0] * SEEDS  # at the epsilon of the attacks no image is certified


def study_of(table: pd.DataFrame):
    """The study of mnist with made-up numbers and arrays."""
    study = made_up(NAME, table)
    histogram = {stage: np.full(100, 0.01).tolist() for stage in (UNTRAINED, STAGE_ONE, STAGE_TWO)}
    filters = {stage: np.eye(5)[None].repeat(25, axis=0).tolist() for stage in histogram}
    arrays = {"histograms": histogram, "filters": filters}
    records = [("MNIST", POLARIZING, SimpleNamespace(arrays=arrays, warnings=("one",))) for _ in range(SEEDS)]
    study.__dict__["_records"] = tuple(records)
    return study


def test_the_picture_has_every_series_and_the_published_table():
    study = study_of(table_of(good=True))
    picture = study.draw()  # which raises for a series that it leaves out
    certificate, defences, each, table, *small = picture.axes
    assert len(small) == 6
    diamonds = [line.get_ydata()[0] for line in table.lines if line.get_gid() == "published"]
    published = published_table("mnist-5k")
    assert sorted(diamonds) == pytest.approx(sorted(published.to_numpy().ravel()))
    shown = {text.get_text() for text in each.get_legend().get_texts()}
    assert shown == {
        "quantizer as identity", "tanh, annealed", "from no quantizer", "FGSM", "Square", "worst, image by image",
    }  # fmt: skip
    picture.canvas.draw()
    assert each.get_legend().get_window_extent().y0 > each.transData.transform((0, 1))[1]  # it covers no accuracy
    assert {line.get_gid() for line in certificate.lines} >= {POLARIZING, DRIFT, PIXELS}
    assert DRIFT not in {line.get_gid() for line in defences.lines}
    assert "18 of 25 pixel-like" in small[-1].get_title()
    assert "5 records flagged" in [text.get_text() for text in picture.legends[0].get_texts()]
    assert picture.get_suptitle().startswith("The polarizing front end raises accuracy under attack (+0.70")
    plt.close(picture)


def test_published_numbers_are_those_of_the_source():
    rows = pd.read_csv(PROJECT / "figures" / "reference" / "dissertation-tables.csv")
    saved = rows[rows["table"].str.startswith("code:saved histograms")].set_index(["row", "column"])["value"]
    found = {one.key: one.published for one in (*CLAIMS, *details(pd.DataFrame()))}
    for images, task, name in (("mnist", "MNIST", "MNIST"), ("fashion-mnist", "Fashion-MNIST", "Fashion MNIST")):
        pgd = published_table(images)["PGD"]
        ours, none, adversarial = (pgd[row] for row in ("polarizing (ours)", "no defense", "adversarial training"))
        assert found["polarizing-helps"][task] == pytest.approx(ours - none)
        assert found["polarizing-below-adversarial"][task] == pytest.approx(adversarial - ours)
        danger = [float(saved[f"{name} epoch {epoch}", "share of activations with ||z|-c|<eps"]) for epoch in (20, 40)]
        assert found["polarizing-danger"][task] == pytest.approx((danger[0] - danger[1]) / 100)
    pixel_like = float(saved["Fashion MNIST epoch 40", "filters with peak weight above half of L1 norm"]) / 25
    assert found["polarizing-filters"] == {"Fashion-MNIST": pytest.approx(pixel_like)}

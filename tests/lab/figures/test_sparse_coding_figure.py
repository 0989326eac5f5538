"""Figure 22: its experiments, its claims and its picture on made-up numbers, and what a profile without it does."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_up import made_up

from simreg_core.lab.claims import PLANNED_SEEDS
from simreg_core.lab.figures import figure
from simreg_core.lab.figures.sparse_coding import CIFAR, TABLES, published, published_curve, published_sweep
from simreg_core.lab.make.figures import paths_of
from simreg_core.lab.measuring import code_attacks, sparse_codes
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.sparse_gains import (
    ALL_ATOMS,
    AUTHORS,
    BY_ATOMS,
    BY_NETWORK,
    CENTRED,
    CLAIMS,
    DRAWS,
    EOT,
    FGSM,
    LOST,
    PGD,
    RANDOM,
    SPARSE,
    SQUARE,
    TRADES,
    TRANSFERRED,
    UNQUANTIZED,
    WORST,
    WORST_L1,
    WORST_L2,
    details,
    with_kept,
)
from simreg_core.lab.sparse_study import (
    ANNEALED,
    DETERMINISTIC,
    UNSUPERVISED,
    experiment,
    random_attackers,
    rules_of,
    series_of,
)
from simreg_core.lab.specs import ADVERSARIAL, PROJECT, CodeAttacksEvaluation, SpecError, load_profile
from simreg_core.lab.study import COMPARED

NAME = "22_sparse_coding_front_end"
SEEDS, EPSILON, EPSILONS = 5, 0.02, (0.01, 0.5)
GROUP = "photographs"


def test_every_network_is_attacked_by_who_knows_it(tiny):
    for one in (tiny, tiny.changed(sparse_coding=tiny.sparse_coding.changed(all_attackers=True))):
        study = figure(NAME).study(one)
        assert set(study.series) == {"none", ADVERSARIAL, SPARSE, UNQUANTIZED, CENTRED, RANDOM, LOST, "T = 1"}
        for block in study.blocks:
            ((name, (trained,)),) = block.series.items()
            for evaluation in block.evaluations:
                if trained.seed == 0:  # for others nothing else is looked at
                    assert [*kind_of(evaluation).lacks(trained, evaluation, None)] == []
                assert all((own.seed, own.task) == (trained.seed, trained.task) for own in evaluation.surrogates_needed)
                assert trained not in evaluation.surrogates_needed
            first = next(own for own in block.evaluations if isinstance(own, CodeAttacksEvaluation))
            if name in (SPARSE, CENTRED, RANDOM, LOST):
                assert [own.adversarial and own.adversarial.training for own in first.surrogates] == [
                    "unsupervised", None, "supervised",
                ]  # fmt: skip
    fits = {fit.key for block in study.blocks for (one,) in block.series.values() for fit in one.fits}
    assert len(fits) == 2 * tiny.sparse_coding.seeds  # with and without means, shared by all others


def test_every_row_of_the_table_of_backward_passes_has_its_attacker():
    named = {
        way
        for own in (*DETERMINISTIC, *random_attackers(40))
        for phase in own.phases
        for way in (*phase, *([("dropout", "removed")] if own.mean else []))
    }
    assert named >= {
        ("quantizer", "identity"), ("quantizer", "tanh4"), ("selection", "kept"), ("selection", "top 2T"),
        ("selection", "all"), ("selection", "softmax"), ("dropout", "mean"), ("dropout", "removed"),
        ("draw", "unit"), ("coder", "identity"), ("coder", "learned"), ("decoder", "unbounded"),
    }  # fmt: skip
    assert any(len(own.phases) == 4 for own in DETERMINISTIC)  # annealed


def test_a_profile_without_it_says_so():
    with pytest.raises(SpecError, match=f"profile 'cifar-small' does not have {NAME}"):
        paths_of(load_profile("cifar-small"), [NAME])
    with pytest.raises(SpecError, match="its 'sparse_coding' is null"):
        figure(NAME).open("cifar-small")


def test_quick_and_paper_have_what_the_claims_need():
    quick, paper = (load_profile(name).sparse_coding for name in ("quick", "paper"))
    for own in (quick, paper):
        assert own.seeds == PLANNED_SEEDS["dissertation"]
        assert own.all_attackers
        assert all(max(task.epsilons) == 0.5 for task in own.tasks)  # where every image can be gray
        assert max(own.draw_counts) == 100
    assert [task.task.images for task in quick.tasks] == ["photos"]  # digits kill sparse codes
    assert [task.task.images for task in paper.tasks] == ["cifar10", "imagenette"]
    cifar, imagenette = paper.tasks
    assert (cifar.atoms, cifar.patch, cifar.stride, cifar.kept, cifar.random_kept) == (500, 4, 2, 15, 50)
    assert (imagenette.atoms, imagenette.patch, imagenette.stride, imagenette.random_kept) == (1000, 8, 4, 100)
    assert (cifar.batches * cifar.batch_size, imagenette.batches * imagenette.batch_size) == (5000, 50000)
    assert sorted((cifar.kept, *cifar.sweep)) == [1, 2, 5, 10, 15, 20]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": 13}, "'digits': kept must be at most the 12 atoms of the dictionary, got 13"),
        ({"random_kept": 13}, "kept must be at most the 12 atoms"),
        ({"sweep": [1, 50]}, "kept must be at most the 12 atoms"),
        ({"sweep": [3]}, "sweep of 'digits' has 3 twice"),
        ({"patch": 20}, "'digits': patch must fit into the image, 16x16; got 20x20"),
        ({"stride": 5}, "stride must be at most the patch's 4 pixels, or it leaves pixels out; got 5"),
        ({"stride": 3, "patch": 5}, "stride 3 with patches of 5 pixels leaves 2 of 16 pixels a side out"),
        ({"dropout": 1}, "dropout"),
        ({"epsilon": 0.01}, "epsilons of 'digits' have epsilon, 0.01, again"),
    ],
)
def test_a_task_that_cannot_be(tiny, changes, message):
    with pytest.raises(SpecError, match=message):
        tiny.sparse_coding.tasks[0].changed(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 5, "autoattack_images": 6}, "autoattack_images=6 exceeds the 5 images"),
        ({"draw_counts": [1, 1]}, "draw_counts have 1 twice"),
    ],
)
def test_a_study_that_cannot_be(tiny, changes, message):
    with pytest.raises(SpecError, match=message):
        tiny.sparse_coding.changed(**changes)


def test_names_are_those_of_what_is_measured(tiny):
    """Drawing loads no torch, so the names stand twice."""
    ours = {"WORST": WORST, "SQUARE": SQUARE, "FGSM": FGSM, "DRAWS": DRAWS}
    assert {name: getattr(code_attacks, name) for name in ours} == ours
    assert (sparse_codes.BY_ATOMS, sparse_codes.BY_NETWORK) == (BY_ATOMS, BY_NETWORK)
    for norm, name in (("l2", WORST_L2), ("l1", WORST_L1)):
        plain = CodeAttacksEvaluation(norm=norm, epsilon=1, attackers=({"name": "a", "method": "apgd-ce"},))
        assert code_attacks._named(plain, WORST) == name
    own = tiny.sparse_coding.tasks[0]
    assert experiment(tiny, own, 0, UNSUPERVISED).adversarial.quantizer == "off"


@pytest.mark.parametrize("everyone", [True, False])
def test_every_number_of_coefficients_meets_the_attackers_that_are_set_side_by_side(tiny, everyone):
    """Of the worst over all attackers a curve against T would have more of them at one T."""
    study = figure(NAME).study(tiny.changed(sparse_coding=tiny.sparse_coding.changed(all_attackers=everyone)))
    compared = {SPARSE, *(name for name in series_of(study.profile.sparse_coding, study.profile.sparse_coding.tasks[0])
                          if name.startswith("T = "))}  # fmt: skip
    for block in study.blocks:
        (name,) = block.series
        if name in compared:
            attackers = {one.name for one in block.evaluations[0].attackers}
            assert attackers >= {AUTHORS, ALL_ATOMS, ANNEALED}, name


def test_few_coefficients_are_learned_at_the_source_s_larger_rate():
    own = load_profile("paper").sparse_coding.tasks[0]
    rates = {kept: rules_of(own)[with_kept(kept)].get("learning_rate", own.learning_rate) for kept in own.sweep}
    assert rates == {1: 0.05, 2: 0.05, 5: 0.02, 10: 0.02, 20: 0.02}


def worlds(good: bool) -> dict[str, float]:
    """Accuracy under the worst attack at the epsilon of comparison; bad: everything is the other way round."""
    values = {"none": 0.02, ADVERSARIAL: 0.4, SPARSE: 0.37, UNQUANTIZED: 0.01, CENTRED: 0.2, RANDOM: 0.5, LOST: 0.4}
    bad = {"none": 0.7, ADVERSARIAL: 0.6, SPARSE: 0.3, UNQUANTIZED: 0.5, CENTRED: 0.5, RANDOM: 0.2, LOST: 0.3}
    return values if good else bad


def table_of(good: bool) -> pd.DataFrame:
    rows = []

    def add(series, seed, attack, metric, value, condition=None, epsilon=None, role=None, draws=None):
        one = {"group": GROUP, "series": series, "seed": seed, "attack": attack, "protocol": "strict", "role": role}
        where = {"metric": metric, "condition": condition, "epsilon": epsilon, "attempted": 100, "failed": 0}
        rows.append({**one, **where, "value": value, "chance": 0.1, "draws": draws})

    def attacked(series, seed, value):
        random, own = series in (RANDOM, LOST), PGD if series in ("none", ADVERSARIAL) else AUTHORS
        main = EOT if random else own
        for epsilon in (EPSILON, *EPSILONS):
            role = COMPARED if epsilon == EPSILON else None
            left = value if epsilon == EPSILON else value + 0.1 if epsilon < EPSILON else (0.0 if good else 0.3)
            names = [main, *(TRANSFERRED if series not in ("none", ADVERSARIAL) else ()), SQUARE, FGSM]
            for name in names:
                more = 0.05 if name == main else (0.1 if good else 0.02)
                add(series, seed, "code_attacks", "accuracy", min(left + more, 1), name, epsilon, role)
            add(series, seed, "code_attacks", "accuracy", left, WORST, epsilon, role)

    for seed in range(SEEDS):
        more = 0.001 * seed
        for name, value in worlds(good).items():
            add(name, seed, "code_attacks", "accuracy", 0.8, epsilon=0.0)
            attacked(name, seed, value + more)
        for name, sign in ((SPARSE, 1), (ADVERSARIAL, -1)):
            for condition, epsilon in ((WORST_L2, 0.6), (WORST_L1, 10.0)):
                value = 0.4 + (0.1 if good else -0.1) * sign + more
                add(name, seed, "code_attacks", "accuracy", value, condition, epsilon, COMPARED)
        for name in ("T = 1",):
            for condition in (AUTHORS, ALL_ATOMS, ANNEALED):
                add(name, seed, "code_attacks", "accuracy", 0.3, condition, EPSILON, COMPARED)
        for condition in (ALL_ATOMS, ANNEALED):
            add(SPARSE, seed, "code_attacks", "accuracy", 0.45, condition, EPSILON, COMPARED)
        for draws, value in ((1, 0.6), (100, 0.5)) if good else ((1, 0.5), (100, 0.6)):
            add(RANDOM, seed, "code_attacks", "accuracy", value + more, DRAWS, EPSILON, COMPARED, draws)
        for name in (SPARSE, CENTRED, RANDOM):
            numbers = {"flipped": 0.0 if good else 0.1, "changed": 0.05, "same_top": 0.9}
            for metric, value in {**numbers, "flat_atoms": 0.5, "nearest_atom": 0.98}.items():
                add(name, seed, "sparse_codes", metric, value + (0 if metric == "flipped" else more))
    return pd.DataFrame(rows)


def test_claims_hold_where_the_defence_works():
    table = table_of(good=True)
    found = {one.key: one.measure(table) for one in (*CLAIMS, *details(table))}
    for one in (*CLAIMS, *details(table)):
        assert len(found[one.key]) == SEEDS
        assert (found[one.key] > one.threshold).all(), one.key
        assert [*one.parts(table)] == [GROUP]
    assert found["sparse-near-adversarial"].tolist() == pytest.approx([-0.03] * SEEDS)
    assert found["sparse-random-every-epsilon"].tolist() == pytest.approx([0.1] * SEEDS)
    assert found["sparse-other-norms"].tolist() == pytest.approx([0.2] * SEEDS)
    assert found["sparse-to-chance"].tolist() == pytest.approx([0.1] * SEEDS)


def test_claims_fail_where_it_does_not():
    table = table_of(good=False)
    for one in (*CLAIMS, *details(table)):
        assert (one.measure(table) < one.threshold).all(), one.key


def study_of(table: pd.DataFrame):
    """The study of quick with made-up numbers and arrays."""
    study, rng = made_up(NAME, table), np.random.default_rng(0)
    counts = {BY_ATOMS: np.full(100, 10).tolist(), BY_NETWORK: np.full(100, 10).tolist()}
    coefficients = rng.normal(size=(160, 7)).tolist()
    arrays = {"atoms": rng.normal(size=(160, 1, 4, 4)).tolist(), "coefficients": coefficients, "correlations": counts}
    records = [(GROUP, name, SimpleNamespace(arrays=arrays, warnings=("one",))) for name in (SPARSE, CENTRED)]
    study.__dict__["_records"] = tuple(records)
    return study


def test_the_picture_has_every_series_and_the_published_tables():
    study = study_of(table_of(good=True))
    own = study.profile.sparse_coding.tasks[0]
    changed = own.changed(name=GROUP, sweep=(1,), epsilon=EPSILON, epsilons=EPSILONS)
    profile = study.profile.changed(sparse_coding=study.profile.sparse_coding.changed(tasks=(changed,)))
    study.__dict__["profile"] = profile
    picture = study.draw()  # which raises for a series that it leaves out
    curve, table, attackers, _, draws, sweep, *_ = picture.axes
    diamonds = [line.get_ydata()[0] for line in table.lines if line.get_gid() == "published"]
    known = published(CIFAR)
    shown = [value for (series, _), value in known.items() if series != "TRADES"]
    assert sorted(diamonds) == pytest.approx(sorted(shown))
    (large,) = [line for line in curve.lines if line.get_gid() == "published"]
    assert large.get_ydata().tolist() == published_curve().tolist()
    assert {"from undefended network", "worst"} <= {text.get_text() for text in attackers.get_yticklabels()}
    assert draws.get_xscale() == "log"
    assert sum(line.get_gid() == "published" for line in sweep.lines) == 2
    assert "2 records flagged" in [text.get_text() for text in picture.legends[0].get_texts()]
    plt.close(picture)


def test_random_codes_are_set_beside_trades_where_it_is_trained():
    table = table_of(good=True)
    key = "sparse-random-over-trades"
    assert key not in {one.key for one in details(table)}
    table = pd.concat([table, table[table["series"] == ADVERSARIAL].assign(series=TRADES)])
    (one,) = (own for own in details(table) if own.key == key)
    assert one.measure(table).tolist() == pytest.approx([0.1] * SEEDS)  # 0.5 against 0.4
    rows = pd.read_csv(PROJECT / "figures" / "reference" / "dissertation-tables.csv")
    rows = rows[(rows["table"] == "4.4") & (rows["column"] != "clean")].pivot(
        index="column", columns="row", values="value"
    )
    least = (rows["ours"].astype(float) - rows["TRADES"].astype(float)).min() / 100
    assert one.published == {"Imagenette": pytest.approx(least)}


def test_published_numbers_are_those_of_the_source():
    known, found = published(CIFAR), {one.key: one.published for one in (*CLAIMS, *details(pd.DataFrame()))}
    gap = {column: known[SPARSE, column] - known[ADVERSARIAL, column] for column in ("source's", "L2", "L1")}
    assert found["sparse-near-adversarial"]["CIFAR-10"] == pytest.approx(gap["source's"])
    assert found["sparse-other-norms"]["CIFAR-10"] == pytest.approx((gap["L2"] + gap["L1"]) / 2, abs=5e-4)
    assert found["sparse-to-chance"]["CIFAR-10"] == pytest.approx(0.1 - published_curve().iloc[-1])
    masked = known[LOST, "moved"] - known[LOST, "source's"]
    assert found["sparse-not-masked"]["CIFAR-10"] == pytest.approx(masked)
    assert published_sweep(AUTHORS)[15] == pytest.approx(0.4455)
    assert published_sweep(ALL_ATOMS).index.tolist() == [1, 2, 5, 10, 15, 20]
    assert set(TABLES) == {"CIFAR-10", "Imagenette"}
    assert with_kept(5) == "T = 5"

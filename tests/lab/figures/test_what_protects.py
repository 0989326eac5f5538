"""The design of figure 17: cells that differ in what they say, effects that come back, and words from verdicts."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from made_up import made_up

from simreg_core.lab.figures import figure
from simreg_core.lab.figures.kit_conclusions import conclusions
from simreg_core.lab.figures.kit_design import cells, cells_of, crossed
from simreg_core.lab.figures.what_protects import CONTRASTS, MECHANISMS, SEEN, cell_table
from simreg_core.lab.specs import SpecError
from simreg_core.lab.training import train

NAME = "17_what_protects"
SIZE = "median_squared_l2_per_pixel"
LOSSES = {"threshold": 0.2, "zero": 0.05, "shuffled": 0.08, "no_loss": 0.0, "pixel": 0.1}  # gains, by shared statistics
STATISTICS = {"shared": 0.0, "separate": -0.04}
BY_KEY = {one.key: one for one in CONTRASTS}


def rows_of(series: str, gain: float, **what) -> list[dict]:
    """Six seeds of a network that gains so much under noise, with what was measured of its mechanisms."""
    rows = []
    for seed in range(6):
        jitter = 0.004 * (-1) ** seed
        one = {
            "group": "",
            "series": series,
            "seed": seed,
            "protocol": "released",
            "attempted": 50,
            "failed": 0,
            **what,
        }
        for attack in ("gaussian", "fgsm"):
            for epsilon in (0.0, 0.1):
                value = 0.5 + gain * (epsilon > 0) + jitter * (series != "none")
                rows.append({**one, "attack": attack, "epsilon": epsilon, "metric": "accuracy", "value": value})
        rows.append({**one, "attack": "boundary", "metric": SIZE, "value": 2 ** (10 * gain)})
        for of in ("filter", "gradient"):
            metric = f"{of}_high_frequency_share"
            rows.append({**one, "attack": "frequency_bias", "metric": metric, "value": 0.5 - gain + jitter})
        pairs = {**one, "attack": "pair_similarity", "metric": "pearson", "condition": "all layers alike"}
        rows.append({**pairs, "value": 0.3 + gain + jitter})
        if series != "none":
            rows.append({**pairs, "group": SEEN, "value": 0.6})
    return rows


def table_of(*, shared_only: float = 0.0, foreign: bool = True, matched: bool = False) -> pd.DataFrame:
    """Gains of loss and statistics that add up, but for `shared_only`, S^Th's with shared statistics."""
    rows = rows_of("none", 0.0)
    for own in (True, False) if foreign else (True,):
        for loss, gain in LOSSES.items():
            for statistics, less in STATISTICS.items():
                if loss == "no_loss" and statistics != "shared":
                    continue
                name = {"threshold": "S^Th", "zero": "all targets 0", "no_loss": "pairs, no loss"}.get(loss, loss)
                name += (f", {statistics}" if less else "") + ("" if own else ", foreign images")
                more = shared_only if (loss, statistics) == ("threshold", "shared") else 0.0
                what = {"loss": loss, "statistics": statistics, "own_images": own, "images": "x", "alpha": 0.0}
                what["alpha"] = 0.0 if loss == "no_loss" else 0.5
                rows += rows_of(name, gain + less + more - 0.06 * (not own), **what)
    if matched:
        what = {"loss": "zero", "statistics": "shared", "own_images": True, "images": "x", "alpha": 2.0}
        rows += rows_of("all targets 0, matched α", 0.15, **what)
    return pd.DataFrame(rows).assign(chance=0.1)


def study_of(table: pd.DataFrame):
    study = made_up(NAME, table)
    arrays = {"bin_edges": [-1.0, 0.0, 1.0], "means": [None, 0.4], "deviations": [None, 0.1]}
    records = [("", name, SimpleNamespace(arrays=arrays)) for name in ("none", "S^Th", "all targets 0")]
    study.__dict__["_records"] = tuple(records)
    return study


def test_corners_are_crossed_where_all_were_trained():
    known = {("threshold", "shared", "own"): "a", ("threshold", "frozen", "own"): "b", ("zero", "shared", "own"): "c"}
    assert crossed(known, {"loss": "threshold"}, {"loss": "zero"}) == [("a", "c")]
    assert crossed(known, {"loss": "threshold"}, None) == [("a", "none"), ("b", "none")]
    assert crossed(known, {"set": "own"}, {"set": "foreign"}) == []


def test_effects_come_back():
    """Averaged over batch norms and sets; at half the grid's ε there is no noise, so the mean over ε is a half."""
    table = table_of()
    expected = {"targets": 0.15, "true-pairs": 0.12, "shared-statistics": 0.04, "own-images": 0.06}
    for key, effect in expected.items():
        assert BY_KEY[key].effect(table, epsilon="largest").mean() == pytest.approx(effect), key
        assert BY_KEY[key].effect(table).mean() == pytest.approx(effect / 2), key
        assert BY_KEY[key].effect(table, "boundary").mean() == pytest.approx(2 ** (10 * effect)), key
    # of pairs without a loss, those with separate statistics are the unregularized network
    series = BY_KEY["loss"].series(table)
    assert ("S^Th, separate", "none") in series
    assert ("S^Th, foreign images", "pairs, no loss, foreign images") in series
    assert len(series) == 4
    assert BY_KEY["targets-by-statistics"].effect(table).abs().max() < 1e-12  # they add up
    more = table_of(shared_only=0.1)
    assert BY_KEY["targets-by-statistics"].effect(more, epsilon="largest").mean() == pytest.approx(0.1)
    assert BY_KEY["targets-by-set"].effect(more).abs().max() < 1e-12


def test_a_control_with_an_alpha_of_its_own_is_compared_with_the_main_cell_only():
    plain, matched = table_of(), table_of(matched=True)
    assert cells(plain) == cells(matched)
    assert BY_KEY["matched-zeros"].series(plain) == []
    assert BY_KEY["matched-zeros"].series(matched) == [("S^Th", "all targets 0, matched α")]
    assert BY_KEY["matched-zeros"].effect(matched, epsilon="largest").mean() == pytest.approx(0.05)


def test_verdicts_and_conclusions_follow_the_numbers():
    study = study_of(table_of(matched=True))
    holds = {key for key, verdict in study.headlines().items() if verdict == "direction holds"}
    assert holds == {
        "targets", "true-pairs", "loss", "shared-statistics", "own-images", "smooth-gradient", "smooth-filters",
        "unseen-pairs",
    }  # fmt: skip
    assert study.headlines()["zeros-help"] == "no effect"
    text = conclusions(study, MECHANISMS)
    assert text.count("\n\n") == len(MECHANISMS) - 1
    assert "**The similarity.** The targets ±1 do more than zeros (0.075 [" in text
    assert "**Decorrelation.** Asking all pairs to be dissimilar does not (no effect, " in text
    assert text.count("What would speak against it: ") == len(MECHANISMS)
    cell = cell_table(study).set_index(["loss", "statistics"]).loc[("zero", "shared")]
    assert list(cell["alpha"]) == [0.5, 0.5, 2.0]
    assert cell["r, seen pairs"].tolist() == ["0.600 [0.600, 0.600]"] * 3


def test_a_smaller_design_leaves_claims_out_and_says_so():
    study = study_of(table_of(foreign=False))
    assert "own-images" not in study.headlines()
    text = conclusions(study, MECHANISMS)
    assert "Not measured with this design or protocol: whether the task's images protect more" in text


def test_every_cell_is_drawn_and_effects_stand_in_rows():
    picture = study_of(table_of(matched=True)).draw()
    gaussian = picture.axes[0]
    said = [label.get_text() for label in gaussian.get_yticklabels()]
    assert said[0] == r"$S^{\mathrm{Th}}$ − all targets 0"
    assert {"Loss", "Batch norm of pairs", "Images", "Interactions", "Equal clean accuracy"} <= set(said)
    assert picture.get_suptitle().count("n = 6") == 4
    plt.close(picture)


def test_cells_differ_in_what_they_say_and_are_shared_with_other_figures(tiny):
    profile = tiny.changed(studies=tiny.studies.changed(matched_alphas={"zero": 3.0, "shuffled": None}))
    made = {label: one[0].regularizer for label, one in cells_of(profile).items()}
    whole = made.pop("S^Th")
    assert whole == profile.regularizer
    differ = {
        label: {name: value for name, value in spec if getattr(whole, name) != value} for label, spec in made.items()
    }
    assert differ == {
        "all targets 0": {"target": "zero"},
        "pairs, no loss": {"alpha": 0.0},
        "S^Th, separate": {"statistics": "separate"},
        "all targets 0, separate": {"target": "zero", "statistics": "separate"},
        "shuffled S^Th": {"target": "shuffled"},
        "S^Th, foreign images": {"images": "photos-foreign"},
        "all targets 0, matched α": {"target": "zero", "alpha": 3.0},
    }
    keys = {one.key for one, _ in figure(NAME).study(tiny).measurements()}
    for other, few in (("02_attack_curves", 4), ("11_target_components", 10), ("13_protocol_audit", 8)):
        assert len(keys & {one.key for one, _ in figure(other).study(tiny).measurements()}) == few, other


def test_a_design_with_a_set_that_is_not_there_is_refused(tiny):
    sizes = tiny.studies.changed(regularization_sets=({"images": "digits"},))
    with pytest.raises(SpecError, match="design names 'foreign' images, but no regularization set has images of anoth"):
        figure(NAME).study(tiny.changed(studies=sizes))


def test_pairs_without_a_loss_and_without_shared_statistics_do_nothing(tiny, store):
    plain = figure(NAME).study(tiny).blocks[0].series["none"][0]
    train(plain, store, torch.device("cpu"))
    expected = store.trained_tensors(plain)
    for statistics, same in (("separate", True), ("frozen", True), (None, False)):
        spec = tiny.regularizer.changed(alpha=0.0, statistics=statistics)
        one = plain.changed(regularizer=spec)
        train(one, store, torch.device("cpu"))
        found = store.trained_tensors(one)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items()) == same, statistics

"""Verdicts follow the interval, the interval covers, and each claim asks for what its words say."""

import re

import numpy as np
import pandas as pd
import pytest

from simreg_core.lab import studies
from simreg_core.lab.claims import (
    CLAIMS,
    FEWEST_SEEDS,
    NOT_MEASURED,
    Claim,
    by_seed,
    claims_markdown,
    cost_verdict,
    judge,
    mean_interval,
    table_of_claims,
    verdicts,
    weakest,
)
from simreg_core.lab.specs import PROJECT, load_profile
from simreg_core.names import GROUPS


def claim(threshold):
    return Claim("key", "02_attack_curves", "claim", "source", "statistic", threshold, None)


def test_verdicts():
    def verdict(values, threshold):
        return judge(claim(threshold), np.array(values)).verdict

    assert verdict([0.1, 0.2, 0.3, 0.2], 0.0) == "holds"
    assert verdict([-0.1, -0.2, -0.3, -0.2], 0.0) == "does not hold"
    assert verdict([0.1, 0.2, 0.6, 0.2], 0.0) == "undecided"  # all above, but too spread for four
    assert verdict([-0.1, 0.2, 0.0, 0.1], 0.0) == "undecided"
    assert verdict([0.9] * 4, 0.9) == "undecided"  # not above
    assert FEWEST_SEEDS == 3
    assert verdict([0.2, 0.21, 0.2], 0.0) == "holds"
    assert verdict([0.2, 0.2], 0.0) == "undecided"  # too few seeds
    unmeasured = judge(claim(0.0), np.array([0.1, np.nan, 0.2, 0.3]))
    assert unmeasured.verdict == "undecided"
    assert unmeasured.as_dict()["low"] is None


@pytest.mark.parametrize("seeds", [FEWEST_SEEDS, 4, 8])
def test_interval_covers_the_mean_as_often_as_it_says(seeds):
    """Also of accuracies of 60 images, multiples of 1/60. A percentile bootstrap covers 81 % for n = 4."""
    generator = np.random.default_rng(1)
    drawn = generator.normal(0.05, 0.04, size=(1500, seeds))
    for values in (drawn, np.round(drawn * 60) / 60):
        intervals = np.array([mean_interval(one) for one in values])
        covered = np.mean((intervals[:, 0] <= 0.05) & (intervals[:, 1] >= 0.05))
        assert covered == pytest.approx(0.95, abs=0.02)  # 3.5 standard errors of the simulation


def test_interval_by_hand():
    low, high = mean_interval([1.0, 2.0, 3.0, 4.0])
    reach = 3.182446 * np.sqrt(5 / 3 / 4)  # t of three degrees of freedom, from a table
    assert (low, high) == (pytest.approx(2.5 - reach), pytest.approx(2.5 + reach))
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


@pytest.mark.parametrize(("values", "message"), [([1.0], "at least two"), ([1.0, np.inf], "finite")])
def test_interval_errors(values, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(values)


COLUMNS = ["group", "series", "seed", "attack", "protocol", "epsilon", "repeat", "metric", "value"]


def attack_rows(bonuses, group=""):
    """Rows of curves whose robustness grows with their bonus."""
    rows = []
    for series, bonus in bonuses.items():
        for seed in range(4):
            for attack in ("gaussian", "uniform", "salt_and_pepper", "fgsm"):
                for epsilon in (0.0, 0.1):
                    value = 0.8 - (5 - bonus) * epsilon + 0.001 * seed
                    rows.append((group, series, seed, attack, "released", epsilon, None, "accuracy", value))
            for repeat in range(2):
                size = 2 + bonus / 4 + 0.01 * seed + repeat
                metric = "median_squared_l2_per_pixel"
                rows.append((group, series, seed, "boundary", "released", None, repeat, metric, size))
    return rows


def attack_table(**bonuses):
    return pd.DataFrame(attack_rows(bonuses), columns=COLUMNS)


def main_verdicts(name, table, protocol="released"):
    return {one.key: one.verdict for one in verdicts(name, table, protocol) if one.main}


def test_attack_claims_on_made_up_numbers():
    good = attack_table(**{"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 1.5, "shuffled S^neural": 0.5})
    assert main_verdicts("02_attack_curves", good) == {
        "gaussian": "holds", "fgsm": "holds", "boundary": "holds", "clean": "holds", "over-pixel": "holds",
        "pixel-inconsistent": "does not hold",
        "neural-target": "holds", "alternative": "holds", "not-shuffled-neural": "holds",
    }  # fmt: skip
    assert verdicts("02_attack_curves", good)[0].estimate == pytest.approx(0.2)
    assert {one.protocol for one in verdicts("02_attack_curves", good)} == {"released"}
    strict = main_verdicts("02_attack_curves", good.assign(protocol="strict"), "strict")
    neural = {"neural-target", "alternative", "not-shuffled-neural"}
    assert strict.keys() == {"gaussian", "fgsm", "clean", "over-pixel"} | neural
    poor = {"none": 0, "S^pixel": -1, "S^Th": -2, "S^neural": -1, "shuffled S^neural": 0}
    bad = main_verdicts("02_attack_curves", attack_table(**poor))
    assert {bad[key] for key in ("gaussian", "fgsm", "boundary", "over-pixel", *neural)} == {"does not hold"}
    assert bad["pixel-inconsistent"] == "holds"


@pytest.mark.parametrize(
    ("behind", "verdict"), [(0.0, "holds"), (0.015, "holds"), (0.025, "does not hold"), (0.1, "does not hold")]
)
def test_an_alternative_need_not_be_better(behind, verdict):
    """The title says alternative: at most 0.02 of accuracy behind."""
    bonuses = {"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 2 + 10 * behind, "shuffled S^neural": 0}
    (found,) = (one for one in verdicts("02_attack_curves", attack_table(**bonuses)) if one.key == "alternative")
    assert (found.source, found.threshold, found.estimate) == ("title", -0.02, pytest.approx(-behind))
    assert found.verdict == verdict
    assert "better" not in found.claim


def test_the_words_on_noise_augmentation_are_true_of_quick():
    (over,) = (one for one in CLAIMS if one.key == "over-noise")
    assert over.claim.endswith("(quick: trained at exactly the tested σ)")
    quick = load_profile("quick")
    assert quick.defences["noise augmentation"].epsilon == quick.studies.epsilons.gaussian


def test_the_words_on_other_tasks_are_true_of_quick():
    (others,) = (one for one in CLAIMS if one.key == "other-tasks")
    assert others.claim.endswith("(quick: one other task, no other depth)")
    quick = load_profile("quick")
    (variant,) = quick.studies.variants
    assert studies.of_variant(quick, variant).network == quick.network


def test_the_claim_on_cost_says_both_widths():
    """That of the quick profile, and what BENCHMARKS.md has for another."""
    (cost,) = (one for one in CLAIMS if one.key == "cost")
    section = (PROJECT / "BENCHMARKS.md").read_text().split("\n## cpu")[1]
    (width,) = re.findall(r"### Training step: resnet18 width (\d+)", section)
    table = section.split("### Regularized over unregularized step")[1].split("Unregularized:")[0]
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \|", table, re.MULTILINE)
    ratios = [(64 + 2 * int(k)) / 64 / float(measured) for k, measured in rows]
    assert len(ratios) == 4
    said = f"(quick: width {load_profile('quick').network.width}; at width {width} BENCHMARKS.md has "
    assert cost.claim.endswith(said + f"{min(ratios):.2f} to {max(ratios):.2f})")


def test_the_weakest_series_decides():
    helps = main_verdicts("04_regularization_sets", attack_table(none=0, one=2, other=1))
    assert helps == {"sets": "holds"}
    one_fails = verdicts("04_regularization_sets", attack_table(none=0, one=2, other=-1))
    assert (one_fails[0].verdict, one_fails[0].estimate) == ("does not hold", pytest.approx(-0.1))
    assert {one.claim: one.verdict for one in one_fails[1:]}["one helps against Gaussian noise"] == "holds"


@pytest.mark.parametrize(
    ("gains", "suffices", "too_small"),
    [
        ((0.2, 1.9, 2), "holds", "holds"),
        ((1.9, 1.9, 2), "holds", "does not hold"),
        ((0, 0.5, 2), "does not hold", "holds"),
        ((-2, 0, -1), "does not hold", "does not hold"),  # where nothing helps, no number is enough or too small
    ],
)
def test_image_counts(gains, suffices, too_small):
    names = ("N = 9", "N = 50", "N = 500")  # as numbers, not as text
    table = attack_table(**{"none": 0, **dict(zip(names, gains, strict=True))})
    found = main_verdicts("08_image_count_study", table)
    assert found == {"count-suffices": suffices, "count-too-small": too_small}


def test_the_words_on_image_counts_hold_for_any_counts():
    for one in (one for one in CLAIMS if one.notebook == "08_image_count_study"):
        assert not {"fifth", "fiftieth"} & set(one.claim.split())
        assert "of 5000)" in one.claim  # the paper's, said to be so
        assert one.statistic.endswith("gain of the largest N itself: the smaller of the two")


def test_the_worst_of_three_attacks_is_judged_with_a_wider_interval():
    (shortfall,) = (one for one in CLAIMS if one.key == "pixel-inconsistent")
    assert shortfall.confidence == pytest.approx(1 - 0.05 / 3)
    assert "98.3%" in shortfall.statistic
    assert {one.confidence for one in CLAIMS if one is not shortfall} == {0.95}
    values = np.array([0.02, 0.4, -0.02, 0.5, 0.03, 0.01])
    low, high = mean_interval(values)
    found = judge(shortfall, values)
    assert (found.low, found.high) == mean_interval(values, shortfall.confidence)
    assert found.low < low < high < found.high


def corruption_table(gains):
    rows = []
    for group, names in GROUPS.items():
        for name in names:
            for seed in range(4):
                for severity in (3, 4):
                    for series, bonus in (("none", 0), ("set", gains[group])):
                        rows.append((series, seed, "corruption", "released", name, severity, "accuracy", 0.5 + bonus))
    columns = ["series", "seed", "attack", "protocol", "corruption", "severity", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_corruption_groups():
    high = verdicts("05_common_corruptions", corruption_table({"low": -0.1, "medium": 0.1, "high": 0.3}))
    assert (high[0].verdict, high[0].estimate) == ("holds", pytest.approx(0.2))
    low = verdicts("05_common_corruptions", corruption_table({"low": 0.3, "medium": 0.1, "high": 0.2}))
    assert (low[0].verdict, low[0].estimate) == ("does not hold", pytest.approx(-0.1))
    assert [one.verdict for one in low[1:]] == ["holds"] * 3


def test_low_layers():
    rows = [
        (series, seed, "layer_weights", "released", "layer_weight", layer, weight)
        for series, weights in (("one", (0.5, 0.3, 0.1, 0.05, 0.05)), ("other", (0.1, 0.1, 0.2, 0.3, 0.3)))
        for seed in range(4)
        for layer, weight in enumerate(weights)
    ]
    table = pd.DataFrame(rows, columns=["series", "seed", "attack", "protocol", "metric", "layer", "value"])
    overall, one, other = verdicts("10_layer_weights", table)
    assert (overall.verdict, overall.estimate) == ("does not hold", pytest.approx(-0.4))
    assert (one.verdict, one.estimate, other.verdict) == ("holds", pytest.approx(0.7), "does not hold")


def test_other_tasks_leave_the_main_one_out():
    rows = attack_rows({"none": 0, "S^pixel": 0, "S^Th": -1}, studies.MAIN_TASK)
    rows += attack_rows({"none": 0, "S^pixel": 1, "S^Th": 2}, "digits")
    found = verdicts("12_other_tasks_and_depths", pd.DataFrame(rows, columns=COLUMNS))
    assert found[0].verdict == "holds"
    by_claim = {one.claim: one.verdict for one in found}
    assert by_claim["main task: S^Th helps against uniform noise"] == "does not hold"
    assert by_claim["digits: S^Th helps against salt-and-pepper noise"] == "holds"


def test_the_weakest_architecture_decides():
    rows = attack_rows({"none": 0, "S^Th": 2}, "vgg") + attack_rows({"none": 0, "S^Th": -1}, "mlp")
    overall, *finer = verdicts("15_architectures", pd.DataFrame(rows, columns=COLUMNS))
    assert (overall.key, overall.verdict, overall.estimate) == ("architectures", "does not hold", pytest.approx(-0.1))
    assert {one.claim: one.verdict for one in finer} == {
        f"{group}: S^Th helps against {attack}": verdict
        for group, verdict in (("vgg", "holds"), ("mlp", "does not hold"))
        for attack in ("Gaussian noise", "transferred FGSM", "the boundary attack")
    }


def spread(group, gains):
    """Rows of none and S^Th of an architecture with the given gain of each seed."""
    rows = pd.DataFrame(attack_rows({"none": 0, "S^Th": 0}, group), columns=COLUMNS)
    helped = (rows["series"] == "S^Th") & (rows["epsilon"] > 0)
    rows.loc[helped, "value"] += rows.loc[helped, "seed"].map(dict(enumerate(gains)))
    return rows


@pytest.mark.parametrize(
    ("others", "verdict", "estimate"),
    [
        ((0.03, 0.04, 0.05, 0.06), "holds", 0.01),
        ((-0.1, 0.2, -0.1, 0.2), "undecided", 0.05),  # a larger gain, but no sure one
        ((-0.01, -0.02, -0.01, -0.02), "does not hold", -0.015),
    ],
)
def test_every_architecture_means_each_of_them(others, verdict, estimate):
    table = pd.concat([spread("mlp", (0.01, 0.01, 0.01, 0.01)), spread("vgg", others)])
    overall = verdicts("15_architectures", table)[0]
    assert (overall.verdict, overall.estimate) == (verdict, pytest.approx(estimate))
    wide = pd.concat([table, spread("vit", (-0.2, 0.3, -0.2, 0.3))])  # hides no architecture that it surely harms
    expected = "does not hold" if verdict == "does not hold" else "undecided"
    assert verdicts("15_architectures", wide)[0].verdict == expected


def test_cost_is_judged_at_the_k_that_does_worst():
    rows = [
        {"k": 0, "predicted": 1.0, "ratios": [1.0] * 5},
        {"k": 16, "predicted": 1.5, "ratios": [1.5] * 5},
        {"k": 32, "predicted": 2.0, "ratios": [2.5] * 5},
    ]
    (found,) = cost_verdict({"rows": rows})
    assert (found.verdict, found.estimate, found.unit) == ("does not hold", pytest.approx(0.8), "measurements")


def test_repeats_are_averaged_and_missing_series_named():
    table = attack_table(none=0)
    sizes = by_seed(table, "none", metric="median_squared_l2_per_pixel")
    assert sizes.tolist() == pytest.approx([2.5, 2.51, 2.52, 2.53])
    with pytest.raises(LookupError, match="series 'S\\^x'"):
        by_seed(table, "S^x", metric="accuracy")


def test_the_table_has_every_claim_and_says_what_is_not_measured():
    bonuses = {"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 1, "shuffled S^neural": 0}
    made = [one.as_dict() for one in verdicts("02_attack_curves", attack_table(**bonuses))]
    rows = table_of_claims({"02_attack_curves": {"claims": made}})
    assert [row["key"] for row in rows] == [one.key for one in CLAIMS]
    found = {row["key"]: row["verdict"] for row in rows}
    assert (found["gaussian"], found["pixel-neural"], found["sets"]) == ("holds", NOT_MEASURED, NOT_MEASURED)
    text = claims_markdown(rows)
    assert "| > 0 | 0.260 | 0.200 [0.200, 0.200] | 4 seeds | **holds** |" in text
    assert text.count("\n") == len(CLAIMS) + 2
    beside = claims_markdown(rows, {"recorded": rows}).splitlines()
    assert beside[0].endswith("| strict | recorded |")
    assert beside[2].endswith("| holds: 0.200 [0.200, 0.200] |")


def test_the_strict_protocol_has_its_own_verdict():
    released = attack_table(**{"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 1, "shuffled S^neural": 0})
    strict = released[released["attack"] != "boundary"].assign(protocol="strict")
    strict.loc[strict["series"] == "S^Th", "value"] -= 0.3
    made = [one.as_dict() for one in verdicts("02_attack_curves", pd.concat([released, strict]))]
    converged = {"key": "converged", "verdict": "undecided"}
    figures = {"02_attack_curves": {"claims": made}, "13_protocol_audit": {"claims": [converged]}}
    found = {row["key"]: (row["verdict"], row["strict"]) for row in table_of_claims(figures)}
    assert found["gaussian"] == ("holds", "does not hold")
    assert found["boundary"] == ("holds", "undecided")  # of the most steps, which the audit has
    assert found["pixel-inconsistent"][1] is None


def test_flagged_records_are_counted_beside_the_verdict():
    bonuses = {"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 1, "shuffled S^neural": 0}
    made = [one.as_dict() for one in verdicts("02_attack_curves", attack_table(**bonuses))]
    records = [{"warnings": ["zero gradients"]}, {}]
    text = claims_markdown(table_of_claims({"02_attack_curves": {"claims": made, "records": records}}))
    assert "**holds** (⚠ 1 records flagged)" in text


def test_the_weakest_is_the_least_favourable():
    sure, broad = pd.Series([0.01, 0.012, 0.011, 0.01]), pd.Series([-0.05, 0.1, 0.1, 0.1])
    assert weakest([sure, broad]) is broad  # its mean is larger, yet it may lie below zero
    against = pd.Series([-0.02, -0.021, -0.02, -0.019])
    assert weakest([broad, against]) is against


def test_every_claim_has_a_notebook_that_measures_it():
    assert len({one.key for one in CLAIMS}) == len(CLAIMS)
    assert {one.notebook for one in CLAIMS} <= set(studies.STUDIES)
    assert [one.key for one in CLAIMS if one.measure is None] == ["cost", "pixel-neural", "as-printed"]


def test_published_statistics_are_those_of_the_digitized_curves():
    from simreg_core.lab.plotting import reference

    def at_end(series, metric="gaussian_acc", panel="4i"):
        return reference(metric, series, (panel,))["y"].iloc[-1]

    published = {one.key: one.published for one in CLAIMS}
    none = at_end("unregularized")
    sets = [at_end(f"S_Th reg={name}") - none for name in ("CIFAR10", "CIFAR100", "ImageNet")]
    assert published["gaussian"] == pytest.approx(sets[2], abs=1e-3)
    assert published["sets"] == pytest.approx(min(sets), abs=1e-3)
    assert published["over-pixel"] == pytest.approx(
        at_end("S_Th reg=ImageNet") - at_end("S_pixel", panel="2b CIFAR10-ImageNet R18"), abs=1e-3
    )
    fgsm = [at_end(name, "fgsm_acc") for name in ("S_Th reg=ImageNet", "unregularized")]
    assert published["fgsm"] == pytest.approx(fgsm[0] - fgsm[1], abs=0.03)  # several panels differ by this much
    counts = [at_end(f"N={n}", panel="iii-N") - none for n in (100, 1000, 5000)]
    assert published["count-suffices"] == pytest.approx(min(counts[1] - counts[2] / 2, counts[2]), abs=1e-3)
    assert published["count-too-small"] == pytest.approx(min(counts[2] / 2 - counts[0], counts[2]), abs=1e-3)
    ks = [at_end(f"k={k}", panel="iii-k") - none for k in (4, 8, 16, 32)]
    assert published["every-k"] == pytest.approx(min(ks), abs=2e-3)
    assert published["not-low"] == pytest.approx(at_end("S_Th reg=CIFAR10") - at_end("S_low", panel="6"), abs=1e-3)
    boundary = [at_end(name, "boundary_sqL2_per_pixel(1e-3)") for name in ("reg=ImageNet", "unregularized")]
    assert published["boundary"] == pytest.approx(boundary[0] / boundary[1], abs=1e-3)
    groups = {
        group: {name: at_end(f"{group} {name}", "accuracy", "4ii CIFAR-10-C sev4") for name in
                ("unregularized", "reg=CIFAR10", "reg=CIFAR100", "reg=ImageNet")}
        for group in ("Low", "Medium", "High")
    }  # fmt: skip
    leads = []
    for name in ("reg=CIFAR10", "reg=CIFAR100", "reg=ImageNet"):
        gains = {group: values[name] - values["unregularized"] for group, values in groups.items()}
        leads.append(gains["High"] - max(gains["Low"], gains["Medium"]))
    assert published["corruptions"] == pytest.approx(min(leads), abs=1e-3)

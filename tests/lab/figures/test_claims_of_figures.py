"""The claims of each figure ask for what their words say, and the words are true of the quick profile."""

import re

import pandas as pd
import pytest
from made_up import attack_rows, attack_table, made_up

from simreg_core.lab.claims import judge
from simreg_core.lab.figures import FIGURES, figure
from simreg_core.lab.recipes import of_variant
from simreg_core.lab.series import MAIN_TASK
from simreg_core.lab.specs import PROJECT, load_profile
from simreg_core.names import GROUPS


def test_the_words_on_noise_augmentation_are_true_of_quick():
    (over,) = (one for one in figure("14_white_box").claims if one.key == "over-noise")
    assert over.text.endswith("(quick: trained at exactly the tested σ)")
    quick = load_profile("quick")
    assert quick.defences["noise augmentation"].epsilon == quick.studies.epsilons.gaussian


def test_the_words_on_other_tasks_are_true_of_quick():
    (others,) = (one for one in figure("12_other_tasks_and_depths").claims)
    assert others.text.endswith("(quick: one other task, no other depth)")
    quick = load_profile("quick")
    (variant,) = quick.studies.variants
    assert of_variant(quick, variant).network == quick.network


def test_the_claim_on_cost_says_both_widths():
    """That of the quick profile, and what BENCHMARKS.md has for another."""
    (cost,) = figure("16_cost").claims
    section = (PROJECT / "BENCHMARKS.md").read_text().split("\n## cpu")[1]
    (width,) = re.findall(r"### Step: resnet18 width (\d+)", section)
    table = section.split("### Regularized over unregularized step")[1].split("Unregularized:")[0]
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \|", table, re.MULTILINE)
    ratios = [(64 + 2 * int(k)) / 64 / float(measured) for k, measured in rows]
    assert len(ratios) == 4
    said = f"(quick: width {load_profile('quick').network.width}; at width {width} BENCHMARKS.md has "
    assert cost.text.endswith(said + f"{min(ratios):.2f} to {max(ratios):.2f})")


def test_the_weakest_series_decides():
    helps = made_up("04_regularization_sets", attack_table(none=0, one=2, other=1)).headlines()
    assert helps == {"sets": "holds"}
    one_fails = made_up("04_regularization_sets", attack_table(none=0, one=2, other=-1)).judge()
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
    table["count"] = table["series"].map(dict(zip(names, (9, 50, 500), strict=True)))
    found = made_up("08_image_count_study", table).headlines()
    assert found == {"count-suffices": suffices, "count-too-small": too_small}


def test_the_words_on_image_counts_hold_for_any_counts():
    for one in figure("08_image_count_study").claims:
        assert not {"fifth", "fiftieth"} & set(one.text.split())
        assert "of 5000)" in one.text  # the paper's, said to be so
        assert one.statistic.endswith("gain of the largest N itself: the smaller of the two")


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
    high = made_up("05_common_corruptions", corruption_table({"low": -0.1, "medium": 0.1, "high": 0.3})).judge()
    assert (high[0].verdict, high[0].estimate) == ("holds", pytest.approx(0.2))
    low = made_up("05_common_corruptions", corruption_table({"low": 0.3, "medium": 0.1, "high": 0.2})).judge()
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
    overall, one, other = made_up("10_layer_weights", table).judge()
    assert (overall.verdict, overall.estimate) == ("does not hold", pytest.approx(-0.4))
    assert (one.verdict, one.estimate, other.verdict) == ("holds", pytest.approx(0.7), "does not hold")


def test_other_tasks_leave_the_main_one_out():
    rows = attack_rows({"none": 0, "S^pixel": 0, "S^Th": -1}, MAIN_TASK)
    rows += attack_rows({"none": 0, "S^pixel": 1, "S^Th": 2}, "digits")
    found = made_up("12_other_tasks_and_depths", pd.DataFrame(rows)).judge()
    assert found[0].verdict == "holds"
    by_claim = {one.claim: one.verdict for one in found}
    assert by_claim["main task: S^Th helps against uniform noise"] == "does not hold"
    assert by_claim["digits: S^Th helps against salt-and-pepper noise"] == "holds"


def test_the_weakest_architecture_decides():
    rows = attack_rows({"none": 0, "S^Th": 2}, "vgg") + attack_rows({"none": 0, "S^Th": -1}, "mlp")
    overall, *finer = made_up("15_architectures", pd.DataFrame(rows)).judge()
    assert (overall.key, overall.verdict, overall.estimate) == ("architectures", "does not hold", pytest.approx(-0.1))
    assert {one.claim: one.verdict for one in finer} == {
        f"{group}: S^Th helps against {attack}": verdict
        for group, verdict in (("vgg", "holds"), ("mlp", "does not hold"))
        for attack in ("Gaussian noise", "transferred FGSM", "the boundary attack")
    }


def spread(group, gains):
    """Rows of none and S^Th of an architecture with the given gain of each seed."""
    rows = pd.DataFrame(attack_rows({"none": 0, "S^Th": 0}, group))
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
    overall = made_up("15_architectures", table).judge()[0]
    assert (overall.verdict, overall.estimate) == (verdict, pytest.approx(estimate))
    wide = pd.concat([table, spread("vit", (-0.2, 0.3, -0.2, 0.3))])  # hides no architecture that it surely harms
    expected = "does not hold" if verdict == "does not hold" else "undecided"
    assert made_up("15_architectures", wide).judge()[0].verdict == expected


def test_cost_is_judged_at_the_k_that_does_worst():
    rows = [
        {"k": 0, "predicted": 1.0, "ratios": [1.0] * 5},
        {"k": 16, "predicted": 1.5, "ratios": [1.5] * 5},
        {"k": 32, "predicted": 2.0, "ratios": [2.5] * 5},
    ]
    (claim,) = figure("16_cost").claims
    found = judge(claim, claim.measure({"rows": rows}))
    assert (found.verdict, found.estimate) == ("does not hold", pytest.approx(0.8))


def test_published_statistics_are_those_of_the_digitized_curves():
    from simreg_core.lab.figures.kit import reference

    def at_end(series, metric="gaussian_acc", panel="4i"):
        return reference(metric, series, (panel,))["y"].iloc[-1]

    published = {one.key: one.published for own in FIGURES.values() for one in own.claims}
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

"""The claims of each figure ask for what their words say, and the words are true of the quick profile."""

import re

import pandas as pd
import pytest
from made_up import attack_rows, attack_table, made_up

from simreg_core.lab.claims import judge
from simreg_core.lab.figures import FIGURES, figure
from simreg_core.lab.figures.kit import reference
from simreg_core.lab.series import MAIN_TASK
from simreg_core.lab.specs import PROJECT, load_profile
from simreg_core.names import GROUPS


def claim(name, key):
    (found,) = (one for one in figure(name).claims if one.key == key)
    return found


def test_the_words_on_noise_augmentation_are_true_of_quick():
    quick = load_profile("quick")
    trained, tested = quick.defences["noise augmentation"].epsilon, quick.studies.epsilons.gaussian
    note = claim("14_white_box", "over-noise").note
    assert f"in quick it is {trained:g}, and noise up to {tested:g} is tested" in note


def test_the_claim_on_cost_says_both_widths():
    """That of the quick profile, and what BENCHMARKS.md has for another."""
    section = (PROJECT / "BENCHMARKS.md").read_text().split("\n## cpu")[1]
    (width,) = re.findall(r"### Step: resnet18 width (\d+)", section)
    table = section.split("### Regularized over unregularized step")[1].split("Unregularized:")[0]
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \|", table, re.MULTILINE)
    ratios = [(64 + 2 * int(k)) / 64 / float(measured) for k, measured in rows]
    assert len(ratios) == 4
    said = f"in quick it is {load_profile('quick').network.width}; at width {width} BENCHMARKS.md has "
    assert claim("16_cost", "cost").note.endswith(said + f"{min(ratios):.2f} to {max(ratios):.2f}.")


def test_all_sets_decide_together_and_one_that_surely_loses_contradicts():
    helps = made_up("04_regularization_sets", attack_table(none=0, one=2, other=1)).headlines()
    assert helps == {"sets": "direction holds"}
    one_fails = made_up("04_regularization_sets", attack_table(none=0, one=2, other=-1)).judge()
    assert (one_fails[0].verdict, one_fails[0].estimate) == ("contradicted", pytest.approx(0.025))
    by_text = {one.claim: one.verdict for one in one_fails[1:]}
    assert by_text["one: raises accuracy under Gaussian noise"] == "direction holds"


@pytest.mark.parametrize(
    ("gains", "suffices", "too_small"),
    [
        ((0.2, 1.9, 2), "direction holds", "direction holds"),
        ((1.9, 1.9, 2), "direction holds", "contradicted"),
        ((0, 0.3, 2), "contradicted", "direction holds"),
        ((-2, 0, -1), "contradicted", "contradicted"),  # where nothing helps, no number is enough or too small
    ],
)
def test_image_counts(gains, suffices, too_small):
    names = ("N = 9", "N = 50", "N = 500")  # as numbers, not as text
    table = attack_table(**{"none": 0, **dict(zip(names, gains, strict=True))})
    table["count"] = table["series"].map(dict(zip(names, (9, 50, 500), strict=True)))
    found = made_up("08_image_count_study", table).headlines()
    assert found == {"count-suffices": suffices, "count-too-small": too_small}


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
    assert (high[0].verdict, high[0].estimate) == ("direction holds", pytest.approx(0.3))  # over the mean of both
    low = made_up("05_common_corruptions", corruption_table({"low": 0.3, "medium": -0.3, "high": 0.2})).judge()
    assert (low[0].verdict, low[0].estimate) == ("contradicted", pytest.approx(0.2))  # below the low group
    assert low[0].also[-1]["estimate"] == pytest.approx(-0.1)
    assert [one.verdict for one in low[1:]] == ["direction holds", "contradicted", "direction holds"]


def test_low_layers():
    rows = [
        (series, seed, "layer_weights", "released", "layer_weight", layer, weight)
        for series, weights in (("one", (0.5, 0.3, 0.1, 0.05, 0.05)), ("other", (0.1, 0.1, 0.2, 0.3, 0.3)))
        for seed in range(4)
        for layer, weight in enumerate(weights)
    ]
    table = pd.DataFrame(rows, columns=["series", "seed", "attack", "protocol", "metric", "layer", "value"])
    overall, one, other = made_up("10_layer_weights", table).judge()
    assert (overall.verdict, overall.estimate) == ("contradicted", pytest.approx(0.15))
    assert (one.verdict, one.estimate, other.verdict) == ("direction holds", pytest.approx(0.7), "contradicted")


def test_other_tasks_leave_the_main_one_out():
    rows = attack_rows({"none": 0, "S^pixel": 0, "S^Th": -1}, MAIN_TASK)
    rows += attack_rows({"none": 0, "S^pixel": 1, "S^Th": 2}, "digits")
    found = made_up("12_other_tasks_and_depths", pd.DataFrame(rows)).judge()
    assert found[0].verdict == "direction holds"
    by_claim = {one.claim: one.verdict for one in found}
    assert by_claim["main task: S^Th: raises accuracy under uniform noise"] == "contradicted"
    assert by_claim["digits: S^Th: raises accuracy under salt-and-pepper noise"] == "direction holds"


def test_an_architecture_that_surely_loses_contradicts():
    rows = attack_rows({"none": 0, "S^Th": 4}, "vgg") + attack_rows({"none": 0, "S^Th": -1}, "mlp")
    overall, *finer = made_up("15_architectures", pd.DataFrame(rows)).judge()
    assert (overall.key, overall.verdict, overall.estimate) == ("architectures", "contradicted", pytest.approx(0.075))
    by_claim = {one.claim: one.verdict for one in finer}
    assert by_claim["vgg: S^Th: perturbations are larger under the boundary attack"] == "direction holds"
    assert by_claim["mlp: S^Th: raises accuracy under transferred FGSM"] == "contradicted"


def test_cost_is_the_mean_over_k_and_no_k_may_surely_fail():
    def judged(second):
        rows = [
            {"k": 0, "predicted": 1.0, "ratios": [1.0] * 5},
            {"k": 16, "predicted": 1.5, "ratios": [1.5] * 5},
            {"k": 32, "predicted": 2.0, "ratios": [second] * 5},
        ]
        one = claim("16_cost", "cost")
        found = judge(one, one.measure({"rows": rows}), parts=one.parts({"rows": rows}))
        return found.verdict, found.estimate

    assert judged(2.0) == ("direction holds", pytest.approx(1.0))
    assert judged(2.4) == ("contradicted", pytest.approx(11 / 12))  # though the mean is above 0.9


@pytest.fixture
def curve():
    """A published curve."""
    return lambda series, metric="gaussian_acc", panel="4i": reference(metric, series, (panel,))["y"]


def test_published_areas_are_those_of_the_digitized_curves(curve):
    published = {one.key: one.published.get("CIFAR-10") for own in FIGURES.values() for one in own.claims}
    at_end = {
        one.key: beside.published.get("CIFAR-10")
        for own in FIGURES.values()
        for one in own.claims
        for beside in one.also
        if beside.key == "at-largest"
    }
    mnist = "2a MNIST-MNIST R18"
    assert claim("02_attack_curves", "gaussian").published["MNIST"] == pytest.approx(
        (curve("S_Th", panel=mnist) - curve("unregularized", panel=mnist)).mean(), abs=1e-3
    )
    assert claim("02_attack_curves", "over-pixel").published["MNIST"] == pytest.approx(
        (curve("S_Th", panel=mnist) - curve("S_pixel", panel=mnist)).mean(), abs=1e-3
    )
    assert claim("02_attack_curves", "clean").published == {
        "CIFAR-10": pytest.approx(curve("S_Th reg=ImageNet")[0] / curve("unregularized")[0], abs=1e-3),
        "MNIST": pytest.approx(curve("S_Th", panel=mnist)[0] / curve("unregularized", panel=mnist)[0], abs=1e-3),
    }
    other = "2c CIFAR100-ImageNet R34"
    cifar100 = curve("S_Th", panel=other) - curve("unregularized", panel=other)
    assert claim("12_other_tasks_and_depths", "other-tasks").published["CIFAR-100"] == pytest.approx(
        cifar100.mean(), abs=1e-3
    )
    none = curve("unregularized")
    sets = [curve(f"S_Th reg={name}") - none for name in ("CIFAR10", "CIFAR100", "ImageNet")]
    smallest, middle, largest = (curve(f"N={n}", panel="iii-N") - none for n in (100, 1000, 5000))
    expected = {
        "gaussian": sets[2],
        "over-pixel": sets[2] + none - curve("S_pixel", panel="2b CIFAR10-ImageNet R18"),
        "sets": sum(sets) / 3,
        "fgsm": curve("S_Th reg=ImageNet", "fgsm_acc") - curve("unregularized", "fgsm_acc"),
        "count-suffices": middle - largest / 2,
        "count-too-small": largest / 2 - smallest,
        "every-k": sum(curve(f"k={k}", panel="iii-k") for k in (4, 8, 16, 32)) / 4 - none,
        "not-low": curve("S_Th reg=CIFAR10") - curve("S_low", panel="6"),
    }
    for key, gains in expected.items():
        assert published[key] == pytest.approx(gains.mean(), abs=1e-3), key
        # several FGSM panels differ by as much as this
        assert at_end[key] == pytest.approx(gains.iloc[-1], abs=0.03 if key == "fgsm" else 2e-3), key


def test_other_published_statistics_are_those_of_the_digitized_figures(curve):
    boundary = [curve(name, "boundary_sqL2_per_pixel(1e-3)").iloc[-1] for name in ("reg=ImageNet", "unregularized")]
    assert claim("02_attack_curves", "boundary").published["CIFAR-10"] == pytest.approx(
        boundary[0] / boundary[1], abs=1e-3
    )

    def of_group(group, name):
        own, none = (curve(f"{group} {one}", "accuracy", "4ii CIFAR-10-C sev4") for one in (name, "unregularized"))
        return own.iloc[-1] - none.iloc[-1]

    leads = [
        of_group("High", name) - (of_group("Low", name) + of_group("Medium", name)) / 2
        for name in ("reg=CIFAR10", "reg=CIFAR100", "reg=ImageNet")
    ]
    corruptions = claim("05_common_corruptions", "corruptions").published["CIFAR-10"]
    assert corruptions == pytest.approx(sum(leads) / 3, abs=1e-3)
    for own in FIGURES.values():
        for one in own.claims:
            assert all(value >= one.threshold for value in one.published.values())  # half of it is on its side

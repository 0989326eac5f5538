"""Every rule of the verdicts at its boundaries, the interval, what stands beside a verdict, and what has none."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up import attack_table

from simreg_core.lab.claims import (
    CONTRADICTED,
    DIRECTION,
    NO_EFFECT,
    NOT_ACCEPTED,
    REPRODUCED,
    SMALLER,
    UNDECIDED,
    Circumstances,
    Claim,
    judge,
    mean_interval,
    rule,
    smallest_detectable,
    verdicts,
)
from simreg_core.lab.gains import beside_gain, gain, gain_of_each, mean_over
from simreg_core.lab.protocol_of_claims import FEWEST_SEEDS
from simreg_core.lab.specs import Choice
from simreg_core.lab.verdict_table import as_table

HELPS = Claim(
    key="key",
    text="It helps",
    source="source",
    statistic="gain",
    measure=lambda table: gain(table, "one", "gaussian"),
    also=beside_gain("one", "gaussian"),
    attack="gaussian",
    published={"CIFAR-10": 0.15, "MNIST": 0.3},
)
ALL_HELP = replace(HELPS, measure=mean_over(gain_of_each), parts=gain_of_each, also=())


@pytest.mark.parametrize(
    ("estimate", "low", "high", "published", "verdict"),
    [
        (0.10, 0.001, 0.20, 0.20, REPRODUCED),  # exactly half
        (0.0999, 0.001, 0.20, 0.20, SMALLER),
        (0.30, 0.001, 0.60, 0.20, REPRODUCED),  # more than published
        (0.10, 0.001, 0.20, None, DIRECTION),
        (0.01, 0.001, 0.019, None, DIRECTION),  # sure, and yet small
        (0.10, 0.0, 0.20, 0.20, UNDECIDED),  # not above
        (0.0, -0.02, 0.02, 0.20, NO_EFFECT),  # on both ends
        (0.0, -0.02, 0.0201, 0.20, UNDECIDED),
        (0.0, -0.0201, 0.02, None, UNDECIDED),
        (-0.01, -0.019, -0.001, None, NO_EFFECT),  # surely below, and within the margin
        (-0.02, -0.03, -0.001, None, CONTRADICTED),
        (-0.02, -0.04, 0.0, None, UNDECIDED),  # not below
    ],
)
def test_the_rules_of_accuracies(estimate, low, high, published, verdict):
    assert rule(estimate, low, high, 0.0, HELPS.margin, published) == verdict


@pytest.mark.parametrize(
    ("estimate", "low", "high", "published", "verdict"),
    [
        (1.4, 1.001, 1.8, 1.8, REPRODUCED),  # half of 0.8 above 1
        (1.39, 1.001, 1.8, 1.8, SMALLER),
        (1.0, 0.95, 1.05, 1.8, NO_EFFECT),
        (1.0, 0.94, 1.05, 1.8, UNDECIDED),
        (0.9, 0.8, 0.999, 1.8, CONTRADICTED),
    ],
)
def test_the_rules_of_ratios(estimate, low, high, published, verdict):
    ratio = replace(HELPS, scale="ratio", threshold=1.0)
    assert rule(estimate, low, high, 1.0, ratio.margin, published) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.0199, 0.1, DIRECTION),
        (-0.02, 0.1, UNDECIDED),
        (-0.03, -0.01, UNDECIDED),  # around -0.02: two networks that differ by it are not alike
        (-0.1, -0.0201, CONTRADICTED),
        (-0.1, -0.02, UNDECIDED),
    ],
)
def test_the_rules_of_non_inferiority(low, high, verdict):
    alternative = replace(HELPS, threshold=-0.02, not_inferior=True)
    assert rule((low + high) / 2, low, high, -0.02, alternative.margin) == verdict


def test_too_few_seeds_and_failures_decide_nothing():
    assert FEWEST_SEEDS == 3
    assert judge(HELPS, np.array([0.2, 0.21, 0.2])).verdict == DIRECTION
    assert judge(HELPS, np.array([0.2, 0.2])).verdict == UNDECIDED
    unmeasured = judge(HELPS, np.array([0.1, np.nan, 0.2, 0.3]))
    assert (unmeasured.verdict, unmeasured.detectable) == (UNDECIDED, None)
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


@pytest.mark.parametrize("seeds", [4, 8, 16])
def test_the_smallest_detectable_effect_is_found_four_times_of_five(seeds):
    generator = np.random.default_rng(2)
    template = generator.normal(0, 1, seeds)
    template = (template - template.mean()) / template.std(ddof=1)  # a spread of exactly one
    effect = smallest_detectable(template)
    drawn = generator.normal(effect, 1, size=(4000, seeds))
    found = np.mean([mean_interval(one)[0] > 0 for one in drawn])
    assert found == pytest.approx(0.80, abs=0.02)
    assert smallest_detectable(3 * template) == pytest.approx(3 * effect)


def noisy(**bonuses):
    """As `attack_table`, with seeds that differ."""
    table = attack_table(**bonuses)
    spread = table["seed"].map({0: 0.0, 1: 0.004, 2: -0.004, 3: 0.002})
    return table.assign(value=table["value"] + spread * (table["series"] != "none"))


def test_a_verdict_says_all_that_stands_beside_it():
    where = Circumstances("MNIST", {"main": Choice(how="a grid of six")})
    table = noisy(none=0, one=2)
    (found,) = verdicts([HELPS], table, "released", where)
    assert (found.verdict, found.same) == (DIRECTION, None)  # the published grid of MNIST ends at another ε
    assert (found.images, found.n, found.planned, found.chosen) == (5, 4, 8, "a grid of six")
    assert found.estimate == pytest.approx(0.1, abs=0.002)  # of the grid 0, 0.1, and 0.2 at its end
    assert {one["key"]: round(one["estimate"], 2) for one in found.also} == {"at-largest": 0.2, "less-lost": 0.2}
    assert 0 < found.detectable < 0.02
    (found,) = verdicts([HELPS], table, "released", Circumstances("CIFAR-10"))  # this one ends at 0.1
    assert (found.verdict, found.same, found.chosen) == (REPRODUCED, 0.15, None)
    (found,) = verdicts([replace(HELPS, setting=None)], table, "released", where)
    assert found.chosen is None  # it rests on no choice of α and Th
    weaker = noisy(none=0, one=1)
    assert verdicts([HELPS], weaker, "released", Circumstances("CIFAR-10"))[0].verdict == SMALLER
    assert verdicts([HELPS], weaker, "released", Circumstances("photos"))[0].verdict == DIRECTION
    (row,) = as_table([found]).to_dict("records")
    assert row["n"] == "4 seeds × 5 images"
    assert row["published"] == "0.150 (CIFAR-10), 0.300 (MNIST)"


def test_the_mean_of_all_members_decides_and_one_that_surely_fails_contradicts():
    def of(**bonuses):
        return verdicts([ALL_HELP], noisy(none=0, **bonuses), "released")[0]

    both = of(one=2, other=1)
    assert (both.verdict, both.estimate) == (DIRECTION, pytest.approx(0.075, abs=0.002))
    assert both.also[0]["statistic"] == "the least favourable: other (interval: 97.5%, as 2 are looked at)"
    assert of(one=2).also[0]["statistic"] == "the least favourable: one"  # its interval is not widened
    assert of(one=2, other=0.1).verdict == DIRECTION  # the other alone is not told from zero
    failing = of(one=4, other=-1)
    assert failing.verdict == CONTRADICTED
    assert failing.low > 0
    assert of(one=4, other=-0.2).verdict == DIRECTION  # surely below, but within what counts as no effect


def test_a_setting_that_was_not_accepted_has_no_verdict():
    rejected = {"main": Choice(how="m"), "other": Choice(how="o", accepted=False)}
    table = noisy(none=0, one=2, other=-4)
    (found,) = verdicts([ALL_HELP], table, "released", Circumstances(None, rejected))
    assert (found.verdict, found.left_out) == (DIRECTION, ("other",))
    assert found.estimate == pytest.approx(0.1, abs=0.002)
    (alone,) = verdicts([replace(HELPS, setting="other")], table, "released", Circumstances(None, rejected))
    assert (alone.verdict, alone.chosen) == (NOT_ACCEPTED, "o")
    assert alone.estimate == pytest.approx(0.1, abs=0.002)  # shown all the same
    none_left = {name: Choice(how="", accepted=False) for name in ("one", "other")}
    (found,) = verdicts([ALL_HELP], table, "released", Circumstances(None, none_left))
    assert found.verdict == NOT_ACCEPTED
    everything = {"main": Choice(how="", accepted=False)}
    assert verdicts([HELPS], table, "released", Circumstances(None, everything))[0].verdict == NOT_ACCEPTED


def test_choices_of_another_task_come_first_then_those_without_its_name():
    where = Circumstances(
        None,
        {
            "main": Choice(how="m"),
            "set": Choice(how="s"),
            "colour set": Choice(how="c", accepted=False),
            "other": Choice(how="o", accepted=False),
        },
    )
    assert [where.choice(name, "colour ").how for name in ("set", "other", "unknown", "main")] == ["c", "o", "m", "m"]
    assert where.rejected("colour ") == ["set", "other"]
    assert where.rejected("corruptions ") == ["colour set", "other"]


def test_images_are_counted_in_the_group_that_the_claim_measures():
    digits, cases = (attack_table(none=0, one=1).assign(group=name) for name in ("digits", "cases"))
    both = pd.concat([digits.assign(attempted=500), cases.assign(attempted=143)])
    counted = {
        group: verdicts([replace(HELPS, attack="gaussian", images_in=group)], both, "released")[0].images
        for group in ("digits", "cases", None)
    }
    assert counted == {"digits": 500, "cases": 143, None: 143}


def test_a_number_that_a_claim_lacks_is_said_and_not_passed_over():
    helps = replace(HELPS, measure=lambda table: gain(table, "one", "fgsm"), also=())
    both = pd.concat([attack_table(none=0, one=1), attack_table(none=0, one=1).assign(protocol="strict")])
    (found,) = verdicts([helps], both, "released")
    assert (found.verdict, found.strict) == (DIRECTION, DIRECTION)
    without = both[(both["attack"] != "fgsm") | (both["protocol"] == "released")]
    with pytest.raises(LookupError, match="no measurement of series 'one'"):
        verdicts([helps], without, "released")
    (found,) = verdicts([helps], attack_table(none=0, one=1), "released")
    assert found.strict is None  # nothing at all is measured under it
    assert verdicts([helps], both.assign(condition="PGD"), "released")
    of_square = replace(helps, conditions=("Square",))
    assert verdicts([of_square], both.assign(condition="PGD"), "released") == []

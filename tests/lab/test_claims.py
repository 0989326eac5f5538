"""Verdicts follow the interval, the interval covers, and a table that lacks something says so."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up import attack_table

from simreg_core.lab.claims import FEWEST_SEEDS, Claim, by_seed, gain, judge, mean_interval, verdicts, weakest


def claim(threshold):
    return Claim(
        key="key",
        text="claim",
        source="source",
        statistic="statistic",
        threshold=threshold,
        measure=lambda table: table,
    )


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


def test_repeats_are_averaged_and_missing_series_named():
    table = attack_table(none=0)
    sizes = by_seed(table, "none", metric="median_squared_l2_per_pixel")
    assert sizes.tolist() == pytest.approx([2.5, 2.51, 2.52, 2.53])
    with pytest.raises(LookupError, match="series 'S\\^x'"):
        by_seed(table, "S^x", metric="accuracy")


def test_the_weakest_is_the_least_favourable():
    sure, broad = pd.Series([0.01, 0.012, 0.011, 0.01]), pd.Series([-0.05, 0.1, 0.1, 0.1])
    assert weakest([sure, broad]) is broad  # its mean is larger, yet it may lie below zero
    against = pd.Series([-0.02, -0.021, -0.02, -0.019])
    assert weakest([broad, against]) is against


def test_a_number_that_a_claim_lacks_is_said_and_not_passed_over():
    helps = Claim(
        key="key", text="claim", source="source", statistic="statistic", measure=lambda t: gain(t, "one", "fgsm")
    )
    both = pd.concat([attack_table(none=0, one=1), attack_table(none=0, one=1).assign(protocol="strict")])
    (found,) = verdicts([helps], both, "released")
    assert (found.verdict, found.strict) == ("holds", "holds")
    without = both[(both["attack"] != "fgsm") | (both["protocol"] == "released")]
    with pytest.raises(LookupError, match="no measurement of series 'one'"):
        verdicts([helps], without, "released")
    (found,) = verdicts([helps], attack_table(none=0, one=1), "released")
    assert found.strict is None  # nothing at all is measured under it
    assert verdicts([helps], both.assign(condition="PGD"), "released")
    of_square = replace(helps, conditions=("Square",))
    assert verdicts([of_square], both.assign(condition="PGD"), "released") == []

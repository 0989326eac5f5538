"""Verdicts follow the interval, and the interval covers."""

import numpy as np
import pandas as pd
import pytest

from simreg_core.lab.claims import attack_claims, bootstrap_interval, by_seed, judge


def test_verdicts():
    def verdict(values, threshold):
        return judge("claim", "source", "statistic", np.array(values), threshold).verdict

    assert verdict([0.1, 0.2, 0.3, 0.2], 0.0) == "holds"
    assert verdict([-0.1, -0.2, -0.3, -0.2], 0.0) == "does not hold"
    assert verdict([-0.1, 0.2, 0.0, 0.1], 0.0) == "undecided"
    assert verdict([0.9] * 4, 0.9) == "undecided"  # not above
    assert verdict([0.1, 0.2, 0.3], 0.0) == "undecided"  # too few seeds
    unmeasured = judge("claim", "source", "statistic", np.array([0.1, np.nan, 0.2, 0.3]), 0.0)
    assert unmeasured.verdict == "undecided"
    assert unmeasured.as_dict()["low"] is None


def test_interval_covers_the_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_interval(generator.normal(size=30))
        hits += low < 0 < high
    assert 0.88 < hits / 200 <= 0.99


def test_interval_is_the_same_on_every_run():
    assert bootstrap_interval(np.arange(5)) == bootstrap_interval(np.arange(5))


@pytest.mark.parametrize(("values", "message"), [([1.0], "at least two"), ([1.0, np.inf], "finite")])
def test_interval_errors(values, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values)


def made_up_table(gain):
    rows = []
    for series, bonus in (("none", 0), ("S^pixel", gain / 2), ("S^Th", gain)):
        for seed in range(4):
            for attack in ("gaussian", "fgsm"):
                for epsilon in (0.0, 0.1):
                    value = 0.8 - (5 - bonus) * epsilon + 0.001 * seed
                    rows.append((series, seed, attack, "released", epsilon, None, "accuracy", value))
            for repeat in range(2):
                size = 1 + bonus + 0.01 * seed + repeat
                rows.append((series, seed, "boundary", "released", None, repeat, "median_squared_l2_per_pixel", size))
    columns = ["series", "seed", "attack", "protocol", "epsilon", "repeat", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def test_attack_claims_on_made_up_numbers():
    good = attack_claims(made_up_table(2.0), "released")
    assert [verdict.verdict for verdict in good] == ["holds"] * 5
    assert good[0].estimate == pytest.approx(0.2)
    assert len(attack_claims(made_up_table(2.0).assign(protocol="strict"), "strict")) == 4
    bad = attack_claims(made_up_table(-2.0), "released")
    assert [bad[index].verdict for index in (0, 1, 2, 4)] == ["does not hold"] * 4


def test_repeats_are_averaged_and_missing_series_named():
    table = made_up_table(1.0)
    sizes = by_seed(table, "none", metric="median_squared_l2_per_pixel")
    assert sizes.tolist() == pytest.approx([1.5, 1.51, 1.52, 1.53])
    with pytest.raises(LookupError, match="series 'S\\^x'"):
        by_seed(table, "S^x", metric="accuracy")

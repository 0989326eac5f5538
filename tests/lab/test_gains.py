"""What is measured of each seed, and what is missing."""

import pandas as pd
import pytest
from made_up import attack_table

from simreg_core.lab.gains import at_largest, by_seed, gain, gain_of_each, less_lost, mean_of, mean_over, robustness


def test_repeats_are_averaged_and_missing_series_named():
    table = attack_table(none=0)
    sizes = by_seed(table, "none", metric="median_squared_l2_per_pixel")
    assert sizes.tolist() == pytest.approx([2.5, 2.51, 2.52, 2.53])
    with pytest.raises(LookupError, match="series 'S\\^x'"):
        by_seed(table, "S^x", metric="accuracy")


def test_the_area_is_the_mean_over_the_grid_whatever_the_repeats():
    rows = [(0.0, 0, 1.0), (0.1, 0, 0.6), (0.1, 1, 0.4), (0.2, 0, 0.0)]  # two repeats of 0.1
    table = pd.DataFrame(rows, columns=["epsilon", "repeat", "value"])
    table = table.assign(series="none", seed=0, attack="gaussian", metric="accuracy")
    assert robustness(table, "none", "gaussian").tolist() == pytest.approx([0.5])
    assert robustness(table, "none", "gaussian", "largest").tolist() == [0.0]
    assert robustness(table, "none", "gaussian", "zero").tolist() == [1.0]


def test_gains_over_the_grid_at_its_end_and_from_clean():
    table = attack_table(none=0, one=2)
    lower = (table["series"] == "one") & (table["attack"] == "gaussian")
    table.loc[lower, "value"] -= 0.05  # also without noise
    assert gain(table, "one", "gaussian").tolist() == pytest.approx([0.05] * 4)
    assert gain(table, "one", "gaussian", epsilon="largest").tolist() == pytest.approx([0.15] * 4)
    assert less_lost(table, "one", "gaussian").tolist() == pytest.approx([0.2] * 4)
    assert gain(table, "one", "boundary").mean() == pytest.approx(1.2, abs=0.01)  # a ratio


def test_a_mean_over_members_takes_the_seeds_that_all_have():
    one, other = pd.Series([0.1, 0.2, 0.3]), pd.Series([0.3, 0.4], index=[1, 2])
    assert mean_of({"one": one, "other": other}).to_dict() == {1: pytest.approx(0.25), 2: pytest.approx(0.35)}
    with pytest.raises(LookupError, match="at least one"):
        mean_of({})
    table = attack_table(none=0, one=2, other=1)
    assert list(gain_of_each(table)) == ["one", "other"]
    assert mean_over(gain_of_each)(table).tolist() == pytest.approx([0.075] * 4)
    assert at_largest(gain_of_each).measure(table).tolist() == pytest.approx([0.15] * 4)

"""Numbers that cannot be are refused."""

import math

import pytest
from pydantic import ValidationError

from simreg_core.lab.records import Value


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metric": "accuracy", "value": 7.77}, r"accuracy must lie in \[0, 1\], got 7.77"),
        ({"metric": "accuracy", "value": math.nan}, r"accuracy must lie in \[0, 1\], got nan"),
        ({"metric": "layer_weight", "value": -0.1}, r"layer_weight must lie in \[0, 1\], got -0.1"),
        ({"metric": "pearson_low", "value": -1.1}, r"pearson_low must lie in \[-1, 1\], got -1.1"),
        ({"metric": "median_l2", "value": -1e-3}, r"median_l2 must lie in \[0, inf\], got -0.001"),
        ({"attempted": -5}, "greater than or equal to 1"),
        ({"attempted": 0}, "greater than or equal to 1"),
        ({"failed": 11}, "failed must be at most attempted, 10, got 11"),
        ({"failed": -1}, "greater than or equal to 0"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"layer": -1}, "layer"),
    ],
)
def test_an_impossible_number_is_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        Value(**{"metric": "accuracy", "value": 0.5, "attempted": 10} | wrong)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("pearson", 1 + 2e-16),  # rounded
        ("median_l2", math.inf),  # no image was fooled
        ("median_linf", math.nan),  # none was attacked
        ("of another version", -7.77),
    ],
)
def test_a_possible_number_is_taken(metric, value):
    Value(metric=metric, value=value, attempted=10)

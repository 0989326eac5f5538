"""What a step costs: kept when measured, counted the same on every run, growing as it should."""

import pytest

from simreg_core.lab import studies
from simreg_core.lab.cost import saved_bytes, step_costs


def test_costs_are_measured_once(tiny, store):
    costs = step_costs(tiny, store, rounds=1)
    assert step_costs(tiny, store) == costs
    assert [row["k"] for row in costs["rows"]] == [0, 2, 4]
    assert [row["predicted"] for row in costs["rows"]] == [1, 68 / 64, 72 / 64]
    assert all(len(row["ratios"]) == 5 and row["seconds"] > 0 for row in costs["rows"])
    assert costs["rows"][0]["ratios"] == [1.0] * 5
    assert [row["N"] for row in costs["image_counts"]] == [10, 20, 40, 1000, 5000]
    held = [row["held_bytes"] for row in costs["image_counts"]]
    # the ternary target matrix, a byte a value, the images, float32, and the running means
    assert held[-1] == pytest.approx(5000**2 + 4 * 5000 * 256, rel=1e-3)


def test_memory_kept_for_the_backward_pass_grows_with_the_images(tiny):
    plain = saved_bytes(studies.experiment(tiny, "none", 0))
    few, many = (saved_bytes(studies.experiment(tiny, "S^Th", 0, pairs_per_step=k)) for k in (4, 32))
    assert plain == saved_bytes(studies.experiment(tiny, "none", 0))
    assert plain < few < many
    assert many / plain == pytest.approx(2, rel=0.35)  # 64 images and 2 x 32 more, whose similarities are kept too

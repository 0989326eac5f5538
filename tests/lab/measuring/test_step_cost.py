"""What a step costs: counted the same on every run, growing as it should."""

import pytest
import torch

from simreg_core.lab import recipes
from simreg_core.lab.measuring.step_cost import Step, saved_bytes, step_cost
from simreg_core.lab.specs import StepCostEvaluation


def test_memory_kept_for_the_backward_pass_grows_with_the_images(tiny):
    plain = saved_bytes(recipes.experiment(tiny, "none", 0))
    few, many = (saved_bytes(recipes.experiment(tiny, "S^Th", 0, pairs_per_step=k)) for k in (4, 32))
    assert plain == saved_bytes(recipes.experiment(tiny, "none", 0))
    assert plain < few < many
    assert many / plain == pytest.approx(2, rel=0.35)  # 64 images and 2 x 32 more, whose similarities are kept too


def test_the_step_that_is_timed_is_that_of_the_profile(tiny, store):
    evaluation = StepCostEvaluation(pairs_per_step=(4,), image_counts=(10,), repeats=1, rounds=1)
    none, device = recipes.experiment(tiny, "none", 0), torch.device("cpu")
    found = step_cost(Step.opened(none, evaluation, store, device)).arrays
    assert found["saved_bytes"][1] == saved_bytes(recipes.experiment(tiny, "S^Th", 0, pairs_per_step=4))
    assert {name: len(values) for name, values in found.items()} == {
        "seconds": 2, "ratios": 2, "saved_bytes": 2, "seconds_by_images": 1, "setup_seconds": 1, "held_bytes": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="is for an unregularized experiment"):
        Step.opened(recipes.experiment(tiny, "S^Th", 0), evaluation, store, device)

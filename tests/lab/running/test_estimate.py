"""Estimates of time: from few timed steps, and the number of steps."""

import pytest

from simreg_core.lab import recipes
from simreg_core.lab.running.estimate import Costs


def test_estimates_grow_with_the_work(tiny):
    costs = Costs()
    short = recipes.experiment(tiny, "none", 0)
    longer = short.changed(optimization={**tiny.optimization.model_dump(), "epochs": 20})
    assert costs.training(longer) == pytest.approx(10 * costs.training(short))
    boundary = recipes.boundary(tiny)
    assert costs.evaluation(short, boundary.changed(repeats=3)) == pytest.approx(3 * costs.evaluation(short, boundary))

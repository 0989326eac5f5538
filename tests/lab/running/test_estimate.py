"""Estimates of time: from few timed steps, and the number of steps."""

import pytest
import torch

from simreg_core.lab import recipes
from simreg_core.lab.measuring.registry import passes_of
from simreg_core.lab.running import estimate
from simreg_core.lab.running.estimate import Costs


def test_estimates_grow_with_the_work(tiny):
    costs = Costs()
    short = recipes.experiment(tiny, "none", 0)
    longer = short.changed(optimization={**tiny.optimization.model_dump(), "epochs": 20})
    assert costs.training(longer) == pytest.approx(10 * costs.training(short))
    boundary = recipes.boundary(tiny)
    assert costs.evaluation(short, boundary.changed(repeats=3)) == pytest.approx(3 * costs.evaluation(short, boundary))


def test_on_a_gpu_steps_are_timed_as_they_run(tiny, monkeypatch):
    """Recorded where training is recorded, eager where its attack makes it so; attacks by what a pass takes them."""
    timed = []

    def seconds(experiment, steps, recorded):
        timed.append((experiment.adversarial is not None, experiment.regularizer is not None, recorded))
        return 1.0

    monkeypatch.setattr(estimate, "default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(estimate, "seconds_per_step", seconds)
    monkeypatch.setattr(estimate, "seconds_per_pass", lambda experiment: 0.5)
    fast = tiny.changed(optimization={**tiny.optimization.model_dump(), "precision": "bfloat16"})
    plain = recipes.experiment(fast, "none", 0)
    costs = Costs()
    costs.training(plain)
    costs.training(recipes.experiment(fast, "S^Th", 0))
    steps = costs.training(recipes.experiment(tiny, "none", 0))
    assert timed == [(False, False, True), (False, True, True), (False, False, True)]  # the last in float32
    pgd = plain.changed(adversarial={"method": "pgd", "epsilon": 0.02, "steps": 2})
    assert costs.training(pgd) == 3 * steps
    assert timed[3:] == [(False, False, False)]  # its passes, once, though without the attack they would be recorded
    gaussian = recipes.noise(tiny, "gaussian")
    assert costs.evaluation(plain, gaussian) == 0.5 * passes_of(plain, gaussian)

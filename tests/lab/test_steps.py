"""A training step on random pixels is timed as trainings run."""

import pytest
import torch
from fake_gpu import GPU, fake_gpu
from test_gpu_path import KERNELS, Kernels, of

from simreg_core.lab import recipes, steps
from simreg_core.lab.steps import seconds_per_step


def test_a_step_takes_time_and_leaves_the_threads_alone(tiny):
    before = torch.get_num_threads()
    assert seconds_per_step(recipes.experiment(tiny, "S^Th", 0), steps=1) > 0
    assert torch.get_num_threads() == before


def test_steps_are_timed_under_the_settings_of_training(tiny, monkeypatch):
    seen = []
    whole = steps.random_step

    def watched(*arguments):
        loss, *others = whole(*arguments)

        def noted():
            cudnn = torch.backends.cudnn
            seen.append((cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32))
            return loss()

        return noted, *others

    monkeypatch.setattr(steps, "random_step", watched)
    seconds_per_step(recipes.experiment(tiny, "none", 0), steps=2)
    assert seen == [(True, False, False)] * 3
    assert not torch.backends.cudnn.deterministic  # as it was before


DATA = 16  # kernels of a trained step that choose images, crop and flip them, and add its losses


@pytest.mark.parametrize(("target", "precision"), KERNELS)
def test_the_step_that_is_timed_launches_what_the_trained_one_does(tiny, monkeypatch, target, precision):
    """Or the cost of regularizing would be judged by launches that no training has."""
    counts: list[int] = []

    def count(step, *_):
        for _ in range(3):  # momentum comes with the first
            with Kernels() as kernels:
                step()
            counts.append(kernels.launched.total())
        return 1.0

    monkeypatch.setattr(steps, "median_seconds", count)
    settings = {"batch_size": 32, "precision": None if precision == "float32" else precision}
    one = of(tiny, target, optimization=settings, network={"name": "resnet18", "width": 16})
    with fake_gpu():
        seconds_per_step(one, steps=1, device=GPU, recorded=False)
    assert counts[-1] == KERNELS[target, precision] - DATA


def test_a_gpu_has_finished_before_the_clock_starts_and_before_it_stops(monkeypatch):
    happened = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: happened.append("waited"))
    monkeypatch.setattr("time.perf_counter", lambda: happened.append("clock") or 0.0)
    steps.timed(lambda: happened.append("step"), torch.device("cuda"))
    assert happened == ["waited", "clock", "step", "waited", "clock"]


def test_a_step_of_linear_cka_can_be_timed(tiny):
    experiment = recipes.experiment(tiny, "S^Th", 0, similarity="linear_cka")
    assert seconds_per_step(experiment, steps=1) > 0


def test_a_step_with_another_target_similarity_can_be_timed(tiny):
    experiment = recipes.experiment(tiny, "S^Th", 0, target_similarity="ssim")
    assert seconds_per_step(experiment, steps=1) > 0

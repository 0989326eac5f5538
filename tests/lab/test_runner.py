"""Plans list each thing once; errors of workers arrive; image sets are looked for before anything is trained."""

import pytest
import torch

from simreg_core.lab import studies
from simreg_core.lab.data import DataError
from simreg_core.lab.runner import Costs, Plan, a100_seconds, compute, missing_image_sets, plan, seconds_per_step
from simreg_core.lab.training import TrainingError, train


def test_what_is_done_is_not_planned(tiny, store):
    study = studies.study("02_attack_curves", tiny)
    everything = plan(study.measurements(), store)
    assert (len(everything.trainings), len(everything.measurements)) == (7, 30)
    train(everything.trainings[0], store, torch.device("cpu"))
    assert len(plan(study.measurements(), store).trainings) == 6
    assert not Plan((), ())


def test_the_error_of_a_worker_arrives_and_the_rest_is_given_up(tiny, store):
    diverging = studies.experiment(tiny, "S^Th", 0, alpha=1e30)
    with pytest.raises(TrainingError, match="diverged in epoch 1"):
        compute(Plan((diverging,), ()), store, "test")
    assert not store.is_trained(diverging)


def test_a_missing_image_set_is_found_before_training(tiny, store):
    missing = studies.experiment(tiny, "S^Th", 0, images="nowhere")
    with pytest.raises(DataError, match="unknown image set 'nowhere'"):
        compute(Plan((studies.experiment(tiny, "none", 0), missing), ()), store, "test")
    assert not store.root.exists()


def test_estimates_grow_with_the_work(tiny):
    costs = Costs()
    short = studies.experiment(tiny, "none", 0)
    longer = short.changed(optimization={**tiny.optimization.model_dump(), "epochs": 20})
    assert costs.training(longer) == pytest.approx(10 * costs.training(short))
    boundary = studies.boundary(tiny)
    assert costs.evaluation(short, boundary.changed(repeats=3)) == pytest.approx(3 * costs.evaluation(short, boundary))


def test_a_step_takes_time_and_leaves_the_threads_alone(tiny):
    before = torch.get_num_threads()
    assert seconds_per_step(studies.experiment(tiny, "S^Th", 0), steps=1) > 0
    assert torch.get_num_threads() == before


def test_the_authors_training_takes_the_authors_time():
    from simreg_core.lab.experiment import load_profile

    paper = load_profile("paper")
    own_set = studies.experiment(paper, "S^Th", 0, images="cifar10", size=None)
    assert a100_seconds(Plan((own_set,), ())) == pytest.approx(34 * 60)
    plain = studies.experiment(paper, "none", 0)
    assert a100_seconds(Plan((plain,), ())) == pytest.approx(34 * 60 * 64 / 96)


def test_every_missing_set_is_named_with_how_to_get_it(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    todo = Plan(tuple(studies.experiment(tiny, "S^Th", 0, images=name) for name in ("nowhere", "digits", "gone")), ())
    problems = missing_image_sets(todo)
    assert [problem.split("'")[1] for problem in problems] == ["gone", "nowhere"]
    assert "put images there as gone/train/CLASS/*.png" in problems[0]
    few = Plan((studies.experiment(tiny, "S^Th", 0, count=1298),), ())
    assert missing_image_sets(few) == ["1298 images are asked for, but 'digits' has 1297 for this"]

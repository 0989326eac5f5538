"""Errors of workers arrive; image sets are looked for before anything is trained."""

import pytest
import torch
from conftest import in_this_process

from simreg_core.lab import recipes
from simreg_core.lab.image_files import DataError
from simreg_core.lab.running.compute import compute, missing_image_sets
from simreg_core.lab.running.estimate import Costs
from simreg_core.lab.running.plan import Plan, plan
from simreg_core.lab.specs import CorruptionEvaluation, LayerWeightsEvaluation
from simreg_core.lab.training import TrainingError, train


def test_the_error_of_a_worker_arrives_and_the_rest_is_given_up(tiny, store):
    diverging = recipes.experiment(tiny, "S^Th", 0, alpha=1e30)
    with pytest.raises(TrainingError, match="diverged in epoch 1"):
        compute(Plan((diverging,), ()), store, "test", workers=1)
    assert not store.is_trained(diverging)


def test_a_missing_image_set_is_found_before_training(tiny, store):
    missing = recipes.experiment(tiny, "S^Th", 0, images="nowhere")
    with pytest.raises(DataError, match="unknown image set 'nowhere'"):
        compute(Plan((recipes.experiment(tiny, "none", 0), missing), ()), store, "test")
    assert not store.root.exists()


def test_a_plan_of_layer_weights_alone_has_work_to_count(tiny, store):
    one = recipes.experiment(tiny, "S^Th", 0)
    train(one, store, torch.device("cpu"))
    compute(plan([(one, LayerWeightsEvaluation())], store), store, "test", executor=in_this_process)
    assert store.record(one, LayerWeightsEvaluation()) is not None
    assert 0 < Costs().evaluation(one, LayerWeightsEvaluation()) < 0.1


def test_an_official_corruption_file_that_is_missing_is_found_before_training(tiny, store, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    (tmp_path / "CIFAR-10-C").mkdir()
    task = tiny.task.changed(images="cifar10", size=(32, 32))
    todo = plan([(recipes.experiment(tiny, "none", 0).changed(task=task), CorruptionEvaluation(source="files"))], store)
    (problem,) = missing_image_sets(todo)
    assert "gaussian_noise.npy is missing" in problem
    with pytest.raises(DataError, match=r"gaussian_noise\.npy is missing"):
        compute(todo, store, "test")
    assert not store.root.exists()
    generated = plan([(recipes.experiment(tiny, "none", 0), CorruptionEvaluation())], store)
    assert missing_image_sets(generated) == []


def test_every_missing_set_is_named_with_how_to_get_it(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    todo = Plan(tuple(recipes.experiment(tiny, "S^Th", 0, images=name) for name in ("nowhere", "digits", "gone")), ())
    problems = missing_image_sets(todo)
    assert [problem.split("'")[1] for problem in problems] == ["gone", "nowhere"]
    assert "put images there as gone/train/CLASS/*.png" in problems[0]
    every = tiny.changed(task=tiny.task.changed(train_images=None))
    few = Plan((recipes.experiment(every, "S^Th", 0, count=1298),), ())
    assert missing_image_sets(few) == ["1298 images are asked for, but 'digits' has 1297 for this"]

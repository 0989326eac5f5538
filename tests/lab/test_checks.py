"""Everything that a plan lacks is found before anything is trained, and said together."""

import numpy as np
import pytest
import torch
from PIL import Image

from simreg_core.lab import recipes
from simreg_core.lab.figures import FIGURES, figure
from simreg_core.lab.image_files import DataError
from simreg_core.lab.recordings import Recording, write_recording
from simreg_core.lab.running.compute import compute, missing_image_sets
from simreg_core.lab.running.plan import Plan, plan
from simreg_core.lab.specs import (
    Condition,
    CorruptionEvaluation,
    LayerWeightsEvaluation,
    NeuralExperiment,
    NoiseEvaluation,
    Predictor,
    Recorded,
    SimilarityEvaluation,
    Simulated,
    WhiteBoxEvaluation,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Writes random images of a split into the data folder: mine/SPLIT/a, b, ..."""
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "data"))

    def fill(split, each, classes="ab", name="mine", size=(16, 16)):
        rng = np.random.default_rng(0)
        for class_name in classes:
            place = tmp_path / "data" / name / split / class_name
            place.mkdir(parents=True, exist_ok=True)
            for index in range(each):
                Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(place / f"{index}.png")
        return tmp_path / "data" / name / split

    return fill


@pytest.fixture
def mine(tiny):
    return tiny.changed(
        task=tiny.task.changed(images="mine", train_images=None, validation_images=10),
        regularizer=tiny.regularizer.changed(images="mine"),
        optimization=tiny.optimization.changed(batch_size=16),
    )


def problems_of(experiment, *evaluations):
    return missing_image_sets(Plan((experiment,), tuple((experiment, one) for one in evaluations)))


def test_a_test_split_that_is_missing_or_too_small_is_found_before_training(folder, mine, store):
    folder("train", 40)
    one, attack = recipes.experiment(mine, "S^Th", 0), recipes.noise(mine, "gaussian")
    todo = plan([(one, attack)], store)
    (problem,) = missing_image_sets(todo)
    assert "image set 'mine' has no test images" in problem
    with pytest.raises(DataError, match="has no test images"):
        compute(todo, store, "test")
    folder("test", 5)
    assert missing_image_sets(todo) == ["30 images are asked for, but 'mine' has 10 to attack"]
    with pytest.raises(DataError, match="30 images are asked for"):
        compute(todo, store, "test")
    folder("test", 30)
    assert missing_image_sets(todo) == []
    assert not (store.root / "experiments").exists()


def test_validation_images_need_no_test_split(folder, mine):
    folder("train", 40)
    one = recipes.experiment(mine, "none", 0)
    assert problems_of(one, recipes.noise(mine, "gaussian").changed(split="validation", images=10)) == []
    (problem,) = problems_of(one, recipes.noise(mine, "gaussian").changed(split="validation", images=11))
    assert problem == "11 images are asked for, but 'mine' has 10 to attack"


def test_all_problems_come_together(folder, mine, store):
    folder("train", 10)
    folder("test", 3, "abc")  # a class that no training image has
    one = recipes.experiment(mine, "S^Th", 0)
    crowded = one.changed(optimization=one.optimization.changed(batch_size=64))
    few = one.changed(task=one.task.changed(validation_images=20), regularizer=None)
    todo = Plan((crowded, few), ((crowded, recipes.noise(mine, "gaussian")),))
    problems = missing_image_sets(todo)
    assert set(problems) == {
        "40 images are asked for, but 'mine' has 20 for this",
        "image set 'mine' has test images of class 'c' but no training images of it",
        "batch_size 64 exceeds the 10 training images of 'mine'",
        "validation_images is 20, but 'mine' has 20 training images",
    }
    with pytest.raises(DataError) as error:
        compute(todo, store, "test")
    assert all(problem in str(error.value) for problem in problems)
    assert not (store.root / "experiments").exists()


def test_images_kept_out_under_strict_are_counted(tiny):
    every = tiny.changed(task=tiny.task.changed(train_images=None))
    one = recipes.experiment(every, "S^Th", 0, count=1250)  # of 1,297 digits, 100 of them for validation
    assert problems_of(one) == []
    assert problems_of(one.changed(protocol="strict")) == ["1250 images are asked for, but 'digits' has 1197 for this"]


def test_more_validation_images_than_a_set_has_of_its_own(tiny):
    task = tiny.task.changed(images="photos", validation_images=1001)
    (problem,) = problems_of(recipes.experiment(tiny, "none", 0).changed(task=task))
    assert problem == "validation_images is 1001, but 'photos' has 1000 of them"


def test_a_damaged_image_of_any_split_is_found(folder, mine):
    folder("train", 40)
    damaged = folder("test", 30) / "b" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:50])
    (problem,) = problems_of(recipes.experiment(mine, "none", 0), recipes.noise(mine, "gaussian"))
    assert f"image file {damaged} cannot be read" in problem


def test_a_predictor_of_another_size_is_found_before_it_is_fitted(tiny, store):
    large = tiny.changed(task=tiny.task.changed(size=(20, 20), train_images=None))
    one = recipes.experiment(large, "S^neural", 0)
    message = (
        "the V1 predictor takes images of 16x16, but the regularization set 'digits' has 20x20; give the set that size"
    )
    assert problems_of(one) == [message]
    with pytest.raises(DataError, match="takes images of 16x16"):
        compute(plan([(one, recipes.noise(tiny, "gaussian"))], store), store, "test")
    assert not store.root.exists()
    assert problems_of(recipes.experiment(large, "S^neural", 0, size=(16, 16))) == []


def test_a_predictors_form_and_its_images(tiny):
    source = Simulated(count=20, neurons=4)
    for changes, message in (
        ({"kernel": 17}, "images of 16x16 are smaller than the first kernel, 17x17"),
        ({"held_out": 0.99}, "held_out 0.99 of 20 images leaves fewer than 2 to fit to"),
    ):
        (problem,) = problems_of(NeuralExperiment(source=source, predictor=Predictor(**changes)))
        assert message in problem
    (problem,) = problems_of(NeuralExperiment(source=source.changed(count=4001), predictor=Predictor()))
    assert problem == "4001 images are asked for, but 'photos' has 4000 for this"


def test_a_matrix_that_is_missing_or_of_other_images(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    one = recipes.experiment(tiny, "S^Th", 0, target="neural", matrix="mine.npy")
    path = tmp_path / "similarities" / "mine.npy"
    assert problems_of(one) == [f"the similarity matrix {path} is missing"]
    path.parent.mkdir()
    np.save(path, np.eye(30))
    assert problems_of(one) == [f"{path}: the similarity matrix is of 30 images, but there are 40"]
    np.save(path, np.eye(40))
    assert problems_of(one) == []


def test_a_set_of_one_class_is_no_task(folder, mine):
    folder("train", 40, "a")
    assert "image set 'mine' has 1 class; a task needs at least 2" in problems_of(recipes.experiment(mine, "none", 0))


def test_autoattack_wants_four_classes(folder, mine):
    folder("train", 40)
    folder("test", 30)
    attack = WhiteBoxEvaluation(epsilons=(0.0, 0.1), epsilon=0.1, autoattack_images=61)
    problems = problems_of(recipes.experiment(mine, "none", 0), attack)
    assert problems == [
        "AutoAttack needs at least 4 classes, but 'mine' has 2; leave autoattack_images empty",
        "autoattack_images=61 exceeds the 60 images that are attacked at all",
    ]


def test_official_corruptions_go_with_cifar10_and_generated_ones_with_16_pixels(tiny):
    one = recipes.experiment(tiny, "none", 0)
    (problem,) = problems_of(one, CorruptionEvaluation(source="files"))
    assert problem == (
        "the files of CIFAR-10-C go with the test images of 'cifar10' at 32x32, not with 'digits' at 16x16; take "
        "source 'generated'"
    )
    (problem,) = problems_of(one.changed(task=tiny.task.changed(size=(8, 8))), CorruptionEvaluation())
    assert problem == "corruptions need images of at least 16x16, but the task 'digits' has 8x8"


def test_attacks_that_cannot_be(tiny):
    none, attack = recipes.experiment(tiny, "none", 0), recipes.fgsm(tiny)
    other = attack.surrogate.changed(task=tiny.task.changed(images="photos"))
    problems = problems_of(
        none, attack.changed(surrogate=other), attack.changed(surrogate=none), LayerWeightsEvaluation()
    )
    assert [problem.split(" (")[0] for problem in problems] == [
        "the surrogate was trained on another task",
        "the attacked network",
        "an unregularized network has no layer weights",
    ]


def test_a_network_that_cannot_take_its_images(tiny):
    one = recipes.experiment(tiny, "none", 0)
    blurred = one.changed(network=tiny.network.changed(blur=7))
    (problem,) = problems_of(blurred)
    assert problem == "resnet10 of width 2 cannot take 2 images of 16x16: this blur needs 18 pixels a side, got 16x16"
    single = one.changed(task=tiny.task.changed(size=(8, 8)), optimization=tiny.optimization.changed(batch_size=1))
    (problem,) = problems_of(single)
    assert problem.startswith("resnet10 of width 2 cannot take 1 images of 8x8: Expected more than 1 value per channel")
    large = one.changed(task=tiny.task.changed(images="photos", size=(64, 64)))
    assert any("photos are too small for patches of 64x64" in problem for problem in problems_of(large))


def test_a_range_without_enough_pairs(tiny):
    (problem,) = problems_of(recipes.experiment(tiny, "S^Th", 0, pairs="high", threshold=0.99, count=10))
    assert problem.startswith("regularization set 'digits': no pair")
    (problem,) = problems_of(recipes.experiment(tiny, "S^Th", 0, pairs="high", threshold=0.8, pairs_per_step=700))
    assert "pairs_per_step=700 exceeds the" in problem


def test_comparisons_that_cannot_be(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (25, 1, 12, 12), generator=generator).byte()
    responses = torch.rand(1, 25, 5, generator=generator)
    write_recording(Recording("mine", images, responses - 0.5, source="test"), tmp_path / "recordings" / "mine")
    source = Recorded(recording="mine")
    conditions = (
        Condition(name="a", responses="predicted"),
        Condition(name="b", responses="noise_free"),
        Condition(name="c", responses="trial_mean", crop=(0, 13, 0, 12)),
        Condition(name="d", responses="trial_mean", weighted=True),
        Condition(name="e", responses="trial_mean", neurons=6),
        Condition(name="f", responses="trial_mean", recordings=2),
    )
    wrong = SimilarityEvaluation(conditions=conditions, images=26, resamples=10)
    problems = problems_of(NeuralExperiment(source=source), wrong)
    assert len(problems) == 7
    for problem, what in zip(
        problems,
        (
            "has 25",
            "needs a predictor",
            "simulation alone",
            "leaves the images of 12x12",
            "two trials",
            "6 neurons",
            "2 rec",
        ),
        strict=True,
    ):
        assert what in problem
    (problem,) = problems_of(NeuralExperiment(source=source, predictor=Predictor(kernel=5)))
    assert "responses must not be negative" in problem
    noise = NoiseEvaluation(attack="gaussian", epsilons=(0.1,))
    assert problems_of(NeuralExperiment(source=source), noise) == [
        "evaluation 'gaussian' is not for a NeuralExperiment"
    ]


def test_only_what_is_computed_is_looked_at(mine, tiny, store, monkeypatch, tmp_path):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))  # without any image
    assert missing_image_sets(plan([], store)) == []
    assert problems_of(recipes.experiment(tiny, "S^Th", 0), recipes.noise(tiny, "gaussian")) == []


def test_the_studies_of_the_smallest_profile_lack_nothing(tiny, store):
    measurements = [one for name in FIGURES for one in figure(name).study(tiny).measurements()]
    assert missing_image_sets(plan(measurements, store)) == []

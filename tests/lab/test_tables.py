"""A table as images of 1 x d: scaled on training data, of one size, and trained with an MLP like any image set."""

import pytest
import torch
from sklearn.datasets import load_breast_cancer

from simreg_core.lab.checks import problems
from simreg_core.lab.image_files import SETS, DataError
from simreg_core.lab.images import load_image_set
from simreg_core.lab.recipes import experiment, of_variant
from simreg_core.lab.specs import SpecError, Task, build

NAME = "breast-cancer"


def test_cases_are_in_one_split_and_scaled_on_training_data():
    parts = {split: load_image_set(NAME, split, (1, 30)) for split in SETS[NAME].counts}
    assert {split: len(own) for split, own in parts.items()} == SETS[NAME].counts
    train = parts["train"].pixels[:, 0, 0]
    assert (train.min(dim=0).values == 0).all()
    assert (train.max(dim=0).values == 1).all()
    everything = torch.cat([own.images for own in parts.values()])
    assert everything.shape == (569, 1, 1, 30)
    assert len({tuple(row.tolist()) for row in everything.flatten(1)}) == 569
    assert sum(int(own.labels.sum()) for own in parts.values()) == load_breast_cancer().target.sum()
    test = parts["test"].pixels
    assert 0 <= test.min() <= test.max() <= 1
    assert parts["train"].classes == ("malignant", "benign")
    # features keep their order: the mean radius is larger in malignant cases
    malignant, benign = (train[parts["train"].labels == label, 0].mean() for label in (0, 1))
    assert malignant > benign + 0.1


def test_another_size_or_colour_is_refused(tiny):
    with pytest.raises(DataError, match=r"'breast-cancer' is a table of 1x30 in one channel; got size \(16, 16\), 1"):
        load_image_set(NAME, "train", (16, 16))
    with pytest.raises(DataError, match="got size None, 3 channels"):
        load_image_set(NAME, "train", None, 3)
    wrong = of_variant(tiny, tiny.studies.tabular)
    wrong = wrong.changed(task=wrong.task.changed(size=(1, 20)))
    assert "'breast-cancer' is a table of 1x30" in problems([experiment(wrong, "none", 0)], [], lambda one: None)[0]


def test_heights_between_1_and_8_are_refused():
    assert build(Task, {"images": NAME, "size": [1, 30]}).size == (1, 30)
    with pytest.raises(SpecError, match="a height must be at least 8, or 1 of a table"):
        build(Task, {"images": "photos", "size": [4, 16]})


def test_photos_have_no_height_of_1():
    with pytest.raises(DataError, match="size must be at least 8 pixels a side, got 1x16"):
        load_image_set("photos", "train", (1, 16))

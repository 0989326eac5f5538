"""What JPEG changes: the same images twice, none of which was trained on."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import jpeg
from simreg_core.lab.images import load_image_set
from simreg_core.lab.specs import Task

CLASSES, TRAINED, MORE = ("cat", "dog"), 8, 4


@pytest.fixture
def task(tmp_path, monkeypatch) -> Task:
    """A task whose training images are the first of those in the two folders 'lossless' and 'copies'."""
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    load_image_set.cache_clear()
    generator = np.random.default_rng(0)
    for name in CLASSES:
        for number in range(TRAINED + MORE):
            image = Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8))
            places = ["copies/test", *(["task/train", "task/test"] if number < TRAINED else [])]
            for place in places:
                (tmp_path / place / name).mkdir(parents=True, exist_ok=True)
                image.save(tmp_path / place / name / f"{number:04d}.jpg", quality=75)
            (tmp_path / "lossless/test" / name).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "lossless/test" / name / f"{number:04d}.png")
    return Task(images="task", size=(16, 16), validation_images=4)


def test_both_are_the_same_images_and_none_was_trained_on(task):
    lossless, copies = jpeg.unseen(task, "lossless", "copies", len(CLASSES) * MORE)
    assert torch.equal(lossless.labels, copies.labels)
    assert lossless.labels.bincount().tolist() == [MORE] * len(CLASSES)
    away = (lossless.pixels[:, None] - copies.pixels[None]).square().mean(dim=(2, 3, 4))
    assert torch.equal(away.argmin(dim=1), torch.arange(len(lossless)))  # each beside its own copy
    with pytest.raises(ValueError, match="9 images are asked for, but only 8 of 'copies' were not trained on"):
        jpeg.unseen(task, "lossless", "copies", len(CLASSES) * MORE + 1)


def test_other_images_in_the_folders_are_refused(task, tmp_path):
    next((tmp_path / "copies/test/cat").iterdir()).unlink()
    with pytest.raises(ValueError, match="'lossless' and 'copies' must hold the same images"):
        jpeg.unseen(task, "lossless", "copies", 2)


def test_targets_of_a_set_agree_with_themselves_and_not_with_those_of_others(task):
    lossless, copies = jpeg.unseen(task, "lossless", "copies", len(CLASSES) * MORE)
    assert jpeg.agreement(copies, copies, 0.1) == pytest.approx({"pearson": 1, "targets_changed": 0})
    shuffled = copies.take(torch.arange(len(copies)).flip(0).roll(1))
    found = jpeg.agreement(copies, shuffled, 0.1)
    assert found["pearson"] < 0.9
    assert found["targets_changed"] > 0.1
    assert jpeg.agreement(lossless, copies, 0.1)["pearson"] > 0.9

"""Image sets: what ships, folders of a user's own, and what is refused."""

import numpy as np
import pytest
import torch
from image_trees import write_tree
from PIL import Image

from simreg_core.lab.image_files import (
    TASK_PHOTOS,
    DataError,
)
from simreg_core.lab.images import load_image_set

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(("split", "count"), [("train", 4000), ("validation", 1000), ("test", 1000)])
def test_photos(split, count):
    photos = load_image_set("photos", split)
    assert photos.images.shape == (count, 1, 16, 16)
    assert photos.images.dtype == torch.uint8
    assert photos.labels.bincount().tolist() == [count // 10] * 10
    assert photos.classes == TASK_PHOTOS
    assert 0 <= photos.pixels.min() < photos.pixels.max() <= 1


def test_splits_of_photos_share_no_pixels():
    # a patch of one split overlaps none of another: no row of 16 pixels with texture stands in two splits
    rows = {}
    for split in ("train", "validation", "test"):
        lines = load_image_set("photos", split).images.reshape(-1, 16).numpy()
        textured = lines[lines.std(axis=1) > 12]
        rows[split] = {line.tobytes() for line in textured}
        assert len(rows[split]) > 1000
    assert not rows["train"] & rows["test"]
    assert not rows["train"] & rows["validation"]
    assert not rows["validation"] & rows["test"]


def test_the_same_images_every_time():
    first = load_image_set("photos", "test").checksum
    load_image_set.cache_clear()
    assert load_image_set("photos", "test").checksum == first
    assert load_image_set("photos", "train").checksum != first


def test_colour_and_other_sizes():
    assert load_image_set("photos", "test", (24, 20), 3).images.shape[1:] == (3, 24, 20)
    assert load_image_set("photos-foreign", "train").images.shape[1:] == (1, 16, 16)
    assert load_image_set("digits", "train", (16, 16)).images.shape == (1297, 1, 16, 16)


def test_a_folder_of_classes(folder):
    write_tree(folder / "mine" / "train")
    write_tree(folder / "mine" / "test", sizes=((8, 8),))
    train = load_image_set("mine", "train")
    assert (len(train), len(load_image_set("mine", "test"))) == (4, 2)
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="has no validation images"):
        load_image_set("mine", "validation")


def test_a_folder_is_resized_to_one_size(folder):
    write_tree(folder / "mixed", sizes=((8, 8), (10, 20)))
    with pytest.raises(DataError, match=r"'mixed' mixes image sizes \(8x8 and 10x20\)"):
        load_image_set("mixed", "train")
    assert load_image_set("mixed", "train", (9, 16), 3).images.shape == (4, 3, 9, 16)


def test_labels_mean_the_same_in_every_split(folder):
    write_tree(folder / "mine" / "train", classes=("ant", "cat", "dog", ".hidden"))
    write_tree(folder / "mine" / "test", classes=("cat", "dog"))
    with pytest.warns(UserWarning, match="no images of 1 of 3 classes, such as 'ant'"):
        assert load_image_set("mine", "test").labels.tolist() == [1, 1, 2, 2]
    write_tree(folder / "mine" / "validation", classes=("emu",))
    with pytest.raises(DataError, match="class 'emu' but no training images of it"):
        load_image_set("mine", "validation")


def test_a_part_of_a_folder_is_spread_over_its_classes(folder):
    write_tree(folder / "mine", sizes=((8, 8),) * 6)
    assert load_image_set("mine", "train", count=4).labels.tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="13 images are asked for, but 'mine' has 12"):
        load_image_set("mine", "train", count=13)


def test_gray_is_pillows(folder):
    write_tree(folder / "mine")
    picture = Image.open(folder / "mine" / "cat" / "0.png")
    assert torch.equal(load_image_set("mine", "train").images[0, 0], torch.from_numpy(np.array(picture.convert("L"))))


def test_a_corrupt_file_is_named(folder):
    write_tree(folder / "mine")
    broken = folder / "mine" / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=f"{broken} cannot be read"):
        load_image_set("mine", "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing", "train"), "unknown image set 'nothing'; allowed: photos, photos-foreign, digits, mnist-5k"),
        (("photos", "dev"), "unknown split 'dev'; allowed: train, validation, test"),
        (("photos", "train", (16, 16), 2), "channels must be 1"),
        (("photos", "train", (4, 16)), "size must be at least 8"),
        (("photos", "train", (200, 200)), "too small for patches of 200x200"),
        (("photos-foreign", "test"), "has no test images"),
        (("digits", "validation"), "no validation images of its own"),
    ],
)
def test_bad_names_are_named(arguments, message):
    with pytest.raises(DataError, match=message):
        load_image_set(*arguments)


def test_an_empty_folder_is_named(folder):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="'empty' is empty"):
        load_image_set("empty", "train")


def test_a_download_that_fails_names_the_set_and_the_folder(folder, monkeypatch):
    def no_network(*arguments, **options):
        raise RuntimeError("Error downloading train-images:\n  network is unreachable\n")  # as of MNIST

    monkeypatch.setattr("torchvision.datasets.CIFAR10", no_network)
    with pytest.raises(
        DataError,
        match=f"'cifar10' could not be had in {folder}: Error downloading train-images: network is unreachable$",
    ):
        load_image_set("cifar10", "train")


def test_torchvision_sets(folder, monkeypatch):
    class Fake:
        data = np.full((3, 32, 32, 3), 200, dtype=np.uint8)
        targets = (2, 0, 1)
        classes = ("a", "b", "c")

        def __init__(self, root, train, download):
            assert (root, train, download) == (folder, False, True)

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Fake)
    images = load_image_set("cifar10", "test", (16, 16))
    assert images.images.shape == (3, 1, 16, 16)
    assert images.images.unique().tolist() == [200]
    assert images.labels.tolist() == [2, 0, 1]

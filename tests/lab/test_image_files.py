"""Which files of a folder are images of a set, and how many there are."""

import os
import warnings

import numpy as np
import pytest
from image_trees import write_tree
from PIL import Image

from simreg_core.lab.image_files import (
    SETS,
    DataError,
    count_images,
    has_validation,
    stamp_of,
)
from simreg_core.lab.images import load_image_set

pytestmark = pytest.mark.usefixtures("folder")


def test_hidden_files_and_what_systems_leave_are_skipped(folder):
    write_tree(folder / "mine" / "train")
    write_tree(folder / "mine" / "train", classes=("__MACOSX", ".ipynb_checkpoints"))
    write_tree(folder / "mine", classes=("__MACOSX",))
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / "mine" / "train" / "cat" / name).write_bytes(b"\0\5\26\7")
        (folder / "mine" / name).write_bytes(b"\0\5\26\7")
    assert quiet_count("mine") == 4
    assert load_image_set("mine", "train").classes == ("cat", "dog")


def test_files_that_are_not_read_are_counted(folder):
    root = folder / "mine"
    write_tree(root / "train")
    write_tree(root / "train" / "cat" / "more", classes=("deep",))
    write_tree(root, classes=("extra",))
    for name in ("1.heic", "2.HEIC", "boxes.txt", "no_ending"):
        (root / "train" / "dog" / name).write_bytes(b"x")
    for path in (root / "train" / "x.png", root / "y.png"):
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(path)
    os.mkfifo(root / "train" / "dog" / "pipe.png")  # to open it would wait for ever
    for question in (count_images, load_image_set):
        with pytest.warns(UserWarning, match="image set 'mine', train images; left out: ") as said:
            question("mine", "train")
    message = str(said[0].message)
    assert len(load_image_set("mine", "train")) == 4
    assert "2 images beside the class folders, such as" in message
    assert "2 images deeper than CLASS/ and CLASS/images/, such as" in message
    assert "5 files that are not known as images (2 .heic, 1 .png, 1 .txt, 1 without ending)" in message
    assert "folders beside those of the splits ('extra')" in message


def test_a_class_without_training_images_is_refused(folder):
    root = folder / "mine" / "train"
    write_tree(root)
    (root / "emu").mkdir()
    for question in (count_images, load_image_set):
        with pytest.raises(
            DataError, match=r"'mine' has no train images of class 'emu'; put some into .*emu, or remove"
        ):
            question("mine", "train")
    (root / "emu" / "x.heic").write_bytes(b"x")
    write_tree(root / "emu", classes=("deep",))
    with pytest.raises(DataError, match=r"class 'emu'.*2 images deeper.*emu/deep/0\.png; 1 files .*\(1 \.heic\)"):
        count_images("mine", "train")


def test_a_class_without_test_images_is_said(folder):
    write_tree(folder / "mine" / "train")
    write_tree(folder / "mine" / "test")
    for path in (folder / "mine" / "test" / "cat").iterdir():
        path.unlink()
    with pytest.warns(UserWarning, match="'mine', test images; no images of 1 of 2 classes, such as 'cat'"):
        assert load_image_set("mine", "test").labels.tolist() == [1, 1]


@pytest.mark.parametrize("place", ["", "test", "train/emu", "train/cat/7.png"])
def test_a_link_to_nothing_is_named(folder, place):
    link = folder / "mine" / place
    if place:
        write_tree(folder / "mine" / "train")
    link.symlink_to(folder / "gone")
    with pytest.raises(DataError, match=f"{link} is a link to nothing; mend or remove it"):
        count_images("mine", "train")


def test_links_to_something_are_followed(folder):
    write_tree(folder / "elsewhere")
    (folder / "mine" / "train" / "emu").mkdir(parents=True)
    (folder / "mine" / "train" / "cat").symlink_to(folder / "elsewhere" / "cat")
    (folder / "mine" / "train" / "emu" / "0.png").symlink_to(folder / "elsewhere" / "dog" / "0.png")
    assert quiet_count("mine") == 3


def test_a_link_to_itself_is_named(folder):
    write_tree(folder / "mine")
    (folder / "mine" / "cat" / "loop.png").symlink_to(folder / "mine" / "cat" / "loop.png")
    with pytest.raises(DataError, match=r"loop\.png is a link to nothing"):
        count_images("mine", "train")


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    write_tree(folder / "mine")
    monkeypatch.setattr("os.scandir", refused)
    with pytest.raises(DataError, match=f"folder {folder / 'mine'} cannot be read: .*Permission denied"):
        count_images("mine", "train")


def test_images_of_a_class_may_lie_in_a_folder_images(folder):
    for class_name in ("cat", "dog"):
        write_tree(folder / "tiny" / "train" / class_name, classes=("images",))
        (folder / "tiny" / "train" / class_name / "boxes.txt").write_text("0 0 8 8")
    with pytest.warns(UserWarning, match=r"2 files that are not known as images \(2 \.txt\)"):
        tiny = load_image_set("tiny", "train")
    assert tiny.labels.tolist() == [0, 0, 1, 1]
    assert tiny.classes == ("cat", "dog")
    write_tree(folder / "tiny" / "val", classes=("images",))
    with pytest.raises(DataError, match=r"class 'images' but no training .* sort the files in .*val/images into class"):
        count_images("tiny", "validation")


def test_images_that_lie_deeper_are_said(folder):
    write_tree(folder / "twice" / "twice" / "train")
    with pytest.raises(
        DataError, match=r"'twice' is empty: .* 4 images deeper than CLASS/.*twice/twice/train/cat/0\.png"
    ):
        count_images("twice", "train")
    write_tree(folder / "flat", classes=("train",))
    with pytest.raises(DataError, match=r"'flat' is empty: .* 2 images beside the class folders, such as .*0\.png"):
        count_images("flat", "train")


def test_val_is_a_name_of_the_validation_split(folder):
    write_tree(folder / "mine" / "train")
    assert not has_validation("mine")
    write_tree(folder / "mine" / "val", sizes=((8, 8),))
    assert has_validation("mine")
    assert quiet_count("mine", "validation") == len(load_image_set("mine", "validation")) == 2
    write_tree(folder / "mine" / "validation")
    for question in (lambda: has_validation("mine"), lambda: count_images("mine", "train")):
        with pytest.raises(DataError, match=r"'mine' has both 'validation' and 'val' in .*mine; keep one"):
            question()


@pytest.mark.parametrize("other", ["training", "Train", "valid", "testing", "VAL"])
def test_a_folder_named_like_a_split_is_refused(folder, other):
    write_tree(folder / "mine" / other)
    with pytest.raises(DataError, match=f"has a folder '{other}' in .*; folders of splits are named 'train'"):
        count_images("mine", "train")
    write_tree(folder / "mine" / "test")
    with pytest.raises(DataError, match=f"has a folder '{other}' in .*; folders of splits are named 'train'"):
        count_images("mine", "test")


def test_a_class_may_be_named_like_a_split(folder):
    write_tree(folder / "vehicles", classes=("Bus", "Train"))
    assert load_image_set("vehicles", "train").classes == ("Bus", "Train")


def test_a_split_that_is_missing_is_said_with_those_that_are_there(folder):
    write_tree(folder / "mine" / "train")
    write_tree(folder / "mine" / "val")
    with pytest.raises(DataError, match=r"no test images: .*mine/test is missing \(there is 'train', 'val'\)"):
        count_images("mine", "test")
    write_tree(folder / "plain")
    with pytest.raises(DataError, match=r"no test images: .*in no folder of a split are training images"):
        count_images("plain", "test")


def test_names_are_compared_in_one_unicode_form(folder):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    write_tree(folder / composed / "train", classes=(composed, "tea"))
    write_tree(folder / composed / "test", classes=(decomposed, "tea"))
    for name in (composed, decomposed):
        test = load_image_set(name, "test")
        assert test.classes == (composed, "tea")
        assert test.labels.tolist() == [0, 0, 1, 1]
    write_tree(folder / composed / "train", classes=(decomposed,))
    with pytest.raises(
        DataError, match=r"folders 'cafe?\\\S+' and 'cafe?\\\S+' in .* are one name in Unicode form NFC"
    ):
        count_images(composed, "train")


def test_names_that_look_the_same_are_told_apart(folder):
    write_tree(folder / "mine" / "train", classes=("cat", "dog"))
    write_tree(folder / "mine" / "test", classes=("c\u0430t", "dog"))  # a Cyrillic letter
    with pytest.raises(
        DataError, match=r"\('c\\u0430t'\) but no training images of it \(the most similar one is 'cat'\)"
    ):
        count_images("mine", "test")


@pytest.mark.parametrize("name", list(SETS))
def test_a_name_that_means_two_sets_is_refused(folder, name):
    (folder / name).mkdir()
    assert count_images(name, "train") == SETS[name].counts["train"]  # nothing of an image set in it
    write_tree(folder / name / "train")
    for question in (count_images, load_image_set):
        with pytest.raises(DataError, match=f"'{name}' means two image sets: .*{name}/train/cat/0.png.*; rename"):
            question(name, "train")


def test_torchvisions_own_downloads_are_no_second_set(folder):
    for download in ("MNIST", "FashionMNIST", "cifar-10-batches-py", "cifar-100-python"):
        write_tree(folder / download)
    for name in ("cifar10", "cifar100", "mnist", "fashion-mnist"):
        assert quiet_count(name, "test") == 10_000


@pytest.mark.parametrize(
    ("name", "split"), [(name, split) for name in ("photos", "digits") for split in SETS[name].counts]
)
def test_named_sets_hold_as_many_images_as_is_said(name, split):
    assert count_images(name, split) == len(load_image_set(name, split))


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar10", "validation", "'cifar10' has no validation images of its own; take them from 'train'"),
        ("photos-foreign", "test", "'photos-foreign' has no test images"),
        ("mnist", "dev", "unknown split 'dev'"),
        ("mine", "dev", "unknown split 'dev'"),
        ("mine", "train", "unknown image set 'mine'"),
    ],
)
def test_counting_refuses_what_loading_refuses(name, split, message):
    for question in (count_images, load_image_set, stamp_of):
        with pytest.raises(DataError, match=message):
            question(name, split)


def test_a_stamp_follows_the_files(folder):
    write_tree(folder / "mine" / "train")
    first = stamp_of("mine", "train")
    assert stamp_of("mine", "train") == first
    path = folder / "mine" / "train" / "cat" / "0.png"
    os.utime(path, ns=(0, 0))
    touched = stamp_of("mine", "train")
    path.rename(path.with_name("2.png"))
    assert len({first, touched, stamp_of("mine", "train")}) == 3
    assert stamp_of("digits", "train") == "digits"


def quiet_count(name, split="train"):
    """count_images, where a warning is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return count_images(name, split)

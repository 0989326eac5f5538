"""Image sets: what ships, folders of a user's own, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from simreg_core.corruptions import CORRUPTIONS
from simreg_core.lab.data import TASK_PHOTOS, DataError, has_cifar10_c, load_cifar10_c, load_image_set


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    load_image_set.cache_clear()
    yield tmp_path
    load_image_set.cache_clear()


def write_tree(root, sizes=((8, 8), (8, 8)), classes=("cat", "dog")):
    for class_name in classes:
        (root / class_name).mkdir(parents=True)
        for index, size in enumerate(sizes):
            pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / class_name / f"{index}.png")


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
        (("nothing", "train"), "unknown image set 'nothing'; allowed: photos, photos-foreign, digits, cifar10"),
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
        raise RuntimeError("network is unreachable")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", no_network)
    with pytest.raises(DataError, match=f"'cifar10' could not be had in {folder}: network is unreachable"):
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


def write_npy(path, shape, dtype=np.uint8):
    """An array of zeros that takes no room: the file has holes."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


@pytest.fixture
def cifar10_c(folder):
    root = folder / "CIFAR-10-C"
    root.mkdir()
    for corruption in CORRUPTIONS:
        write_npy(root / f"{corruption}.npy", (50_000, 32, 32, 3))
    write_npy(root / "labels.npy", (50_000,))[:] = np.arange(50_000) % 10
    return root


def test_cifar10_c(cifar10_c):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 2, 32, 32, 3), dtype=np.uint8)
    fog = np.lib.format.open_memmap(cifar10_c / "fog.npy", mode="r+")
    for severity in range(1, 6):
        fog[(severity - 1) * 10_000], fog[severity * 10_000 - 1] = pictures[severity - 1]
    fog.flush()
    for severity in range(1, 6):
        first, last = pictures[severity - 1]
        colour = load_cifar10_c("fog", severity, 3)
        assert colour.images.shape == (10_000, 3, 32, 32)
        assert torch.equal(colour.images[0].permute(1, 2, 0), torch.from_numpy(first))
        assert torch.equal(colour.images[-1].permute(1, 2, 0), torch.from_numpy(last))
    gray = load_cifar10_c("fog", 4, 1)
    assert gray.images.shape == (10_000, 1, 32, 32)
    assert torch.equal(gray.images[0, 0], torch.from_numpy(np.array(Image.fromarray(pictures[3, 0]).convert("L"))))
    assert (gray.name, gray.split) == ("CIFAR-10-C/fog/4", "test")
    assert gray.labels.tolist() == [*range(10)] * 1000
    assert (gray.classes[0], gray.classes[9]) == ("airplane", "truck")
    assert load_cifar10_c("frost", 5, 1).images.max() == 0


def test_cifar10_c_is_looked_for_in_the_data_folder(folder):
    assert not has_cifar10_c()
    with pytest.raises(DataError, match=f"CIFAR-10-C is not in the data folder: {folder / 'CIFAR-10-C'} is missing"):
        load_cifar10_c("fog", 1, 1)
    (folder / "CIFAR-10-C").mkdir()
    assert has_cifar10_c()


@pytest.mark.parametrize("name", [*CORRUPTIONS, "labels"])
def test_every_file_of_cifar10_c_is_needed(cifar10_c, name):
    (cifar10_c / f"{name}.npy").unlink()
    with pytest.raises(DataError, match=f"{cifar10_c / name}.npy is missing; expected"):
        load_cifar10_c("fog", 1, 1)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "message"),
    [
        (
            "snow",
            (10_000, 32, 32, 3),
            np.uint8,
            r"holds \[10000, 32, 32, 3\] uint8; expected \[50000, 32, 32, 3\] uint8",
        ),
        ("snow", (50_000, 32, 32, 3), np.float32, r"holds \[50000, 32, 32, 3\] float32; expected .* uint8"),
        ("labels", (10_000,), np.uint8, r"holds \[10000\] uint8; expected \[50000\] uint8"),
        ("labels", (50_000,), np.float64, r"holds \[50000\] float64; expected \[50000\] uint8"),
    ],
)
def test_a_file_of_cifar10_c_that_does_not_fit_is_named(cifar10_c, name, shape, dtype, message):
    write_npy(cifar10_c / f"{name}.npy", shape, dtype)
    with pytest.raises(DataError, match=f"{name}.npy {message}"):
        load_cifar10_c("fog", 1, 1)


def test_a_corrupt_file_of_cifar10_c_is_named(cifar10_c):
    labels = np.lib.format.open_memmap(cifar10_c / "labels.npy", mode="r+")
    labels[7] = 10
    labels.flush()
    with pytest.raises(DataError, match=r"labels.npy holds label 10; expected 0 to 9"):
        load_cifar10_c("fog", 1, 1)
    half = (cifar10_c / "snow.npy").open("r+b")
    half.truncate(1000)
    with pytest.raises(DataError, match=r"snow.npy cannot be read \(.*\); expected \[50000, 32, 32, 3\] uint8"):
        load_cifar10_c("fog", 1, 1)
    half.truncate(0)
    with pytest.raises(DataError, match=r"snow.npy cannot be read"):
        load_cifar10_c("fog", 1, 1)
    half.close()
    np.save(cifar10_c / "snow.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"snow.npy cannot be read"):
        load_cifar10_c("fog", 1, 1)
    with (cifar10_c / "snow.npy").open("wb") as archive:
        np.savez(archive, images=np.zeros(3))
    with pytest.raises(DataError, match=r"snow.npy cannot be read"):
        load_cifar10_c("fog", 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rain", 1, 1), "unknown corruption 'rain'; allowed: gaussian_noise, shot_noise"),
        (("fog", 0, 1), "severity must be a whole number from 1 to 5, got 0"),
        (("fog", 1.0, 1), "severity must be a whole number from 1 to 5, got 1.0"),
        (("fog", 1, 2), r"channels must be 1 \(gray\) or 3 \(colour\), got 2"),
    ],
)
def test_bad_arguments_of_cifar10_c(cifar10_c, arguments, message):
    with pytest.raises(DataError, match=message):
        load_cifar10_c(*arguments)

"""The published CIFAR-10-C files."""

import numpy as np
import pytest
import torch
from PIL import Image

from simreg_core.lab.cifar10_c import load_cifar10_c
from simreg_core.lab.image_files import (
    DataError,
    has_cifar10_c,
)
from simreg_core.names import CORRUPTIONS

pytestmark = pytest.mark.usefixtures("folder")


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


def write_npy(path, shape, dtype=np.uint8):
    """An array of zeros that takes no room: the file has holes."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)

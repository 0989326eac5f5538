"""The published CIFAR-10-C files, from the folder CIFAR-10-C in the data folder."""

from pathlib import Path

import numpy as np
from PIL import Image

from simreg_core.corruptions import check_corruption
from simreg_core.lab.image_files import CIFAR10_SIZE, DataError, data_folder
from simreg_core.lab.images import ImageSet, image_set
from simreg_core.lab.pictures import as_channels
from simreg_core.names import CORRUPTIONS

CIFAR10_C_SOURCE = "https://zenodo.org/records/2535967"
CIFAR10_C_BLOCK = 10_000  # images of one severity; a file holds the five severities in order
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def check_cifar10_c() -> None:
    """Raise DataError for the first of the 16 files of CIFAR-10-C that is missing or does not fit; decodes none."""
    _cifar10_c_files()


def load_cifar10_c(corruption: str, severity: int, channels: int) -> ImageSet:
    """The 10,000 CIFAR-10 test images under one corruption, from the published CIFAR-10-C files.

    corruption: one of `corruptions.CORRUPTIONS`.  severity: 1 to 5.  channels: 1 (gray, PIL's 'L') or 3.
    Returns images [10000, channels, 32, 32] uint8 in the order of CIFAR-10's test set.
    Raises DataError for another corruption, severity or channel number, and for any of the 16 files (15 corruptions
    and the labels) that is missing, unreadable or of another shape or type.
    Source: Hendrycks & Dietterich (2019), https://zenodo.org/records/2535967.
    """
    try:
        check_corruption(corruption, severity)
    except ValueError as error:
        raise DataError(str(error)) from error
    if channels not in (1, 3):
        raise DataError(f"channels must be 1 (gray) or 3 (colour), got {channels}")
    files = _cifar10_c_files()
    block = slice((severity - 1) * CIFAR10_C_BLOCK, severity * CIFAR10_C_BLOCK)
    pictures = np.stack([as_channels(Image.fromarray(picture), channels) for picture in files[corruption][block]])
    name = f"CIFAR-10-C/{corruption}/{severity}"
    return image_set(name, "test", pictures, files["labels"][block], CIFAR10_CLASSES)


def _cifar10_c_files() -> dict[str, np.ndarray]:
    """All files of CIFAR-10-C, mapped into memory but not read, the labels excepted."""
    root = data_folder() / "CIFAR-10-C"
    if not root.is_dir():
        raise DataError(f"CIFAR-10-C is not in the data folder: {root} is missing; get it from {CIFAR10_C_SOURCE}")
    images = 5 * CIFAR10_C_BLOCK
    files = {name: _mapped(root / f"{name}.npy", (images, *CIFAR10_SIZE, 3), "uint8") for name in CORRUPTIONS}
    labels = np.array(_mapped(root / "labels.npy", (images,), "uint8"))
    if labels.max() >= len(CIFAR10_CLASSES):
        raise DataError(f"{root / 'labels.npy'} holds label {labels.max()}; expected 0 to {len(CIFAR10_CLASSES) - 1}")
    return files | {"labels": labels}


def _mapped(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    expected = f"expected {list(shape)} {dtype}"
    if not path.is_file():
        raise DataError(f"{path} is missing; {expected}")
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # np.load would take an archive or a pickle too
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {expected}") from error
    if array.shape != shape or array.dtype != dtype:
        raise DataError(f"{path} holds {list(array.shape)} {array.dtype}; {expected}")
    return array

"""Named image sets as uint8 tensors with labels and a checksum.

Bundled, no download: 'photos', 'photos-foreign', 'digits'. Through torchvision, downloaded with its
checksums: 'cifar10', 'cifar100', 'mnist', 'fashion-mnist'. Any other name is a folder of that name
in the data folder: NAME/train/CLASS/*.png and NAME/test/CLASS/*.png (or NAME/CLASS/*.png, all one split).
The published CIFAR-10-C files are read from the folder CIFAR-10-C in the data folder, by `load_cifar10_c`.
The data folder is `$SIMREG_DATA`, else `data` in the project's folder.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from simreg_core.corruptions import CORRUPTIONS, check_corruption
from simreg_core.lab.folders import folder_of

SPLITS = ("train", "validation", "test")
TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
TORCHVISION_COUNTS = {  # training, test
    "cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000),
    "mnist": (60_000, 10_000), "fashion-mnist": (60_000, 10_000),
}  # fmt: skip
BUNDLED = ("photos", "photos-foreign", "digits")
CIFAR10_C_SOURCE = "https://zenodo.org/records/2535967"
CIFAR10_SIZE = (32, 32)
CIFAR10_C_BLOCK = 10_000  # images of one severity; a file holds the five severities in order
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

TASK_PHOTOS = (
    "brick", "cat", "china", "coins", "flower",
    "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "motorcycle",
)  # fmt: skip
FOREIGN_PHOTOS = ("astronaut", "camera", "cell", "coffee", "moon", "retina", "rocket")
SPLIT_SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
PATCHES_A_PHOTO = {"train": 400, "validation": 100, "test": 100}
FOREIGN_PATCHES_A_PHOTO = 300
LEAST_CONTRAST = 12  # s.d. of gray levels: a flat patch (sky, backdrop) could come from any photograph
TRIES_FOR_CONTRAST = 50
PHOTO_SHRINK = 2  # at full size 16 pixels of a photograph hold little but blur


class DataError(ValueError):
    """An image set that is unknown, missing, corrupt or does not fit; the message names it."""


@dataclass(frozen=True)
class ImageSet:
    """Images with labels.

    name: as given to `load_image_set`.  split: 'train', 'validation' or 'test'.
    images: [n, c, h, w] uint8.  labels: [n] int64.  classes: a name for each label.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def pixels(self) -> Tensor:
        """The images as float32 in [0, 1], [n, c, h, w]."""
        return self.images.float() / 255

    @property
    def checksum(self) -> str:
        """First 16 hex digits of SHA-256 over the shape, pixels and labels."""
        return checksum_of(self.images, self.labels)

    @property
    def is_sorted(self) -> bool:
        """Whether the images come class by class."""
        return bool((self.labels[1:] >= self.labels[:-1]).all())

    def first(self, count: int) -> "ImageSet":
        """The first `count` images; of a set sorted by class, as many evenly spread over it."""
        if count > len(self):
            raise DataError(f"{count} images are asked for, but '{self.name}' has {len(self)} for this")
        return self.take(_spread(len(self), count) if self.is_sorted else torch.arange(count))

    def balanced(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices of a random choice of `count` images with equal numbers of each class, in ascending order.

        Where classes do not divide the count, the first classes have one image more.
        Raises DataError for fewer images than classes, and for a class that has too few.
        """
        classes = len(self.classes)
        if count < classes:
            raise DataError(f"{count} images of '{self.name}' cannot hold each of its {classes} classes")
        chosen = []
        for label in range(classes):
            own = (self.labels == label).nonzero().flatten()
            share = count // classes + (label < count % classes)
            if share > len(own):
                raise DataError(
                    f"{count} images with equal classes need {share} of class '{self.classes[label]}', but "
                    f"'{self.name}' has {len(own)} of it"
                )
            chosen.append(own[torch.randperm(len(own), generator=generator)[:share]])
        return torch.cat(chosen).sort().values

    def take(self, indices: Tensor) -> "ImageSet":
        """The images of these indices, in this order."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])


def checksum_of(first: Tensor, *others: Tensor) -> str:
    """First 16 hex digits of SHA-256 over the first tensor's shape and the values of all."""
    digest = hashlib.sha256(repr(tuple(first.shape)).encode())
    for tensor in (first, *others):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def data_folder() -> Path:
    """Where downloads go and folders of images are looked for."""
    return folder_of("SIMREG_DATA")


def _spread(total: int, count: int) -> Tensor:
    return torch.linspace(0, total - 1, count, dtype=torch.float64).round().long()


def count_images(name: str, split: str) -> int:
    """Number of images of a set, found without decoding a folder or downloading.  Raises DataError as loading does."""
    if name in TORCHVISION:
        return TORCHVISION_COUNTS[name][split == "test"]
    if name in BUNDLED:
        return len(load_image_set(name, split))
    return len(_folder_files(name, split)[0])


@lru_cache(maxsize=16)  # several experiments of one worker share a set; nothing writes to it
def load_image_set(
    name: str, split: str, size: tuple[int, int] | None = None, channels: int = 1, count: int | None = None
) -> ImageSet:
    """An image set by name.

    split: 'train', 'validation' or 'test'; only 'photos' has validation images of its own.
    size: (height, width); None keeps the set's own size. Photos are cut to it, others resized.
    channels: 1 (gray, PIL's 'L') or 3.
    count: as many of its images as `ImageSet.first` gives; of a folder only these are read.
    Raises DataError for an unknown set, split or channel number, too few images, and missing or corrupt files.
    """
    if split not in SPLITS:
        raise DataError(f"unknown split '{split}'; allowed: {', '.join(SPLITS)}")
    if channels not in (1, 3):
        raise DataError(f"channels must be 1 (gray) or 3 (colour), got {channels}")
    if size is not None and min(size) < 8:
        raise DataError(f"size must be at least 8 pixels a side, got {size[0]}x{size[1]}")
    if name in ("photos", "photos-foreign"):
        images = _photos(name, split, size or (16, 16), channels)
    elif name == "digits":
        images = _digits(split, size, channels)
    elif name in TORCHVISION:
        images = _torchvision(name, split, size, channels)
    else:
        return _folder(name, split, size, channels, count)
    return images if count is None else images.first(count)


def has_cifar10_c() -> bool:
    """Whether the data folder holds a folder CIFAR-10-C (what is in it is checked by `check_cifar10_c`)."""
    return (data_folder() / "CIFAR-10-C").is_dir()


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
    pictures = np.stack([_as_channels(Image.fromarray(picture), channels) for picture in files[corruption][block]])
    name = f"CIFAR-10-C/{corruption}/{severity}"
    return _image_set(name, "test", pictures, files["labels"][block], CIFAR10_CLASSES)


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


def _photos(name: str, split: str, size: tuple[int, int], channels: int) -> ImageSet:
    """Patches of bundled photographs; the label is the photograph. Splits come from disjoint blocks."""
    foreign = name == "photos-foreign"
    if foreign and split != "train":
        raise DataError(f"'{name}' is a regularization set: it has no {split} images")
    photographs = FOREIGN_PHOTOS if foreign else TASK_PHOTOS
    images, labels = [], []
    for label, photograph in enumerate(photographs):
        generator = np.random.default_rng(label)  # part of the set's definition: the same cuts everywhere
        picture = _photograph(photograph, channels)
        patches = _patches(picture, size, None if foreign else split, generator)
        images.append(patches)
        labels.append(np.full(len(patches), label))
    return _image_set(name, split, np.concatenate(images), np.concatenate(labels), photographs)


def _photograph(name: str, channels: int) -> np.ndarray:
    """One bundled photograph at half size, [c, h, w] float in [0, 255]."""
    from skimage import data, transform
    from sklearn.datasets import load_sample_image

    if name in ("china", "flower"):
        picture = load_sample_image(f"{name}.jpg")
    elif name == "motorcycle":
        picture = data.stereo_motorcycle()[0]
    else:
        picture = getattr(data, name)()
    picture = _as_channels(Image.fromarray(picture), channels).astype(np.float64)
    return transform.downscale_local_mean(picture, (1, PHOTO_SHRINK, PHOTO_SHRINK))


def _patches(picture: np.ndarray, size: tuple[int, int], split: str | None, generator) -> np.ndarray:
    """Patches [n, c, h, w] uint8 at random places inside the blocks of a split (None: all blocks)."""
    height, width = (2 * side for side in size)  # a block is two patches a side
    corners = [
        (top, left)
        for top in range(0, picture.shape[1] - height + 1, height)
        for left in range(0, picture.shape[2] - width + 1, width)
    ]
    if len(corners) < len(SPLITS):
        raise DataError(f"photos are too small for patches of {size[0]}x{size[1]}; at most 32x32 fits")
    corners = [corners[i] for i in generator.permutation(len(corners))]
    count = FOREIGN_PATCHES_A_PHOTO
    if split is not None:
        ends = np.cumsum([max(1, round(SPLIT_SHARES[s] * len(corners))) for s in SPLITS[:-1]])
        bounds = dict(zip(SPLITS, zip([0, *ends], [*ends, len(corners)], strict=True), strict=True))
        corners = corners[slice(*bounds[split])]
        count = PATCHES_A_PHOTO[split]
    return np.stack([_patch(picture, corners, size, generator) for _ in range(count)]).round().astype(np.uint8)


def _patch(picture: np.ndarray, corners: list, size: tuple[int, int], generator) -> np.ndarray:
    """One patch at a random place of a random block, drawn again while it is flat."""
    for _ in range(TRIES_FOR_CONTRAST):
        top, left = corners[generator.integers(len(corners))]
        top += generator.integers(size[0] + 1)
        left += generator.integers(size[1] + 1)
        patch = picture[:, top : top + size[0], left : left + size[1]]
        if patch.mean(axis=0).std() >= LEAST_CONTRAST:
            break
    return patch


def _digits(split: str, size: tuple[int, int] | None, channels: int) -> ImageSet:
    """scikit-learn's 8x8 handwritten digits: the first 1,297 are for training, the last 500 for test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    part = slice(None, 1297) if split == "train" else slice(1297, None)
    if split == "validation":
        raise DataError("'digits' has no validation images of its own; take them from 'train'")
    pictures = [
        _as_channels(_resized(Image.fromarray(picture), size), channels)
        for picture in (digits.images[part] * 255 / 16).round().astype(np.uint8)
    ]
    return _image_set("digits", split, np.stack(pictures), digits.target[part], tuple("0123456789"))


def _torchvision(name: str, split: str, size: tuple[int, int] | None, channels: int) -> ImageSet:
    from torchvision import datasets

    if split == "validation":
        raise DataError(f"'{name}' has no validation images of its own; take them from 'train'")
    folder = data_folder()
    try:
        dataset = getattr(datasets, TORCHVISION[name])(folder, train=split == "train", download=True)
    except Exception as error:  # torchvision raises whatever its download or unpacking meets
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"image set '{name}' could not be had in {folder}: {reason}") from error
    pictures = np.stack(
        [_as_channels(_resized(Image.fromarray(np.asarray(picture)), size), channels) for picture in dataset.data]
    )
    return _image_set(name, split, pictures, np.asarray(dataset.targets), tuple(dataset.classes))


def _class_names(tree: Path) -> list[str]:
    return sorted(path.name for path in tree.iterdir() if path.is_dir() and not path.name.startswith("."))


def has_validation(name: str) -> bool:
    """Whether a set has validation images of its own."""
    return name == "photos" or (name not in (*BUNDLED, *TORCHVISION) and (data_folder() / name / "validation").is_dir())


def _folder_files(name: str, split: str) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """Files with labels, class by class, and the classes' names."""
    root = data_folder() / name
    if not root.is_dir():
        known = ", ".join((*BUNDLED, *TORCHVISION))
        raise DataError(
            f"unknown image set '{name}'; allowed: {known}, or a folder of that name in {data_folder()}: put images "
            f"there as {name}/train/CLASS/*.png (or .jpg), or set SIMREG_DATA to the folder that holds {name}/"
        )
    has_splits = any((root / s).is_dir() for s in SPLITS)
    tree = root / split if has_splits else root
    if not tree.is_dir() or (not has_splits and split != "train"):
        raise DataError(f"image set '{name}' has no {split} images: {root / split} is missing")
    # the training images name the classes, so that a label means the same in every split
    classes = _class_names(root / "train" if (root / "train").is_dir() else tree)
    if unknown := sorted(set(_class_names(tree)) - set(classes)):
        raise DataError(f"image set '{name}' has {split} images of class '{unknown[0]}' but no training images of it")
    files = [
        (path, label)
        for label, class_name in enumerate(classes)
        if (tree / class_name).is_dir()
        for path in sorted((tree / class_name).iterdir())
        if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
    ]
    if not files:
        raise DataError(f"image set '{name}' is empty: no class folder with images in {tree}")
    return files, tuple(classes)


def _folder(name: str, split: str, size: tuple[int, int] | None, channels: int, count: int | None) -> ImageSet:
    """A folder-per-class tree in the data folder."""
    files, classes = _folder_files(name, split)
    if count is not None:
        if count > len(files):
            raise DataError(f"{count} images are asked for, but '{name}' has {len(files)} for this")
        files = [files[index] for index in _spread(len(files), count).tolist()]
    pictures = [_read(path, size, channels) for path, _ in files]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        a, b = sorted(shapes)[:2]
        raise DataError(
            f"image set '{name}' mixes image sizes ({a[1]}x{a[2]} and {b[1]}x{b[2]}); give a size to resize to"
        )
    return _image_set(name, split, np.stack(pictures), np.array([label for _, label in files]), classes)


def _read(path: Path, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            # decoded to RGB before gray, as torchvision's loaders do
            return _as_channels(_resized(picture.convert("RGB"), size), channels)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"image file {path} cannot be read: {error}") from error


def _resized(picture: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """Centre crop to the wanted proportions, then an antialiased resize."""
    if size is None or picture.size == size[::-1]:
        return picture
    height, width = size
    scale = min(picture.width / width, picture.height / height)
    crop = (round(width * scale), round(height * scale))
    left, top = (picture.width - crop[0]) // 2, (picture.height - crop[1]) // 2
    return picture.crop((left, top, left + crop[0], top + crop[1])).resize(
        (width, height), Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BICUBIC
    )


def _as_channels(picture: Image.Image, channels: int) -> np.ndarray:
    """[c, h, w] uint8."""
    if channels == 1:
        return np.asarray(picture.convert("L"))[None]
    return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


def _image_set(name: str, split: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> ImageSet:
    return ImageSet(
        name, split, torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)), classes
    )

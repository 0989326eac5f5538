"""Named image sets as uint8 tensors with labels and a checksum.

Bundled, no download: 'photos', 'photos-foreign', 'digits'. Through torchvision, downloaded with its
checksums: 'cifar10', 'cifar100', 'mnist', 'fashion-mnist'. Any other name is a folder of that name
in the data folder. The published CIFAR-10-C files are read from the folder CIFAR-10-C in the data folder, by
`load_cifar10_c`. The data folder is `$SIMREG_DATA`, else `data` in the project's folder.

`lab.image_files` says which files of a folder are read.

How a file becomes pixels:
- It is turned upright as its EXIF orientation says, put on white where it is transparent, and converted to RGB by
  Pillow (CMYK and YCbCr too). Colour profiles are not applied. Gray is Pillow's 'L' of the resized RGB picture.
- Of 16 bits the upper 8 are kept, in gray as in colour.
- Refused, with the file's name: levels without a known white (32-bit integers, floats, 12 bits), a transparent colour
  at another depth than 8 bits, several pictures in one file (animations, pages), and what Pillow cannot read.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from simreg_core.corruptions import check_corruption
from simreg_core.lab.image_files import (
    BUNDLED,
    CIFAR10_SIZE,
    DIGITS_FOR_TRAINING,
    FOREIGN_PATCHES_A_PHOTO,
    FOREIGN_PHOTOS,
    PATCHES_A_PHOTO,
    SPLITS,
    TASK_PHOTOS,
    TORCHVISION,
    DataError,
    check_split,
    data_folder,
    folder_files,
    some_of,
)
from simreg_core.names import CORRUPTIONS

CIFAR10_C_SOURCE = "https://zenodo.org/records/2535967"
CIFAR10_C_BLOCK = 10_000  # images of one severity; a file holds the five severities in order
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

SPLIT_SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
LEAST_CONTRAST = 12  # s.d. of gray levels: a flat patch (sky, backdrop) could come from any photograph
TRIES_FOR_CONTRAST = 50
PHOTO_SHRINK = 2  # at full size 16 pixels of a photograph hold little but blur

ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BACKGROUND = "white"  # of transparent pictures, as on a page


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
        return self.take(spread(len(self), count) if self.is_sorted else torch.arange(count))

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


def spread(total: int, count: int) -> Tensor:
    """`count` indices of `total`, evenly spread, first and last among them."""
    return torch.linspace(0, total - 1, count, dtype=torch.float64).round().long()


def labels_of(name: str) -> ImageSet:
    """The training images of a bundled set, or of a folder but without their pixels: no file is decoded."""
    if name in BUNDLED:
        return load_image_set(name, "train")
    files, classes = folder_files(name, "train")
    return ImageSet(name, "train", torch.empty(len(files), 0), torch.tensor([label for *_, label in files]), classes)


@lru_cache(maxsize=16)  # several experiments of one worker share a set; nothing writes to it
def load_image_set(
    name: str, split: str, size: tuple[int, int] | None = None, channels: int = 1, count: int | None = None
) -> ImageSet:
    """An image set by name.

    split: 'train', 'validation' or 'test'; of the named sets, only 'photos' has validation images of its own.
    size: (height, width); None keeps the set's own size. Photos are cut to it, others resized.
    channels: 1 (gray, PIL's 'L') or 3.
    count: as many of its images as `ImageSet.first` gives; of a folder only these are read.
    Raises DataError for an unknown set, split or channel number, too few images, missing or corrupt files, and what
    this module's text names as an error.  Warns of files in a folder that are not read.
    """
    check_split(name, split)
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
    """scikit-learn's 8x8 handwritten digits: the first are for training, the last 500 for test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    part = slice(None, DIGITS_FOR_TRAINING) if split == "train" else slice(DIGITS_FOR_TRAINING, None)
    pictures = [
        _as_channels(_resized(Image.fromarray(picture), size), channels)
        for picture in (digits.images[part] * 255 / 16).round().astype(np.uint8)
    ]
    return _image_set("digits", split, np.stack(pictures), digits.target[part], tuple("0123456789"))


def _torchvision(name: str, split: str, size: tuple[int, int] | None, channels: int) -> ImageSet:
    from torchvision import datasets

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


def _folder(name: str, split: str, size: tuple[int, int] | None, channels: int, count: int | None) -> ImageSet:
    """A folder-per-class tree in the data folder."""
    files, classes = folder_files(name, split)
    files = some_of(name, files, count)
    pictures = [_read(folder / file_name, size, channels) for folder, file_name, _ in files]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        a, b = sorted(shapes)[:2]
        raise DataError(
            f"image set '{name}' mixes image sizes ({a[1]}x{a[2]} and {b[1]}x{b[2]}); give a size to resize to"
        )
    return _image_set(name, split, np.stack(pictures), np.array([label for *_, label in files]), classes)


def _read(path: Path, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """One image file, [c, h, w] uint8: the only place where files are decoded."""
    try:
        # an open file, not its name: Pillow maps a named TIFF into memory, and scrambles one that lies on its side
        with path.open("rb") as file, Image.open(file) as picture:
            # RGB before gray, as torchvision's loaders do
            return _as_channels(_resized(_as_rgb(picture), size), channels)
    except Exception as error:  # Pillow raises whatever it meets in a broken file
        raise DataError(f"image file {path} cannot be read: {error or type(error).__name__}") from error


def _as_rgb(picture: Image.Image) -> Image.Image:
    """A file's picture as it is meant to be seen, in mode RGB.  Raises ValueError where that is not known."""
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # a camera's MPO holds the photograph first, then aids to show it
        raise ValueError(f"it holds {frames} pictures; save each as a file of its own")
    stored = picture.tile[0][3] if picture.tile else None
    if picture.format == "PNG" and "transparency" in picture.info and picture.mode != "P" and stored != picture.mode:
        raise ValueError("it has a transparent colour, but not 8 bits; save it with an alpha channel, or opaque")
    picture.load()  # turns a TIFF upright, and takes its tag away
    rgb = _eight_bits(picture) if picture.mode[0] in "IF" else _on_background(picture)
    return rgb.transpose(UPRIGHT[turn]) if (turn := _orientation(picture)) in UPRIGHT else rgb


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Gray of more than 8 bits, in mode RGB: the upper 8 of 16 bits, which Pillow would clip at 255."""
    is_16_bit = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
    if picture.format == "TIFF":
        bits, meaning = picture.tag_v2.get(258), picture.tag_v2.get(262)
        is_16_bit = is_16_bit and bits == (16,) and meaning == 1  # 1: 0 is black
    if not is_16_bit:
        raise ValueError(f"it holds levels without a known white (Pillow's mode {picture.mode}); save it with 8 bits")
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")


def _on_background(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, BACKGROUND), picture).convert("RGB")


def _orientation(picture: Image.Image) -> int | None:
    """The EXIF orientation, 1 to 8; None where there is none, or none that can be read."""
    try:
        return picture.getexif().get(ORIENTATION)
    except Exception:  # Pillow raises whatever it meets; broken EXIF does not make the pixels unreadable
        return None


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

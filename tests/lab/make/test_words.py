"""Experiments in words."""

from simreg_core.lab.make.words import describe
from simreg_core.lab.recipes import experiment


def test_words(tiny):
    control = experiment(tiny, "S^Th", 1, alpha=0.0, pairs="low")
    assert describe(control) == (
        "gray digits 16x16, resnet10 width 2, 2 epochs, S^Th of pairs 'low', no loss, Th 0.5, k 4, 40 images of digits"
    )

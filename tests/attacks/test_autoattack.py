"""AutoAttack against exact answers on linear networks, and beside other attacks."""

import warnings

import pytest
import torch
from attacked import fooled
from torch import nn

from simreg_core import attacks
from simreg_core.attacks import NORMS


@pytest.fixture
def images(middle_images):
    return middle_images


@pytest.fixture
def labels(middle_labels):
    return middle_labels


@pytest.mark.parametrize("norm", NORMS)
def test_autoattack_equals_the_exact_robust_accuracy(norm, linear, images, labels):
    """Within half a point (one of 200 images) of what the weights say, at 95 % clean accuracy."""
    exact = linear.distance(images, labels, norm)
    epsilon = exact.median().item()
    assert epsilon < 0.3  # else a pixel might meet its bounds
    result = attacks.autoattack(linear, images, labels, epsilon, norm=norm, queries=200, seed=0)
    robust = 1 - fooled(linear, result, labels).float().mean()
    assert abs(robust - (exact > epsilon).float().mean()) <= 0.005 + 1e-6


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.5)])
def test_autoattack_agrees_with_other_attacks_on_a_network(norm, epsilon, digits):
    network, x, y = (each[:100] if isinstance(each, torch.Tensor) else each for each in digits)
    result = attacks.autoattack(network, x, y, epsilon, norm=norm, steps=40, targets=3, queries=20, seed=0)
    others = attacks.pgd(network, x, y, epsilon, norm=norm, steps=40, restarts=5, seed=0).fooled
    for smallest in (
        attacks.deep_fool(network, x, y, norm=norm),
        attacks.minimum_norm(network, x, y, norm=norm, seed=0),
    ):
        others = others | (getattr(smallest, norm) <= epsilon)
    assert abs(fooled(network, result, y).float().mean() - others.float().mean()) <= 0.01
    assert 0.3 < others.float().mean() < 0.7


def test_autoattack_passes_its_warnings_on(digits):
    network, x, y = digits

    class Probabilities(nn.Module):
        def forward(self, pixels):
            return network(pixels).softmax(dim=1)

    with pytest.warns(UserWarning, match="AutoAttack says: it seems that the output is a probability distribution"):
        attacks.autoattack(Probabilities().eval(), x[:20], y[:20], 0.1, norm="linf", steps=2, queries=2, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attacks.autoattack(network, x[:20], y[:20], 0.1, norm="linf", steps=5, queries=2, seed=0)


def test_autoattack_needs_four_classes(linear_classifier, images):
    y = linear_classifier(images).argmax(dim=1)
    with pytest.raises(ValueError, match="needs at least 4 classes, got 2"):
        attacks.autoattack(linear_classifier, images, y, 0.1, norm="linf", seed=0)

"""The smallest perturbations against exact distances on linear networks."""

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
def test_smallest_perturbations_meet_the_analytic_distance(norm, linear, images, labels):
    exact = linear.distance(images, labels, norm)
    right = exact > 0
    for attack, worst in (
        (attacks.minimum_norm(linear, images, labels, norm=norm, seed=0), 1.05),
        (attacks.deep_fool(linear, images, labels, norm=norm), 1.05),
        (attacks.hop_skip_jump(linear, images, labels, norm=norm, steps=12, seed=0), 1.6),
    ):
        assert not attack.failed.any()
        assert fooled(linear, attack, labels).all()
        size = getattr(attack, norm)
        assert (size[~right] == 0).all()
        ratio = size[right] / exact[right]
        assert ratio.min() >= 1 - 1e-3
        assert ratio.median() <= worst


def test_carlini_wagner_meets_the_analytic_distance(linear, images, labels):
    result = attacks.carlini_wagner(linear, images[10:30], labels[10:30], steps=300, binary_search_steps=5, seed=0)
    assert not result.failed.any()
    ratio = result.l2 / linear.distance(images[10:30], labels[10:30], "l2")
    assert ratio.min() >= 1 - 1e-3
    assert ratio.median() <= 1.1


def test_few_values_suffice_under_l0(digits):
    network, x, y = digits
    result = attacks.minimum_norm(network, x, y, norm="l0", seed=0)
    assert torch.equal(fooled(network, result, y), ~result.failed)
    assert not result.failed.any()
    assert result.l0.median() <= 5
    assert result.l0.max() <= 20


def test_images_that_nothing_fools_have_failed(images):
    class Certain(nn.Module):
        def forward(self, x):
            score = x.mean(dim=(1, 2, 3)) + 0.1
            return torch.stack([-score, score], dim=1)

    y = torch.ones(4, dtype=torch.long)
    arguments = Certain().eval(), images[:4], y
    for result in (
        *(attacks.minimum_norm(*arguments, norm=norm, seed=0) for norm in ("linf", "l2", "l0")),
        attacks.deep_fool(*arguments),
        attacks.hop_skip_jump(*arguments, steps=2, directions=5, seed=0),
        attacks.carlini_wagner(*arguments, steps=5, binary_search_steps=2, seed=0),
    ):
        assert result.failed.all()
        assert result.l2.isinf().all()
        assert torch.equal(result.adversarial, images[:4])

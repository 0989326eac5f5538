"""MI-FGSM on several surrogates."""

import pytest
import torch
from attacked import Linear
from torch.nn import functional as F

from simreg_core import attacks


@pytest.fixture
def images(middle_images):
    return middle_images


@pytest.fixture
def labels(middle_labels):
    return middle_labels


def test_momentum_follows_the_mean_logits_of_the_surrogates(images, labels):
    """The sign of the gradient of the summed loss, on linear networks; a network alone and twice are the same."""
    first, second = Linear().eval(), Linear().eval()
    second.weight.data = second.weight.data.roll(1, dims=1)
    once, twice = (attacks.momentum_transfer([first] * n, images, labels, 0.02, 4) for n in (1, 2))
    torch.testing.assert_close(once.adversarial, twice.adversarial)
    one_step = attacks.momentum_transfer([first, second], images, labels, 0.02, 1)
    x = images.clone().requires_grad_()
    F.cross_entropy((first(x) + second(x)) / 2, labels).backward()
    torch.testing.assert_close(one_step.perturbations, 0.02 * x.grad.sign(), atol=1e-6, rtol=0)
    assert (once.linf <= 0.02 + 1e-6).all()

"""Auto-PGD: sizes, bounds, and what it finds."""

import pytest
import torch
from torch import nn

from simreg_core import attacks


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.03), ("l2", 0.3), ("l1", 1.5)])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_perturbations_stay_within_epsilon_and_fool(digits, norm, epsilon, loss):
    network, images, labels = digits
    found = attacks.apgd(network, images, labels, epsilon, norm=norm, loss=loss, steps=15, seed=0)
    sizes = found.perturbations.flatten(1).double().norm({"linf": torch.inf, "l2": 2, "l1": 1}[norm], dim=1)
    assert sizes.max() <= epsilon + 1e-4
    assert sizes.max() > 0.9 * epsilon
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    clean, left = ((network(x).argmax(dim=1) == labels).float().mean() for x in (images, found.adversarial))
    assert left < clean - 0.02
    again = attacks.apgd(network, images, labels, epsilon, norm=norm, loss=loss, steps=15, seed=0)
    assert torch.equal(again.adversarial, found.adversarial)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.03), ("l2", 0.3), ("l1", 1.5)])
def test_for_a_transfer_every_image_is_pushed_on(digits, norm, epsilon):
    """Also those that the network misclassifies by itself, and those that it cannot be made to."""
    network, images, labels = digits
    labels = torch.where(torch.arange(len(labels)) < 5, (labels + 1) % 10, labels)
    settings = {"norm": norm, "steps": 10, "seed": 0}
    left, pushed = (
        attacks.apgd(network, images, labels, epsilon, early_leave=early, **settings) for early in (True, False)
    )
    loss = [nn.functional.cross_entropy(network(x), labels, reduction="none") for x in (images, pushed.adversarial)]
    assert not left.perturbations[:5].any()
    assert left.perturbations.flatten(1).any(dim=1).float().mean() < 0.9
    assert pushed.perturbations.flatten(1).any(dim=1).all()
    assert (loss[1] > loss[0]).float().mean() > 0.9
    sizes = pushed.perturbations.flatten(1).double().norm({"linf": torch.inf, "l2": 2, "l1": 1}[norm], dim=1)
    assert sizes.max() <= epsilon + 1e-4


def test_no_epsilon_no_change(digits):
    network, images, labels = digits
    assert torch.equal(attacks.apgd(network, images, labels, 0.0, steps=2, seed=0).adversarial, images)


def test_sparse_steps_find_more_under_l1_than_a_rescaled_walk(digits):
    """The source's L1 attack steps along the gradient and rescales: no steepest ascent."""
    network, images, labels = digits
    epsilon, x = 2.0, images.clone()
    for _ in range(15):
        _, _, gradient = attacks.door.input_gradient(network, x, labels)
        x = x + epsilon / 8 * gradient / gradient.abs().sum(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
        moved = x - images
        x = images + moved * (epsilon / moved.abs().sum(dim=(1, 2, 3), keepdim=True).clamp_min(epsilon))
        x = x.clamp(0, 1)
    ours = attacks.apgd(network, images, labels, epsilon, norm="l1", steps=15, seed=0).adversarial
    theirs, found = ((network(one).argmax(dim=1) == labels).float().mean() for one in (x, ours))
    assert found < theirs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "l0"}, "unknown norm 'l0'; allowed: linf, l2, l1"),
        ({"loss": "margin"}, "unknown loss 'margin'; allowed: ce, dlr"),
        ({"epsilon": 1000, "norm": "l1"}, r"epsilon must lie in \[0, 64\]"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_what_cannot_be(digits, changes, message):
    network, images, labels = digits
    settings = {"epsilon": 0.1, "steps": 2, "seed": 0, **changes}
    with pytest.raises(ValueError, match=message):
        attacks.apgd(network, images, labels, settings.pop("epsilon"), **settings)

"""FGSM (Goodfellow et al. 2015), made on one network to be shown to another, in the two protocols."""

import torch
from torch import Tensor, nn

from simreg_core.attacks import door
from simreg_core.attacks.result import AttackResult, checked, never_fails
from simreg_core.numbers import as_numbers


def fgsm_direction(surrogate: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256) -> Tensor:
    """Sign of the gradient of the surrogate's cross-entropy at the true labels.

    surrogate, images, labels: see `door.opened`.
    Returns [n, c, h, w] in {-1, 0, +1}; one gradient serves every epsilon.
    Raises ValueError as `door.opened`, and for gradients that are missing or not finite.
    """
    with door.opened(surrogate, images, labels, seed=0, batch_size=batch_size) as (model, images, labels):
        parts = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        return torch.cat([door.finite_gradient(model, x, y).sign() for x, y in parts])


def transferred_fgsm(images: Tensor, direction: Tensor, epsilon: float, *, protocol: str) -> AttackResult:
    """One step of size epsilon along `fgsm_direction`, to be shown to another network.

    images: [n, c, h, w] in [0, 1].  epsilon: L-infinity size, in [0, 1].
    direction: same shape, in {-1, 0, +1}, on any device.
    protocol: 'released' scales the step by the range of all images and clamps to it (the released code does so
        batch by batch); 'strict' clamps to [0, 1].
    Raises ValueError for an epsilon, protocol, direction or pixels outside their bounds, or shapes that differ.
    """
    images = checked(images, epsilon, protocol)
    direction = as_numbers(direction, "direction").detach()
    if direction.shape != images.shape:
        raise ValueError(f"direction {list(direction.shape)} and images {list(images.shape)} differ in shape")
    if not torch.equal(direction, direction.sign()):  # NaN is not equal to itself
        raise ValueError("direction must hold -1, 0 and +1 only, as `fgsm_direction` gives it")
    direction = direction.to(images)
    low, high = (images.min(), images.max()) if protocol == "released" else (0.0, 1.0)
    return never_fails(images, (images + epsilon * (high - low) * direction).clamp(low, high))

"""The ball of perturbations around an image: random points in it, and the nearest point of it."""

import torch
from torch import Tensor


def random_point(images: Tensor, epsilon: float, norm: str, generator: torch.Generator) -> Tensor:
    """Uniform in the ball of the norm around each image, then clamped to [0, 1]."""
    options = {"generator": generator, "device": images.device, "dtype": images.dtype}
    if norm == "linf":
        moved = epsilon * (2 * torch.rand(images.shape, **options) - 1)
    else:
        radius = torch.rand((len(images), 1, 1, 1), **options) ** (1 / images[0].numel())
        moved = to_length(torch.randn(images.shape, **options), epsilon * radius)
    return (images + moved).clamp(0, 1)


def project(x: Tensor, images: Tensor, epsilon: float, norm: str) -> Tensor:
    """The nearest point that is within epsilon of the image; then clamped to [0, 1], which brings it nearer still."""
    moved = x - images
    if norm == "linf":
        moved = moved.clamp(-epsilon, epsilon)
    else:
        moved = to_length(moved, moved.flatten(1).norm(dim=1).clamp(max=epsilon)[:, None, None, None])
    return (images + moved).clamp(0, 1)


def to_length(x: Tensor, length: float | Tensor) -> Tensor:
    """Each of x, [b, c, h, w], scaled to an L2 length; zeros stay zeros."""
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(tiny)  # squares of small gradients would underflow
    return length * x / x.flatten(1).norm(dim=1).clamp_min(tiny)[:, None, None, None]

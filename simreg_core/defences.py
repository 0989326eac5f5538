"""Defences to compare with: adversarial training, noise augmentation, and a blur in front of the network.

Images are [b, c, h, w], float in [0, 1], also where a network blurs or normalizes inside itself.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core import attacks, door

TRADES_START = 1e-3  # standard deviation of TRADES' first move: at the image itself its gradient is zero


def pgd_adversarial_examples(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    epsilon: float,
    step_size: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """L-infinity PGD examples of a batch, to be trained on in its place (Madry et al. 2018).

    x: [b, c, h, w] in [0, 1].  y: [b], integers.
    epsilon: in [0, 1].  step_size: > 0, sign steps.  steps: at least 1.
    generator: of the uniform start in the ball; on the device of x.
    The network is in eval mode while the examples are made (batch norm with its running statistics, which stay as
    they are) and in its own modes again afterwards; its gradients are left alone.
    Returns [b, c, h, w] in [0, 1] without gradient.
    Raises ValueError for pixels, epsilon, step_size or steps out of bounds, labels that are no integers or not one for
    each image, and a model that is no module or returns no logits [b, at least 2 classes].
    """
    x, y = _checked(x, y, epsilon, step_size, steps)
    start = x + epsilon * (2 * torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype) - 1)
    with _eval_mode(model):
        return _ascend(x, start, lambda at: F.cross_entropy(_logits(model, at), y), epsilon, step_size, steps)


def trades_loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    epsilon: float,
    step_size: float,
    steps: int,
    beta: float,
    generator: torch.Generator,
) -> Tensor:
    """TRADES (Zhang et al. 2019): cross-entropy of the images + beta * KL(p(image) || p(perturbed image)).

    The perturbed images maximize the KL within epsilon under L-infinity, from a small Gaussian start. They are made
    in eval mode, as in `pgd_adversarial_examples`; the loss itself is computed in the network's own mode, with a
    pass for the images and then one for the perturbed ones (in training mode batch norm follows both).
    beta: at least 0; 6 in Zhang et al. for CIFAR-10. Other arguments and errors as `pgd_adversarial_examples`.
    Returns a scalar, mean over the batch.
    """
    images, y = _checked(x, y, epsilon, step_size, steps)
    if not beta >= 0:
        raise ValueError(f"beta must be at least 0, got {beta:g}")
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    with _eval_mode(model):
        with torch.no_grad():
            clean = _logits(model, images).log_softmax(dim=1)
        start = images + TRADES_START * noise
        perturbed = _ascend(images, start, lambda at: _divergence(clean, _logits(model, at)), epsilon, step_size, steps)
    logits = _logits(model, x)
    return F.cross_entropy(logits, y) + beta * _divergence(logits.log_softmax(dim=1), _logits(model, perturbed))


def noisy(x: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Gaussian-noise augmentation: x + deviation * N(0, 1), clamped to [0, 1].

    Arguments and errors as `attacks.gaussian_noise`, whose strict protocol it is.
    """
    return attacks.gaussian_noise(x, deviation, protocol="strict", generator=generator).adversarial


class GaussianBlur(nn.Module):
    """A fixed Gaussian blur as front end, for example nn.Sequential(GaussianBlur(), network).

    sigma: > 0, in pixels; 1.5 in Li et al. (2023). The kernel reaches ceil(2.5 * sigma) pixels to each side and the
    image goes on circularly outside itself. [b, c, h, w] -> the same; h and w at least the reach.
    """

    def __init__(self, sigma: float = 1.5):
        super().__init__()
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.sigma, self.reach = sigma, math.ceil(2.5 * sigma)
        weights = torch.exp(-torch.arange(-self.reach, self.reach + 1).square() / (2 * sigma**2))
        self.register_buffer("weights", weights / weights.sum(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < self.reach:
            raise ValueError(f"this blur needs {self.reach} pixels a side, got {x.shape[2]}x{x.shape[3]}")
        channels, line = x.shape[1], self.weights.to(x).repeat(x.shape[1], 1, 1)
        x = F.pad(x, (self.reach,) * 4, mode="circular")
        x = F.conv2d(x, line[:, :, None, :], groups=channels)
        return F.conv2d(x, line[:, :, :, None], groups=channels)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"


def _ascend(
    x: Tensor, start: Tensor, loss: Callable[[Tensor], Tensor], epsilon: float, step_size: float, steps: int
) -> Tensor:
    low, high = (x - epsilon).clamp_min(0), (x + epsilon).clamp_max(1)
    at = start.clamp(low, high).detach()
    for _ in range(steps):
        at.requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(at), at)
        at = (at.detach() + step_size * gradient.sign()).clamp(low, high)
    return at


def _divergence(log_clean: Tensor, logits: Tensor) -> Tensor:
    return F.kl_div(logits.log_softmax(dim=1), log_clean, reduction="batchmean", log_target=True)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode within; each module's own mode after."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module that returns logits, got {type(model).__name__}")
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    return door.as_logits(model(x), len(x))


def _checked(x: Tensor, y: Tensor, epsilon: float, step_size: float, steps: int) -> tuple[Tensor, Tensor]:
    """Images without a graph, and labels as int64. The network is not asked here: every step would pay for it."""
    door.check_pixels(x)
    attacks.check_epsilon(epsilon)
    if not step_size > 0:
        raise ValueError(f"step_size must be positive, got {step_size:g}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return x.detach(), door.class_labels(y, x)

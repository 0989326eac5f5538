"""Adversarial training: PGD (Madry et al. 2018) and TRADES (Zhang et al. 2019).

Images are [b, c, h, w], float in [0, 1], also where a network blurs or normalizes inside itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simreg_core.defences.base import TASK, Rule, Stage, cross_entropy
from simreg_core.later import Later

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch, nn = Later("torch"), Later("torch.nn")

F = Later("torch.nn.functional")
door, result = Later("simreg_core.attacks.door"), Later("simreg_core.attacks.result")
networks, pixels = Later("simreg_core.model"), Later("simreg_core.pixels")

STEP_SIZE = 2.5  # of a training's attack, times epsilon over its steps
TRADES_START = 1e-3  # standard deviation of TRADES' first move: at the image itself its gradient is zero


@dataclass(frozen=True)
class _Attacked(Rule):
    epsilon: float
    steps: int = 10

    def __post_init__(self):
        check_strength(self.epsilon)
        if self.steps < 1:  # not `check_counts`, whose room needs torch
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    @property
    def step_size(self) -> float:
        return STEP_SIZE * self.epsilon / self.steps

    def passes(self) -> float:
        return self.steps


@dataclass(frozen=True)
class PGDTraining(_Attacked):
    """Trained on PGD examples in place of the images, see `pgd_adversarial_examples`.

    epsilon: L-infinity size, in (0, 1].  steps: of the attack, each of size 2.5 * epsilon / steps.
    warm_up: share of the training, in (0, 1), during which epsilon grows from 0; a large epsilon from the beginning can
        keep a small network at chance. Its last weights then count: those that are best on clean images would be early
        ones. None: no warm-up.
    """

    warm_up: float | None = field(default=None, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        if self.warm_up is not None and not 0 < self.warm_up < 1:
            raise ValueError(f"warm_up must lie in (0, 1), got {self.warm_up:g}")

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        return (Stage(epochs, ends_with="best" if self.warm_up is None else "last"),)

    def losses(
        self, network: nn.Module, x: Tensor, y: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        grown = 1.0 if self.warm_up is None else min(progress / self.warm_up, 1.0)
        sizes = (grown * self.epsilon, grown * self.step_size)
        attacked = pgd_adversarial_examples(network, x, y, *sizes, self.steps, generator) if grown else x
        return {TASK: cross_entropy(network, attacked, y)}

    def words(self) -> str:
        return f"trained on pgd images, epsilon {self.epsilon:g}"


@dataclass(frozen=True)
class TradesTraining(_Attacked):
    """Trained with `trades_loss`.

    epsilon, steps: as of `PGDTraining`.  beta: weight of the divergence, at least 0.
    """

    beta: float = field(kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        if not self.beta >= 0:
            raise ValueError(f"beta must be at least 0, got {self.beta:g}")

    def losses(
        self, network: nn.Module, x: Tensor, y: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        return {TASK: trades_loss(network, x, y, self.epsilon, self.step_size, self.steps, self.beta, generator)}

    def words(self) -> str:
        return f"trained on trades images, epsilon {self.epsilon:g}"


def check_strength(epsilon: float) -> None:
    """Raises ValueError for an epsilon of a training outside (0, 1]."""
    if not 0 < epsilon <= 1:
        raise ValueError(f"epsilon must lie in (0, 1], pixels are in [0, 1]; got {epsilon:g}")


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
    they are) and in the modes it had again afterwards; its gradients stay as they are.
    Returns [b, c, h, w] in [0, 1] without gradient.
    Raises ValueError for pixels, epsilon, step_size or steps out of bounds, labels that are no integers or not as
    many as images, and a model that is no module or returns no logits [b, at least 2 classes].
    """
    x, y = _checked(model, x, y, epsilon, step_size, steps)
    start = x + epsilon * (2 * torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype) - 1)
    with networks.in_eval_mode(model):
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
    in eval mode, as in `pgd_adversarial_examples`; the loss itself is computed in the mode that the network has, with a
    pass for the images and then a pass for the perturbed images (in training mode batch norm follows both).
    beta: at least 0; 6 in Zhang et al. for CIFAR-10. Other arguments and errors as `pgd_adversarial_examples`.
    Returns a scalar, mean over the batch.
    """
    images, y = _checked(model, x, y, epsilon, step_size, steps)
    if not beta >= 0:
        raise ValueError(f"beta must be at least 0, got {beta:g}")
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    with networks.in_eval_mode(model):
        with torch.no_grad():
            clean = _logits(model, images).log_softmax(dim=1)
        start = images + TRADES_START * noise
        perturbed = _ascend(images, start, lambda at: _divergence(clean, _logits(model, at)), epsilon, step_size, steps)
    logits = _logits(model, x)
    return F.cross_entropy(logits, y) + beta * _divergence(logits.log_softmax(dim=1), _logits(model, perturbed))


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


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    return door.as_logits(model(x), len(x))


def _checked(
    model: nn.Module, x: Tensor, y: Tensor, epsilon: float, step_size: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Images without a graph, and labels as int64. No pass through the network: every step would pay for it."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module that returns logits, got {type(model).__name__}")
    pixels.check_pixels(x)
    result.check_epsilon(epsilon)
    if not step_size > 0:
        raise ValueError(f"step_size must be positive, got {step_size:g}")
    result.check_counts(steps=steps)
    return x.detach(), door.class_labels(y, x)

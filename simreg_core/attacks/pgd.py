"""Projected gradient descent, PGD (Madry et al. 2018), under L-infinity and L2."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from simreg_core.attacks import door
from simreg_core.attacks.ball import project, random_point, to_length
from simreg_core.attacks.result import AttackResult, attackable, check_counts, check_norm, check_size


@dataclass(frozen=True)
class PGDResult(AttackResult):
    """An `AttackResult` with what tells whether the attack could work.

    loss: [steps + 1] mean cross-entropy at the start and after each step of the first restart, over the images that
        were attacked; an image that has left keeps its last loss.
    fooled: [n] bool; images that the network misclassified where the attack saw them last.
    zero_gradients, nan_gradients: share, over all images and steps, of input gradients that were zero in every
        pixel, or not finite in some.
    """

    loss: Tensor
    fooled: Tensor
    zero_gradients: float
    nan_gradients: float


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    norm: str = "linf",
    steps: int,
    restarts: int = 1,
    step_size: float | None = None,
    random_start: bool = True,
    early_leave: bool = True,
    start: Tensor | None = None,
    seed: int,
    batch_size: int = 256,
) -> PGDResult:
    """Projected gradient ascent on the cross-entropy (Madry et al. 2018); the worst case over restarts, per image.

    step_size: 2.5 * epsilon / steps where None, so that the walk can cross the ball (Madry et al. 2018). Under 'l2' it
        may still stop short of the worst point, half way round the ball: restarts or larger steps find it.
    random_start: uniform in the ball. Without it one step of size epsilon under 'linf' is FGSM.
    early_leave: an image stops once it is fooled. False for a transfer: every image, also an image that the surrogate
        misclassifies by itself, is pushed on through all steps and restarts, to where its loss was largest.
    start: [n, c, h, w], where the first restart begins: what another attack has found, say. It is projected into the
        ball.
    seed: of the starts; they do not depend on batch_size.
    Raises ValueError as the package says, and for steps or restarts below 1, a step_size <= 0, an unknown norm or
    a start of another shape.
    """
    check_norm(norm)
    check_counts(steps=steps, restarts=restarts, batch_size=batch_size)
    with door.opened(model, images, labels, seed=seed, batch_size=batch_size) as (model, images, labels):
        check_size(images, epsilon, norm)
        if start is not None and start.shape != images.shape:
            raise ValueError(f"start must have the images' shape, {list(images.shape)}, got {list(start.shape)}")
        step_size = 2.5 * epsilon / steps if step_size is None else step_size
        if not step_size > 0 and epsilon > 0:
            raise ValueError(f"step_size must be positive, got {step_size:g}")
        generator = torch.Generator(images.device).manual_seed(seed)
        ascent = _Ascent(norm, epsilon, step_size, steps, early_leave)
        everyone = torch.arange(len(images), device=images.device)
        attacked = attackable(model, images, labels, batch_size) if early_leave else everyone
        fooled = torch.ones(len(images), dtype=torch.bool, device=images.device)
        fooled[attacked] = False
        worst = _Worst(images.clone(), torch.full_like(labels, -math.inf, dtype=images.dtype), fooled)
        walks = []
        for restart in range(restarts):
            starts = random_point(images, epsilon, norm, generator) if random_start else images
            if start is not None and restart == 0:
                starts = project(start.to(images), images, epsilon, norm)
            left = attacked[~worst.fooled[attacked]] if early_leave else attacked
            for part in left.split(batch_size):
                walks.append(ascent.walk(model, images[part], labels[part], starts[part]))
                worst.update(part, walks[-1].worst)
    return _result(images, worst, walks, len(attacked))


class _Worst(NamedTuple):
    """The worst seen of each image: adversarial [b, c, h, w], loss [b], fooled [b]; fooled goes before loss."""

    adversarial: Tensor
    loss: Tensor
    fooled: Tensor

    def update(self, part: Tensor, seen: "_Worst") -> None:
        """Takes over, in place, what is worse than before.  part: [p] the images seen."""
        worse = seen.fooled & ~self.fooled[part]
        worse |= (seen.fooled == self.fooled[part]) & (seen.loss > self.loss[part])
        for kept, new in zip(self, seen, strict=True):
            kept[part[worse]] = new[worse]


class _Walk(NamedTuple):
    """What one restart made of b images: the worst iterate, loss [steps + 1, b], and counts of gradients."""

    worst: _Worst
    loss: Tensor
    gradients: int
    zero: int
    nan: int


def _result(images: Tensor, worst: _Worst, walks: list[_Walk], attacked: int) -> PGDResult:
    first = torch.cat([walk.loss for walk in walks], dim=1)[:, :attacked]  # the first restart sees them all
    gradients = sum(walk.gradients for walk in walks)
    return PGDResult(
        images,
        worst.adversarial,
        torch.zeros_like(worst.fooled),
        math.nan,
        loss=first.mean(dim=1),
        fooled=worst.fooled,
        zero_gradients=sum(walk.zero for walk in walks) / gradients,
        nan_gradients=sum(walk.nan for walk in walks) / gradients,
    )


class _Ascent(NamedTuple):
    norm: str
    epsilon: float
    step_size: float
    steps: int
    early_leave: bool

    def walk(self, model: nn.Module, images: Tensor, labels: Tensor, starts: Tensor) -> _Walk:
        x, active = starts.clone(), torch.arange(len(images), device=images.device)
        loss = torch.full_like(labels, -math.inf, dtype=images.dtype)
        worst = _Worst(starts.clone(), loss.clone(), torch.zeros_like(labels, dtype=torch.bool))
        trace, gradients, zero, nan = [], 0, 0, 0
        for step in range(self.steps + 1):
            if len(active):
                logits, losses, gradient = door.input_gradient(model, x[active], labels[active])
                loss[active] = losses
                wrong = logits.argmax(dim=1) != labels[active]
                worst.update(active, _Worst(x[active], losses, wrong))
                finite = gradient.flatten(1).isfinite().all(dim=1)
                zero += (gradient.flatten(1) == 0).all(dim=1).sum().item()
                nan += (~finite).sum().item()
                gradients += len(active)
                if step < self.steps:
                    gradient = gradient.nan_to_num(0, 0, 0)  # counted above; the rest of the batch continues
                    x[active] = self._step(x[active], images[active], gradient)
                if self.early_leave:
                    active = active[~wrong]
            trace.append(loss.clone())
        return _Walk(worst, torch.stack(trace), gradients, zero, nan)

    def _step(self, x: Tensor, images: Tensor, gradient: Tensor) -> Tensor:
        direction = gradient.sign() if self.norm == "linf" else to_length(gradient, 1.0)
        return project(x + self.step_size * direction, images, self.epsilon, self.norm)

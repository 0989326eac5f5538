"""Auto-PGD (Croce & Hein 2020; under L1, Croce & Hein 2021): PGD that chooses its own step sizes."""

import warnings

import torch
from torch import Tensor, nn

from simreg_core.attacks import door
from simreg_core.attacks.result import AttackResult, attackable, check_counts, check_epsilon, check_size, never_fails
from simreg_core.numbers import torchs_defaults

LOSSES = ("ce", "dlr")
_LIBRARY_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}  # as pyautoattack writes them


def apgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    norm: str = "linf",
    loss: str = "ce",
    steps: int = 100,
    restarts: int = 1,
    early_leave: bool = True,
    seed: int,
    batch_size: int = 256,
) -> AttackResult:
    """Auto-PGD by the library pyautoattack, along whatever gradient the network gives.

    norm: 'linf', 'l2', or 'l1', where its steps are sparse, its projection is exact and includes the pixels' bounds,
        and it begins in larger balls, as in AutoAttack.
    epsilon: under 'l1' the sum of all changes, up to the number of pixels.
    loss: 'ce', or 'dlr', the difference of logits ratio, which the scale of the logits does not change.
    early_leave: only images that the network classifies rightly are attacked, and those that are not fooled come back
        as they were. False for a transfer: every image comes back where its loss was largest; under 'l1' the walk then
        stays in the ball from its beginning.
    Raises ValueError as the package says, for an unknown norm or loss, and under 'dlr' for fewer than 3 classes.
    """
    from pyautoattack.autopgd_base import APGDAttack

    check_counts(steps=steps, restarts=restarts, batch_size=batch_size)
    for name, value, allowed in (("norm", norm, tuple(_LIBRARY_NORMS)), ("loss", loss, LOSSES)):
        if value not in allowed:
            raise ValueError(f"unknown {name} '{value}'; allowed: {', '.join(allowed)}")
    with door.opened(model, images, labels, seed=seed, batch_size=batch_size) as (model, images, labels):
        if norm == "l1":
            check_epsilon(epsilon, float(images[0].numel()))
        else:
            check_size(images, epsilon, norm)
        if loss == "dlr" and model.classes < 3:
            raise ValueError(f"the loss 'dlr' needs at least 3 classes, got {model.classes}; use 'ce'")
        adversarial = images.clone()
        everyone = torch.arange(len(images), device=images.device)
        attacked = attackable(model, images, labels, batch_size) if early_leave else everyone
        for index, part in enumerate(attacked.split(batch_size) if epsilon > 0 else ()):
            door.finite_gradient(model, images[part], labels[part])
            attack = APGDAttack(
                model,
                n_iter=steps,
                norm=_LIBRARY_NORMS[norm],
                n_restarts=restarts,
                eps=epsilon,
                seed=seed + index,
                loss=loss,
                device=images.device,
                use_largereps=norm == "l1" and early_leave,
            )
            with warnings.catch_warnings(), torchs_defaults(images.device):
                warnings.simplefilter("ignore")  # of zero gradients: pgd counts them
                found = attack.perturb(images[part].float(), labels[part], best_loss=not early_leave)
            found = found.detach().to(images)
            adversarial[part] = torch.where(found == images[part].float(), images[part], found)
    return never_fails(images, adversarial)

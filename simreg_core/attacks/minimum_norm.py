"""Attacks that look for the smallest perturbation that fools the network."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from simreg_core.attacks import door
from simreg_core.attacks.boundary import starting_points
from simreg_core.attacks.result import AttackResult, attackable, check_counts, check_gradients, check_norm
from simreg_core.names import DIRECTIONS

if TYPE_CHECKING:
    from foolbox.attacks.base import MinimizationAttack


def minimum_norm(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    norm: str = "linf",
    steps: int = 100,
    seed: int,
    batch_size: int = 256,
) -> AttackResult:
    """The smallest perturbation that fools the network: the shorter, per image, of two fast attacks of foolbox.

    norm: 'linf' takes FMN (Pintor et al. 2021) and DeepFool, 'l2' DDN (Rony et al. 2019) and DeepFool, 'l0' (number
        of changed values, each by any amount) FMN only.
        DDN, as foolbox 3.3.4 never projects in its FMN under L2: its perturbations were twice as long.
        DeepFool too, as FMN's steps may end on the border itself, where nothing is fooled yet.
    steps: of FMN or DDN.
    An image that neither fools has failed: infinitely far.
    """
    from foolbox import attacks as foolbox_attacks

    from simreg_core.attacks.mended_foolbox import L0FMN

    check_counts(steps=steps, batch_size=batch_size)
    fast = {"linf": foolbox_attacks.LInfFMNAttack, "l2": foolbox_attacks.DDNAttack, "l0": L0FMN}
    if norm not in fast:
        raise ValueError(f"unknown norm '{norm}'; allowed: {', '.join(fast)}")
    result = _minimized(fast[norm](steps=steps), model, images, labels, seed, batch_size)
    if norm == "l0":
        return result
    other = deep_fool(model, images, labels, norm=norm, seed=seed, batch_size=batch_size)
    shorter = getattr(other, norm) < getattr(result, norm)
    adversarial = torch.where(shorter[:, None, None, None], other.adversarial, result.adversarial)
    return AttackResult(result.originals, adversarial, result.failed & other.failed, math.inf)


def deep_fool(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int = 50,
    seed: int = 0,
    batch_size: int = 256,
) -> AttackResult:
    """DeepFool (Moosavi-Dezfooli et al. 2016) by foolbox, with its overshoot of 2 %; it draws no random numbers."""
    from foolbox.attacks import L2DeepFoolAttack, LinfDeepFoolAttack

    check_norm(norm)
    check_counts(steps=steps, batch_size=batch_size)
    kinds = {"linf": LinfDeepFoolAttack, "l2": L2DeepFoolAttack}
    return _minimized(kinds[norm](steps=steps), model, images, labels, seed, batch_size)


def carlini_wagner(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int = 1000,
    binary_search_steps: int = 9,
    seed: int,
    batch_size: int = 256,
) -> AttackResult:
    """Carlini & Wagner (2017), L2, by foolbox: slow, and a reference for `minimum_norm`.

    steps: of Adam, for each of binary_search_steps values of the constant. With few it overshoots: 100 steps and 5
        constants gave perturbations one and a half times as long on a small network.
    """
    from foolbox.attacks import L2CarliniWagnerAttack

    check_counts(steps=steps, binary_search_steps=binary_search_steps, batch_size=batch_size)
    attack = L2CarliniWagnerAttack(steps=steps, binary_search_steps=binary_search_steps)
    return _minimized(attack, model, images, labels, seed, batch_size)


def hop_skip_jump(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int = 64,
    directions: int = DIRECTIONS,
    seed: int,
    batch_size: int = 64,
) -> AttackResult:
    """HopSkipJump (Chen et al. 2020) by foolbox: decisions only; minimizes the norm of the perturbation.

    steps: each asks the network 100 times the root of its number, and some 25 times more.
    directions: uniform-noise images tried as a start; an image for which none is misclassified has failed.
    batch_size: memory grows with it; 100 * sqrt(steps) copies of a batch are held at once.
    """
    check_norm(norm)
    check_counts(steps=steps, directions=directions, batch_size=batch_size)
    from simreg_core.attacks.mended_foolbox import HopSkipJump

    start = partial(starting_points, directions=directions)
    attack = HopSkipJump(steps=steps, constraint=norm)
    return _minimized(attack, model, images, labels, seed, batch_size, start)


def _minimized(
    attack: "MinimizationAttack",
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    seed: int,
    batch_size: int,
    start: Callable | None = None,
) -> AttackResult:
    """Runs a minimization of foolbox on the images that are classified correctly.

    start: (wrapped network, images, labels) -> starting points and which were found, for an attack that wants them;
        the others follow gradients.
    """
    from foolbox import PyTorchModel

    opened = door.opened(model, images, labels, seed=seed, batch_size=batch_size, same_twice=True)
    with opened as (model, images, labels):
        attacked = attackable(model, images, labels, batch_size)
        if start is None:
            check_gradients(model, images[attacked], labels[attacked], batch_size)
        wrapped = PyTorchModel(model, bounds=(0, 1), device=images.device)
        adversarial, failed = images.clone(), torch.zeros_like(labels, dtype=torch.bool)
        for part in attacked.split(batch_size):
            failed[part], options = True, {}
            if start is not None:
                starts, found = start(wrapped, images[part], labels[part])
                part, options = part[found], {"starting_points": starts[found]}
            if len(part):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # foolbox warns of failures; they are counted here
                    result = attack.run(wrapped, images[part], labels[part], **options)
                fooled = (wrapped(result).argmax(dim=1) != labels[part]) & result.flatten(1).isfinite().all(dim=1)
                adversarial[part[fooled]], failed[part[fooled]] = result[fooled].detach(), False
    return AttackResult(images, adversarial, failed, math.inf)

"""AutoAttack (Croce & Hein 2020), and its part that asks for scores only, Square (Andriushchenko et al. 2020)."""

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from simreg_core.attacks import door
from simreg_core.attacks.result import (
    AttackResult,
    attackable,
    check_counts,
    check_gradients,
    check_norm,
    check_size,
    never_fails,
)
from simreg_core.numbers import torchs_defaults

if TYPE_CHECKING:
    from pyautoattack import AutoAttack

AUTOATTACK_VERSIONS = ("standard", "plus", "rand")
AUTOATTACK_STEPS, AUTOATTACK_TARGETS, AUTOATTACK_QUERIES = 100, 9, 5000  # of the standard version
_LIBRARY_NORMS = {"linf": "Linf", "l2": "L2"}  # as pyautoattack writes them


def autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    norm: str,
    version: str = "standard",
    steps: int = AUTOATTACK_STEPS,
    targets: int = AUTOATTACK_TARGETS,
    queries: int = AUTOATTACK_QUERIES,
    seed: int,
    batch_size: int = 256,
) -> AttackResult:
    """AutoAttack (Croce & Hein 2020) by the library pyautoattack.

    version: 'standard' (APGD on the cross-entropy and, targeted, on DLR, FAB, Square), 'plus', or 'rand' for a
        network that draws random numbers.
    steps, targets, queries: of APGD and FAB, classes each aims at, and of Square. With less than the defaults it is
        weaker than the published attack and must not be called by its name. Never more targets than other classes.
    The library's warnings are passed on as Python warnings, once each.
    Raises ValueError as the package says, and for fewer than 4 classes, which its targeted loss needs.
    """
    from pyautoattack import AutoAttack  # here, as below: few attacks need it

    check_norm(norm)
    check_counts(steps=steps, targets=targets, queries=queries, batch_size=batch_size)
    if version not in AUTOATTACK_VERSIONS:
        raise ValueError(f"unknown version '{version}'; allowed: {', '.join(AUTOATTACK_VERSIONS)}")
    with door.opened(model, images, labels, seed=seed, batch_size=batch_size) as (model, images, labels):
        check_size(images, epsilon, norm)
        adversarial = images.clone()
        attacked = attackable(model, images, labels, batch_size)
        check_gradients(model, images[attacked], labels[attacked], batch_size)
        if model.classes < 4:
            raise ValueError(f"AutoAttack needs at least 4 classes, got {model.classes}; use pgd and square instead")
        if epsilon > 0:
            x = images[attacked].float()  # all that it takes
            with _library_warnings("auto-attack"), torchs_defaults(images.device):
                attack = AutoAttack(
                    model, device=images.device, eps=epsilon, norm=_LIBRARY_NORMS[norm], seed=seed, version=version
                )
                _set_budget(attack, steps, min(targets, model.classes - 1), queries)
                found, _ = attack.run_standard_evaluation(x, labels[attacked], batch_size=batch_size)
            adversarial[attacked] = torch.where(found == x, images[attacked], found.to(images))
    return never_fails(images, adversarial)


def _set_budget(attack: "AutoAttack", steps: int, targets: int, queries: int) -> None:
    for part in (attack.apgd, attack.apgd_targeted):
        part.n_iter = part.n_iter_orig = steps
        # APGD's moments of step control, which it derives from its steps when it is made
        part.n_iter_2, part.n_iter_min, part.size_decr = (max(int(f * steps), 1) for f in (0.22, 0.06, 0.03))
    attack.fab.n_iter = steps
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    attack.square.n_queries = queries


class _Messages(logging.Handler):
    """Keeps what is logged, once for all batches, which differ in their numbers."""

    def __init__(self, level: int):
        super().__init__(level)
        self.found: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.found.setdefault(re.sub(r"\d+", "", record.getMessage()), record.getMessage())


@contextmanager
def _library_warnings(name: str) -> Iterator[None]:
    """Turns what the library logs into warnings; puts back the trace function that its checks take away."""
    messages, logger, trace = _Messages(logging.WARNING), logging.getLogger(name), sys.gettrace()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(messages)
    try:
        yield
    finally:
        logger.removeHandler(messages)
        logger.propagate = propagate
        sys.settrace(trace)
    for message in messages.found.values():
        warnings.warn(f"AutoAttack says: {message}", stacklevel=4)


def square(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    norm: str = "linf",
    queries: int = AUTOATTACK_QUERIES,
    restarts: int = 1,
    seed: int,
    batch_size: int = 256,
) -> AttackResult:
    """Square attack (Andriushchenko et al. 2020) by pyautoattack: random squares, scores only, no gradients.

    queries: of each restart; the schedule of square sizes is scaled to them.
    Raises ValueError as the package says, and under 'l2' for images with fewer than 5 pixels a side.
    """
    from pyautoattack.square import SquareAttack

    check_norm(norm)
    check_counts(queries=queries, restarts=restarts, batch_size=batch_size)
    opened = door.opened(model, images, labels, seed=seed, batch_size=batch_size)
    with opened as (model, images, labels), torch.no_grad(), torchs_defaults(images.device):
        check_size(images, epsilon, norm)
        if norm == "l2" and min(images.shape[2:]) < 5:
            raise ValueError(f"square under 'l2' needs 5 pixels a side, got {images.shape[2]}x{images.shape[3]}")
        adversarial = images.clone()
        attacked = attackable(model, images, labels, batch_size)
        for index, part in enumerate(attacked.split(batch_size)):
            attack = SquareAttack(
                model,
                norm=_LIBRARY_NORMS[norm],
                n_queries=queries,
                eps=epsilon,
                n_restarts=restarts,
                seed=seed + index,  # else every batch would see the same squares
                device=images.device,
            )
            if epsilon > 0:
                adversarial[part] = attack.perturb(images[part], labels[part])
    return never_fails(images, adversarial)

"""White-box attacks, transfer with momentum, AutoAttack, and the query attacks to compare them with.

Every function takes images [n, c, h, w], float in [0, 1], their true labels [n], integers, and networks in eval mode
that return logits, and leaves the global random state, the networks' weights and their gradients alone. An image that
the network misclassifies without an attack is already fooled: it comes back unchanged. Sizes are in pixel units:
epsilon bounds the largest change of a pixel for 'linf', the Euclidean length of the whole perturbation for 'l2'.

Every function raises ValueError as `door.opened`, for an epsilon out of bounds, and, but for `momentum_transfer`,
where no image is classified correctly: then there is nothing to attack. Those that follow gradients raise it too where
the logits carry none, and, but for `pgd`, which counts them, where some are not finite. Those that search for the
smallest perturbation refuse a network that says that it draws random numbers.
"""

import logging
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import eagerpy
import torch
from foolbox import PyTorchModel
from foolbox import attacks as foolbox_attacks
from pyautoattack import AutoAttack
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from simreg_core import attacks, door
from simreg_core.attacks import AttackResult

NORMS = ("linf", "l2")
AUTOATTACK_VERSIONS = ("standard", "plus", "rand")
AUTOATTACK_STEPS, AUTOATTACK_TARGETS, AUTOATTACK_QUERIES = 100, 9, 5000  # of the standard version
_LIBRARY_NORMS = {"linf": "Linf", "l2": "L2"}  # as pyautoattack writes them


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
    seed: int,
    batch_size: int = 256,
) -> PGDResult:
    """Projected gradient ascent on the cross-entropy (Madry et al. 2018); the worst case over restarts, per image.

    step_size: 2.5 * epsilon / steps where None, so that the walk can cross the ball (Madry et al. 2018). Under 'l2' it
        may still stop short of the worst point, half way round the ball: restarts or larger steps find it.
    random_start: uniform in the ball. Without it one step of size epsilon under 'linf' is FGSM.
    early_leave: an image stops once it is fooled. False for a transfer: every image, also one that the surrogate
        misclassifies by itself, is pushed on through all steps and restarts, to where its loss was largest.
    seed: of the starts; they do not depend on batch_size.
    Raises ValueError as said above, and for steps or restarts below 1, a step_size <= 0 or an unknown norm.
    """
    _check_norm(norm)
    _check_counts(steps=steps, restarts=restarts, batch_size=batch_size)
    with door.opened(model, images, labels, seed=seed, batch_size=batch_size) as (model, images, labels):
        _check_epsilon(images, epsilon, norm)
        step_size = 2.5 * epsilon / steps if step_size is None else step_size
        if not step_size > 0 and epsilon > 0:
            raise ValueError(f"step_size must be positive, got {step_size:g}")
        generator = torch.Generator(images.device).manual_seed(seed)
        ascent = _Ascent(norm, epsilon, step_size, steps, early_leave)
        attacked = _attackable(model, images, labels, batch_size)
        if not early_leave:
            attacked = torch.arange(len(images), device=images.device)
        fooled = torch.ones(len(images), dtype=torch.bool, device=images.device)
        fooled[attacked] = False
        worst = _Worst(images.clone(), torch.full_like(labels, -math.inf, dtype=images.dtype), fooled)
        walks = []
        for _ in range(restarts):
            starts = _random_start(images, epsilon, norm, generator) if random_start else images
            left = attacked[~worst.fooled[attacked]] if early_leave else attacked
            for part in left.split(batch_size):
                walks.append(ascent.walk(model, images[part], labels[part], starts[part]))
                worst.update(part, walks[-1].worst)
    first = torch.cat([walk.loss for walk in walks], dim=1)[:, : len(attacked)]  # the first restart sees them all
    gradients = sum(walk.gradients for walk in walks)
    return PGDResult(
        images,
        worst.adversarial,
        torch.zeros_like(fooled),
        math.nan,
        loss=first.mean(dim=1),
        fooled=worst.fooled,
        zero_gradients=sum(walk.zero for walk in walks) / gradients,
        nan_gradients=sum(walk.nan for walk in walks) / gradients,
    )


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
                    gradient = gradient.nan_to_num(0, 0, 0)  # counted above; the rest of the batch goes on
                    x[active] = self._step(x[active], images[active], gradient)
                if self.early_leave:
                    active = active[~wrong]
            trace.append(loss.clone())
        return _Walk(worst, torch.stack(trace), gradients, zero, nan)

    def _step(self, x: Tensor, images: Tensor, gradient: Tensor) -> Tensor:
        direction = gradient.sign() if self.norm == "linf" else _to_length(gradient, 1.0)
        return _project(x + self.step_size * direction, images, self.epsilon, self.norm)


def momentum_transfer(
    surrogates: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    steps: int,
    decay: float = 1.0,
    *,
    seed: int = 0,
    batch_size: int = 256,
) -> AttackResult:
    """MI-FGSM (Dong et al. 2018) on the mean logits of several surrogates, to be shown to another network.

    surrogates: one or more networks of the same task.  epsilon: L-infinity size, reached in `steps` equal steps.
    decay: of the accumulated gradient, each of which is first scaled to a mean absolute value of 1; at least 0.
    seed: matters only for surrogates that draw random numbers themselves.
    Raises ValueError as said above, and for no surrogates, or surrogates with different numbers of classes.
    """
    if callable(surrogates) and not isinstance(surrogates, nn.ModuleList):
        raise ValueError(f"surrogates must be a list of networks, got one {type(surrogates).__name__}")
    _check_counts(surrogates=len(surrogates), steps=steps, batch_size=batch_size)
    if not decay >= 0:
        raise ValueError(f"decay must be at least 0, got {decay:g}")
    ensemble = _MeanLogits(surrogates)
    with door.opened(ensemble, images, labels, seed=seed, batch_size=batch_size) as (ensemble, images, labels):
        _check_epsilon(images, epsilon, "linf")
        adversarial = images.clone()
        for part in torch.arange(len(images), device=images.device).split(batch_size):
            x, momentum = images[part], torch.zeros_like(images[part])
            for _ in range(steps):
                gradient = door.finite_gradient(ensemble, x, labels[part])
                mean = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
                momentum = decay * momentum + gradient / mean.clamp_min(torch.finfo(x.dtype).tiny)
                x = _project(x + epsilon / steps * momentum.sign(), images[part], epsilon, "linf")
            adversarial[part] = x
    return attacks.never_fails(images, adversarial)


class _MeanLogits(nn.Module):
    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(door.Classifier(network) for network in networks).eval()
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        logits = [network(x) for network in self.networks]
        if len({each.shape[1] for each in logits}) > 1:
            raise ValueError(
                f"the surrogates must be of one task, got {', '.join(str(each.shape[1]) for each in logits)} classes"
            )
        return torch.stack(logits).mean(dim=0)


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
    The library's own warnings are passed on as Python warnings, once each.
    Raises ValueError as said above, and for fewer than 4 classes, which its targeted loss needs.
    """
    _check_norm(norm)
    _check_counts(steps=steps, targets=targets, queries=queries, batch_size=batch_size)
    if version not in AUTOATTACK_VERSIONS:
        raise ValueError(f"unknown version '{version}'; allowed: {', '.join(AUTOATTACK_VERSIONS)}")
    with door.opened(model, images, labels, seed=seed, batch_size=batch_size) as (model, images, labels):
        _check_epsilon(images, epsilon, norm)
        adversarial = images.clone()
        attacked = _attackable(model, images, labels, batch_size)
        _check_gradients(model, images[attacked], labels[attacked], batch_size)
        if model.classes < 4:
            raise ValueError(f"AutoAttack needs at least 4 classes, got {model.classes}; use pgd and square instead")
        if epsilon > 0:
            attack = AutoAttack(
                model, device=images.device, eps=epsilon, norm=_LIBRARY_NORMS[norm], seed=seed, version=version
            )
            _set_budget(attack, steps, min(targets, model.classes - 1), queries)
            with _library_warnings("auto-attack"):
                x = images[attacked].float()  # all that it takes
                found, _ = attack.run_standard_evaluation(x, labels[attacked], batch_size=batch_size)
            adversarial[attacked] = torch.where(found == x, images[attacked], found.to(images))
    return attacks.never_fails(images, adversarial)


def _set_budget(attack: AutoAttack, steps: int, targets: int, queries: int) -> None:
    for part in (attack.apgd, attack.apgd_targeted):
        part.n_iter = part.n_iter_orig = steps
        # APGD's moments of step control, which it derives from its steps when it is made
        part.n_iter_2, part.n_iter_min, part.size_decr = (max(int(f * steps), 1) for f in (0.22, 0.06, 0.03))
    attack.fab.n_iter = steps
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    attack.square.n_queries = queries


@contextmanager
def _library_warnings(name: str) -> Iterator[None]:
    """Turns what the library logs into warnings; puts back the trace function that its checks take away."""
    messages, handler, logger, trace = {}, logging.Handler(logging.WARNING), logging.getLogger(name), sys.gettrace()
    # repeated batch by batch with other numbers in it
    handler.emit = lambda record: messages.setdefault(re.sub(r"\d+", "", record.getMessage()), record.getMessage())
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        sys.settrace(trace)
    for message in messages.values():
        warnings.warn(f"AutoAttack says: {message}", stacklevel=4)


def square(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    norm: str = "linf",
    queries: int = 5000,
    restarts: int = 1,
    seed: int,
    batch_size: int = 256,
) -> AttackResult:
    """Square attack (Andriushchenko et al. 2020) by pyautoattack: random squares, scores only, no gradients.

    queries: of each restart; the schedule of square sizes is scaled to them.
    Raises ValueError as said above, and under 'l2' for images with fewer than 5 pixels a side.
    """
    _check_norm(norm)
    _check_counts(queries=queries, restarts=restarts, batch_size=batch_size)
    opened = door.opened(model, images, labels, seed=seed, batch_size=batch_size)
    with opened as (model, images, labels), torch.no_grad():
        _check_epsilon(images, epsilon, norm)
        if norm == "l2" and min(images.shape[2:]) < 5:
            raise ValueError(f"square under 'l2' needs 5 pixels a side, got {images.shape[2]}x{images.shape[3]}")
        adversarial = images.clone()
        attacked = _attackable(model, images, labels, batch_size)
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
    return attacks.never_fails(images, adversarial)


def hop_skip_jump(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int = 64,
    directions: int = 1000,
    seed: int,
    batch_size: int = 64,
) -> AttackResult:
    """HopSkipJump (Chen et al. 2020) by foolbox: decisions only; minimizes the norm of the perturbation.

    steps: each asks the network 100 times the root of its number, and some 25 times more.
    directions: uniform-noise images tried as a start; an image for which none is misclassified has failed.
    batch_size: memory grows with it; 100 * sqrt(steps) copies of a batch are held at once.
    """
    _check_norm(norm)
    _check_counts(steps=steps, directions=directions, batch_size=batch_size)
    start = partial(attacks.starting_points, directions=directions)
    attack = _HopSkipJump(steps=steps, constraint=norm)
    return _minimized(attack, model, images, labels, seed, batch_size, start)


class _HopSkipJump(foolbox_attacks.HopSkipJumpAttack):
    def approximate_gradients(self, *arguments):
        # foolbox 3.3.4 scales the gradients of a batch by their common length: each step is then too short
        gradients = super().approximate_gradients(*arguments)
        return eagerpy.astensor(_to_length(gradients.raw, 1.0))


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
        of changed values, each by any amount) FMN alone.
        DDN, as foolbox 3.3.4 never projects in its FMN under L2: its perturbations were twice as long.
        DeepFool too, as FMN's steps may end on the border itself, where nothing is fooled yet.
    steps: of FMN or DDN.
    An image that neither fools has failed: infinitely far.
    """
    _check_counts(steps=steps, batch_size=batch_size)
    fast = {"linf": foolbox_attacks.LInfFMNAttack, "l2": foolbox_attacks.DDNAttack, "l0": _L0FMN}
    if norm not in fast:
        raise ValueError(f"unknown norm '{norm}'; allowed: {', '.join(fast)}")
    result = _minimized(fast[norm](steps=steps), model, images, labels, seed, batch_size)
    if norm == "l0":
        return result
    other = deep_fool(model, images, labels, norm=norm, seed=seed, batch_size=batch_size)
    shorter = getattr(other, norm) < getattr(result, norm)
    adversarial = torch.where(shorter[:, None, None, None], other.adversarial, result.adversarial)
    return AttackResult(result.originals, adversarial, result.failed & other.failed, math.inf)


class _L0FMN(foolbox_attacks.L0FMNAttack):
    def project(self, x, x0, epsilon):
        # foolbox 3.3.4 looks one past the last value where all may change
        return super().project(x, x0, eagerpy.minimum(epsilon, x.raw[0].numel() - 1))


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
    _check_counts(steps=steps, binary_search_steps=binary_search_steps, batch_size=batch_size)
    attack = foolbox_attacks.L2CarliniWagnerAttack(steps=steps, binary_search_steps=binary_search_steps)
    return _minimized(attack, model, images, labels, seed, batch_size)


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
    _check_norm(norm)
    _check_counts(steps=steps, batch_size=batch_size)
    kinds = {"linf": foolbox_attacks.LinfDeepFoolAttack, "l2": foolbox_attacks.L2DeepFoolAttack}
    return _minimized(kinds[norm](steps=steps), model, images, labels, seed, batch_size)


def _minimized(
    attack: foolbox_attacks.base.MinimizationAttack,
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
    opened = door.opened(model, images, labels, seed=seed, batch_size=batch_size, same_twice=True)
    with opened as (model, images, labels):
        attacked = _attackable(model, images, labels, batch_size)
        if start is None:
            _check_gradients(model, images[attacked], labels[attacked], batch_size)
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


def _attackable(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """Indices of the images that the network classifies correctly; at least one."""
    with torch.no_grad():
        predicted = torch.cat([model(x).argmax(dim=1) for x in images.split(batch_size)])
    attackable = (predicted == labels).nonzero().flatten()
    if len(attackable) == 0:
        raise ValueError(
            f"no image to attack: the network misclassifies all {len(images)} of them; are the labels of its task?"
        )
    return attackable


def _check_gradients(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> None:
    """Raises ValueError for gradients that are missing or not finite, before a search that would not notice."""
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        door.finite_gradient(model, x, y)


def _random_start(images: Tensor, epsilon: float, norm: str, generator: torch.Generator) -> Tensor:
    """Uniform in the ball of the norm around each image, then clamped to [0, 1]."""
    options = {"generator": generator, "device": images.device, "dtype": images.dtype}
    if norm == "linf":
        moved = epsilon * (2 * torch.rand(images.shape, **options) - 1)
    else:
        radius = torch.rand((len(images), 1, 1, 1), **options) ** (1 / images[0].numel())
        moved = _to_length(torch.randn(images.shape, **options), epsilon * radius)
    return (images + moved).clamp(0, 1)


def _project(x: Tensor, images: Tensor, epsilon: float, norm: str) -> Tensor:
    """The nearest point that is within epsilon of the image; then clamped to [0, 1], which brings it nearer still."""
    moved = x - images
    if norm == "linf":
        moved = moved.clamp(-epsilon, epsilon)
    else:
        moved = _to_length(moved, moved.flatten(1).norm(dim=1).clamp(max=epsilon)[:, None, None, None])
    return (images + moved).clamp(0, 1)


def _to_length(x: Tensor, length: float | Tensor) -> Tensor:
    """Each of x, [b, c, h, w], scaled to an L2 length; zeros stay zeros."""
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(tiny)  # squares of small gradients would underflow
    return length * x / x.flatten(1).norm(dim=1).clamp_min(tiny)[:, None, None, None]


def _check_norm(norm: str) -> None:
    if norm not in NORMS:
        raise ValueError(f"unknown norm '{norm}'; allowed: {', '.join(NORMS)}")


def _check_epsilon(images: Tensor, epsilon: float, norm: str) -> None:
    # an L2 ball of the root of the number of pixels holds every image
    attacks.check_epsilon(epsilon, 1.0 if norm == "linf" else math.sqrt(images[0].numel()))


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")

"""Attackers who know a sparse-coding front end; for networks without one the same attacks along their own gradient."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from simreg_core import attacks
from simreg_core.attacks import door, suspicion
from simreg_core.defences.front_end import FrontEnd, differentiated
from simreg_core.defences.sparse_coding import SparseCoded, drawing, without_dropout
from simreg_core.lab.measuring.subject import Attacked, Look, Measured, accuracy, correct
from simreg_core.lab.measuring.white_box import (
    LARGE,
    NOTHING_RIGHT,
    autoattack_name,
    autoattack_passes,
    autoattacked,
    twice,
    white_box_lacks,
)
from simreg_core.lab.records import Value
from simreg_core.lab.specs import CodeAttacker, CodeAttacksEvaluation, Experiment, stream
from simreg_core.lab.training import build_network, load_data

WORST, SQUARE, FGSM, DRAWS = "worst", "Square", "FGSM", "draws"  # conditions
AT_ONCE = {"cpu": 500, "cuda": 2000}  # images times draws whose gradients are held, by kind of device
MOST = 256  # images that are attacked at once


def code_attacks(subject: Attacked) -> Measured:
    """Clean accuracy (epsilon 0), accuracy under each attacker and the worst over all of them, per image, at
    `evaluation.epsilon` and, for the attackers of curves, at `evaluation.epsilons`; and against the number of draws.
    """
    with door.seeded(stream(subject.evaluation.seed, "draws of a random network"), subject.device):
        return _measured(subject)


def _measured(subject: Attacked) -> Measured:
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    network = door.classifier(subject.network, pixels)
    right = correct(network, pixels, labels)
    every = (evaluation.epsilon, *(evaluation.epsilons or ()))
    if not right.any():
        found = {epsilon: _Made({name: ~right for name in _conditions(subject, epsilon)}) for epsilon in every}
        draws = [accuracy(right, evaluation.epsilon, condition=DRAWS, draws=one) for one in evaluation.draws or ()]
        return Measured([*_accuracies(evaluation, right, found), *draws], {}, (NOTHING_RIGHT,))
    if any(("coder", "learned") in phase for one in evaluation.attackers for phase in one.phases):
        known = load_data(subject.experiment).train.pixels.to(subject.device)
        subject.network.front_end.learn(known, steps=evaluation.learned_steps, seed=stream(evaluation.seed, "learned"))
    found = {epsilon: _attacked(subject, epsilon) for epsilon in every}
    values = _accuracies(evaluation, right, found)
    return Measured([*values, *_by_draws(subject)], {}, _suspicions(subject, found))


def _accuracies(evaluation: CodeAttacksEvaluation, right: Tensor, found: "dict[float, _Made]") -> list[Value]:
    """Clean accuracy, and accuracy under each attacker and the worst of them at each epsilon."""
    values = [accuracy(right, 0.0)]
    for epsilon, made in found.items():
        fooled = {**made.fooled, WORST: made.worst}
        values += [accuracy(~own, epsilon, condition=_named(evaluation, name)) for name, own in fooled.items()]
    return values


def _conditions(subject: Attacked, epsilon: float) -> list[str]:
    """What `_attacked` names: a network that is wrong on every image has the rows of any other."""
    evaluation, main = subject.evaluation, epsilon == subject.evaluation.epsilon
    names = [own.name for own in evaluation.attackers if main or own.name in evaluation.curves]
    for number, surrogate in enumerate(evaluation.surrogates, start=1):
        names += _ways_from(subject.trained(surrogate), number)
    if main:
        names += [FGSM] if evaluation.norm == "linf" else []
        names += [SQUARE] if evaluation.queries is not None else []
        names += [autoattack_name(evaluation)] if evaluation.autoattack_images is not None else []
    return names


def _named(evaluation: CodeAttacksEvaluation, name: str) -> str:
    """A condition: 'worst', or 'worst, L1'."""
    return name if evaluation.norm == "linf" else f"{name}, {evaluation.norm.upper()}"


@dataclass
class _Made:
    """What attackers found at an epsilon.  fooled: [n] bool by their names; AutoAttack has fewer images.

    gradients: (zero, not finite) shares, of each walk of PGD.  losses: [steps + 1] of each.
    """

    fooled: dict[str, Tensor] = field(default_factory=dict)
    gradients: list[tuple[float, float]] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)

    @property
    def worst(self) -> Tensor:
        return self.of(*self.fooled)

    def of(self, *names: str) -> Tensor:
        """Fooled by any of these."""
        worst = torch.zeros_like(next(iter(self.fooled.values())))
        for name in names:
            own = self.fooled[name]
            worst[: len(own)] |= own
        return worst

    @property
    def white_box(self) -> Tensor:
        """By all iterative attacks that know the network."""
        return self.of(*(name for name in self.fooled if name not in (SQUARE, FGSM)))


def _attacked(subject: Attacked, epsilon: float) -> _Made:
    """All attackers at an epsilon; at those of curves fewer, with fewer steps and one restart."""
    evaluation, network, pixels, labels = subject.evaluation, subject.network, subject.pixels, subject.labels
    main, seed = epsilon == evaluation.epsilon, stream(evaluation.seed, "code attacks")
    steps, restarts = (evaluation.steps, evaluation.restarts) if main else (evaluation.few_steps, 1)
    made, found = _Made(), {}
    for own in evaluation.attackers:
        if main or own.name in evaluation.curves:
            found[own.name] = _by(subject, made, own, epsilon, steps, restarts, seed)
    for number, surrogate in enumerate(evaluation.surrogates, start=1):
        found |= _transferred(subject, subject.trained(surrogate), number, epsilon, steps, seed)
    if evaluation.norm == "linf" and main:
        with ExitStack() as stack:
            first = evaluation.attackers[0]
            _take(stack, network, first.phases[0], first.draws)
            found[FGSM] = attacks.pgd(
                network, pixels, labels, epsilon, steps=1, step_size=epsilon, random_start=False, early_leave=False,
                seed=seed, batch_size=_batch(subject, first.draws),
            ).adversarial  # fmt: skip
    if evaluation.queries is not None and main:
        found[SQUARE] = attacks.square(
            network, pixels, labels, epsilon, queries=evaluation.queries, seed=seed
        ).adversarial
    made.fooled = {name: ~correct(network, shown, labels) for name, shown in found.items()}
    if main:
        made.fooled |= autoattacked(network, pixels, labels, evaluation, seed)
    return made


def _take(stack: ExitStack, network: nn.Module, ways: tuple[tuple[str, str], ...], draws: int = 1) -> None:
    """Until the stack is closed, the network is differentiated so, and averages over so many draws."""
    if ways:
        stack.enter_context(differentiated(network, **dict(ways)))
    if isinstance(network, SparseCoded):
        stack.enter_context(drawing(network, draws))


def _batch(subject: Attacked, draws: int) -> int:
    """Images that are attacked at once."""
    return max(1, min(MOST, AT_ONCE[subject.device.type] // draws))


def _by(
    subject: Attacked, made: _Made, own: CodeAttacker, epsilon: float, steps: int, restarts: int, seed: int
) -> Tensor:
    """What an attacker finds, [n, c, h, w]; `made` gets what tells whether PGD could work."""
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    network = without_dropout(subject.network) if own.mean else subject.network
    batch = _batch(subject, own.draws)
    if own.method != "pgd":
        with ExitStack() as stack:
            _take(stack, network, own.phases[0], own.draws)
            if not correct(network, pixels, labels).any():
                return pixels
            return attacks.apgd(
                network, pixels, labels, epsilon, norm=evaluation.norm, loss=own.method.removeprefix("apgd-"),
                steps=steps, restarts=restarts, seed=seed, batch_size=batch,
            ).adversarial  # fmt: skip
    kept, share = None, -(-steps // len(own.phases))
    for restart in range(restarts):
        at = None
        for ways in own.phases:
            with ExitStack() as stack:
                _take(stack, network, ways, own.draws)
                # an image that one draw fools may not be fooled by the mean of several: it walks on
                walked = attacks.pgd(
                    network, pixels, labels, epsilon, steps=share, start=at, seed=seed + restart, batch_size=batch,
                    early_leave=not (own.mean or door.Classifier(network).draws_random_numbers),
                )  # fmt: skip
            at = walked.adversarial
            made.gradients.append((walked.zero_gradients, walked.nan_gradients))
            made.losses.append(walked.loss)
        fooled = ~correct(subject.network, at, labels)
        kept = at if kept is None else torch.where(fooled[:, None, None, None], at, kept)
    return kept


def _ways_from(surrogate: nn.Module, number: int) -> dict[str, tuple[tuple[str, str], ...]]:
    """Ways through a surrogate, by name; behind a front end also the identity, as in the released code."""
    name = f"from surrogate {number}"
    behind = any(isinstance(module, FrontEnd) for module in surrogate.modules())
    return {name: ()} | ({f"{name}, identity": (("coder", "identity"),)} if behind else {})


def _transferred(
    subject: Attacked, surrogate: nn.Module, number: int, epsilon: float, steps: int, seed: int
) -> dict[str, Tensor]:
    """What is made on a surrogate, by the way through it."""
    pixels, labels, norm = subject.pixels, subject.labels, subject.evaluation.norm
    found = {}
    for own, ways in _ways_from(surrogate, number).items():
        with ExitStack() as stack:
            _take(stack, surrogate, ways)
            if norm == "linf":
                walked = attacks.pgd(surrogate, pixels, labels, epsilon, early_leave=False, steps=steps, seed=seed)
                found[own] = walked.adversarial
            else:
                found[own] = attacks.apgd(
                    surrogate, pixels, labels, epsilon, norm=norm, early_leave=False, steps=steps, seed=seed
                ).adversarial
    return found


def _by_draws(subject: Attacked) -> list[Value]:
    """Accuracy under the first attacker, a row for each number of draws that its gradient is averaged over."""
    evaluation, made = subject.evaluation, _Made()
    values = []
    for draws in evaluation.draws or ():
        own = evaluation.attackers[0].changed(draws=draws)
        seed = stream(evaluation.seed, "draws")
        shown = _by(subject, made, own, evaluation.epsilon, evaluation.draw_steps, 1, seed)
        right = correct(subject.network, shown, subject.labels)
        values.append(accuracy(right, evaluation.epsilon, condition=DRAWS, draws=draws))
    return values


def _suspicions(subject: Attacked, found: dict[float, _Made]) -> tuple[str, ...]:
    """Warnings that the attacks may not have worked.

    Of zero gradients and of losses that do not grow, the best walk counts: one that can be followed is enough. A
    network that says that it draws random numbers is expected to answer otherwise the second time.
    """
    evaluation, labels, made = subject.evaluation, subject.labels, found[subject.evaluation.epsilon]
    checks: dict = {"white_box": made.white_box}
    if SQUARE in made.fooled:
        checks["black_box"] = made.fooled[SQUARE]
    if FGSM in made.fooled:
        first = made.fooled[evaluation.attackers[0].name]
        checks["single_step"] = made.fooled[FGSM]
        if evaluation.steps > 1:
            checks["by_steps"] = {1: made.fooled[FGSM], evaluation.steps: first}
    if made.gradients:
        zero, nan = zip(*made.gradients, strict=True)
        checks |= {
            "gradients": (min(zero), min(nan)),
            "loss": max(made.losses, key=lambda loss: (loss[-1] - loss[0]).item()),
        }
    largest = max(found)
    if evaluation.norm == "linf" and largest >= LARGE:
        chance = (labels.bincount().max() / len(labels)).item()
        checks["large_epsilon"] = (found[largest].white_box, largest, chance)
    if not door.Classifier(subject.network).draws_random_numbers:
        checks["logits"] = twice(subject.network, subject.pixels)
    return suspicion.suspicions(**checks)


def code_attacks_lack(experiment: Experiment, evaluation: CodeAttacksEvaluation, look: Look) -> Iterator[str]:
    """Parts and ways that no front end has, dropout that is not there, AutoAttack behind a quantizer."""
    with torch.device("meta"):
        network = build_network(experiment, num_classes=10)
    own = getattr(network, "front_end", None)
    random = bool(getattr(own, "draws_random_numbers", False))
    for attacker in evaluation.attackers:
        for ways in attacker.phases:
            try:
                with differentiated(network, **dict(ways)):
                    pass
            except ValueError as error:
                yield f"evaluation 'code_attacks', attacker '{attacker.name}': {error}"
        if attacker.mean and not random:
            yield f"evaluation 'code_attacks', attacker '{attacker.name}': '{experiment.title}' has no dropout"
    if evaluation.draws is not None and not random:
        yield f"evaluation 'code_attacks': '{experiment.title}' draws no random numbers; leave draws empty"
    if evaluation.autoattack_images is not None and getattr(own, "quantizing", False):
        yield (
            f"evaluation 'code_attacks': '{experiment.title}' quantizes, so AutoAttack's gradients are not its own; "
            "leave autoattack_images empty"
        )
    yield from white_box_lacks(experiment, evaluation, look)


def code_attacks_passes(evaluation: CodeAttacksEvaluation, images: int) -> float:
    """A gradient costs two more passes than a classification, each as often as it draws."""
    draws = sum(one.draws for one in evaluation.attackers)
    curves = sum(one.draws for one in evaluation.attackers if one.name in evaluation.curves)
    transfers = 2 * len(evaluation.surrogates)
    few, more = evaluation.few_steps or 0, len(evaluation.epsilons or ())
    gradients = evaluation.steps * (evaluation.restarts * draws + transfers) + more * few * (curves + transfers)
    gradients += (evaluation.draw_steps or 0) * sum(evaluation.draws or ())
    return images * (3 * gradients + (evaluation.queries or 0)) + autoattack_passes(evaluation)


def code_attacks_words(evaluation: CodeAttacksEvaluation) -> str:
    """'attackers who know the sparse codes (linf), epsilon 0.03'."""
    return f"attackers who know the sparse codes ({evaluation.norm}), epsilon {evaluation.epsilon:g}"

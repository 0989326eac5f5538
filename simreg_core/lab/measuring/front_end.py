"""Attackers who know a network's front end, and the images that the front end certifies."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from simreg_core import attacks
from simreg_core.attacks import door, suspicion
from simreg_core.defences.front_end import differentiated
from simreg_core.lab.measuring.subject import BATCH, Attacked, Look, Measured, accuracy, correct
from simreg_core.lab.measuring.white_box import (
    LARGE,
    NOTHING_RIGHT,
    autoattack_passes,
    autoattacked,
    twice,
    white_box_lacks,
)
from simreg_core.lab.records import Value
from simreg_core.lab.specs import Experiment, FrontEndEvaluation, stream
from simreg_core.lab.training import build_network

WORST, SQUARE, ANNEALED, FGSM, BIM, PGD, MARGIN = "worst", "Square", "annealed", "FGSM", "BIM", "PGD", "margin loss"
BIM_STEPS = 20  # of the source's BIM
BLACK_BOX = (SQUARE,)


def front_end(subject: Attacked) -> Measured:
    """Clean accuracy (epsilon 0), accuracy under each attacker, and the worst over all of them, per image, at
    `evaluation.epsilon` and at `evaluation.epsilons`; and the share of images that are certified at each certificate.

    A certified image that an attack of no larger epsilon fools would disprove the certificate: it is a warning.
    """
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    network = door.classifier(subject.network, pixels)
    right = correct(network, pixels, labels)
    if not right.any():
        none = [accuracy(right, at, condition=WORST) for at in _every(evaluation)]
        return Measured([accuracy(right, 0.0), *none], {}, (NOTHING_RIGHT,))
    values, warnings = [accuracy(right, 0.0)], []
    distances = None if evaluation.certificates is None else _distances(subject)
    found = {epsilon: _attacked(subject, epsilon) for epsilon in _every(evaluation)}
    for epsilon, made in found.items():
        values += [accuracy(~own, epsilon, condition=name) for name, own in made.fooled.items()]
        values.append(accuracy(~made.worst, epsilon, condition=WORST))
        disproved = 0 if distances is None else int((made.worst & right & (distances >= epsilon)).sum())
        if disproved:
            warnings.append(f"{disproved} images are fooled although they are certified at epsilon {epsilon:g}")
    warnings = [*_suspicions(subject, found), *warnings]
    if distances is None:
        return Measured(values, {}, tuple(warnings))
    values += [
        Value(metric="certified", value=(distances >= at).double().mean().item(), attempted=len(labels), epsilon=at)
        for at in evaluation.certificates
    ]
    return Measured(values, {"distances": distances.cpu().tolist()}, tuple(warnings))


def _every(evaluation: FrontEndEvaluation) -> tuple[float, ...]:
    return (evaluation.epsilon, *(evaluation.epsilons or ()))


@dataclass
class _Made:
    """What attackers found at an epsilon.  fooled: [n] bool by their names; AutoAttack has fewer images.

    gradients: (zero, not finite) shares, of each walk along the network's own gradient.
    losses: [steps + 1] of each.
    """

    fooled: dict[str, Tensor] = field(default_factory=dict)
    gradients: list[tuple[float, float]] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)

    @property
    def worst(self) -> Tensor:
        return self._any(self.fooled)

    @property
    def white_box(self) -> Tensor:
        """By all iterative attacks that know the network."""
        return self._any({name: own for name, own in self.fooled.items() if name not in (*BLACK_BOX, FGSM)})

    def _any(self, fooled: dict[str, Tensor]) -> Tensor:
        worst = torch.zeros_like(next(iter(fooled.values())))
        for own in fooled.values():
            worst[: len(own)] |= own
        return worst


def _attacked(subject: Attacked, epsilon: float) -> _Made:
    """All attackers at an epsilon; at those of curves with fewer steps and restarts, and without AutoAttack."""
    evaluation, network, pixels, labels = subject.evaluation, subject.network, subject.pixels, subject.labels
    main, seed = epsilon == evaluation.epsilon, stream(evaluation.seed, "front end")
    steps, restarts = (evaluation.steps, evaluation.restarts) if main else (evaluation.few_steps, 1)
    made, found = _Made(), {}
    for part, way in evaluation.ways:
        with differentiated(network, **{part: way}):
            found[f"{part}: {way}"] = _walk(subject, made, epsilon, steps=steps, restarts=restarts, seed=seed)
    if not evaluation.ways:
        found[PGD] = _walk(subject, made, epsilon, steps=steps, restarts=restarts, seed=seed)
    first = dict(evaluation.ways[:1])
    with differentiated(network, **first):  # the source's own attacks
        found[FGSM] = attacks.pgd(
            network, pixels, labels, epsilon, steps=1, step_size=epsilon, random_start=False, seed=seed
        ).adversarial
        if main:
            found[BIM] = attacks.pgd(network, pixels, labels, epsilon, steps=BIM_STEPS, seed=seed).adversarial
        if main and evaluation.margin_loss:  # cross-entropy has no gradient where the network is very sure
            found[MARGIN] = attacks.apgd(
                network, pixels, labels, epsilon, loss="dlr", steps=steps, restarts=restarts, seed=seed
            ).adversarial
    if evaluation.annealed is not None:
        found[ANNEALED] = _annealed(subject, made, epsilon, steps, restarts, seed)
    for number, surrogate in enumerate(evaluation.surrogates, start=1):
        found[f"from surrogate {number}"] = attacks.pgd(
            subject.trained(surrogate), pixels, labels, epsilon, early_leave=False, steps=steps, seed=seed
        ).adversarial
    found[SQUARE] = attacks.square(network, pixels, labels, epsilon, queries=evaluation.queries, seed=seed).adversarial
    made.fooled = {name: ~correct(network, shown, labels) for name, shown in found.items()}
    if main:
        made.fooled |= autoattacked(network, pixels, labels, evaluation, seed)
    return made


def _walk(subject: Attacked, made: _Made, epsilon: float, **how) -> Tensor:
    """What PGD finds along the gradient of the way in use; `made` gets what tells whether it could work."""
    walked = attacks.pgd(subject.network, subject.pixels, subject.labels, epsilon, **how)
    made.gradients.append((walked.zero_gradients, walked.nan_gradients))
    made.losses.append(walked.loss)
    return walked.adversarial


def _annealed(subject: Attacked, made: _Made, epsilon: float, steps: int, restarts: int, seed: int) -> Tensor:
    """What walks find that take one way after another, each from where the one before it ended, [n, c, h, w]."""
    ways, kept = subject.evaluation.annealed, None
    share = -(-steps // len(ways))
    for restart in range(restarts):
        at = None
        for part, way in ways:
            with differentiated(subject.network, **{part: way}):
                at = _walk(subject, made, epsilon, steps=share, start=at, seed=seed + restart)
        fooled = ~correct(subject.network, at, subject.labels)
        kept = at if kept is None else torch.where(fooled[:, None, None, None], at, kept)
    return kept


def _suspicions(subject: Attacked, found: dict[float, _Made]) -> tuple[str, ...]:
    """Warnings that the attacks may not have worked.

    Of zero gradients and of losses that do not grow, the best way counts: one that can be followed is enough.
    """
    evaluation, labels, made = subject.evaluation, subject.labels, found[subject.evaluation.epsilon]
    zero, nan = zip(*made.gradients, strict=True)
    largest, first = max(found), next(iter(made.fooled))
    gray = None
    if largest >= LARGE:
        gray = (found[largest].white_box, largest, (labels.bincount().max() / len(labels)).item())
    return suspicion.suspicions(
        white_box=made.white_box,
        black_box=made.fooled[SQUARE],
        single_step=made.fooled[FGSM],
        by_steps={1: made.fooled[FGSM], BIM_STEPS: made.fooled[BIM], evaluation.steps: made.fooled[first]},
        large_epsilon=gray,
        gradients=(min(zero), min(nan)),
        logits=twice(subject.network, subject.pixels),
        loss=max(made.losses, key=lambda loss: (loss[-1] - loss[0]).item()),
    )


@torch.no_grad()
def _distances(subject: Attacked) -> Tensor:
    """The certificate of each image, [n]."""
    certifies = subject.network.front_end.distances
    return torch.cat([certifies(batch) for batch in subject.pixels.split(BATCH[subject.device.type])])


def front_end_lacks(experiment: Experiment, evaluation: FrontEndEvaluation, look: Look) -> Iterator[str]:
    """Parts and ways that no front end has, a certificate where none is given, AutoAttack behind a quantizer."""
    with torch.device("meta"):
        network = build_network(experiment, num_classes=10)
    for part, way in (*evaluation.ways, *(evaluation.annealed or ())):
        try:
            with differentiated(network, **{part: way}):
                pass
        except ValueError as error:
            yield f"evaluation 'front_end': {error}"
    own = getattr(network, "front_end", None)
    if evaluation.certificates is not None and not hasattr(own, "distances"):
        yield f"evaluation 'front_end': '{experiment.title}' certifies nothing; leave certificates empty"
    if evaluation.autoattack_images is not None and getattr(own, "quantizing", False):
        yield (
            f"evaluation 'front_end': '{experiment.title}' quantizes, so AutoAttack's gradients are zero; leave "
            "autoattack_images empty"
        )
    yield from white_box_lacks(experiment, evaluation, look)


def front_end_passes(evaluation: FrontEndEvaluation, images: int) -> float:
    """A gradient costs two more passes than a classification."""
    walks = max(len(evaluation.ways), 1) + (evaluation.annealed is not None)
    others = len(evaluation.surrogates)
    steps = evaluation.steps * (evaluation.restarts * (walks + bool(evaluation.margin_loss)) + others) + BIM_STEPS + 1
    more = len(evaluation.epsilons or ())
    few = more * ((evaluation.few_steps or 0) * (walks + others) + 1)
    return images * (3 * (steps + few) + (1 + more) * evaluation.queries + 2) + autoattack_passes(evaluation)


def front_end_words(evaluation: FrontEndEvaluation) -> str:
    """'attackers who know the front end, epsilon 0.1'."""
    return f"attackers who know the front end, epsilon {evaluation.epsilon:g}"

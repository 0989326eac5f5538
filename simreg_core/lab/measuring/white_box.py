"""White-box, minimum-norm and transferred attacks on a trained network, and the checks that they could work."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from simreg_core import attacks
from simreg_core.attacks import AttackResult, door, suspicion
from simreg_core.attacks.result import never_fails
from simreg_core.lab.image_files import DataError
from simreg_core.lab.measuring.subject import (
    Attacked,
    Look,
    Measured,
    accuracy,
    attacked_images,
    correct,
    median,
)
from simreg_core.lab.records import Value
from simreg_core.lab.specs import (
    CodeAttacksEvaluation,
    Experiment,
    FrontEndEvaluation,
    MinimumNormEvaluation,
    TransferEvaluation,
    WhiteBoxEvaluation,
    more_than_attacked,
    stream,
)

FEW_STEPS = (1, 5)  # set beside the evaluation's own number: more must not help the defence
LARGE = 0.5  # epsilon at which every image can be made the same gray one
GRAY_STEPS = 10  # enough to cross that ball
NOTHING_RIGHT = "the network classifies no image of them rightly, so there was none to attack"
AUTOATTACK_CLASSES = 4  # at least, for its targeted loss
WithAutoAttack = WhiteBoxEvaluation | FrontEndEvaluation | CodeAttacksEvaluation


def white_box(subject: Attacked) -> Measured:
    """Accuracy at each epsilon under PGD, more attacks at `evaluation.epsilon`, and warnings of the checks."""
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    network = door.classifier(subject.network, pixels)
    if not correct(network, pixels, labels).any():
        return _none_to_attack(evaluation, len(pixels))
    values, fooled, walked = [], {}, None
    for epsilon in evaluation.epsilons:
        result = _pgd(network, pixels, labels, evaluation, epsilon)
        fooled[epsilon] = ~correct(network, result.adversarial, labels)
        values.append(accuracy(~fooled[epsilon], epsilon, condition=_main_name(evaluation)))
        walked = result if epsilon == evaluation.epsilon else walked
    arrays = {"fooled": {f"{epsilon:g}": found.int().tolist() for epsilon, found in fooled.items()}}
    if evaluation.epsilon is None:
        return Measured(values, arrays)
    others, warnings = beside(network, pixels, labels, evaluation, walked)
    values += [accuracy(~found, evaluation.epsilon, condition=name) for name, found in others.items()]
    return Measured(values, {**arrays, "loss": walked.loss.tolist()}, warnings)


def beside(
    network: nn.Module, pixels: Tensor, labels: Tensor, evaluation: WhiteBoxEvaluation, walked: attacks.PGDResult
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Which images other attacks fool at `evaluation.epsilon`, [n] by their names, and warnings of the checks.

    walked: what PGD found there, with `evaluation.steps`.
    """
    others = _side_by_side(network, pixels, labels, evaluation)
    gray = ~correct(network, _pgd(network, pixels, labels, evaluation, LARGE, GRAY_STEPS).adversarial, labels)
    at_epsilon = ~correct(network, walked.adversarial, labels)
    return others, suspicion.suspicions(
        white_box=at_epsilon,
        black_box=others["Square"],
        single_step=others["FGSM"],
        by_steps={**{steps: others[_named(steps)] for steps in _fewer(evaluation)}, evaluation.steps: at_epsilon},
        large_epsilon=(gray, LARGE, (labels.bincount().max() / len(labels)).item()),
        gradients=(walked.zero_gradients, walked.nan_gradients),
        logits=twice(network, pixels),
        loss=walked.loss,
    )


def _side_by_side(
    network: nn.Module, pixels: Tensor, labels: Tensor, evaluation: WhiteBoxEvaluation
) -> dict[str, Tensor]:
    """Which images each attack fools at `evaluation.epsilon`."""
    epsilon, seed = evaluation.epsilon, stream(evaluation.seed, "white box")
    found = {
        "FGSM": attacks.pgd(
            network, pixels, labels, epsilon, steps=1, step_size=epsilon, random_start=False, seed=seed
        ).adversarial,
        **{
            _named(steps): _pgd(network, pixels, labels, evaluation, epsilon, steps).adversarial
            for steps in _fewer(evaluation)
        },
        "Square": attacks.square(network, pixels, labels, epsilon, queries=evaluation.queries, seed=seed).adversarial,
    }
    fooled = {name: ~correct(network, adversarial, labels) for name, adversarial in found.items()}
    return {**fooled, **autoattacked(network, pixels, labels, evaluation, seed)}


def autoattacked(
    network: nn.Module, pixels: Tensor, labels: Tensor, evaluation: WithAutoAttack, seed: int
) -> dict[str, Tensor]:
    """Which of the first images AutoAttack fools at `evaluation.epsilon`, by its name; empty where it is not asked for.

    [autoattack_images] bool.
    """
    if evaluation.autoattack_images is None:
        return {}
    few = slice(evaluation.autoattack_images)
    right = correct(network, pixels[few], labels[few])
    if not right.any():  # AutoAttack refuses: there is none to attack
        return {autoattack_name(evaluation): ~right}
    budget: dict[str, Any] = {}
    if evaluation.autoattack_budget is not None:
        budget = dict(zip(("steps", "targets", "queries"), evaluation.autoattack_budget, strict=True))
    result = attacks.autoattack(network, pixels[few], labels[few], evaluation.epsilon, norm="linf", seed=seed, **budget)
    return {autoattack_name(evaluation): ~correct(network, result.adversarial, labels[few])}


def _pgd(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    evaluation: WhiteBoxEvaluation,
    epsilon: float,
    steps: int | None = None,
) -> attacks.PGDResult:
    """PGD at an epsilon; with a number of steps of its own, with one restart."""
    return attacks.pgd(
        network,
        pixels,
        labels,
        epsilon,
        norm=evaluation.norm,
        steps=steps or evaluation.steps,
        restarts=1 if steps else evaluation.restarts,
        seed=stream(evaluation.seed, f"white box {epsilon:g}"),
    )


def _fewer(evaluation: WhiteBoxEvaluation) -> list[int]:
    return [steps for steps in FEW_STEPS if steps < evaluation.steps]


def _named(steps: int) -> str:
    return f"PGD, {steps} step{'s' * (steps > 1)}"


def _none_to_attack(evaluation: WhiteBoxEvaluation, images: int) -> Measured:
    """What is measured of a network that is wrong on every image: accuracy 0 under every attack, and a warning."""
    none = torch.zeros(images, dtype=torch.bool)
    values = [accuracy(none, epsilon, condition=_main_name(evaluation)) for epsilon in evaluation.epsilons]
    if evaluation.epsilon is not None:
        names = ["FGSM", *map(_named, _fewer(evaluation)), "Square"]
        values += [accuracy(none, evaluation.epsilon, condition=name) for name in names]
        if evaluation.autoattack_images is not None:
            few = none[: evaluation.autoattack_images]
            values.append(accuracy(few, evaluation.epsilon, condition=autoattack_name(evaluation)))
    fooled = {f"{epsilon:g}": [1] * images for epsilon in evaluation.epsilons}
    return Measured(values, {"fooled": fooled}, (NOTHING_RIGHT,))


def _main_name(evaluation: WhiteBoxEvaluation) -> str:
    return "PGD" if evaluation.norm == "linf" else "PGD, L2"


def autoattack_name(evaluation: WithAutoAttack) -> str:
    """'AutoAttack', or that its budget is reduced."""
    return "AutoAttack" if evaluation.autoattack_budget is None else "AutoAttack, reduced"


@torch.no_grad()
def twice(network: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the same images, one pass after the other."""
    return network(pixels[:100]), network(pixels[:100])


def white_box_lacks(experiment: Experiment, evaluation: WithAutoAttack, look: Look) -> Iterator[str]:
    """For AutoAttack, classes and images."""
    wanted = attacked_images(experiment, evaluation)
    if evaluation.autoattack_images is None:
        return
    try:
        classes = look.classes(wanted.name)
        attacked = wanted.count or look.count(wanted.name, wanted.split)
    except DataError:  # said already
        return
    if classes < AUTOATTACK_CLASSES:
        yield (
            f"AutoAttack needs at least {AUTOATTACK_CLASSES} classes, but '{wanted.name}' has {classes}; leave "
            "autoattack_images empty"
        )
    yield from more_than_attacked(evaluation.autoattack_images, attacked)


def white_box_passes(evaluation: WhiteBoxEvaluation, images: int) -> float:
    """A gradient costs two more passes than a classification; Square is made at `evaluation.epsilon` only."""
    gradients = evaluation.steps * evaluation.restarts * len(evaluation.epsilons)
    queries = 0 if evaluation.epsilon is None else evaluation.queries
    return images * (3 * gradients + queries) + autoattack_passes(evaluation)


def autoattack_passes(evaluation: WithAutoAttack) -> int:
    """Passes of images that AutoAttack does not fool, within a tenth of those counted.

    APGD and, for each target, APGD again and FAB take gradients at every step; FAB looks once more at each step.
    """
    whole = (attacks.AUTOATTACK_STEPS, attacks.AUTOATTACK_TARGETS, attacks.AUTOATTACK_QUERIES)
    steps, targets, queries = evaluation.autoattack_budget or whole
    return (evaluation.autoattack_images or 0) * (steps * (3 + 7 * targets) + queries)


def white_box_words(evaluation: WhiteBoxEvaluation) -> str:
    """'white-box attacks (linf)'."""
    return f"white-box attacks ({evaluation.norm})"


class _Minimizer(NamedTuple):
    """attack: called with the network, pixels, labels, and the evaluation's norm, steps and seed.  passes: a step."""

    attack: Callable[..., AttackResult]
    passes: int


def _carlini_wagner(network: nn.Module, pixels: Tensor, labels: Tensor, *, norm: str, **given: int) -> AttackResult:
    return attacks.carlini_wagner(network, pixels, labels, **given)  # of l2 only, as its specification says


MINIMIZERS = {
    "fast": _Minimizer(attacks.minimum_norm, 30),
    "deepfool": _Minimizer(attacks.deep_fool, 30),
    "carlini_wagner": _Minimizer(_carlini_wagner, 27),
    "hop_skip_jump": _Minimizer(attacks.hop_skip_jump, 400),
}


def minimum_norm(subject: Attacked) -> Measured:
    """Median size of the smallest perturbations found; an image that none fools is infinitely far."""
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    network = door.classifier(subject.network, pixels)
    if evaluation.away_from == "prediction":
        with torch.no_grad():
            labels = network(pixels).argmax(dim=1)
    attack, seed = MINIMIZERS[evaluation.method].attack, stream(evaluation.seed, "minimum norm")
    warnings: tuple[str, ...] = ()
    if correct(network, pixels, labels).any():
        result = attack(network, pixels, labels, norm=evaluation.norm, steps=evaluation.steps, seed=seed)
    else:
        result, warnings = never_fails(pixels, pixels), (NOTHING_RIGHT,)  # all are fooled as they are
    found = {evaluation.norm: getattr(result, evaluation.norm)}
    if evaluation.norm == "l2":
        found["squared_l2_per_pixel"] = result.squared_l2_per_pixel
    counts: dict[str, Any] = {"attempted": result.attempted, "failed": int(result.failed.sum())}
    values = [
        Value(metric=f"median_{name}", condition=evaluation.method, value=median(sizes), **counts)
        for name, sizes in found.items()
    ]
    sizes = np.round(found[evaluation.norm].sort().values.cpu().numpy(), 6).tolist()
    return Measured(values, {"sizes": sizes}, warnings)


def minimum_norm_passes(evaluation: MinimumNormEvaluation, images: int) -> float:
    """As many a step as the method takes."""
    return images * MINIMIZERS[evaluation.method].passes * evaluation.steps


def minimum_norm_words(evaluation: MinimumNormEvaluation) -> str:
    """'smallest l2 perturbations (deepfool, 50 steps)'."""
    return f"smallest {evaluation.norm} perturbations ({evaluation.method}, {evaluation.steps} steps)"


def transfer(subject: Attacked) -> Measured:
    """Accuracy under FGSM and PGD made on the first surrogate, and momentum made on all of them."""
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    surrogates = [subject.trained(surrogate) for surrogate in evaluation.surrogates]
    network = door.classifier(subject.network, pixels)
    seed, values = stream(evaluation.seed, "transfer"), []
    for epsilon in evaluation.epsilons:
        made = {
            "FGSM": attacks.pgd(
                surrogates[0], pixels, labels, epsilon, steps=1, step_size=epsilon or 1.0, random_start=False,
                early_leave=False, seed=seed,
            ),
            "PGD": attacks.pgd(
                surrogates[0], pixels, labels, epsilon, steps=evaluation.steps, early_leave=False, seed=seed
            ),
            "momentum": attacks.momentum_transfer(surrogates, pixels, labels, epsilon, evaluation.steps, seed=seed),
        }  # fmt: skip
        values += [
            accuracy(correct(network, result.adversarial, labels), epsilon, condition=f"{name} from {evaluation.name}")
            for name, result in made.items()
        ]
    return Measured(values)


def transfer_passes(evaluation: TransferEvaluation, images: int) -> float:
    """Gradients of PGD on one surrogate and of momentum on each."""
    return images * len(evaluation.epsilons) * 3 * evaluation.steps * (1 + len(evaluation.surrogates))


def transfer_words(evaluation: TransferEvaluation) -> str:
    """'attacks transferred from none'."""
    return f"attacks transferred from {evaluation.name}"

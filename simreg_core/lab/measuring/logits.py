"""Logits under a white-box attack: accuracy, the worst over attackers, loss, and what does not depend on scale."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core import attacks
from simreg_core.attacks import door
from simreg_core.lab.measuring.subject import BATCH, Attacked, Look, Measured, accuracy, correct
from simreg_core.lab.measuring.white_box import beside, white_box_lacks, white_box_passes
from simreg_core.lab.records import Value
from simreg_core.lab.specs import Experiment, LogitsEvaluation, stream
from simreg_core.lab.training import load_data
from simreg_core.logits import margins, matched_cross_entropy, matched_temperature

WORST = "worst"  # condition: an image counts where no attack fools it


def logits(subject: Attacked) -> Measured:
    """Clean (epsilon 0) and under PGD: accuracy, cross-entropy, margin, and cross-entropy at a matched temperature.

    That temperature has the least loss on clean validation images, see `logits.matched_temperature`. Then accuracy
    under each other attack, and the worst over all of them, per image.
    """
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    network = door.classifier(subject.network, pixels)
    epsilon, seed = evaluation.epsilon, stream(evaluation.seed, "logits")
    sizes = {"steps": evaluation.steps, "restarts": evaluation.restarts}
    walked = attacks.pgd(network, pixels, labels, epsilon, early_leave=False, seed=seed, **sizes)
    temperature = _temperature(subject)
    count = len(labels)
    values = [Value(metric="temperature", value=temperature, attempted=len(load_data(subject.experiment).validation))]
    for at, shown in ((0.0, pixels), (epsilon, walked.adversarial)):
        found = _logits(network, shown)
        values.append(accuracy(found.argmax(dim=1) == labels, at, condition="PGD"))
        numbers = {
            "cross_entropy": F.cross_entropy(found, labels, reduction="none"),
            "margin": margins(found, labels),
            "matched_cross_entropy": matched_cross_entropy(found, labels, temperature),
        }
        values += [
            Value(metric=name, value=own.double().mean().item(), attempted=count, epsilon=at, condition="PGD")
            for name, own in numbers.items()
        ]
    others, warnings = beside(network, pixels, labels, evaluation.white_box, walked)
    values += [accuracy(~fooled, epsilon, condition=name) for name, fooled in others.items()]
    worst = ~correct(network, walked.adversarial, labels)
    for fooled in others.values():  # AutoAttack has fewer images
        worst[: len(fooled)] |= fooled
    values.append(accuracy(~worst, epsilon, condition=WORST))
    return Measured(values, {"loss": walked.loss.tolist()}, warnings)


@torch.no_grad()
def _logits(network: nn.Module, pixels: Tensor) -> Tensor:
    return torch.cat([network(batch).float() for batch in pixels.split(BATCH[pixels.device.type])])


def _temperature(subject: Attacked) -> float:
    held_out = load_data(subject.experiment).validation
    found = _logits(subject.network, held_out.pixels.to(subject.device))
    return matched_temperature(found, held_out.labels.to(subject.device))


def logits_lacks(experiment: Experiment, evaluation: LogitsEvaluation, look: Look) -> Iterator[str]:
    """As a white-box evaluation."""
    yield from white_box_lacks(experiment, evaluation.white_box, look)


def logits_passes(evaluation: LogitsEvaluation, images: int) -> float:
    """As a white-box evaluation."""
    return white_box_passes(evaluation.white_box, images)


def logits_words(evaluation: LogitsEvaluation) -> str:
    """'logits under PGD, epsilon 0.02'."""
    return f"logits under PGD, epsilon {evaluation.epsilon:g}"

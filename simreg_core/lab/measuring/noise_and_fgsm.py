"""Accuracy under random noise, and under FGSM transferred from another network."""

import torch
from torch import Tensor

from simreg_core import attacks
from simreg_core.attacks import door
from simreg_core.lab.measuring.subject import Attacked, Measured, accuracy, correct
from simreg_core.lab.specs import Experiment, FgsmEvaluation, NoiseEvaluation, stream


def noise(subject: Attacked) -> Measured:
    """Accuracy at each epsilon, one draw for each."""
    evaluation, pixels, labels = subject.evaluation, subject.images.pixels, subject.labels
    network = door.classifier(subject.network, pixels[: door.PROBE].to(subject.device))
    values = []
    for index, epsilon in enumerate(evaluation.epsilons):
        # drawn on the CPU: the same noise on every device
        generator = torch.Generator().manual_seed(stream(evaluation.seed, f"{evaluation.attack} {index}"))
        result = attacks.NOISES[evaluation.attack](pixels, epsilon, protocol=evaluation.protocol, generator=generator)
        values.append(accuracy(correct(network, result.adversarial.to(subject.device), labels), epsilon))
    return Measured(values)


def noise_passes(evaluation: NoiseEvaluation, images: int) -> float:
    """The images at each epsilon."""
    return images * len(evaluation.epsilons)


def noise_words(evaluation: NoiseEvaluation) -> str:
    """'gaussian noise'."""
    return f"{evaluation.attack.replace('_', ' ')} noise"


def fgsm(subject: Attacked) -> Measured:
    """Accuracy at each epsilon, along the sign of the surrogate's gradient."""
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    network = door.classifier(subject.network, pixels)
    direction = _direction(evaluation.surrogate, subject)
    values = []
    for epsilon in evaluation.epsilons:
        result = attacks.transferred_fgsm(pixels, direction, epsilon, protocol=evaluation.protocol)
        values.append(accuracy(correct(network, result.adversarial, labels), epsilon))
    return Measured(values)


_directions_before: dict[tuple, Tensor] = {}  # of this worker: every network of a study gets the same attack


def _direction(surrogate: Experiment, subject: Attacked) -> Tensor:
    key = (str(subject.store.weights_path(surrogate)), subject.images.checksum, str(subject.device))
    if key not in _directions_before:
        _directions_before.clear()  # one task at a time: a big set is not kept for long
        _directions_before[key] = attacks.fgsm_direction(subject.trained(surrogate), subject.pixels, subject.labels)
    return _directions_before[key]


def fgsm_passes(evaluation: FgsmEvaluation, images: int) -> float:
    """The images at each epsilon, and one gradient."""
    return images * (len(evaluation.epsilons) + 3)


def fgsm_words(evaluation: FgsmEvaluation) -> str:
    """'transferred FGSM'."""
    return "transferred FGSM"

"""A network of blocks under Gaussian noise, and block by block: SNR, sparsity over channels, who wins."""

from collections.abc import Iterator

import torch
from torch import Tensor

from simreg_core import attacks, layers as measure
from simreg_core.attacks import door
from simreg_core.defences.hebbian import active_count, fixed_channels, hebbian_blocks
from simreg_core.defences.hebbian_training import HebbianTraining
from simreg_core.lab.measuring.subject import Attacked, Look, Measured, accuracy, correct
from simreg_core.lab.records import Value
from simreg_core.lab.specs import Experiment, HebbianEvaluation, stream
from simreg_core.names import UNIT_BLOCKS

RESPONSES, OUTPUTS = "responses", "outputs"  # conditions: before normalization and threshold, and after


@torch.no_grad()
def hebbian(subject: Attacked) -> Measured:
    """Accuracy of clean images (epsilon 0) and under each draw; of each block, counted from 0: SNR in dB of its input,
    h of its responses and outputs, and the share of wins that always the same channels take."""
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    network = door.classifier(subject.network, pixels)
    values = [accuracy(correct(network, pixels, labels), 0.0)]
    noisy = [_noisy(subject, draw) for draw in range(evaluation.draws)]
    values += [
        accuracy(correct(network, shown, labels), evaluation.epsilon, repeat=draw) for draw, shown in enumerate(noisy)
    ]
    blocks = hebbian_blocks(subject.network)
    active = getattr(subject.experiment.adversarial, "active", HebbianTraining.active)
    clean, changed = (measure.inputs_of(subject.network, blocks, shown) for shown in (pixels, noisy[0]))
    for layer, (block, x, with_noise) in enumerate(zip(blocks, clean, changed, strict=True)):
        y, count = block.responses(x), len(labels)
        values.append(
            Value(
                metric="snr_db",
                value=measure.snr_db(x, with_noise),
                attempted=count,
                epsilon=evaluation.epsilon,
                layer=layer,
            )
        )
        values += [
            Value(
                metric="activation_sparsity",
                value=measure.activation_sparsity(maps),
                attempted=count,
                layer=layer,
                condition=condition,
            )
            for condition, maps in ((RESPONSES, y), (OUTPUTS, block(x)))
        ]
        share = fixed_channels(y, active_count(y.shape[1], active))
        values.append(Value(metric="fixed_channels", value=share, attempted=count, layer=layer))
    return Measured(values)


def _noisy(subject: Attacked, draw: int) -> Tensor:
    """The images with clamped Gaussian noise, drawn on the CPU: the same on every device."""
    evaluation, pixels = subject.evaluation, subject.images.pixels
    generator = torch.Generator().manual_seed(stream(evaluation.seed, f"hebbian {draw}"))
    result = attacks.gaussian_noise(pixels, evaluation.epsilon, protocol="strict", generator=generator)
    return result.adversarial.to(subject.device)


def hebbian_lacks(experiment: Experiment, evaluation: HebbianEvaluation, look: Look) -> Iterator[str]:
    """Blocks."""
    if experiment.network.name not in UNIT_BLOCKS:
        yield f"'hebbian' needs a network of blocks, {' or '.join(UNIT_BLOCKS)}, not '{experiment.network.name}'"


def hebbian_passes(evaluation: HebbianEvaluation, images: int) -> float:
    """The images, clean and under each draw, and twice block by block."""
    return images * (evaluation.draws + 5)


def hebbian_words(evaluation: HebbianEvaluation) -> str:
    """'block by block, noise 0.1'."""
    return f"block by block, noise {evaluation.epsilon:g}"

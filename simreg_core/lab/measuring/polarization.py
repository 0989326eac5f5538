"""What a quantizing front end certifies, where its activations lie and how its filters look, stage by stage."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from simreg_core.defences.polarizing import (
    STAGES,
    Certifying,
    PolarizingFrontEnd,
    normalized_responses,
    quantized,
    towards_a_threshold,
)
from simreg_core.lab.measuring.subject import Attacked, Look, Measured
from simreg_core.lab.records import Value
from simreg_core.lab.specs import Experiment, PolarizationEvaluation, stream
from simreg_core.lab.training import build_network
from simreg_core.layers import filter_sparsity

BATCH = 100  # images whose 25 maps are held at once
BINS = 100  # of histograms on [-1, 1], as in the source
INSIDE = 0.999  # of epsilon: the certificate is of perturbations below it
STAGE_NAMES = ("untrained", "after stage one", "after stage two", "final")
CERTIFIED, OTHERS = "certified", "others"


def polarization(subject: Attacked) -> Measured:
    """The certified share at each epsilon, and whether an attack on the levels changes those of certified images and
    of others; of filters, at the beginning of each stage and at the end: activations, shape, and how far they drift.
    """
    evaluation, front_end = subject.evaluation, subject.network.front_end
    with torch.no_grad():
        distances = torch.cat([front_end.distances(x) for x in _batches(subject)])
    values = [
        Value(metric="certified", value=(distances >= at).double().mean().item(), attempted=len(distances), epsilon=at)
        for at in evaluation.certificates
    ]
    values += _kept(subject, distances)
    arrays: dict[str, Any] = {"distances": distances.cpu().tolist()}
    if isinstance(front_end, PolarizingFrontEnd):
        found, arrays["histograms"], arrays["filters"] = _by_stage(subject, front_end)
        values += found
    return Measured(values, arrays)


def _batches(subject: Attacked) -> Iterator[Tensor]:
    yield from subject.pixels.split(BATCH)


def _kept(subject: Attacked, distances: Tensor) -> list[Value]:
    """The share of images whose levels stay under an attack on them and under random signs, of certified and others."""
    front_end, values = subject.network.front_end, []
    for epsilon in subject.evaluation.certificates:
        seed = stream(subject.evaluation.seed, f"levels {epsilon:g}")
        stays = torch.cat([_stays(front_end, x, INSIDE * epsilon, seed + i) for i, x in enumerate(_batches(subject))])
        for name, chosen in ((CERTIFIED, distances >= epsilon), (OTHERS, distances < epsilon)):
            if chosen.any():
                share, count = stays[chosen].double().mean().item(), int(chosen.sum())
                values.append(
                    Value(metric="levels_kept", value=share, attempted=count, epsilon=epsilon, condition=name)
                )
    return values


def _stays(front_end: Certifying, x: Tensor, epsilon: float, seed: int) -> Tensor:
    """Which images keep all levels, [n] bool."""
    generator = torch.Generator().manual_seed(seed)  # the same on every device
    signs = (2 * torch.randint(0, 2, x.shape, generator=generator) - 1).to(x)
    levels = front_end.levels(x)
    found = [towards_a_threshold(front_end, x, epsilon), (x + epsilon * signs).clamp(0, 1)]
    same = [(front_end.levels(one) == levels).flatten(1).all(dim=1) for one in found]
    return torch.stack(same).all(dim=0)


@torch.no_grad()
def _by_stage(
    subject: Attacked, front_end: PolarizingFrontEnd
) -> tuple[list[Value], dict[str, list[float]], dict[str, list]]:
    """Numbers, histograms of activations [BINS] that sum to 1, and filters [filters, side, side], by stage."""
    last, epsilon = front_end.weight, subject.evaluation.epsilon
    weights = [*(front_end.filters_before.view(STAGES, *last.shape)), last]
    values, histograms, filters = [], {}, {}
    for name, weight in zip(STAGE_NAMES, weights, strict=True):
        if not weight.any():  # a training that ends before this stage
            continue
        counts, danger, nonzero, total = torch.zeros(BINS), 0, 0, 0
        for x in _batches(subject):
            z = normalized_responses(x, weight)
            counts += torch.histc(z.cpu(), BINS, -1, 1)
            danger += int(((z.abs() - front_end.threshold).abs() < epsilon).sum())
            nonzero += int((quantized(z, front_end.threshold) != 0).sum())
            total += z.numel()
        rows = weight.flatten(1).abs()
        pixel_like = (rows.amax(dim=1) > rows.sum(dim=1) / 2).double().mean().item()
        numbers = {
            "danger": (danger / total, epsilon),
            "nonzero": (nonzero / total, None),
            "pixel_like": (pixel_like, None),
            "filter_sparsity": (filter_sparsity(weight).median().item(), None),
        }
        values += [
            Value(metric=metric, value=value, attempted=len(subject.labels), epsilon=at, condition=name)
            for metric, (value, at) in numbers.items()
        ]
        histograms[name] = (counts / total).double().numpy().round(8).tolist()
        filters[name] = weight[:, 0].double().cpu().numpy().round(5).tolist()
    if weights[-2].any():
        drift = (last - weights[-2]).abs().max().item()
        values.append(Value(metric="drift", value=drift, attempted=len(subject.labels)))
    return values, histograms, filters


def polarization_lacks(experiment: Experiment, evaluation: PolarizationEvaluation, look: Look) -> Iterator[str]:
    """A front end that certifies."""
    with torch.device("meta"):
        network = build_network(experiment, num_classes=10)
    if not isinstance(getattr(network, "front_end", None), Certifying):
        yield f"evaluation 'polarization': '{experiment.title}' has no front end that quantizes"


def polarization_passes(evaluation: PolarizationEvaluation, images: int) -> float:
    """A front end is a small part of its network, about a tenth; a gradient costs two more passes."""
    return images * 0.1 * (len(STAGE_NAMES) + 1 + 5 * len(evaluation.certificates))


def polarization_words(evaluation: PolarizationEvaluation) -> str:
    """'polarization and certificates'."""
    return "polarization and certificates"

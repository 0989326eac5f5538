"""Sizes of boundary-attack perturbations, and their spectrum."""

from typing import Any

import torch

from simreg_core import attacks, spectra
from simreg_core.attacks import AttackResult
from simreg_core.lab.measuring.subject import Attacked, Measured, median
from simreg_core.lab.records import Value
from simreg_core.lab.specs import BoundaryEvaluation, stream

WALKERS = {"cpu": 256, "cuda": 5000}  # images that are moved at once


def boundary(subject: Attacked) -> Measured:
    """Median sizes by repeat, the half-power frequency of all perturbations, and their mean spectrum as arrays."""
    evaluation, pixels = subject.evaluation, subject.pixels
    # all repeats in one batch: each starts from noise of its own
    result = attacks.boundary_attack(
        subject.network,
        pixels.repeat(evaluation.repeats, 1, 1, 1),
        steps=evaluation.steps,
        protocol=evaluation.protocol,
        seed=stream(evaluation.seed, "boundary 0"),
        directions=evaluation.directions,
        batch_size=WALKERS[subject.device.type],
    )
    values, spectra_of_repeats = [], []
    for repeat in range(evaluation.repeats):
        part = slice(repeat * len(pixels), (repeat + 1) * len(pixels))
        values += _sizes(result, part, repeat, evaluation.protocol)
        fooled = ~result.failed[part]
        if fooled.any():
            spectra_of_repeats.append(spectra.mean_power_spectrum(result.perturbations[part][fooled]).cpu())
    if not spectra_of_repeats:  # a network that no image could fool: its sizes say so, and it has no spectrum
        return Measured(values)
    power = torch.stack(spectra_of_repeats).mean(dim=0)
    radius, cumulative = spectra.cumulative_radial_profile(power)
    values.append(
        Value(
            metric="half_power_frequency",
            value=spectra.half_power_frequency(radius, cumulative),
            attempted=len(result.failed),
            failed=int(result.failed.sum()),
        )
    )
    return Measured(values, {"power": power.tolist(), "radius": radius.tolist(), "cumulative": cumulative.tolist()})


def _sizes(result: AttackResult, part: slice, repeat: int, protocol: str) -> list[Value]:
    """Median sizes of one repeat."""
    perturbations, failed = result.perturbations[part], result.failed[part]
    sizes = {
        "squared_l2_per_pixel": result.squared_l2_per_pixel[part], "l2": result.l2[part], "linf": result.linf[part],
    }  # fmt: skip
    if protocol == "released":  # of colour images, the released score sees the first channel alone
        sizes["squared_l2_per_pixel"] = perturbations[:, 0].flatten(1).square().mean(dim=1)
        sizes["squared_l2_per_pixel"][failed] = torch.nan
    counts: dict[str, Any] = {"attempted": len(failed), "failed": int(failed.sum()), "repeat": repeat}
    return [Value(metric=f"median_{name}", value=median(size), **counts) for name, size in sizes.items()]


def boundary_passes(evaluation: BoundaryEvaluation, images: int) -> float:
    """A step each; a tenth more for checked spherical steps, the blending line, and some tries for a start."""
    return images * evaluation.repeats * (1.1 * evaluation.steps + 51 + 20)


def boundary_words(evaluation: BoundaryEvaluation) -> str:
    """'boundary attack of 50 steps'."""
    return f"boundary attack of {evaluation.steps} steps"

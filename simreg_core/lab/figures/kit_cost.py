"""What a training step costs: its record, and how the figures of batch sizes and of cost draw it."""

from statistics import median
from typing import Any

import pandas as pd

from simreg_core.lab.claims import interval_of
from simreg_core.lab.figures.kit import Axes, mark, seed_dots
from simreg_core.lab.recipes import seeds_of
from simreg_core.lab.series import NONE
from simreg_core.lab.specs import Profile, StepCostEvaluation
from simreg_core.lab.study import Block, Study

MORE_IMAGE_COUNTS = (1000, 5000)  # that are timed beside the profile's by default: memory grows with N squared


def timed_steps(profile: Profile) -> tuple[Block, ...]:
    """Time and memory of a training step against k and N; nothing is trained."""
    own, sizes = profile.regularizer, profile.studies
    evaluation = StepCostEvaluation(
        pairs_per_step=tuple(sorted(sizes.pairs_per_step)),
        image_counts=tuple(sorted({*sizes.image_counts, *(sizes.timed_image_counts or MORE_IMAGE_COUNTS)})),
        image_pairs=own.pairs_per_step,
        size=own.size,
    )
    return (Block({NONE: seeds_of(profile, NONE, 1)}, (evaluation,), "step cost"),)


def step_costs(study: Study) -> dict:
    """What a training step of the study's profile costs, from its record, see `measuring.step_cost`.

    Returns 'device'; 'rows' with k (0: unregularized), seconds and ratio to unregularized (medians over repeated
    measurements), ratios, predicted = (batch + 2k) / batch, and saved_bytes, what the step keeps for its backward
    pass; 'image_counts' with N, seconds of a step, held_bytes, what the regularizer keeps, and setup_seconds.
    Raises LookupError where the study has no such record.
    """
    for _, _, record in study.records():
        if record.evaluation.times_steps:
            break
    else:
        raise LookupError(f"{study.name} times no training step")
    experiment: Any = record.experiment
    own: Any = record.evaluation
    batch, measured = experiment.optimization.batch_size, record.arrays
    by_pairs = zip(
        (0, *own.pairs_per_step), measured["seconds"], measured["ratios"], measured["saved_bytes"], strict=True
    )
    by_images = zip(
        own.image_counts,
        measured["seconds_by_images"],
        measured["setup_seconds"],
        measured["held_bytes"],
        strict=True,
    )
    return {
        "device": record.provenance.device,
        "rows": [
            {
                "k": k,
                "seconds": seconds,
                "ratio": median(ratios),
                "ratios": ratios,
                "predicted": (batch + 2 * k) / batch,
                "saved_bytes": saved,
            }
            for k, seconds, ratios, saved in by_pairs
        ],
        "image_counts": [
            {"N": count, "seconds": seconds, "setup_seconds": setup, "held_bytes": held}
            for count, seconds, setup, held in by_images
        ],
    }


def ratios_over_repeats(costs: dict) -> pd.DataFrame:
    """Time of a step over that of an unregularized one, for each k: its mean over repeats with a 95 % t-interval.

    Returns columns k, ratio_mean, ratio_low, ratio_high.
    """
    found = [(row["k"], *interval_of(row["ratios"])) for row in costs["rows"]]
    return pd.DataFrame(found, columns=["k", "ratio_mean", "ratio_low", "ratio_high"])


def time_against_k(ax: Axes, costs: dict) -> None:
    """Measured time of a step over that of an unregularized one, against k: mean, 95 % interval, a dot a repeat."""
    means, colour = ratios_over_repeats(costs), "#d55e00"
    error = [means["ratio_mean"] - means["ratio_low"], means["ratio_high"] - means["ratio_mean"]]
    drawn = ax.errorbar(means["k"], means["ratio_mean"], error, fmt="o-", color=colour, capsize=2, label="measured")
    mark(drawn.lines[0], NONE)
    for row in costs["rows"][1:]:  # the first is the unit: one by definition
        seed_dots(ax, [row["k"]] * len(row["ratios"]), row["ratios"], "k")
    predicted_line(ax, pd.DataFrame(costs["rows"]))
    ax.set(ylabel="Time of a training step\n(unregularized = 1)")
    ax.set_title(f"Time, on {costs['device']}, {len(costs['rows'][0]['ratios'])} repeats", fontsize="small")


def predicted_line(ax: Axes, rows: pd.DataFrame) -> None:
    """What k pairs would cost if only the number of images counted."""
    ax.plot(rows["k"], rows["predicted"], color="0.5", ls=":", label="predicted: (batch + 2k) / batch")
    ax.set(xlabel="Pairs a step, k", xticks=rows["k"])
    ax.set_ylim(0, 1.1 * ax.get_ylim()[1])
    ax.legend(loc="lower right", fontsize="small")

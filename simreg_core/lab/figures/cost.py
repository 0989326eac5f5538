"""Figure 16: time and memory of a training step (paper v2, section 4.6)."""

import pandas as pd

from simreg_core.lab.claims import Claim, Verdict, judge
from simreg_core.lab.figures.kit import Axes, Picture, finding, panels
from simreg_core.lab.figures.kit_cost import (
    predicted_line,
    ratios_over_repeats,
    step_costs,
    time_against_k,
    timed_steps,
)
from simreg_core.lab.gains import mean_over
from simreg_core.lab.study import Figure, Study

TIME, MEMORY = "#d55e00", "#0072b2"


def _predicted_over_measured(costs: dict) -> dict[str, pd.Series]:
    """Predicted over measured time of a step, of each repeat, for each k."""
    return {f"k = {row['k']}": row["predicted"] / pd.Series(row["ratios"]) for row in costs["rows"] if row["k"] > 0}


CLAIMS = (
    Claim(
        key="cost",
        text="k pairs a step take at most a ninth longer than 2k more images",
        source="v2 section 4.6",
        statistic="predicted over measured time of a step, mean over k",
        threshold=0.9,
        scale="ratio",
        measure=mean_over(_predicted_over_measured),
        parts=_predicted_over_measured,
        note="The width of the network matters: in quick it is 8; at width 16 BENCHMARKS.md has 0.93 to 0.96.",
    ),
)


def verdicts(study: Study, protocol: None) -> list[Verdict]:
    """The verdict on time; its interval is over repeated measurements."""
    costs = step_costs(study)
    return [judge(one, one.measure(costs), "measurements", parts=one.parts(costs)) for one in CLAIMS]


def draw(study: Study, protocol: None) -> Picture:
    """Time and memory of a training step against k; below, time of a step and memory of the regularizer against N."""
    costs = step_costs(study)
    figure, axes = panels(2, 2, 4.7)
    time_against_k(axes[0, 0], costs)
    _memory_of_a_step(axes[0, 1], costs)
    _against_images(axes[1], pd.DataFrame(costs["image_counts"]))
    figure.suptitle(finding(study, "cost"), fontsize="small", x=0.01, ha="left")
    return figure


def _memory_of_a_step(ax: Axes, costs: dict) -> None:
    rows = pd.DataFrame(costs["rows"])
    ax.plot(rows["k"], rows["saved_bytes"] / rows["saved_bytes"].iloc[0], "s-", color=MEMORY, label="counted")
    predicted_line(ax, rows)
    ax.set_ylabel("Kept for the backward pass\n(unregularized = 1)")
    ax.set_title("Memory of a step, the same on every device", fontsize="small")


def _against_images(axes, counts: pd.DataFrame) -> None:
    """A unit a panel: milliseconds, and MiB."""
    time, memory = axes
    time.semilogx(counts["N"], counts["seconds"] * 1e3, "o-", color=TIME, label="one measurement each")
    time.set(ylabel="Time of a step (ms)", ylim=(0, 1.3 * 1e3 * counts["seconds"].max()))
    time.set_title("Time, against the number of images", fontsize="small")
    memory.loglog(counts["N"], counts["held_bytes"] / 2**20, "s-", color=MEMORY, label="counted")
    square = counts["N"].astype(float) ** 2 / 2**20
    memory.loglog(counts["N"], square, color="0.5", ls=":", label="N² bytes: target matrix only")
    memory.set(ylabel="Kept by the regularizer (MiB)")
    memory.set_title("Memory, against the number of images", fontsize="small")
    for ax in axes:
        ax.set_xlabel("Regularization images, N")
        ax.legend(loc="lower right", fontsize="small")


def numbers(study: Study) -> pd.DataFrame:
    """Time and memory against k, and against N."""
    costs = step_costs(study)
    rows = pd.DataFrame(costs["rows"]).drop(columns="ratios").merge(ratios_over_repeats(costs), on="k")
    return pd.concat({"k": rows, "N": pd.DataFrame(costs["image_counts"])}, names=["against"]).reset_index("against")


FIGURE = Figure(
    "16_cost",
    timed_steps,
    CLAIMS,
    draw,
    numbers=numbers,
    notes=lambda study: {"measured_cost": step_costs(study)},
    judge=verdicts,
    protocols=(),
)

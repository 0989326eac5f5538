"""Figure 16: time and memory of a training step (paper v2, section 4.6)."""

import pandas as pd

from simreg_core.lab.claims import Claim, Verdict, judge
from simreg_core.lab.figures.kit import Picture, panels
from simreg_core.lab.figures.kit_cost import predicted_line, step_costs, time_against_k, timed_steps
from simreg_core.lab.gains import mean_over
from simreg_core.lab.study import Figure, Study


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
    """Time and memory of a training step against k, and of the regularizer against N."""
    costs = step_costs(study)
    figure, axes = panels(1, 3, 2.6)
    time_against_k(axes[0], costs)
    rows = pd.DataFrame(costs["rows"])
    axes[1].plot(rows["k"], rows["saved_bytes"] / rows["saved_bytes"].iloc[0], "s-", color="#0072b2", label="counted")
    predicted_line(axes[1], rows)
    axes[1].set_ylabel("Memory kept for the backward\npass (unregularized = 1)")
    counts = pd.DataFrame(costs["image_counts"])
    axes[2].loglog(
        counts["N"], counts["held_bytes"] / 2**20, "s-", color="#0072b2", label="memory of the\nregularizer (MiB)"
    )
    axes[2].loglog(counts["N"], counts["seconds"] * 1e3, "o-", color="#d55e00", label="time of a step (ms)")
    square = counts["N"].astype(float) ** 2 / 2**20
    axes[2].loglog(counts["N"], square, color="0.5", ls=":", label="N² bytes")
    axes[2].set(xlabel="Regularization images, N")
    axes[2].legend(fontsize="small")
    return figure


def numbers(study: Study) -> pd.DataFrame:
    """Time and memory against k, and against N."""
    costs = step_costs(study)
    rows, counts = pd.DataFrame(costs["rows"]).drop(columns="ratios"), pd.DataFrame(costs["image_counts"])
    return pd.concat({"k": rows, "N": counts}, names=["against"]).reset_index("against")


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

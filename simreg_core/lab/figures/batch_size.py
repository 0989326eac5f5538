"""Figure 07: three attacks against the number of pairs a step, and what pairs cost (paper v2, Figure 8)."""

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import Picture, mpl, panels, series_by
from simreg_core.lab.figures.kit_attacks import each_curve_helps
from simreg_core.lab.figures.kit_cost import step_costs, time_against_k, timed_steps
from simreg_core.lab.figures.kit_gains import (
    DIAMOND,
    gains_against,
    published_by_number,
    published_diamond,
    same_grids,
    title,
)
from simreg_core.lab.gains import ATTACKS, GAIN, at_largest, gain_of_each, mean_over
from simreg_core.lab.recipes import seeds_of, three_attacks
from simreg_core.lab.series import LOOKS, NONE, S_TH, THRESHOLD
from simreg_core.lab.specs import Profile
from simreg_core.lab.study import Block, Figure, Study

PUBLISHED_K = (4, 8, 16, 32)


def experiments(profile: Profile) -> tuple[Block, ...]:
    """S^Th with k pairs a step, and none, under the three attacks; what a step costs."""
    series = {NONE: seeds_of(profile, NONE, profile.seeds)}
    for k in profile.studies.pairs_per_step:
        series[f"k = {k}"] = seeds_of(profile, THRESHOLD, profile.seeds, pairs_per_step=k)
    return (Block(series, three_attacks(profile)), *timed_steps(profile))


CLAIMS = (
    Claim(
        key="every-k",
        text="S^Th raises accuracy under noise over all k; no k loses",
        source="v2 Fig. 8",
        statistic=GAIN + ", mean over k",
        measure=mean_over(gain_of_each),
        parts=gain_of_each,
        published={"CIFAR-10": 0.172},
        also=(at_largest(gain_of_each, {"CIFAR-10": 0.345}),),
        attack="gaussian",
    ),
)


def draw(study: Study, protocol: str) -> Picture:
    """The gain over none against k under three attacks, and the measured time of a training step."""
    task, epsilons = study.circumstances.task, study.profile.studies.epsilons
    same = task == "CIFAR-10" and same_grids(task, epsilons)  # as the published values
    figure, axes = panels(2, 2, 5.2)
    table = study.table()
    numbers = series_by(table, "k")
    for ax, attack in zip(axes.flat[:3], ATTACKS, strict=True):
        gains_against(ax, table, numbers, attack, protocol, 2)
        for k, y in published_by_number("k", PUBLISHED_K, attack).items():
            published_diamond(ax, k, y, same)
            ax.plot([k / 2], [y], **{**DIAMOND, "ms": 2.5, "mec": "0.5"}, mfc="white")
        ax.set_xlabel("Pairs a step, k")
    time_against_k(axes[1, 1], step_costs(study))
    _legend(figure, same)
    title(figure, study, protocol, "every-k")
    return figure


def _legend(figure: Picture, same: bool) -> None:
    line = mpl.lines.Line2D
    look = LOOKS[THRESHOLD]
    handles = [
        line([], [], color=look.colour, marker=look.marker, label=f"{S_TH}: mean, 95 % interval, seeds"),
        line([], [], **DIAMOND, mfc="k" if same else "white", label="published, gray CIFAR-10: k pairs"),
        line([], [], **{**DIAMOND, "ms": 2.5, "mec": "0.5"}, mfc="white", label="the same, if its k counts images"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small")


FIGURE = Figure(
    "07_batch_size_study",
    experiments,
    CLAIMS,
    draw,
    details=each_curve_helps("v2 Fig. 8"),
    notes=lambda study: {"measured_cost": step_costs(study)},
)

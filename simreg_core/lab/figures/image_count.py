"""Figure 08: three attacks against the number of regularization images (paper v2, Figure 9)."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from simreg_core.lab.claims import Claim, Statistic
from simreg_core.lab.figures.kit import Picture, mpl, panels, series_by
from simreg_core.lab.figures.kit_attacks import each_curve_helps
from simreg_core.lab.figures.kit_gains import (
    DIAMOND,
    gains_against,
    published_by_number,
    published_diamond,
    same_grids,
    title,
)
from simreg_core.lab.gains import AT_LARGEST, ATTACKS, gain
from simreg_core.lab.recipes import seeds_of, three_attacks
from simreg_core.lab.series import LOOKS, NONE, S_TH, THRESHOLD
from simreg_core.lab.specs import Profile
from simreg_core.lab.study import Block, Figure, Study

PUBLISHED_COUNTS = (100, 1000, 5000)


def experiments(profile: Profile) -> tuple[Block, ...]:
    """S^Th with N regularization images, and none, under the three attacks."""
    series = {NONE: seeds_of(profile, NONE, profile.seeds)}
    for count in sorted(profile.studies.image_counts):
        series[f"N = {count}"] = seeds_of(profile, THRESHOLD, profile.seeds, count=count)
    return (Block(series, three_attacks(profile)),)


def image_counts(table: pd.DataFrame) -> tuple[str, str, str]:
    """The series with the smallest, the middle and the largest N."""
    counts = list(series_by(table, "count"))
    return counts[0], counts[len(counts) // 2], counts[-1]


def _gains(table: pd.DataFrame, **where) -> list[pd.Series]:
    """The Gaussian gains of the smallest, the middle and the largest N."""
    return [gain(table, name, "gaussian", **where) for name in image_counts(table)]


def _count_suffices(table: pd.DataFrame, **where) -> pd.Series:
    _, middle, largest = _gains(table, **where)
    return middle - largest / 2


def _count_too_small(table: pd.DataFrame, **where) -> pd.Series:
    smallest, _, largest = _gains(table, **where)
    return largest / 2 - smallest


def _largest(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Where the largest N surely does harm, no number suffices, and the smallest is not what lacks."""
    return {"gain of the largest N": _gains(table)[2]}


def _at_end(measure: Callable[..., pd.Series], published: float) -> tuple[Statistic]:
    of_end = partial(measure, epsilon="largest")
    return (Statistic(key="at-largest", statistic=AT_LARGEST, measure=of_end, published={"CIFAR-10": published}),)


CLAIMS = (
    Claim(
        key="count-suffices",
        text="A middle number of images brings over half the gain of the most",
        source="v2 Fig. 9",
        statistic="gain in mean accuracy over the grid of Gaussian ε: middle N minus half of the largest N",
        measure=_count_suffices,
        parts=_largest,
        published={"CIFAR-10": 0.086},
        also=_at_end(_count_suffices, 0.222),
        attack="gaussian",
        note="In the paper the numbers are 100, 1,000 and 5,000. Contradicted also where the largest N surely does "
        "harm: then no number suffices.",
    ),
    Claim(
        key="count-too-small",
        text="The fewest images bring less than half the gain of the most",
        source="v2 Fig. 9",
        statistic="gain in mean accuracy over the grid of Gaussian ε: half of the largest N minus smallest N",
        measure=_count_too_small,
        parts=_largest,
        published={"CIFAR-10": 0.052},
        also=_at_end(_count_too_small, 0.062),
        attack="gaussian",
        note="Contradicted also where the largest N surely does harm: then the smallest is not what lacks.",
    ),
)


def draw(study: Study, protocol: str) -> Picture:
    """The gain over none against N under three attacks, and half that of the largest N, which the claims ask for."""
    task, epsilons = study.circumstances.task, study.profile.studies.epsilons
    same = task == "CIFAR-10" and same_grids(task, epsilons)  # as the published values
    figure, axes = panels(1, 3, 3.3)
    table = study.table()
    counts = series_by(table, "count")
    for ax, attack in zip(axes, ATTACKS, strict=True):
        gains_against(ax, table, counts, attack, protocol, 10)
        for count, y in published_by_number("N", PUBLISHED_COUNTS, attack).items():
            published_diamond(ax, count, y, same)
        ax.set_xlabel("Images, N\n(N(N − 1)/2 pairs)")
    whole = _gains(table[table["protocol"] == protocol])[-1].mean()
    axes[0].axhline(whole / 2, color=LOOKS[THRESHOLD].colour, lw=0.9, ls=":", zorder=1)
    _legend(figure, same)
    title(figure, study, protocol, "count-suffices", "count-too-small")
    return figure


def _legend(figure: Picture, same: bool) -> None:
    line = mpl.lines.Line2D
    look = LOOKS[THRESHOLD]
    handles = [
        line([], [], color=look.colour, marker=look.marker, label=f"{S_TH}: mean, 95 % interval, seeds"),
        line([], [], color=look.colour, lw=0.9, ls=":", label="half the gain of the largest N"),
        line([], [], **DIAMOND, mfc="k" if same else "white", label="published, gray CIFAR-10"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small")


FIGURE = Figure("08_image_count_study", experiments, CLAIMS, draw, details=each_curve_helps("v2 Fig. 9"))

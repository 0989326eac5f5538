"""Figure 03: choosing alpha and the threshold on validation images (paper v2, Figure 4)."""

from typing import Any

import numpy as np
import pandas as pd

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import SEEDS, Axes, Picture, finding, mpl, panels, reference, sequence
from simreg_core.lab.figures.kit_attacks import ATTACK_NAMES
from simreg_core.lab.gains import mean_over
from simreg_core.lab.select import chosen_pair, grid_of, rank_correlations, selection_ratios
from simreg_core.lab.series import NONE
from simreg_core.lab.study import Figure, Study
from simreg_core.names import ACCEPTED_CLEAN_RATIO, NOISE_NAMES

ATTACKS_COMPARED = (*NOISE_NAMES, "fgsm")
PUBLISHED_GRID = ((4, 10, 20), (0.2, 0.4, 0.6, 0.8))
PUBLISHED_ALPHAS = dict(zip(PUBLISHED_GRID[0], ("0.75", "0.5", "0.15"), strict=True))
ALPHA = "alpha"  # gid of the numbers beside points
PANEL = (140, 120)  # points: about the size of a plane
RINGS, TURNS = (12, 20, 28, 36, 44), 16  # from a mark to its number: points, and directions of each ring
MOST_NUMBERS = 12  # beside the marks of a plane, as many as the paper has
ENOUGH = 10  # points between a number and the nearest mark or number
LEADER = 14  # points from which a line leads from the mark to its number


def _correlations(table: pd.DataFrame) -> dict[str, pd.Series]:
    """The rank correlation with Gaussian noise by seed, for each other attack."""
    found = rank_correlations(table).groupby("attack")
    return {ATTACK_NAMES[attack]: own.set_index("seed")["correlation"] for attack, own in found}


CLAIMS = (
    Claim(
        key="consistent",
        text="Other attacks rank the pairs (α, Th) as Gaussian noise does",
        source="v2 Fig. 4",
        statistic="rank correlation over (α, Th) with Gaussian noise, mean over attacks",
        measure=mean_over(_correlations),
        parts=_correlations,
        scale="correlation",
        attack="gaussian",
        note="On validation images.",
    ),
)


def draw(study: Study, protocol: str) -> Picture:
    """R_0/U_0 against R_D/U_D, a panel for each attack and one for the published plane; the chosen pair is ringed."""
    table = study.table()
    figure, axes = panels(2, 3, 5.0, sharex=True, sharey=True)
    *planes, published, legend = axes.flat
    thresholds = sorted({*table["threshold"].dropna(), *PUBLISHED_GRID[1]})
    markers = dict(zip(thresholds, "vDs^oPX*<>", strict=False))
    points = {ax: _plane(ax, table, attack, markers) for ax, attack in zip(planes, ATTACKS_COMPARED, strict=True)}
    points[published] = _published_plane(published, markers)
    _scale(axes[0, 0])
    for ax, labelled in points.items():
        _accepted_region(ax)
        _write_alphas(ax, labelled)
        ax.set_xlabel("Clean, ratio to none ($R_0/U_0$)", fontsize="small")
        ax.tick_params(labelbottom=True)
    for ax in axes[:, 0]:
        ax.set_ylabel("Under attack,\nratio to none ($R_D/U_D$)", fontsize="small")
    _plane_legend(legend, table, markers)
    titles = f"{choice_in_words(chosen(study))}\n{finding(study, 'consistent')}"
    figure.suptitle(titles, fontsize="small", x=0.01, ha="left")
    return figure


def _plane(ax: Axes, table: pd.DataFrame, attack: str, markers: dict[float, str]) -> pd.DataFrame:
    """A mark for each (alpha, Th), crosses for its seeds, a line through the alphas of one Th.

    Returns the points, as `selection_ratios`.
    """
    colours = _colours(table)
    ratios, seeds = selection_ratios(table, attack), ratios_of_seeds(table, attack)
    for _, own in ratios.sort_values("alpha").groupby("threshold"):
        ax.plot(own["clean"], own["robust"], color="0.75", lw=0.8, zorder=1)
    for row in ratios.itertuples():
        colour = colours[row.alpha]
        own = seeds[seeds["series"] == row.series]
        ax.plot(own["clean"], own["robust"], "x", color=colour, ms=3, mew=0.7, alpha=0.8, zorder=2, gid=SEEDS)
        ax.plot(row.clean, row.robust, markers[row.threshold], color=colour, ms=5, zorder=2.5, gid=row.series)
        if row.chosen:
            ax.plot(row.clean, row.robust, "o", mfc="none", mec="k", ms=10, zorder=3)
    ax.set_title(ATTACK_NAMES[attack], fontsize="medium")
    return ratios


def ratios_of_seeds(table: pd.DataFrame, attack: str) -> pd.DataFrame:
    """The ratios of `selection_ratios` seed by seed, to the unregularized network of the same seed.

    Returns series, seed, clean and robust.
    """
    own = table[table["attack"] == attack]
    values = own.pivot_table(index=["series", "seed"], columns="epsilon", values="value", sort=False)
    values = values[[values.columns.min(), values.columns.max()]].set_axis(["clean", "robust"], axis=1)
    return values.drop(NONE).div(values.loc[NONE], level="seed").reset_index()


def _published_plane(ax: Axes, markers: dict[float, str]) -> pd.DataFrame:
    """As `_plane`, without seeds, marks not filled."""
    found = []
    for threshold in PUBLISHED_GRID[1]:
        for alpha, colour in PUBLISHED_ALPHAS.items():
            point = reference("CN/C0 (x) and RN/R0 (y)", f"alpha={alpha} Th={threshold:g}", ("5 Gaussian plane",))
            ax.plot(point["x"], point["y"], markers[threshold], color=colour, ms=5, mfc="none", zorder=2.5)
            found.append(
                point.set_axis(["clean", "robust"], axis=1).assign(alpha=alpha, threshold=threshold, chosen=False)
            )
    points = pd.concat(found, ignore_index=True)
    for _, own in points.groupby("threshold"):
        ax.plot(own["clean"], own["robust"], color="0.75", lw=0.8, zorder=1)
    ax.set_title("Published: Gaussian noise", fontsize="medium")
    return points


def _scale(ax: Axes) -> None:
    """One logarithmic scale of all panels: half and double are equally far from none's accuracy."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    ax.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    ax.set(
        xlim=(min(left, ACCEPTED_CLEAN_RATIO - 0.05), max(right, 1.05)),
        ylim=(min(low, 0.95) / 1.08, max(high, 1.05) * 1.08),
    )


def _accepted_region(ax: Axes) -> None:
    """Clean accuracy at least 0.9 of the unregularized network's, and no loss under attack."""
    right, high = ax.get_xlim()[1], ax.get_ylim()[1]
    corner = (ACCEPTED_CLEAN_RATIO, 1)
    ax.add_patch(mpl.patches.Rectangle(corner, right - corner[0], high - corner[1], color="0.92", lw=0, zorder=0))
    ax.axhline(1, color="0.6", lw=0.6, zorder=0, gid=NONE)
    ax.axvline(ACCEPTED_CLEAN_RATIO, color="0.6", lw=0.6, zorder=0)


def _write_alphas(ax: Axes, points: pd.DataFrame) -> None:
    """Alpha near each point, at the nearest place that is free; of many points near `_telling` ones.

    points: clean, robust, alpha, threshold and chosen.
    """
    shown = ax.transScale.transform(points[["clean", "robust"]].to_numpy(dtype=float))
    low, high = ax.transScale.transform(np.column_stack([ax.get_xlim(), ax.get_ylim()]))
    places = (shown - low) / (high - low) * PANEL
    labels: list[np.ndarray] = []
    sides = _sides()
    for index in np.flatnonzero(_telling(points)):
        place, row = places[index], points.iloc[index]
        others = [*np.delete(places, index, axis=0), *labels]
        inside = [side for side in sides if np.all((place + side > 5) & (place + side < PANEL))]
        room = [min((np.hypot(*(place + side - one)) for one in others), default=ENOUGH) for side in inside]
        side = inside[int(np.argmax(np.minimum(room, ENOUGH)))]
        labels.append(place + side)
        style: dict[str, Any] = {"ha": "center", "va": "center", "textcoords": "offset points"}
        if np.hypot(*side) > LEADER:
            style["arrowprops"] = {"arrowstyle": "-", "lw": 0.4, "color": "0.5", "shrinkA": 0, "shrinkB": 0}
        ax.annotate(f"{row.alpha:g}", (row.clean, row.robust), side, fontsize="x-small", gid=ALPHA, **style)


def _sides() -> list[np.ndarray]:
    """From a mark to where its number may stand, points: the nearest first."""
    turns = 2 * np.pi * np.arange(TURNS) / TURNS
    return [ring * np.array([np.cos(turn), np.sin(turn)]) for ring in RINGS for turn in turns]


def _telling(points: pd.DataFrame) -> pd.Series:
    """Which points have a number: all, or of many the ends of the line of each Th, and the chosen one."""
    if len(points) <= MOST_NUMBERS:
        return pd.Series(True, index=points.index)
    of_line = points.groupby("threshold")["alpha"]
    ends = (points["alpha"] == of_line.transform("min")) | (points["alpha"] == of_line.transform("max"))
    return ends | points["chosen"]


def _plane_legend(ax: Axes, table: pd.DataFrame, markers: dict[float, str]) -> None:
    """What the marks mean, in a panel of its own."""
    line, dark = mpl.lines.Line2D, {"color": "0.3"}
    handles = [line([], [], marker=m, ls="", label=f"Th = {t:g}", **dark) for t, m in markers.items()]
    handles += [line([], [], marker="h", ls="", color=c, label=f"α = {a:g}") for a, c in _colours(table).items()]
    handles += [
        line([], [], color="0.75", lw=0.8, label="same Th"),
        line([], [], marker="x", ls="", ms=3, label="a seed", **dark),
        line([], [], marker="s", ls="", mfc="none", color="0.5", label="published"),
        line([], [], marker="o", ls="", mfc="none", mec="k", ms=10, label="chosen"),
        mpl.patches.Patch(color="0.9", label="accepted"),
    ]
    images, seeds = int(table["attempted"].min()), table["seed"].nunique()
    ax.set_axis_off()
    title = f"{images} validation images, n = {seeds}\nnumbers beside marks: α"
    options = {"ncols": 2, "columnspacing": 1.2, "handlelength": 1.4, "labelspacing": 0.7}
    ax.legend(handles=handles, loc="center", fontsize="small", title=title, title_fontsize="small", **options)


def _colours(table: pd.DataFrame) -> dict[float, object]:
    """Of each alpha, light to dark."""
    alphas = sorted(table["alpha"].dropna().unique())
    return dict(zip(alphas, sequence(len(alphas)), strict=True))


def choice_in_words(choices: dict[str, tuple[float, float] | None]) -> str:
    """What Gaussian noise chooses, and how many other attacks choose the same.  choices: of `chosen`."""
    own, *others = (choices[attack] for attack in sorted(choices, key=lambda one: one != "gaussian"))
    if own is None:
        return "Gaussian noise accepts no pair (α, Th)"
    same = others.count(own)
    also = {0: "none chooses", 1: "1 chooses"}.get(same, f"{same} choose")
    return f"Gaussian noise chooses α = {own[0]:g}, Th = {own[1]:g}; of {len(others)} other attacks, {also} the same"


def chosen(study: Study) -> dict[str, tuple[float, float] | None]:
    """The (alpha, Th) that each attack chooses; None where it accepts none."""
    return {attack: chosen_pair(study.table(), attack) for attack in ATTACKS_COMPARED}


def ratios(study: Study) -> pd.DataFrame:
    """The ratios of `selection_ratios`, attack by attack."""
    table = study.table()
    found = {attack: selection_ratios(table, attack) for attack in ATTACKS_COMPARED}
    return pd.concat(found, names=["attack"]).reset_index("attack")


FIGURE = Figure(
    "03_hyperparameter_selection",
    grid_of,
    CLAIMS,
    draw,
    numbers=lambda study: ratios(study).drop(columns=["alpha", "threshold"]),
    notes=lambda study: {"chosen": chosen(study)},
    protocols=("released",),
)

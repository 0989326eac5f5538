"""Figure 24: every defence of the paper and of the dissertation beside the usual ones (ours, neither source has it)."""

from typing import Any

import numpy as np
import pandas as pd

from simreg_core.lab.claims import interval_of
from simreg_core.lab.defences_gains import (
    BY_KEY,
    CLAIMS,
    COLUMNS,
    WITHOUT_AUTOATTACK,
    WORST,
    Cells,
    Column,
    cells,
    compared_with,
    details,
    ordered,
)
from simreg_core.lab.defences_study import OWN_BASES, experiments
from simreg_core.lab.figures.kit import CHANCE, PAGE, SEEDS, Axes, Picture, finding, mark, mpl, plt, use_style
from simreg_core.lab.figures.kit_forest import scale_effects
from simreg_core.lab.figures.kit_gains import INTERVALS, mean_interval_of
from simreg_core.lab.protocol_of_claims import FEWEST_SEEDS
from simreg_core.lab.series import LOOKS, NONE, Look, looks_of
from simreg_core.lab.specs import DefencesTask
from simreg_core.lab.study import Figure, Study

STRIPS = (
    ("clean", "gaussian", "corruptions", "fgsm", "boundary"),
    ("worst", "pgd", "autoattack", "training", "inference"),
)
ROW, REST = 0.17, 0.62  # inches: of a defence, and of what stands above and below the panels of a strip
CERTIFIED = "certified"  # gid of the share that no attack can fool


def draw(study: Study, protocol: str) -> Picture:
    """For each task two strips of panels that share their rows, sorted by accuracy under the strongest attack.

    A grey line is the undefended network, a grey ring that of a defence with a classifier of its own. A bar in the
    panel of the strongest attack is the certified share, right or wrong. At the right stands how many
    records of a row are flagged.
    """
    use_style()
    table, tasks = study.table(), study.profile.all_defences.tasks
    rows = {own.name: ordered(table, own.name) for own in tasks}
    looks = looks_of(name for name in table["series"].unique() if name not in OWN_BASES.values())
    values = {own.name: cells(table, own.name) for own in tasks}
    heights = [ROW * len(names) + REST for names in rows.values() for _ in STRIPS]
    figure = plt.figure(figsize=(PAGE, sum(heights) + 1.1))
    strips = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for place, own in enumerate(tasks):
        for strip, keys in zip(strips[2 * place :], STRIPS, strict=False):
            axes = strip.subplots(1, len(keys), sharey=True)
            chance = table.loc[table["group"] == own.name, "chance"].max()
            for ax, key in zip(axes, keys, strict=True):
                if not BY_KEY[key].ratio:
                    ax.axvline(chance, color="0.6", lw=0.8, ls=":", zorder=0.5, gid=CHANCE)
                _panel(ax, values[own.name], BY_KEY[key], rows[own.name], looks)
            _name_rows(axes[0], rows[own.name], looks)
        _flags(axes[-1], study, own.name, rows[own.name])
        strips[2 * place].suptitle(_title(own, table), fontsize="medium", fontweight="bold", x=0.01, ha="left")
    _legend(figure)
    found = finding(study, *(claim.key for claim in CLAIMS))
    figure.suptitle(found, fontsize="small", x=0.01, ha="left")
    return figure


def _title(own: DefencesTask, table: pd.DataFrame) -> str:
    rows = table[table["group"] == own.name]
    attacked = rows.loc[rows["condition"] == WORST, "attempted"]
    few, many = attacked.min(), attacked.max()
    images = f"{few:.0f}" if few == many else f"{few:.0f} to {many:.0f}"
    size = f"L∞ {own.epsilon:g} on {images} images"
    return f"{own.name.capitalize()}: {size}, n = {rows['seed'].nunique()}; sorted by the strongest attack"


def _panel(ax: Axes, found: Cells, column: Column, names: list[str], looks: dict[str, Look]) -> None:
    """A column: mean, 95 % interval and seeds of each row, the first on top."""
    for place in range(0, len(names), 2):  # leads the eye from the label to the last column
        ax.axhspan(place - 0.5, place + 0.5, color="0.955", lw=0, zorder=0)
    shown = {name: (place, found[column.key, name]) for place, name in enumerate(names) if len(found[column.key, name])}
    if shown:
        _dots(ax, shown, looks)
    for place, name in enumerate(names):
        if name not in shown:
            quantized = column.key == "autoattack" and name in WITHOUT_AUTOATTACK
            words = "quantized" if quantized else "not measurable" if column.ratio else "not measured"
            ax.text(0.5, place, words, transform=ax.get_yaxis_transform(), **_small("center"))
        if name in OWN_BASES and not column.ratio and len(base := found[column.key, OWN_BASES[name]]):
            ring = {"mfc": "none", "mec": LOOKS[NONE].colour, "ms": 4.5, "ls": "", "zorder": 2.2}
            mark(ax.plot(base.mean(), place, "o", **ring)[0], OWN_BASES[name])
        if column.key == "worst":
            _certified(ax, found["certified", name], place)
    _undefended(ax, found[column.key, NONE], column)
    ax.set_title(column.title, fontsize="small")
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize="x-small")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("÷ undefended" if column.ratio else "accuracy", fontsize="x-small", labelpad=1)


def _dots(ax: Axes, shown: dict[str, tuple[int, pd.Series]], looks: dict[str, Look]) -> None:
    """Mean, 95 % interval and, just below, seeds of each row; as few artists as can be, since panels are many.

    shown: place and values of each row.
    """
    intervals = {name: mean_interval_of(values) for name, (_, values) in shown.items()}
    colours = [looks[name].colour for name in shown]
    places, values = zip(*shown.values(), strict=True)
    lows, highs = ([each[side] for each in intervals.values()] for side in (1, 2))
    ax.hlines(places, lows, highs, colors=colours, lw=1.6, zorder=2, gid=INTERVALS)
    for name, (place, _) in shown.items():
        ax.plot(intervals[name][0], place, looks[name].marker, color=looks[name].colour, ms=5, zorder=2.5, gid=name)
    counts = [len(own) for own in values]
    at = np.repeat(np.array(places) + 0.3, counts)
    colour = [one for one, count in zip(colours, counts, strict=True) for _ in range(count)]
    ax.scatter(np.concatenate([*values]), at, s=3, c=colour, alpha=0.6, lw=0, zorder=1.5, gid=SEEDS)


def _undefended(ax: Axes, values: pd.Series, column: Column) -> None:
    """The line of the undefended network, and the axis."""
    if column.ratio:
        ax.axvline(1, color=LOOKS[NONE].colour, lw=0.8, zorder=1)
        ax.update_datalim([(0.8, 0), (2, 0)])  # a difference of a hundredth shall not fill the panel
        scale_effects(ax, is_ratio=True)
        return
    if len(values):
        ax.axvline(values.mean(), color=LOOKS[NONE].colour, lw=0.8, zorder=1)
    ax.set_xlim(-0.04, 1.04)
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])


def _certified(ax: Axes, shares: pd.Series, place: int) -> None:
    if len(shares):
        look: dict[str, Any] = {"color": "k", "ms": 8, "mew": 1.6, "zorder": 3}
        ax.plot(shares.mean(), place, "|", gid=CERTIFIED, **look)


def _name_rows(ax: Axes, names: list[str], looks: dict[str, Look]) -> None:
    ax.set_yticks(range(len(names)), [looks[name].label for name in names], fontsize="small")


def _flags(ax: Axes, study: Study, group: str, names: list[str]) -> None:
    """How many records of a row carry a warning, in what is left of the page at the right."""
    counts = flagged(study)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "ha": "right"}
    for row, name in enumerate(names):
        ax.annotate(str(counts.get((group, name), 0)), (1, row), (20, 0), fontsize="x-small", **place)
    ax.annotate("flags", (1, -1.0), (24, 0), fontsize="x-small", annotation_clip=False, **place)


def flagged(study: Study) -> dict[tuple[str, str], int]:
    """Records that carry a warning of `suspicion`, by task and row; those with none are not there."""
    counts: dict[tuple[str, str], int] = {}
    for group, series, record in study.records():
        if record.warnings:
            counts[group, series] = counts.get((group, series), 0) + 1
    return counts


def _small(ha: str) -> dict[str, Any]:
    return {"ha": ha, "va": "center", "fontsize": "x-small", "color": "0.45"}


def _legend(figure: Picture) -> None:
    line, grey = mpl.lines.Line2D, LOOKS[NONE].colour
    handles = [
        line([], [], color="0.4", marker="o", ms=5, lw=1.6, label="mean, 95 % interval; small: seeds"),
        line([], [], color=grey, lw=0.8, label="none"),
        line([], [], color="0.6", lw=0.8, ls=":", label="chance"),
        line([], [], color=grey, marker="o", mfc="none", ms=4.5, ls="", label="its own classifier, undefended"),
        line([], [], color="k", marker="|", ms=8, mew=1.6, ls="", label="certified share"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize="x-small")


def numbers(study: Study) -> pd.DataFrame:
    """A row for each defence and column of each task: mean over seeds with its 95 % t-interval.

    Columns: task, defence, compared_with (the undefended network of its classifier), quantity (a key of `COLUMNS`, or
    'flags'), mean, low, high, seeds. Rows are in the order of the picture.
    """
    table, found = study.table(), []
    counts = flagged(study)
    for own in study.profile.all_defences.tasks:
        names, measured_cells = ordered(table, own.name), cells(table, own.name)
        bases = [OWN_BASES[name] for name in names if name in OWN_BASES]
        for name in (*names, *bases):
            row = {"task": own.name, "defence": name, "compared_with": compared_with(name)}
            for column in COLUMNS:
                values = measured_cells[column.key, name]
                if not len(values) or (column.ratio and name in bases):
                    continue
                mean, low, high = interval_of(values)
                few = len(values) < FEWEST_SEEDS
                interval = {"mean": mean, "low": None if few else low, "high": None if few else high}
                found.append({**row, "quantity": column.key, **interval, "seeds": len(values)})
            found.append({**row, "quantity": "flags", "mean": counts.get((own.name, name), 0)})
    return pd.DataFrame(found)


def notes(study: Study) -> dict:
    """For the JSON and the pages: at which epsilon a task is attacked, and how strengths were chosen."""
    tasks = study.profile.all_defences.tasks
    return {"tasks": {own.name: {"epsilon": own.epsilon, "matched": own.matched} for own in tasks}}


FIGURE = Figure(
    "24_all_defences",
    experiments,
    CLAIMS,
    draw,
    numbers=numbers,
    details=details,
    notes=notes,
    protocols=("strict",),
    part="all_defences",
    files=("lab/defences_gains.py", "lab/defences_study.py"),
)

"""Rows of paired effects, for figures of many conditions: mean with its interval, seeds, and the published effect.

A picture has one or more columns (an attack, the cost) that share their rows. A label stands beside each row, so a
reader needs no legend to tell the rows apart, and colour is never needed to know which is which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from simreg_core.lab.claims import interval_of
from simreg_core.lab.figures.kit import SEEDS, Axes, Picture, mpl, panels
from simreg_core.lab.figures.kit_attacks import ATTACK_NAMES, MAIN_LOOKS, published_curve
from simreg_core.lab.gains import gain
from simreg_core.lab.protocol_of_claims import FEWEST_SEEDS
from simreg_core.lab.series import LOOKS, NONE, Look

ROW, HEADING = 0.185, 0.2  # inches: height of a row, and of the name of a group above its rows
PUBLISHED = "published"  # gid of a diamond
OTHER = Look("", "0.35", "o")  # of rows that their labels tell apart
CLEAN = "clean"  # the column of what is gained or lost without an attack
COLUMNS = {**{attack: ATTACK_NAMES[attack] for attack in ("gaussian", "fgsm", "boundary")}, CLEAN: "No attack"}
AXES = {
    "gaussian": "Gain in accuracy,\nmean over ε",
    "fgsm": "Gain in accuracy,\nmean over ε",
    "boundary": "Size of perturbation\n÷ that of none",
    CLEAN: "Gain in clean\naccuracy",
}


@dataclass(frozen=True)
class Effect:
    """What is drawn in one column of a row.

    values: the paired effect of each training seed, [n]: a difference, or a ratio.
    look: colour and marker.  series: the curves that it shows, for `kit.mark`; its label is never read back.
    published: the effect in the paper; None: there is none, or it could not be read off.
    filled: whether the marker is filled.
    """

    values: pd.Series
    look: Look = OTHER
    series: str = ""
    published: float | None = None
    filled: bool = True


@dataclass(frozen=True)
class Row:
    """A row: its label, a tuple of effects for each column, and the group that it belongs to.

    columns: by title; more effects than one lie one below the other; a column that is not measured is left out.
    group: rows of one group follow each other, below its name.
    """

    label: str
    columns: Mapping[str, tuple[Effect, ...]] = field(default_factory=dict)
    group: str = ""


def height_of(rows: Sequence[Row], around: float = 1.5) -> float:
    """Inches that the rows take.  around: for titles, axis and legend."""
    groups = {row.group for row in rows if row.group}
    most = max((len(one) for row in rows for one in row.columns.values()), default=1)
    return around + ROW * max(1.0, 0.75 * most) * len(rows) + HEADING * len(groups)


def forest_column(
    ax: Axes, rows: Sequence[Row], column: str, *, xlabel: str, line: float = 0.0, names: bool = False, below: str = ""
) -> None:
    """One column of effects.

    column: a key of the rows' columns, and the title.
    line: where there is no effect: 0 of differences; 1 of ratios, which get a logarithmic axis.
    names: whether the labels of the rows stand at the left.  below: a remark below the title, such as '400 images'.
    """
    places, headings = _places(rows)
    for number, (place, row) in enumerate(zip(places, rows, strict=True)):
        if number % 2 == 0:  # leads the eye from the label to the last column
            ax.axhspan(place - 0.5, place + 0.5, color="0.955", lw=0, zorder=0)
        effects = row.columns.get(column, ())
        for index, effect in enumerate(effects):
            lower = 0.9 * (index - (len(effects) - 1) / 2) / len(effects)
            draw_effect(ax, effect, place + lower, 0.8 / len(effects))
        if not effects:
            ax.text(0.5, place, "not measured", **_small(ax))
    ax.axvline(line, color=LOOKS[NONE].colour, lw=0.8, zorder=1, gid=NONE)
    labels = [*(row.label for row in rows), *headings.values()]
    ax.set_yticks([*places, *headings], labels if names else [], fontsize="small")
    for tick in ax.get_yticklabels()[len(rows) :]:
        tick.set_fontweight("bold")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_ylim(places[-1] + 0.6, min([*places, *headings]) - 0.6)
    scale_effects(ax, is_ratio=line == 1)
    ax.set_xlabel(xlabel, fontsize="small")
    ax.set_title(column, fontsize="medium", pad=11 if below else None)
    remark = {"ha": "center", "va": "bottom", "fontsize": "x-small", "color": "0.5"}
    ax.annotate(below, (0.5, 1), (0, 1.5), xycoords="axes fraction", textcoords="offset points", **remark)


def draw_effect(ax: Axes, effect: Effect, y: float, room: float = 0.8) -> None:
    """Mean, 95 % interval, a dot for each seed just below, and the published effect as a diamond.

    room: height of the row.  No interval is drawn of fewer seeds than any verdict takes (FEWEST_SEEDS).
    """
    colour, series = effect.look.colour, effect.series or None
    values = effect.values[np.isfinite(effect.values)]
    if len(values) < len(effect.values) or not len(values):  # every image of a seed failed: it has no size
        ax.text(0.5, y, "not measurable", gid=series, **_small(ax))
    else:
        mean, low, high = interval_of(values)
        if len(values) >= FEWEST_SEEDS:
            ax.plot([low, high], [y, y], color=colour, lw=1.4, solid_capstyle="butt", zorder=2)
        fill = colour if effect.filled else "white"
        ax.plot(mean, y, effect.look.marker, color=colour, mfc=fill, ms=4.5, zorder=4, gid=series)
        dots = {"color": colour, "ms": 3.5, "alpha": 0.6, "mew": 0, "zorder": 1.5}
        ax.plot(values, [y + 0.36 * room] * len(values), ".", gid=SEEDS, **dots)
    if effect.published is not None:
        ax.plot(effect.published, y, "D", ms=3.5, mec="k", mfc="white", mew=0.8, zorder=3, gid=PUBLISHED)


def effects_of_attacks(
    table: pd.DataFrame, series: str, protocol: str, look: Look = OTHER, published: Look | None = None
) -> dict[str, tuple[Effect, ...]]:
    """The columns of a row: gain over none under three attacks, as in `gains.GAIN`, and without an attack.

    table: with series and none; sizes of the boundary attack are those of 'released', as in all figures.
    published: the look whose published curves are the row's; None: it has none.
    """
    own, released = table[table["protocol"] == protocol], table[table["protocol"] == "released"]
    columns: dict[str, tuple[Effect, ...]] = {}
    for column, title in COLUMNS.items():
        attack, epsilon = ("gaussian", "zero") if column == CLEAN else (column, "grid")
        values = gain(released, series, attack) if attack == "boundary" else gain(own, series, attack, epsilon=epsilon)
        theirs = None if published is None else published_gain(published, MAIN_LOOKS[NONE], attack, column == CLEAN)
        columns[title] = (Effect(values, look, series, theirs),)
    return columns


def forest_of_attacks(table: pd.DataFrame, rows: Sequence[Row], protocol: str, published: str | None = None) -> Picture:
    """A picture of rows that have the columns of `effects_of_attacks`.  published: as in `forest_legend`."""
    picture, axes = panels(1, len(COLUMNS), height_of(rows))
    for ax, (column, title) in zip(axes, COLUMNS.items(), strict=True):
        attack = "gaussian" if column == CLEAN else column
        own = table[(table["attack"] == attack) & table["protocol"].isin([protocol, "released"])]
        line = 1.0 if column == "boundary" else 0.0
        below = images_in_words(own, most=True)
        forest_column(ax, rows, title, xlabel=AXES[column], line=line, names=ax is axes[0], below=below)
    forest_legend(picture, rows, published)
    return picture


def forest_legend(
    picture: Picture, rows: Sequence[Row], published: str | None = None, more: Sequence[Any] = ()
) -> None:
    """What the marks mean, below the picture.

    published: whose values the diamonds are; None: there are none.  more: handles with labels, of what else is drawn.
    """
    line = mpl.lines.Line2D
    looks = {(one.look.colour, one.look.marker) for one in _effects(rows)}
    colour, marker = looks.pop() if len(looks) == 1 else (OTHER.colour, OTHER.marker)
    mean = {"color": colour, "marker": marker, "ms": 4.5, "lw": 1.4}
    judged = any(len(one.values) >= FEWEST_SEEDS for one in _effects(rows))
    words = f"mean and 95 % interval ({seeds_in_words(rows)})" if judged else f"mean ({seeds_in_words(rows)})"
    handles = [line([], [], label=words, **mean)]
    handles.append(line([], [], color=colour, marker=".", ls="", ms=3.5, alpha=0.6, mew=0, label="a seed"))
    if published:
        diamond = {"marker": "D", "ls": "", "ms": 3.5, "mec": "k", "mfc": "white", "mew": 0.8}
        handles.append(line([], [], label=published, **diamond))
    handles += more
    place = {"loc": "outside lower center", "ncols": 3, "fontsize": "small"}
    picture.legend(handles=handles, **place)


def seeds_in_words(rows: Sequence[Row]) -> str:
    """'n = 8', or 'n = 4 to 8' where effects have different numbers of seeds."""
    counts = [len(one.values) for one in _effects(rows)]
    low, high = min(counts, default=0), max(counts, default=0)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def images_in_words(table: pd.DataFrame, most: bool = False) -> str:
    """'400 images': the fewest behind a value of these rows; empty where that is not known.

    most: 'to 500', the most, is said too where it is another number.
    """
    known = table["attempted"].dropna() if "attempted" in table else ()
    if not len(known):
        return ""
    low, high = int(min(known)), int(max(known))
    return f"{low} to {high} images" if most and low < high else f"{low} images"


def published_gain(look: Look, none: Look, attack: str, clean: bool = False) -> float | None:
    """The mean difference of published curves over their grid of ε, or the ratio of published boundary-attack sizes.

    clean: the difference at ε = 0 instead.  None where one of the curves could not be read off.
    """
    one, other = published_curve(look, attack), published_curve(none, attack)
    if attack == "boundary":
        return float(one["y"].iloc[0] / other["y"].iloc[0]) if len(one) and len(other) else None
    both = one.round({"x": 4}).merge(other.round({"x": 4}), on="x")
    gains = both["y_x"] - both["y_y"]
    if clean:
        gains = gains[both["x"] == 0]
    elif len(both) < len(other):  # of a part of the grid it would be another statistic
        return None
    return float(gains.mean()) if len(gains) else None


def _effects(rows: Sequence[Row]) -> list[Effect]:
    return [one for row in rows for effects in row.columns.values() for one in effects]


def _places(rows: Sequence[Row]) -> tuple[list[float], dict[float, str]]:
    """Where rows and the names of groups stand, from above; the name of a group stands above its first row."""
    places: list[float] = []
    headings: dict[float, str] = {}
    y, before = 0.0, ""
    for row in rows:
        if row.group and row.group != before:
            y += 0.15 * bool(places)
            headings[y] = row.group
            y += HEADING / ROW
        places.append(y)
        y, before = y + 1, row.group
    return places, headings


def scale_effects(ax: Axes, is_ratio: bool) -> None:
    """Limits and ticks: of ratios in equal steps of a factor, since half and double are equally far from 1."""
    ax.margins(x=0.06)
    ax.tick_params(axis="x", labelsize="small")
    if not is_ratio:
        ax.locator_params(axis="x", nbins=4)
        ax.xaxis.set_major_formatter(lambda value, place: f"{round(value, 9):g}".replace("-", "−"))
        ax.xaxis.set_minor_locator(mpl.ticker.AutoMinorLocator(2))
        return
    ax.set_xscale("log", nonpositive="clip")  # an interval that reaches below 0 leaves the axis
    low, high = ax.get_xlim()
    ticker = mpl.ticker
    few, many = high / low < 4, high / low > 60  # 1, 2 and 5 are too far apart, or too close to each other
    ax.xaxis.set_major_locator(ticker.MaxNLocator(4) if few else ticker.LogLocator(subs=(1,) if many else (1, 2, 5)))
    ax.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    ax.xaxis.set_minor_locator(ticker.NullLocator())


def _small(ax: Axes) -> dict:
    """A remark in a row, at a share of the width."""
    place = {"ha": "center", "va": "center", "transform": ax.get_yaxis_transform()}
    return {"fontsize": "x-small", "color": "0.5", **place}

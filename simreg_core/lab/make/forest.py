"""The claims as a picture: effects with intervals in groups, published effects beside them, verdicts by their shape."""

import textwrap
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, pairwise

from simreg_core.lab.claims import (
    CONTRADICTED,
    DIRECTION,
    GROUPS,
    NO_EFFECT,
    NOT_ACCEPTED,
    REPRODUCED,
    SMALLER,
    UNDECIDED,
)
from simreg_core.lab.figures.kit import COLUMN, Axes, Picture, in_symbols, mpl, plt, use_style

# told apart by shape, and by lightness and blue against orange, which colour-blind readers see
SHAPES = {
    REPRODUCED: {"marker": "o", "color": "#003f7d", "mfc": "#003f7d"},
    SMALLER: {"marker": "^", "color": "#56b4e9", "mfc": "#56b4e9"},
    DIRECTION: {"marker": "s", "color": "#0072b2", "mfc": "#0072b2"},
    NO_EFFECT: {"marker": "P", "color": "0.1", "mfc": "0.1"},
    CONTRADICTED: {"marker": "X", "color": "#d55e00", "mfc": "#d55e00"},
    UNDECIDED: {"marker": "o", "color": "0.5", "mfc": "white"},
    NOT_ACCEPTED: {"marker": "v", "color": "0.5", "mfc": "white", "ls": ":"},
}
OF_SCALES = {"accuracy": "difference in accuracy", "ratio": "ratio"}
AXES = (*OF_SCALES.values(), "correlation, or difference of shares")  # one clear unit each
TEXT, LINE, MARK = 6.5, 0.105, 0.145  # points of a sentence; inches of one of its lines, and of the row of its interval
HEADING, AXIS, LEGEND, EDGE = 0.22, 0.34, 0.95, 0.12  # inches
WIDTH_IN_LETTERS = 66


def forest(rows: list[dict], profile: str) -> Picture:
    """A forest plot of the claims, as wide as one column.

    rows: of `table_of_claims`; what is drawn is what they say.  profile: its name.
    """
    use_style()
    mpl.rcParams["figure.constrained_layout.use"] = False  # places are given in inches
    blocks = list(_blocks(_told_apart(rows)))
    height = LEGEND + sum(_height(own) + AXIS + (HEADING if first else 0) for _, _, own, first in blocks)
    picture = plt.figure(figsize=(COLUMN, height))
    limits = {axis: _limits([row for row in rows if _axis(row) == axis]) for axis in AXES}
    top = height
    for group, axis, own, first in blocks:
        if first:
            top -= HEADING
            picture.text(EDGE / COLUMN, (top + 0.03) / height, GROUPS[group], fontsize=8, weight="bold")
        tall = _height(own)
        top -= tall
        place = (EDGE / COLUMN, top / height, 1 - 2 * EDGE / COLUMN, tall / height)
        _block(picture.add_axes(place), own, limits[axis], axis)
        top -= AXIS
    _legend(picture, profile)
    return picture


def _told_apart(rows: list[dict]) -> list[dict]:
    """The rows; sentences that stand in two notebooks name theirs."""
    count = Counter(row["claim"] for row in rows)
    numbered = [{**row, "claim": f"{row['claim']} (notebook {row['notebook'][:2]})"} for row in rows]
    return [row if count[row["claim"]] == 1 else named for row, named in zip(rows, numbered, strict=True)]


def _blocks(rows: list[dict]) -> Iterator[tuple[str, str, list[dict], bool]]:
    """(group, axis, its rows, whether it is the group's first), in the order of GROUPS and AXES."""
    order = {name: place for place, name in enumerate((*GROUPS, *AXES))}
    ordered = sorted(rows, key=lambda row: (order[row["group"]], order[_axis(row)]))
    before = None
    for (group, axis), own in groupby(ordered, key=lambda row: (row["group"], _axis(row))):
        yield group, axis, list(own), group != before
        before = group


def _axis(row: dict) -> str:
    return OF_SCALES.get(row["scale"], AXES[-1])


def _lines(row: dict) -> list[str]:
    return textwrap.wrap(row["claim"], WIDTH_IN_LETTERS)


def _height(rows: list[dict]) -> float:
    return sum(LINE * len(_lines(row)) + MARK for row in rows) + 0.04


def _limits(rows: list[dict]) -> tuple[float, float]:
    """Room for every effect, interval, published effect and threshold of a scale."""
    values = [row[name] for row in rows for name in ("estimate", "low", "high", "threshold") if row[name] is not None]
    values += [value for row in rows for value in row["published"].values()]
    if not values:
        return 0.0, 1.0
    room = 0.04 * (max(values) - min(values)) or 0.1
    return min(values) - room, max(values) + room


def _block(ax: Axes, rows: list[dict], limits: tuple[float, float], label: str) -> None:
    """Rows with one axis: a sentence each, and its interval below."""
    tall = _height(rows)
    ax.set(xlim=limits, ylim=(tall, 0), yticks=[])
    y = 0.02
    for row in rows:
        lines = _lines(row)
        middle = y + LINE * len(lines) + MARK / 2
        text = in_symbols("\n".join(lines))
        place = ax.get_yaxis_transform()
        ax.text(0.0, y, text, fontsize=TEXT, va="top", transform=place, linespacing=1.05)
        _row(ax, row, middle)
        y = middle + MARK / 2
    ax.set_xlabel(label, fontsize=TEXT, labelpad=1)
    ax.tick_params(labelsize=TEXT, length=2, pad=1)
    ax.spines["left"].set_visible(False)


def _row(ax: Axes, row: dict, y: float) -> None:
    threshold, margin = row["threshold"], row["margin"]
    if margin is not None:
        ax.fill_between([threshold - margin, threshold + margin], y - 0.05, y + 0.05, color="0.9", lw=0, zorder=0)
    ax.plot([threshold] * 2, [y - 0.06, y + 0.06], color="0.3", lw=0.8, zorder=1)
    for task, value in row["published"].items():
        same = row["same"] is not None and row["same"] == value
        fill = "k" if same else "white"
        ax.plot(value, y, "D", ms=3.5, mec="k", mfc=fill, mew=0.7, zorder=3, gid=f"published {row['key']} {task}")
    if row["estimate"] is None:
        ax.text(_free_place(ax, row), y, row["verdict"], fontsize=TEXT - 0.5, color="0.5", va="center", ha="center")
        return
    look = SHAPES[row["verdict"]]
    if row["low"] is not None:
        line = {"color": look["color"], "ls": look.get("ls", "-"), "lw": 1.3, "zorder": 2}
        ax.plot([row["low"], row["high"]], [y, y], gid=f"interval {row['key']}", **line)
    point = {**look, "ls": "", "ms": 4.5, "mew": 1, "zorder": 4}
    ax.plot(row["estimate"], y, gid=f"effect {row['key']} {row['verdict']}", **point)


def _free_place(ax: Axes, row: dict) -> float:
    """The middle of the widest part of a row in which nothing is drawn."""
    margin = row["margin"] or 0.0
    drawn = (row["threshold"] - margin, row["threshold"] + margin, *row["published"].values())
    edges = sorted([*ax.get_xlim(), *drawn])
    left, right = max(pairwise(edges), key=lambda pair: pair[1] - pair[0])
    return (left + right) / 2


def _legend(picture: Picture, profile: str) -> None:
    line = mpl.lines.Line2D
    handles = [line([], [], ms=4.5, mew=1, label=name, **{"ls": "-", **look}) for name, look in SHAPES.items()]
    for fill, words in (("k", "published, same task"), ("white", "published, other task")):
        handles.append(line([], [], marker="D", ls="", ms=3.5, mec="k", mfc=fill, mew=0.7, label=words))
    handles.append(mpl.patches.Patch(color="0.9", label="counts as no effect"))
    title = f"profile '{profile}': effect and 95 % interval; line: what is asked for"
    options = {"ncols": 2, "fontsize": TEXT, "title_fontsize": TEXT, "handlelength": 2, "columnspacing": 1}
    picture.legend(handles=handles, title=title, loc="lower center", **options)

"""Gains over no regularizer, paired by seed: against epsilon, against a number, and of the boundary attack.

One convention of errors: the mean over training seeds with its 95 % t-interval, and a dot for each seed. Fewer seeds
than FEWEST_SEEDS have no interval, as in the verdicts.
"""

from collections.abc import Iterable, Mapping
from itertools import compress

import numpy as np
import pandas as pd

from simreg_core.lab.claims import interval_of
from simreg_core.lab.figures.kit import Axes, Picture, finding, mark, mpl, of_seeds, panels, seed_dots, summarize
from simreg_core.lab.figures.kit_attacks import ATTACK_NAMES, MAIN_LOOKS, accuracy_curves, published_curve, size_bars
from simreg_core.lab.gains import SIZE, gain
from simreg_core.lab.protocol_of_claims import FEWEST_SEEDS, PUBLISHED_ENDS
from simreg_core.lab.series import LOOKS, NONE, THRESHOLD, Look
from simreg_core.lab.specs import EpsilonEnds
from simreg_core.lab.study import Study

INTERVALS, PUBLISHED = "intervals", "published"  # gids, beside those of series
ERRORS = "above: mean and SEM; below: paired gain, mean and 95 % interval; dots: training seeds"
DIAMOND = {"marker": "D", "ls": "", "ms": 4, "mec": "k", "mew": 0.8, "zorder": 3}  # as in the forest of claims
ACCURACY_GAIN, SIZE_GAIN = "Gain in accuracy\nover none", "Median squared L2,\nratio to none"
MEAN_GAIN = "Gain in mean accuracy\nover none"
GAIN_OVER_NONE, RATIO = "gain over none", "ratio to none"  # metrics of a CSV


def title(figure: Picture, study: Study, protocol: str, *keys: str) -> None:
    """What the figure finds, see `finding`, and under which protocol.  keys: of its claims."""
    words = f"{finding(study, *keys)}\nProtocol: {protocol}"
    figure.suptitle(words, fontsize="small", x=0.01, ha="left")


def mean_interval_of(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean and 95 % t-interval over seeds; the interval is NaN for fewer than FEWEST_SEEDS."""
    measured = np.asarray(list(values), dtype=float)
    mean, low, high = interval_of(measured)
    return (mean, low, high) if len(measured) >= FEWEST_SEEDS else (mean, np.nan, np.nan)


def gains_by_epsilon(table: pd.DataFrame, series: str, attack: str, over: str = NONE) -> pd.DataFrame:
    """Accuracy of a series minus that of another: a row for each seed that both have, a column for each epsilon.

    table: of one protocol.
    """
    own = table[(table["attack"] == attack) & (table["metric"] == "accuracy")]
    both = (
        of_seeds(own[own["series"] == name], "epsilon").pivot(index="seed", columns="epsilon", values="value")
        for name in (series, over)
    )
    one, other = next(both).align(next(both), join="inner")
    return one - other


def with_gains(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers behind `curves_and_gains`: as `summarize` by epsilon, and rows of gains, paired by seed.

    The metric of their rows is 'gain over none', or 'ratio to none' of boundary-attack sizes; their `sem` is that of
    the paired differences or ratios, so the 95 % interval is the mean ± t(seeds - 1) · sem.
    """
    own = table[table["metric"].isin(("accuracy", SIZE))]
    keys = ["attack", "protocol", "metric", "epsilon", "seed"]
    counts = {"value": "mean", "attempted": "sum", "failed": "sum"}
    by_seed = own.groupby(["series", *keys], sort=False, dropna=False).agg(counts).reset_index()
    unregularized = by_seed[by_seed["series"] == NONE].drop(columns=["series", "attempted", "failed"])
    both = by_seed[by_seed["series"] != NONE].merge(unregularized, on=keys, suffixes=("", "_none"))
    sizes = both["metric"] == SIZE
    both["value"] = (both["value"] / both["value_none"]).where(sizes, both["value"] - both["value_none"])
    both["metric"] = sizes.map({True: RATIO, False: GAIN_OVER_NONE})
    return pd.concat([summarize(table, "epsilon"), summarize(both, "epsilon")], ignore_index=True)


def published_gain(look: Look, none: Look, attack: str) -> pd.DataFrame:
    """The published gain over none against epsilon, columns x and y; of the boundary attack the ratio of sizes.

    Empty where one of the two curves could not be read off.
    """
    one, other = (published_curve(each, attack) for each in (look, none))
    if attack == "boundary":  # it has no epsilon
        return pd.DataFrame({"x": one["x"], "y": one["y"] / other["y"]}) if len(one) and len(other) else one[:0]
    both = one.merge(other, on="x", suffixes=("", "_none"))
    return pd.DataFrame({"x": both["x"], "y": both["y"] - both["y_none"]})


def published_mean_gain(look: Look, none: Look, attack: str) -> float | None:
    """The published gain as claims measure it: the mean over the grid of epsilon, or the ratio of sizes."""
    found = published_gain(look, none, attack)
    return float(found["y"].mean()) if len(found) else None


def same_grids(task: str | None, epsilons: EpsilonEnds) -> bool:
    """Whether means over these grids of epsilon are the published statistics of a task; False where it has none."""
    ends = {attack: end for (of, attack), end in PUBLISHED_ENDS.items() if of == task}
    return bool(ends) and all(getattr(epsilons, attack) == end for attack, end in ends.items())


def published_by_number(letter: str, numbers: Iterable[int], attack: str) -> dict[int, float]:
    """The published gain of CIFAR-10 for each number, as claims measure it.

    letter: 'k', pairs a step, or 'N', images.
    """
    panel = "iii" if attack == "boundary" else f"iii-{letter}"
    look, none = LOOKS[THRESHOLD], MAIN_LOOKS[NONE]
    each = {one: look.beside({attack: (f"{letter}={one}", panel)}) for one in numbers}
    found = {one: published_mean_gain(beside, none, attack) for one, beside in each.items()}
    return {one: value for one, value in found.items() if value is not None}


def no_gain_line(ax: Axes, at: float = 0.0, across: bool = False) -> None:
    """Where the unregularized networks lie.  across: the gain is on the x axis."""
    line = (ax.axvline if across else ax.axhline)(at, color=LOOKS[NONE].colour, lw=0.9, zorder=1)
    mark(line, NONE)


def gain_curves(ax: Axes, table: pd.DataFrame, looks: Mapping[str, Look], attack: str, protocol: str) -> None:
    """The gain of each series against epsilon; the published gain thin and dashed.  looks: with that of none."""
    own = table[table["protocol"] == protocol]
    no_gain_line(ax)
    regularized = [name for name in looks if name != NONE]
    for place, name in enumerate(regularized):
        look, gains = looks[name], gains_by_epsilon(own, name, attack)
        published = published_gain(look, looks[NONE], attack)
        ax.plot(published["x"], published["y"], color=look.colour, lw=0.8, ls="--", gid=PUBLISHED)
        epsilons = gains.columns.to_numpy(float)
        mean, low, high = np.array([mean_interval_of(gains[epsilon]) for epsilon in gains]).T
        ax.fill_between(epsilons, low, high, color=look.colour, alpha=0.2, lw=0, gid=INTERVALS)
        ax.plot(epsilons, mean, color=look.colour, marker=look.marker, ms=3.5, lw=1.2, gid=name)
        # beside each other, so that no series hides another's seeds
        aside = 0.13 * np.diff(epsilons).min() * (place - (len(regularized) - 1) / 2)
        seed_dots(ax, np.tile(epsilons + aside, len(gains)), gains.to_numpy().ravel(), look.colour)
    ax.set(xlabel="ε (pixels in [0, 1])")


def dot_with_interval(
    ax: Axes, place: float, values: Iterable[float], look: Look, series: str, across: bool = False, aside: float = 0.0
) -> None:
    """A gain at a place: seeds as dots beside it, mean, 95 % interval.  across: the gain is on the x axis."""
    values = list(values)
    mean, low, high = mean_interval_of(values)
    dots, line = ([place + aside] * len(values), values), ([place, place], [low, high])
    point = ([place], [mean])
    if across:
        dots, line, point = dots[::-1], line[::-1], point[::-1]
    seed_dots(ax, *dots, look.colour)
    ax.plot(*line, color=look.colour, lw=1.6, zorder=2, gid=INTERVALS)
    ax.plot(*point, look.marker, color=look.colour, ms=5, zorder=2.5, gid=series)


def published_diamond(ax: Axes, x: float, y: float, same: bool) -> None:
    """A published gain: filled where it is of the same task."""
    ax.plot([x], [y], **DIAMOND, mfc="k" if same else "white", gid=PUBLISHED)


def size_ratios(ax: Axes, table: pd.DataFrame, looks: Mapping[str, Look], same: bool) -> None:
    """How many times larger the boundary attack's perturbations are than those of none.

    looks: with that of none.  same: whether published values are of the same task.
    """
    own = table[table["protocol"] == "released"]
    no_gain_line(ax, 1)
    for place, (name, look) in enumerate(looks.items()):
        if name == NONE:
            continue
        dot_with_interval(ax, place, gain(own, name, "boundary"), look, name, aside=0.25)
        ratio = published_mean_gain(look, looks[NONE], "boundary")
        if ratio is not None:
            published_diamond(ax, place - 0.25, ratio, same)
    ax.set_xlim(-0.5, len(looks) - 0.5)


def curves_and_gains(
    table: pd.DataFrame,
    looks: dict[str, Look],
    protocol: str,
    ticks: list[str] | None = None,
    published: str = "",
    same: bool = False,
) -> Picture:
    """Above what three attacks leave, below the gain over none, by seed; one legend for all.

    looks, ticks: with those of none; None: its labels are those of the legend. A series without rows is left out: it
        is not computed yet.
    published: what the dashed lines are; empty: there are none.  same: whether they are of the same task.
    """
    ticks, there = ticks or [look.label for look in looks.values()], [*map(set(table["series"]).__contains__, looks)]
    ticks, looks = [*compress(ticks, there)], dict(compress(looks.items(), there))
    figure, axes = panels(2, 3, 5.2, sharex="col", width_ratios=(1, 1, 0.85))
    for above, below, attack in zip(*axes[:, :2], ("gaussian", "fgsm"), strict=True):
        accuracy_curves(above, table, looks, attack, protocol)
        above.set_xlabel("")
        gain_curves(below, table, looks, attack, protocol)
        end = float(table.loc[table["attack"] == attack, "epsilon"].max())
        below.set_xlim(-0.03 * end, 1.03 * end)
        below.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
    size_bars(axes[0, 2], table, looks)
    theirs = ", ".join(table.loc[table["attack"] == "boundary", "protocol"].unique())
    words = "" if protocol == theirs else f"\n(protocol: {theirs})"
    axes[0, 2].set_title(ATTACK_NAMES["boundary"] + words, fontsize="medium")
    size_ratios(axes[1, 2], table, looks, same)
    _name_places(axes[1, 2], ticks)
    for ax, label in zip((*axes[:, 0], axes[1, 2]), ("Test accuracy", ACCURACY_GAIN, SIZE_GAIN), strict=True):
        ax.set_ylabel(label)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if published:
        handles.append(_published_handle(axes[1, 2]))
        labels.append(published)
    options = {"ncols": 2 if len(handles) == 4 else 3, "fontsize": "small", "title": ERRORS, "title_fontsize": "small"}
    figure.legend(handles, labels, loc="outside lower center", **options)
    return figure


def _name_places(ax: Axes, labels: list[str]) -> None:
    """Labels in several lines, or slanting where they are many."""
    if len(labels) > 3:
        options = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    else:
        labels, options = [label.replace(" ", "\n") for label in labels], {}
    ax.set_xticks(range(len(labels)), labels, fontsize="x-small", **options)


def _published_handle(ratios: Axes):
    """A dashed line, with a diamond where the panel of ratios has one."""
    fills = [line.get_markerfacecolor() for line in ratios.lines if line.get_gid() == PUBLISHED]
    look = {**DIAMOND, "mfc": fills[0]} if fills else {}
    return mpl.lines.Line2D([], [], color="0.5", lw=0.8, **{**look, "ls": "--"})


def gains_against(
    ax: Axes, table: pd.DataFrame, numbers: Mapping[str, int], attack: str, protocol: str, base: int
) -> None:
    """The gain of each series of S^Th against its number, on a logarithmic axis.

    numbers: of the series, see `series_by`.  base: of the axis: its powers are labelled.
    """
    sizes = attack == "boundary"
    own = table[table["protocol"] == ("released" if sizes else protocol)]
    no_gain_line(ax, 1 if sizes else 0)
    means = []
    for name, number in numbers.items():
        gains = gain(own, name, attack)
        means.append(gains.mean())
        dot_with_interval(ax, number, gains, LOOKS[THRESHOLD], name, aside=number * (base**0.07 - 1))
    ax.plot(list(numbers.values()), means, color=LOOKS[THRESHOLD].colour, lw=1, zorder=1.8)
    ax.set_xscale("log", base=base)
    ax.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
    ax.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    ax.set_ylabel(SIZE_GAIN if sizes else MEAN_GAIN)
    images = int(own.loc[own["attack"] == attack, "attempted"].min())
    seeds = own.loc[own["attack"] == attack, "seed"].nunique()
    ax.set_title(f"{ATTACK_NAMES[attack]}\n(n = {seeds}, {images} images)", fontsize="medium")

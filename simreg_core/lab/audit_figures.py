"""The figures of notebooks 13 and 14: what the released protocol hides, and attacks that the paper did not try."""

from collections.abc import Iterable, Iterator
from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simreg_core.lab.claims import AUTOATTACKS, at_epsilon, by_seed, gain, mean_interval, minimal_size, regularized
from simreg_core.lab.figures import LOOKS, S_TH
from simreg_core.lab.plotting import ATTACK_NAMES, COLOURS, Look, panels, shade, summarize
from simreg_core.lab.specs import ADVERSARIAL, NOISE
from simreg_core.lab.studies import AUDIT, NONE, STEPS, THRESHOLD

STRICT_CLAMP = ("gaussian", "fgsm")  # attacks of which the strict protocol clamps otherwise
DEFENCE_LOOKS = {
    NONE: Look("none", COLOURS[NONE], "o"),
    THRESHOLD: Look(S_TH, COLOURS[THRESHOLD], "^"),
    ADVERSARIAL: Look("adversarial training", "#009e73", "s"),
    "TRADES": Look("TRADES", "#56b4e9", "P"),
    NOISE: Look("noise augmentation", "#cc79a7", "D"),
    "blur": Look("blur", "#8c6d31", "v"),
}
MORE_COLOURS = ("#0072b2", "#e69f00", "#882255", "#44aa99", "#999933", "#332288", "#aa4499", "#661100")
MORE_MARKERS = ("X", "<", ">", "p", "h", "d", "*", "8")


def defence_looks(series: Iterable[str]) -> dict[str, Look]:
    """A look for each series: its own, or the next free colour and marker.

    Those with a look of their own come first, the others in the order given.
    Raises ValueError where there are more of the others than looks.
    """
    names = list(dict.fromkeys(series))
    looks = {name: look for name, look in DEFENCE_LOOKS.items() if name in names}
    others = [name for name in names if name not in looks]
    free = list(_free_looks())
    if len(others) > len(free):
        raise ValueError(f"{len(others)} defences need a look, but only {len(free)} are free")
    return looks | {name: Look(name, *look) for name, look in zip(others, free, strict=False)}


def _free_looks() -> Iterator[tuple[str, str]]:
    """Colours and markers, no two alike: at first both differ from all before."""
    for turn, index in product(range(len(MORE_MARKERS)), range(len(MORE_COLOURS))):
        yield MORE_COLOURS[index], MORE_MARKERS[(index + turn) % len(MORE_MARKERS)]


def protocol_audit(table: pd.DataFrame) -> Figure:
    """Gain of S^Th with each property changed, with intervals over seeds; boundary-attack sizes against steps."""
    figure, axes = panels(1, 3, 3.9, width_ratios=(1, 1, 1.1))
    names = [THRESHOLD, *(one for one in regularized(table[table["group"] == AUDIT]) if one != THRESHOLD)]
    for ax, attack in zip(axes, STRICT_CLAMP, strict=False):
        _gains(ax, table, names, attack)
        ax.set_yticks(range(len(names)), [f"{S_TH} as released", *names[1:]] if ax is axes[0] else [], fontsize="small")
    _sizes_against_steps(axes[2], table)
    handles, labels = [
        [*one, *other]
        for one, other in zip(axes[0].get_legend_handles_labels(), axes[2].get_legend_handles_labels(), strict=True)
    ]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _gains(ax: Axes, table: pd.DataFrame, names: list[str], attack: str) -> None:
    """Accuracy at the largest epsilon minus that of none, mean and interval over seeds, a row for each network."""
    released = table[table["protocol"] == "released"]
    for place, name in enumerate(names):
        gains = gain(released, name, attack, group=AUDIT)
        low, high = mean_interval(gains) if len(gains) > 1 else (gains.mean(),) * 2
        colour = COLOURS[THRESHOLD] if name == THRESHOLD else "0.3"
        label = f"mean and 95 % interval (n = {len(gains)})" if place == 1 else None
        ax.plot([low, high], [place, place], color=colour, lw=1.5)
        ax.plot(gains.mean(), place, "o", color=colour, label=label)
    strict = gain(table[table["protocol"] == "strict"], THRESHOLD, attack)
    ax.plot(strict.mean(), -0.35, "D", color=COLOURS[THRESHOLD], mfc="white", label="attack clamped to [0, 1]")
    ax.axvline(0, color="0.7", lw=0.8)
    ax.set(xlabel="Gain in accuracy", ylim=(len(names) - 0.5, -0.7))
    ax.set_title(ATTACK_NAMES[attack], fontsize="medium")


def _sizes_against_steps(ax: Axes, table: pd.DataFrame) -> None:
    """Median boundary-attack sizes against steps; dashed, what minimum-norm attacks find."""
    steps = sorted({int(group.split(": ")[1]) for group in table["group"].unique() if group.startswith(STEPS)})
    for name in (NONE, THRESHOLD):
        look = LOOKS[name]
        sizes = [by_seed(table, name, group=f"{STEPS}: {count}", metric="median_l2") for count in steps]
        mean, error = pd.Series([one.mean() for one in sizes]), pd.Series([one.sem() for one in sizes])
        label = f"{look.label} (n = {len(sizes[0])})"
        ax.plot(steps, mean, color=look.colour, marker=look.marker, label=label)
        shade(ax, steps, mean, error, look.colour)
        ax.axhline(minimal_size(table, name, "l2").mean(), color=look.colour, lw=0.8, ls="--")
    ax.plot([], [], color="0.5", lw=0.8, ls="--", label="minimum-norm attack")
    ax.set(xscale="log", ylim=(0, None), xlabel="Boundary-attack steps", ylabel="Median L2 of the perturbation")


def white_box(table: pd.DataFrame, warnings: dict[str, int]) -> Figure:
    """Accuracy under PGD and transferred attacks, attacks set side by side, and sizes of minimal perturbations.

    warnings: number of flagged records of each series, shown in the legend.
    """
    figure, axes = panels(2, 3, 5.2)
    looks = defence_looks(table["series"])
    accuracies = table[(table["metric"] == "accuracy")]
    if left_out := [name for name in looks if name not in set(_of_condition(accuracies, "PGD")["series"])]:
        raise ValueError(f"the table holds series that were not attacked with PGD: {', '.join(left_out)}")
    _by_condition(axes[0, 0], accuracies, looks, "PGD", "PGD, L∞")
    _by_condition(axes[0, 1], accuracies, looks, "PGD, L2", "PGD, L2")
    _side_by_side(axes[0, 2], accuracies, looks)
    _by_condition(axes[1, 0], accuracies, looks, f"momentum from {NONE}", "Transferred from none")
    _by_condition(axes[1, 1], accuracies, looks, f"momentum from {THRESHOLD}", f"Transferred from {S_TH}")
    _minimal_sizes(axes[1, 2], table, looks)
    axes[0, 0].set_ylabel("Test accuracy")
    axes[0, 0].set_xscale("symlog", linthresh=0.01)
    axes[0, 0].set_xticks([0, 0.01, 0.1, 0.5], ["0", "0.01", "0.1", "0.5"])
    axes[0, 0].set_xlim(0, 0.6)
    axes[1, 0].set_ylabel("Test accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    labels = [
        label + (f", {warnings[name]} flagged" if warnings.get(name) else "")
        for name, label in zip(looks, labels, strict=True)
    ]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _of_condition(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    return table[table["condition"] == condition]


def _by_condition(ax: Axes, table: pd.DataFrame, looks: dict[str, Look], condition: str, title: str) -> None:
    """Accuracy against epsilon under one attack, mean and SEM."""
    summary = summarize(_of_condition(table, condition), "epsilon")
    for name, look in looks.items():
        rows = summary[summary["series"] == name]
        if rows.empty:  # slow attacks are made on fewer defences
            continue
        label = f"{look.label} (n = {rows['seeds'].max()})"
        ax.plot(rows["epsilon"], rows["mean"], color=look.colour, marker=look.marker, label=label)
        shade(ax, rows["epsilon"], rows["mean"], rows["sem"], look.colour)
    ax.set(xlabel="ε (pixels in [0, 1])", ylim=(0, 1), xlim=(0, None))
    ax.set_title(title, fontsize="medium")


def _side_by_side(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Accuracy under several attacks at one epsilon."""
    own = table[table["attack"] == "white_box"]
    (epsilon,) = own.loc[own["condition"] == "Square", "epsilon"].unique()
    names = [name for name in own.loc[own["epsilon"] == epsilon, "condition"].unique() if name != "PGD, L2"]
    order = sorted(names, key=lambda name: (name in AUTOATTACKS, name == "PGD", name != "Square", name))
    for name, look in looks.items():
        means = [at_epsilon(table, name, attack).mean() for attack in order]
        ax.plot(range(len(order)), means, color=look.colour, marker=look.marker, ls="")
    ax.set_xticks(range(len(order)), order, rotation=40, ha="right", fontsize="small")
    ax.set(ylim=(0, 1))
    ax.set_title(f"L∞, ε = {epsilon:g}", fontsize="medium")


def _minimal_sizes(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Median sizes of the smallest perturbations found, over those of none."""
    kinds = {
        "L∞": ("linf", "fast"),
        "L2": ("l2", "fast"),
        "L0": ("l0", "fast"),
        "HopSkipJump, L2": ("l2", "hop_skip_jump"),
    }
    measured = set(table.loc[table["attack"] == "minimum_norm", "series"])
    for name, look in looks.items():
        if name not in measured:
            continue
        ratios = [
            (minimal_size(table, name, norm, method) / minimal_size(table, NONE, norm, method)).mean()
            for norm, method in kinds.values()
        ]
        ax.plot(range(len(kinds)), ratios, color=look.colour, marker=look.marker, ls="")
    ax.axhline(1, color="0.7", lw=0.8)
    ax.set_xticks(range(len(kinds)), kinds, rotation=40, ha="right", fontsize="small")
    ax.set(ylim=(0, None), ylabel="Median size / none's")
    ax.set_title("Smallest perturbations", fontsize="medium")

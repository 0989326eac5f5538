"""The figure of notebook 01: neural against pixel similarity."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simreg_core.lab.claims import MATRICES_R, PRINTED_R, correlations
from simreg_core.lab.plotting import PAGE, use_style
from simreg_core.lab.studies import FULL_FRAME, PUBLISHED_V1, RECOVERY, SIMULATED_V1, Study

COLOURS = {
    SIMULATED_V1: "0.35",
    "mouse V1, region 1": "#0072b2",
    "mouse V1, region 2": "#56b4e9",
    "mouse V1, region 3": "#009e73",
    PUBLISHED_V1: "#d55e00",
}
MARKERS = dict(zip(COLOURS, "osD^v", strict=True))
SHOWN = (SIMULATED_V1, "mouse V1, region 1", PUBLISHED_V1)


def pixel_vs_neural(study: Study) -> Figure:
    """Pairs of images by both similarities, two matrices, recovery in the simulation, and r under each condition."""
    use_style()
    table = study.table()
    figure = plt.figure(figsize=(PAGE, 8.6), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1, 0.95, 1.75))
    axes = top.subplots(1, 3, sharex=True, sharey=True)
    for ax, series in zip(axes, SHOWN, strict=True):
        pairs = _pairs(ax, study, table, series)
    bar = top.colorbar(pairs, ax=list(axes), ticks=(), label="pairs, few to many", shrink=0.8)
    bar.minorticks_off()
    axes = middle.subplots(1, 3, width_ratios=(1, 1, 1.15))
    _matrices(axes[:2], study)
    _recovery(axes[2], table)
    found = correlations(table)
    axes = bottom.subplots(1, 2, width_ratios=(1, 1))
    _conditions(axes[0], found[found["group"] == "recorded"], "Real responses (bars: 95 % interval)")
    _conditions(axes[1], found[found["group"] == "simulated"], "Simulated V1 (dots: animals)")
    return figure


def _pairs(ax: Axes, study: Study, table: pd.DataFrame, series: str):
    """How many pairs have both similarities, and their correlation."""
    density = study.arrays("density")[series].sum(axis=0)
    shown = np.ma.masked_equal(density.T, 0)
    pairs = ax.imshow(
        shown, origin="lower", extent=(-1, 1, -1, 1), cmap="viridis", norm=mpl.colors.LogNorm(), interpolation="nearest"
    )
    own = correlations(table[(table["series"] == series) & (table["condition"] == FULL_FRAME)])
    n = f"{own['n'].iloc[0]} images" + (f", {len(own)} animals" if len(own) > 1 else "")
    ceiling = table.loc[(table["series"] == series) & (table["metric"] == "ceiling"), "value"]
    noise = f", noise ceiling {ceiling.mean():.2f}" if len(ceiling) else ""
    ax.set_title(f"{series}, {n}\nr = {own['pearson'].mean():.2f}{noise}", fontsize="small")
    ax.set(xlabel=r"$S^{\mathrm{pixel}}$", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    ax.axline((0, 0), slope=1, color="0.7", lw=0.6)
    ax.label_outer()
    if ax.get_subplotspec().is_first_col():
        ax.set_ylabel(r"$S^{\mathrm{neural}}$")
    return pairs


def _matrices(axes, study: Study) -> None:
    """Both matrices of the published predictor, the images in the same order."""
    for ax, name, title in zip(
        axes, ("pixel", "neural"), (r"$S^{\mathrm{pixel}}$", r"$S^{\mathrm{neural}}$"), strict=True
    ):
        matrix = study.arrays(f"{name}_matrix")[PUBLISHED_V1][0]
        image = ax.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        ax.set(xticks=(), yticks=(), xlabel=f"{len(matrix)} ImageNet images")
        ax.set_title(title + (", V1 predictor" if name == "neural" else ""), fontsize="small")
    axes[0].set_ylabel("in the same order")
    axes[0].figure.colorbar(image, ax=list(axes), shrink=0.8, ticks=(-1, 0, 1), label="similarity", location="left")


def _recovery(ax: Axes, table: pd.DataFrame) -> None:
    """How close the predicted and the averaged similarity come to that of noise-free responses."""
    own = table[(table["group"] == RECOVERY) & (table["metric"] == "to_noise_free")].copy()
    own["trials"] = own["series"].str.split().str[0].astype(int)
    for condition, label, colour, marker in (
        ("predicted", "predictor", "#d55e00", "o"),
        ("trial_mean", "trial average", "0.35", "s"),
    ):
        rows = own[own["condition"] == condition].groupby("trials")["value"].agg(["mean", "sem", "size"])
        ax.errorbar(rows.index, rows["mean"], rows["sem"], color=colour, marker=marker, capsize=2, label=label)
    ax.set_xscale("log", base=2)
    ax.set_xticks(rows.index, [str(count) for count in rows.index])
    ax.set(xlabel="Trials an image", ylabel="r with the noise-free\nsimilarity", ylim=(0, 1))
    ax.set_title(f"Recovery, simulated V1 (n = {rows['size'].iloc[0]})", fontsize="small")
    ax.legend(loc="lower right", fontsize="small")


def _conditions(ax: Axes, found: pd.DataFrame, title: str) -> None:
    """r under each condition, from the top down; the printed values as lines."""
    names = list(dict.fromkeys(found["condition"]))
    series = list(found["series"].unique())
    for place, name in enumerate(names):
        for index, one in enumerate(series):
            rows = found[(found["condition"] == name) & (found["series"] == one)]
            if rows.empty:
                continue
            y = place + (index - (len(series) - 1) / 2) * 0.17
            _point(ax, rows, y, one, label=one if name == names[0] else None)
    ax.axvline(0, color="0.8", lw=0.6)
    ax.axvline(PRINTED_R, color="k", lw=0.9, ls="--", label=f"printed, r = {PRINTED_R}")
    ax.axvline(MATRICES_R, color="k", lw=0.9, ls=":", label=f"printed matrices, r ≈ {MATRICES_R}")
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.set(
        xlabel="Pearson r of $S^{\\mathrm{neural}}$ and $S^{\\mathrm{pixel}}$",
        xlim=(-0.1, 1),
        ylim=(len(names) - 0.4, -0.6),
    )
    ax.set_title(title, fontsize="small")
    if len(series) > 1:
        ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=2, fontsize="x-small")


def _point(ax: Axes, rows: pd.DataFrame, y: float, series: str, label: str | None) -> None:
    """One correlation with its interval over images, or those of several animals with their mean."""
    look = {"color": COLOURS[series], "marker": MARKERS[series], "ls": "", "label": label}
    if len(rows) > 1:
        ax.plot(rows["pearson"], [y] * len(rows), color=COLOURS[series], marker=".", ls="", alpha=0.5)
        ax.plot(rows["pearson"].mean(), y, **{**look, "marker": "|"}, ms=9, mew=1.6)
        return
    row = rows.iloc[0]
    errors = [[row["pearson"] - row["pearson_low"]], [row["pearson_high"] - row["pearson"]]]
    ax.errorbar(row["pearson"], y, xerr=errors, ms=3.5, elinewidth=1, **look)


def numbers(study: Study) -> pd.DataFrame:
    """The numbers behind the figure."""
    table = study.table()
    return table[["group", "series", "seed", "condition", "metric", "value", "attempted"]]

"""Figure 03: choosing alpha and the threshold on validation images (paper v2, Figure 4)."""

import pandas as pd

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import Axes, Picture, mpl, panels, reference, sequence
from simreg_core.lab.figures.kit_attacks import ATTACK_NAMES
from simreg_core.lab.gains import mean_over
from simreg_core.lab.select import ACCEPTED_CLEAN_RATIO, chosen_pair, grid_of, rank_correlations, selection_ratios
from simreg_core.lab.series import NONE
from simreg_core.lab.study import Figure, Study
from simreg_core.names import NOISE_NAMES

ATTACKS_COMPARED = (*NOISE_NAMES, "fgsm")
PUBLISHED_GRID = ((4, 10, 20), (0.2, 0.4, 0.6, 0.8))
PUBLISHED_ALPHAS = dict(zip(PUBLISHED_GRID[0], ("0.75", "0.5", "0.15"), strict=True))


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
    figure, axes = panels(1, 5, 2.7, sharex=True)
    alphas, thresholds = (sorted(table[column].dropna().unique()) for column in ("alpha", "threshold"))
    colours = dict(zip(alphas, sequence(len(alphas)), strict=True))
    markers = dict(zip(sorted({*thresholds, *PUBLISHED_GRID[1]}), "vDs^oPX*<>", strict=False))
    for ax, attack in zip(axes, ATTACKS_COMPARED, strict=False):
        for row in selection_ratios(table, attack).itertuples():
            ax.plot(row.clean, row.robust, markers[row.threshold], color=colours[row.alpha], ms=5, gid=row.series)
            if row.chosen:
                ax.plot(row.clean, row.robust, "o", mfc="none", mec="k", ms=10)
        ax.set_title(ATTACK_NAMES[attack], fontsize="medium")
    _published_plane(axes[-1], markers)
    for ax in axes:
        _accepted_region(ax)
    axes[0].set_ylabel("$R_D / U_D$")
    shown = {**{t: markers[t] for t in thresholds}, **{t: markers[t] for t in PUBLISHED_GRID[1]}}
    _plane_legend(figure, colours, dict(sorted(shown.items())), int(table["seed"].nunique()))
    return figure


def _published_plane(ax: Axes, markers: dict[float, str]) -> None:
    for alpha, colour in PUBLISHED_ALPHAS.items():
        for threshold in PUBLISHED_GRID[1]:
            point = reference("CN/C0 (x) and RN/R0 (y)", f"alpha={alpha} Th={threshold:g}", ("5 Gaussian plane",))
            ax.plot(point["x"], point["y"], markers[threshold], color=colour, ms=5, mfc="none")
    ax.set_title("Published", fontsize="medium")


def _accepted_region(ax: Axes) -> None:
    """Clean accuracy at least 0.9 of the unregularized network's, and no loss under attack."""
    low, high = ax.get_ylim()
    low, high = min(low, 0.97), max(high, 1.03)
    ax.add_patch(mpl.patches.Rectangle((ACCEPTED_CLEAN_RATIO, 1), 1, high - 1, color="0.92", lw=0, zorder=0))
    ax.axhline(1, color="0.6", lw=0.6, zorder=0, gid=NONE)
    ax.axvline(ACCEPTED_CLEAN_RATIO, color="0.6", lw=0.6, zorder=0)
    ax.set(xlabel="$R_0 / U_0$", xlim=(0.5, 1.08), ylim=(low, high))


def _plane_legend(figure: Picture, colours: dict, markers: dict, seeds: int) -> None:
    line = mpl.lines.Line2D
    handles = [line([], [], marker="o", ls="", color=c, label=f"α = {alpha:g}") for alpha, c in colours.items()]
    handles += [
        line([], [], marker="o", ls="", mfc="none", color=c, label=f"published α = {alpha:g}")
        for alpha, c in PUBLISHED_ALPHAS.items()
    ]
    handles += [line([], [], marker=m, ls="", color="0.3", label=f"Th = {t:g}") for t, m in markers.items()]
    handles += [
        line([], [], marker="o", ls="", mfc="none", mec="k", ms=9, label=f"chosen (n = {seeds})"),
        mpl.patches.Patch(color="0.9", label="accepted"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize="small")


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

"""Figure 10: which layers win the similarity's weights (paper, appendix A.6)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from simreg_core.lab.claims import Claim, interval_of
from simreg_core.lab.figures.kit import SEEDS, Axes, Picture, finding, mark, mpl, panels, sequence
from simreg_core.lab.gains import by_seed, mean_over, regularized
from simreg_core.lab.protocol_of_claims import FEWEST_SEEDS
from simreg_core.lab.recipes import sets_of
from simreg_core.lab.series import looks_of
from simreg_core.lab.specs import LayerWeightsEvaluation, Profile
from simreg_core.lab.study import Block, Figure, Study

LAYERS = ("stem", "stage 1", "stage 2", "stage 3", "stage 4")


def experiments(profile: Profile) -> tuple[Block, ...]:
    """gamma of S^Th with each regularization set, epoch by epoch."""
    return (Block(sets_of(profile, profile.studies.regularization_sets, profile.seeds), (LayerWeightsEvaluation(),)),)


def low_layers_lead(table: pd.DataFrame, series: str) -> pd.Series:
    """gamma of the two lowest of the five maps minus that of the two highest, after training."""
    layers = [by_seed(table, series, metric="layer_weight", layer=layer) for layer in range(5)]
    return layers[0] + layers[1] - layers[3] - layers[4]


def _leads(table: pd.DataFrame) -> dict[str, pd.Series]:
    return {series: low_layers_lead(table, series) for series in table["series"].unique()}


CLAIMS = (
    Claim(
        key="low-layers",
        text="Low layers end with more of the layer weights than high layers",
        source="A.6",
        statistic="γ of stem and stage 1 minus γ of stages 3 and 4 after training, mean over sets",
        measure=mean_over(_leads),
        parts=_leads,
        scale="share",
    ),
)


def details(table: pd.DataFrame) -> list[Claim]:
    """Each set's layer weights."""
    return [
        Claim(
            key=f"low-{one}",
            text=f"{one}: low layers end with more of the layer weights",
            scale="share",
            setting=one,
            source="A.6",
            statistic="γ of stem and stage 1 minus γ of stages 3 and 4",
            measure=lambda table, one=one: low_layers_lead(table, one),
            main=False,
        )
        for one in regularized(table)
    ]


def draw(study: Study, protocol: str) -> Picture:
    """gamma over training with the first set, and at the end with every set, a thin line for each seed."""
    weights = study.arrays("layer_weights")  # [seeds, epochs, layers]
    sets, looks = len(weights), looks_of(weights)
    figure, axes = panels(1, 1 + sets, 3.0, sharey=True, width_ratios=(1.3, *[1] * sets))
    first = next(iter(weights))
    _during_training(axes[0], weights[first], looks[first].label)
    for ax, (name, values) in zip(axes[1:], weights.items(), strict=True):
        points = _after_training(ax, values[:, -1], looks[name].label)
        mark(points, name)
    for ax in axes:
        ax.axhline(1 / len(LAYERS), color="0.6", lw=0.6, ls=":")
        ax.set(ylim=(0, 1))
    words = {"title": "thin: seeds", "title_fontsize": "small"}
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize="small", **words)
    figure.suptitle(finding(study, "low-layers"), fontsize="small", x=0.01, ha="left")
    return figure


def _looks() -> Iterator[tuple[str, object, str]]:
    return zip(LAYERS, sequence(len(LAYERS)), "o^sDv", strict=True)


def _during_training(ax: Axes, weights: np.ndarray, label: str) -> None:
    """The mean of each layer, and its seeds.  weights: [seeds, epochs, layers]."""
    start = np.full((len(weights), 1, len(LAYERS)), 1 / len(LAYERS))  # training starts with equal weights
    weights = np.concatenate([start, weights], axis=1)
    for layer, (name, colour, marker) in enumerate(_looks()):
        ax.plot(weights[:, :, layer].T, color=colour, lw=0.6, alpha=0.6, gid=SEEDS)
        ax.plot(weights[:, :, layer].mean(axis=0), color=colour, marker=marker, lw=1.8, label=name)
    ax.set(xlabel="Epoch", ylabel="Layer weight γ")
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    ax.set_title(f"During training\n{label}, n = {len(weights)}", fontsize="small")


def _after_training(ax: Axes, final: np.ndarray, label: str) -> Any:
    """The mean of each layer with its 95 % interval; a line through the layers for each seed.

    final: [seeds, layers].  Returns the mark of one mean.
    """
    ax.plot(final.T, color="0.4", lw=0.6, alpha=0.7, gid=SEEDS)
    for layer, (_, colour, marker) in enumerate(_looks()):
        mean, low, high = interval_of(final[:, layer])
        error = [[mean - low], [high - mean]] if len(final) >= FEWEST_SEEDS else None
        drawn = ax.errorbar(layer, mean, error, marker=marker, color=colour, ms=6, elinewidth=1.6, capsize=2)
    ax.set_xticks(range(len(LAYERS)), [layer.removeprefix("stage ") for layer in LAYERS])
    ax.set(xlabel="Stem, stages 1 to 4", xlim=(-0.4, len(LAYERS) - 0.6))
    ax.set_title(f"{label}, n = {len(final)}\n{_winners(final)}", fontsize="small")
    return drawn.lines[0]


def _winners(final: np.ndarray) -> str:
    """The layer that has the largest weight in most seeds, and in how many.  final: [seeds, layers]."""
    wins = np.bincount(final.argmax(axis=1), minlength=len(LAYERS))
    return f"largest: {LAYERS[wins.argmax()]} ({wins.max()} of {len(final)})"


def numbers(study: Study) -> pd.DataFrame:
    """gamma by series, seed, epoch and layer."""
    return pd.DataFrame(
        {"series": series, "seed": seed, "epoch": epoch + 1, "layer": LAYERS[layer], "weight": value}
        for series, values in study.arrays("layer_weights").items()
        for (seed, epoch, layer), value in np.ndenumerate(values)
    )


FIGURE = Figure(
    "10_layer_weights", experiments, CLAIMS, draw, numbers=numbers, details=details, protocols=("released",)
)

"""Figure 10: which layers win the similarity's weights (paper, appendix A.6)."""

import numpy as np
import pandas as pd

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import Axes, Picture, mpl, panels, seed_dots, sequence, shade
from simreg_core.lab.gains import by_seed, mean_over, regularized
from simreg_core.lab.recipes import sets_of
from simreg_core.lab.series import QUALITATIVE, looks_of
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
    """gamma over training with the first set, and at the end with every set."""
    figure, axes = panels(1, 2, 2.5)
    weights = study.arrays("layer_weights")  # [seeds, epochs, layers]
    first = next(iter(weights))
    epochs = np.arange(weights[first].shape[1] + 1)
    for layer, (name, colour, marker) in enumerate(zip(LAYERS, sequence(len(LAYERS)), "o^sDv", strict=True)):
        # training starts with equal weights
        values = np.concatenate(
            [np.full((len(weights[first]), 1), 1 / len(LAYERS)), weights[first][:, :, layer]], axis=1
        )
        mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
        axes[0].plot(epochs, mean, color=colour, marker=marker, label=name)
        shade(axes[0], epochs, mean, error, colour)
        seed_dots(axes[0], np.tile(epochs, len(values)), values.ravel(), colour)
    axes[0].set(xlabel="Epoch", ylabel="Layer weight γ")
    axes[0].xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axes[0].set_title(f"During training, {first} (n = {len(values)})", fontsize="medium")
    axes[0].legend(fontsize="small")
    _final_weights(axes[1], weights)
    for ax in axes:
        ax.axhline(1 / len(LAYERS), color="0.6", lw=0.6, ls=":")
    return figure


def _final_weights(ax: Axes, weights: dict[str, np.ndarray]) -> None:
    width = 0.8 / len(weights)
    for index, (name, look) in enumerate(looks_of(weights, QUALITATIVE).items()):
        final = weights[name][:, -1]
        x = np.arange(len(LAYERS)) + (index - (len(weights) - 1) / 2) * width
        error = final.std(axis=0, ddof=1) / np.sqrt(len(final))
        ax.bar(
            x,
            final.mean(axis=0),
            yerr=error,
            width=width,
            color=look.colour,
            label=f"{name} (n = {len(final)})",
            gid=name,
        )
        seed_dots(ax, np.tile(x, len(final)), final.ravel(), "k")
    ax.set_xticks(range(len(LAYERS)), LAYERS)
    ax.set(ylabel="Layer weight γ")
    ax.set_title("After training, by regularization set", fontsize="medium")
    ax.legend(fontsize="small")


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

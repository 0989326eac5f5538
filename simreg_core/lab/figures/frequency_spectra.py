"""Figure 06: the frequencies of the smallest perturbations (paper v2, Figure 7, right)."""

import numpy as np
import pandas as pd

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import PAGE, Axes, Picture, mpl, plt, reference, shade, use_style
from simreg_core.lab.gains import by_seed
from simreg_core.lab.recipes import headline_seeds, long_boundary, seeds_of
from simreg_core.lab.series import LOOKS, NONE, THRESHOLD
from simreg_core.lab.specs import Profile
from simreg_core.lab.study import Block, Figure, Study

PUBLISHED_SPECTRA = {NONE: "unregularized", THRESHOLD: "reg=ImageNet"}
PUBLISHED_HALF_POWER = {NONE: 0.546, THRESHOLD: 0.433}  # where the published curves cross one half


def experiments(profile: Profile) -> tuple[Block, ...]:
    """Spectra of long boundary attacks on none and S^Th (S^pixel is not in the paper's figure)."""
    seeds = min(headline_seeds(profile), profile.studies.spectrum_seeds)
    series = {target: seeds_of(profile, target, seeds) for target in (NONE, THRESHOLD)}
    return (Block(series, (long_boundary(profile),)),)


def _half_power_drop(table: pd.DataFrame) -> pd.Series:
    frequency = {name: by_seed(table, name, metric="half_power_frequency") for name in (NONE, THRESHOLD)}
    return (frequency[NONE] - frequency[THRESHOLD]).dropna()


CLAIMS = (
    Claim(
        key="half-power",
        text="Fooling S^Th takes perturbations of lower frequency",
        source="v2 Fig. 7",
        statistic="half-power frequency, none minus S^Th, in corner radii",
        measure=_half_power_drop,
        scale="share",
        published={"CIFAR-10": 0.113},
        attack="boundary",
    ),
)


def draw(study: Study, protocol: str) -> Picture:
    """2-D spectra, the half-power frequency of each network, and the cumulative radial profile."""
    use_style()
    figure = plt.figure(figsize=(PAGE, 4.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    maps, dots = top.subfigures(1, 2, width_ratios=(2.4, 1))
    _power_maps(maps, study.arrays("power"))
    _half_power_dots(dots.subplots(), study.table())
    _radial_profiles(bottom.subplots(), study.arrays("cumulative"), next(iter(study.arrays("radius").values()))[0])
    return figure


def _power_maps(figure, power: dict[str, np.ndarray]) -> None:
    """Each map over its own maximum, as published; logarithmic, since the zero frequency outshines the rest."""
    axes = figure.subplots(1, len(power))
    for ax, (series, maps) in zip(axes, power.items(), strict=True):
        mean = maps.mean(axis=0)
        h, w = (0.5 / n for n in mean.shape)  # half a pixel: the zero frequency's pixel lies around 0
        norm = mpl.colors.LogNorm(1e-2, 1)
        image = ax.imshow(
            np.maximum(mean / mean.max(), 1e-2), cmap="magma", norm=norm, extent=(-0.5 - w, 0.5 - w, 0.5 - h, -0.5 - h)
        )
        ax.set_title(LOOKS[series].label, fontsize="medium")
        ax.set(xticks=(-0.5, 0, 0.5), yticks=(-0.5, 0, 0.5), xlabel="cycles/pixel")
    axes[0].set_ylabel("cycles/pixel")
    figure.colorbar(image, ax=list(axes), label="Power / maximum", shrink=0.9)


def _radial_profiles(ax: Axes, cumulative: dict[str, np.ndarray], radius: np.ndarray) -> None:
    for series, profiles in cumulative.items():
        look = LOOKS[series]
        published = reference("cumulative_power", PUBLISHED_SPECTRA[series], ("4ii radial spectrum",))
        ax.plot(published["x"], published["y"], color=look.colour, lw=0.8, ls="--")
        mean, error = profiles.mean(axis=0), profiles.std(axis=0, ddof=1) / np.sqrt(len(profiles))
        label = f"{look.label} (n = {len(profiles)})"
        ax.plot(radius, mean, color=look.colour, marker=look.marker, ms=3, label=label, gid=series)
        shade(ax, radius, mean, error, look.colour)
    ax.plot([], [], color="0.5", lw=0.8, ls="--", label="published")
    ax.axhline(0.5, color="0.7", lw=0.6)
    ax.set(xlabel="Radial frequency (corner = 1)", ylabel="Cumulative power", xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(loc="lower right", fontsize="small")


def _half_power_dots(ax: Axes, table: pd.DataFrame) -> None:
    rows = table[table["metric"] == "half_power_frequency"]
    names = list(rows["series"].unique())
    for place, series in enumerate(names):
        look, values = LOOKS[series], rows[rows["series"] == series]["value"]
        ax.plot([place] * len(values), values, look.marker, color=look.colour, mfc="none", gid=series)
        ax.plot([place - 0.25, place + 0.25], [values.mean()] * 2, color=look.colour, lw=2)
        published = PUBLISHED_HALF_POWER[series]
        ax.plot([place - 0.4, place + 0.4], [published] * 2, color="0.5", lw=0.8, ls="--")
    ax.set_xticks(
        range(len(names)), [f"{LOOKS[series].label}\n(n = {(rows['series'] == series).sum()})" for series in names]
    )
    ax.set(ylabel="Half-power frequency\n(corner = 1)", xlim=(-0.6, len(names) - 0.4), ylim=(0, 0.7))


def numbers(study: Study) -> pd.DataFrame:
    """The numbers behind the spectra: radial profiles and half-power frequencies for each seed, mean 2-D maps."""
    power, cumulative = study.arrays("power"), study.arrays("cumulative")
    radius = next(iter(study.arrays("radius").values()))[0]
    rows = []
    for series, profiles in cumulative.items():
        for seed, profile in enumerate(profiles):
            rows += [
                {"series": series, "seed": seed, "quantity": "cumulative_power", "radius": r, "value": v}
                for r, v in zip(radius, profile, strict=True)
            ]
        mean = power[series].mean(axis=0)
        frequencies = [np.fft.fftshift(np.fft.fftfreq(n)) for n in mean.shape]
        rows += [
            {"series": series, "quantity": "mean_power", "fy": fy, "fx": fx, "value": mean[i, j]}
            for i, fy in enumerate(frequencies[0])
            for j, fx in enumerate(frequencies[1])
        ]
    table = study.table()
    table = table.rename(columns={"metric": "quantity"})[["series", "seed", "quantity", "value", "attempted", "failed"]]
    return pd.concat([pd.DataFrame(rows), table], ignore_index=True)


FIGURE = Figure("06_frequency_spectra", experiments, CLAIMS, draw, numbers=numbers, protocols=("released",))

"""Figure 06: the frequencies of the smallest perturbations (paper v2, Figure 7, right)."""

import numpy as np
import pandas as pd

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import PAGE, Axes, Picture, finding, mpl, plt, reference, shade, use_style
from simreg_core.lab.figures.kit_forest import Effect, draw_effect
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


def cumulative_by_frequency(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of power up to each radius that a spectrum has.

    The records' profiles have 24 rings, as the published curve has; on few pixels some of those rings hold no
    frequency, and a curve of them is a stair.

    power: [seeds, h, w], centred.
    Returns radius [rings] in units of the corner's, increasing, and cumulative [seeds, rings] in [0, 1].
    """
    fy, fx = (np.fft.fftshift(np.fft.fftfreq(n)) for n in power.shape[1:])
    radii = np.hypot(fy[:, None], fx) / np.sqrt(0.5)
    radius, ring = np.unique(radii.round(9).ravel(), return_inverse=True)
    of_rings = np.array([np.bincount(ring, weights=one.ravel(), minlength=len(radius)) for one in power])
    return radius, of_rings.cumsum(axis=1) / of_rings.sum(axis=1, keepdims=True)


def draw(study: Study, protocol: str) -> Picture:
    """2-D spectra and the cumulative radial profile; the half-power frequency of each network, and how it differs."""
    use_style()
    figure = plt.figure(figsize=(PAGE, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1))
    maps, profiles = left.subfigures(2, 1, height_ratios=(1, 1.15))
    power, table = study.arrays("power"), study.table()
    _power_maps(maps, power)
    _radial_profiles(profiles.subplots(), power, _scale(table))
    dots, drop = right.subplots(2, 1, height_ratios=(2.4, 1))
    _half_power(dots, table)
    _half_power_difference(drop, table)
    figure.suptitle(finding(study, "half-power"), fontsize="small", x=0.01, ha="left")
    return figure


def _scale(table: pd.DataFrame) -> str:
    """'8 images × 4 seeds'."""
    rows = table[table["metric"] == "half_power_frequency"]
    return f"{int(rows['attempted'].min())} images × {rows['seed'].nunique()} seeds"


def _power_maps(figure, power: dict[str, np.ndarray]) -> None:
    """Each map over its own maximum, as published; logarithmic, since the zero frequency outshines the rest."""
    axes = figure.subplots(1, len(power), squeeze=False)[0]
    for ax, (series, maps) in zip(axes, power.items(), strict=True):
        mean = maps.mean(axis=0)
        h, w = (0.5 / n for n in mean.shape)  # half a pixel: the zero frequency's pixel lies around 0
        extent = (-0.5 - w, 0.5 - w, 0.5 - h, -0.5 - h)
        norm = mpl.colors.LogNorm(1e-2, 1)
        image = ax.imshow(np.maximum(mean / mean.max(), 1e-2), cmap="magma", norm=norm, extent=extent)
        ax.set_title(LOOKS[series].label, fontsize="medium")
        ax.set(xticks=(-0.4, 0, 0.4), yticks=(-0.4, 0, 0.4), xlabel="cycles/pixel")
        ax.set(xlim=extent[:2], ylim=extent[2:])
        for spine in ax.spines.values():
            spine.set_visible(False)
    axes[0].set_ylabel("cycles/pixel")
    figure.colorbar(image, ax=list(axes), label="Power / maximum", shrink=0.9)


def _radial_profiles(ax: Axes, power: dict[str, np.ndarray], scale: str) -> None:
    """Share of power up to each radius, mean and SEM over seeds."""
    for series, maps in power.items():
        look = LOOKS[series]
        published = reference("cumulative_power", PUBLISHED_SPECTRA[series], ("4ii radial spectrum",))
        ax.plot(published["x"], published["y"], color=look.colour, lw=0.8, ls="--")
        radius, profiles = cumulative_by_frequency(maps)
        mean, error = profiles.mean(axis=0), profiles.std(axis=0, ddof=1) / np.sqrt(len(profiles))
        label = f"{look.label} (n = {len(profiles)})"
        some = {"marker": look.marker, "ms": 4, "markevery": max(1, len(radius) // 12)}
        ax.plot(radius, mean, color=look.colour, label=label, gid=series, **some)
        shade(ax, radius, mean, error, look.colour)
    ax.plot([], [], color="0.5", lw=0.8, ls="--", label="published")
    ax.axhline(0.5, color="0.7", lw=0.6)
    ax.text(0.01, 0.99, scale, transform=ax.transAxes, fontsize="x-small", color="0.4", va="top")
    ax.set(xlabel="Radial frequency (corner = 1)", ylabel="Cumulative power", xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(loc="lower right", fontsize="small")


def _half_power(ax: Axes, table: pd.DataFrame) -> None:
    """The half-power frequency of each network, a thin line for the pair of one seed; published values dashed."""
    rows = table[table["metric"] == "half_power_frequency"]
    names = [series for series in PUBLISHED_HALF_POWER if series in set(rows["series"])]
    by_series = rows.pivot_table(index="seed", columns="series", values="value")[names]
    ax.plot(range(len(names)), by_series.T, color="0.6", lw=0.6, zorder=1)
    for place, series in enumerate(names):
        look, values = LOOKS[series], by_series[series].dropna()
        ax.plot([place] * len(values), values, look.marker, color=look.colour, mfc="none", gid=series)
        published = PUBLISHED_HALF_POWER[series]
        ax.plot([place - 0.3, place + 0.3], [published] * 2, color="0.5", lw=0.8, ls="--")
    ax.text(0.99, 0.99, _scale(table), transform=ax.transAxes, fontsize="x-small", color="0.4", ha="right", va="top")
    ax.set_xticks(range(len(names)), [LOOKS[series].label for series in names])
    ax.set(ylabel="Half-power frequency\n(corner = 1)", xlim=(-0.6, len(names) - 0.4), ylim=(0, 0.7))


def _half_power_difference(ax: Axes, table: pd.DataFrame) -> None:
    """None minus S^Th, paired: mean, 95 % interval, seeds, and the published difference."""
    published = PUBLISHED_HALF_POWER[NONE] - PUBLISHED_HALF_POWER[THRESHOLD]
    draw_effect(ax, Effect(_half_power_drop(table), LOOKS[THRESHOLD], THRESHOLD, published), 0)
    ax.axvline(0, color="0.6", lw=0.8, zorder=0)
    ax.set(yticks=(), ylim=(0.6, -0.6), xlabel="none minus " + LOOKS[THRESHOLD].label)
    ax.set_title("Paired difference\n(95 % interval; ◇ published)", fontsize="small")
    ax.spines["left"].set_visible(False)
    ax.margins(x=0.1)


def numbers(study: Study) -> pd.DataFrame:
    """The numbers behind the spectra: radial profiles and half-power frequencies for each seed, mean 2-D maps."""
    power, cumulative = study.arrays("power"), study.arrays("cumulative")
    radius = next(iter(study.arrays("radius").values()))[0]
    rows: list[dict] = []
    for series, profiles in cumulative.items():
        rows += _of_radii(series, "cumulative_power", radius, profiles)
        rows += _of_radii(series, "cumulative_power_by_frequency", *cumulative_by_frequency(power[series]))
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


def _of_radii(series: str, quantity: str, radius: np.ndarray, profiles: np.ndarray) -> list[dict]:
    """A row for each seed and radius.  profiles: [seeds, radii]."""
    return [
        {"series": series, "seed": seed, "quantity": quantity, "radius": radius[ring], "value": value}
        for (seed, ring), value in np.ndenumerate(profiles)
    ]


FIGURE = Figure("06_frequency_spectra", experiments, CLAIMS, draw, numbers=numbers, protocols=("released",))

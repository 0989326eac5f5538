"""The figures, one function for each notebook."""

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simreg_core.lab.claims import BARS_SEVERITY, image_counts
from simreg_core.lab.plotting import (
    ATTACK_NAMES,
    COLOURS,
    PAGE,
    Look,
    accuracy_curves,
    panels,
    published_legend,
    reference,
    shade,
    size_bars,
    summarize,
    use_style,
)
from simreg_core.lab.studies import (
    ACCEPTED_CLEAN_RATIO,
    DOUBLE,
    HIGH,
    LOW,
    MAIN_TASK,
    NEGATIVE,
    NEURAL,
    NO_LOSS,
    NONE,
    PIXEL,
    POSITIVE,
    SHUFFLED,
    SHUFFLED_NEURAL,
    THRESHOLD,
    ZERO,
    Study,
    pair_of,
    selection_ratios,
)
from simreg_core.names import GROUPS

PUBLISHED_MAIN = "published, gray\nCIFAR-10, ResNet18"
S_TH, S_PIXEL, S_NEURAL = r"$S^{\mathrm{Th}}$", r"$S^{\mathrm{pixel}}$", r"$S^{\mathrm{neural}}$"
_BOUNDARY_PANEL = "4i"
# gray CIFAR-10, ImageNet as regularization set, ResNet18
LOOKS = {
    NONE: Look(
        "none",
        COLOURS[NONE],
        "o",
        {
            "gaussian": ("unregularized", "4i"),
            "fgsm": ("unregularized", "4i"),
            "boundary": ("unregularized", _BOUNDARY_PANEL),
        },
    ),
    PIXEL: Look(
        S_PIXEL,
        COLOURS[PIXEL],
        "s",
        {"gaussian": ("S_pixel", "2b CIFAR10-ImageNet R18"), "fgsm": ("S_pixel", "3a CIFAR10-ImageNet R18")},
    ),
    THRESHOLD: Look(
        S_TH,
        COLOURS[THRESHOLD],
        "^",
        {
            "gaussian": ("S_Th reg=ImageNet", "4i"),
            "fgsm": ("S_Th reg=ImageNet", "4i"),
            "boundary": ("reg=ImageNet", _BOUNDARY_PANEL),
        },
    ),
}
# each set, and the published one that plays its part: the task's own images, or natural images of another kind
PUBLISHED_SETS = {
    "cifar10": "CIFAR10",
    "cifar10-jpeg75": "CIFAR10",
    "photos": "CIFAR10",
    "cifar100": "CIFAR100",
    "imagenet": "ImageNet",
    "tiny-imagenet32-jpeg75": "ImageNet",
    "photos-foreign": "ImageNet",
}
PUBLISHED_SPECTRA = {NONE: "unregularized", THRESHOLD: "reg=ImageNet"}
PUBLISHED_HALF_POWER = {NONE: 0.546, THRESHOLD: 0.433}  # where the published curves cross one half
PUBLISHED_PARTS = {  # of the poster; its S^Th Gaussian curve is the FGSM one by mistake: panel 4i stands for it
    PIXEL: {},
    THRESHOLD: {"gaussian": ("S_Th reg=CIFAR10", "4i"), "fgsm": ("S_Th", "6"), "boundary": ("S_Th", "6")},
    LOW: {"gaussian": ("S_low", "6"), "boundary": ("S_low", "6")},
    HIGH: {"gaussian": ("S_high", "6"), "fgsm": ("S_high", "6"), "boundary": ("S_high", "6")},
    POSITIVE: {"gaussian": ("S_plus", "6"), "fgsm": ("S_plus", "6"), "boundary": ("S_plus", "6")},
    NEGATIVE: {"gaussian": ("S_minus", "6"), "fgsm": ("S_minus", "6"), "boundary": ("S_minus", "6")},
    DOUBLE: {
        "gaussian": ("S_double(Th1,Th2)", "6"),
        "fgsm": ("S_double(Th1,Th2)", "6"),
        "boundary": ("S_double", "6"),
    },
}
PART_LABELS = {
    LOW: r"$S_{\mathrm{low}}$",
    HIGH: r"$S_{\mathrm{high}}$",
    POSITIVE: r"$S_{+}$",
    NEGATIVE: r"$S_{-}$",
    DOUBLE: r"$S^{\mathrm{Th1,Th2}}$",
    SHUFFLED: f"shuffled {S_TH}",
    ZERO: "all targets 0",
    NO_LOSS: "pairs, no loss",
}
PUBLISHED_TASKS = {  # the poster's other tasks; digits stand beside MNIST
    "digits, ResNet10": "2a MNIST-MNIST R18",
    "MNIST – MNIST": "2a MNIST-MNIST R18",
    "CIFAR-100, ResNet34": "2c CIFAR100-ImageNet R34",
}
LAYERS = ("stem", "stage 1", "stage 2", "stage 3", "stage 4")


def sequence(count: int) -> list:
    """Colours of an ordered series."""
    return sns.color_palette("viridis_r", count + 1)[1:]


def qualitative(count: int) -> list:
    """Colours of series without an order, told apart by colour-blind readers."""
    palette = sns.color_palette("colorblind")
    return [palette[index % len(palette)] for index in range(count)]


# 00


SHOWN_SIMILARITIES = (1.0, 0.8, 0.4, 0.0, -0.4, -0.8)


def closest_pairs(similarity: np.ndarray, wanted: tuple[float, ...] = SHOWN_SIMILARITIES) -> list[tuple[int, int]]:
    """For each wanted similarity the pair i < j that comes nearest.  similarity: [n, n]."""
    rows, cols = np.triu_indices(len(similarity), k=1)
    values = similarity[rows, cols]
    nearest = [int(np.abs(values - one).argmin()) for one in wanted]
    return [(int(rows[index]), int(cols[index])) for index in nearest]


def the_idea(images: np.ndarray, similarity: np.ndarray, thresholds: tuple[float, ...]) -> Figure:
    """Pairs of images with their pixel similarity; below, the similarity matrix and its targets.

    images: [n, h, w] in [0, 1].  similarity: [n, n].
    """
    use_style()
    pairs = closest_pairs(similarity)
    figure = plt.figure(figsize=(PAGE, 4.3), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    axes = top.subplots(2, len(pairs))
    for column, (i, j) in enumerate(pairs):
        for ax, index in zip(axes[:, column], (i, j), strict=True):
            ax.imshow(images[index], cmap="gray", vmin=0, vmax=1)
            ax.set_axis_off()
        axes[0, column].set_title(f"S = {similarity[i, j]:+.2f}", fontsize="medium")
    axes = bottom.subplots(1, 1 + len(thresholds))
    titles = [S_PIXEL, *(f"{S_TH}, Th = {threshold:g}" for threshold in thresholds)]
    for ax, title, threshold in zip(axes, titles, (None, *thresholds), strict=True):
        image = target_image(ax, similarity, threshold)
        ax.set_title(title, fontsize="medium")
    figure.colorbar(image, ax=list(axes), label="similarity", ticks=(-1, 0, 1), shrink=0.9)
    axes[0].set(ylabel=f"{len(similarity)} images", xlabel="same images")
    return figure


def target_image(ax: Axes, similarity: np.ndarray, threshold: float | None):
    """Draw S^pixel (threshold None) or S^Th as a picture."""
    shown = similarity
    if threshold is not None:
        shown = (similarity > threshold).astype(float) - (similarity < -threshold)
    ax.set(xticks=(), yticks=())
    return ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")


# 02, 04, 08, 09: three attacks side by side


def three_attacks(
    table: pd.DataFrame, looks: dict[str, Look], ticks: list[str] | None = None, protocol="released", height=2.5
) -> Figure:
    """Accuracy under Gaussian noise and FGSM, and boundary-attack sizes.  ticks: labels of the bars."""
    figure, axes = panels(1, 3, height, width_ratios=(1, 1, 0.8))
    summary = summarize(table, "epsilon")
    for ax, attack in zip(axes[:2], ("gaussian", "fgsm"), strict=True):
        accuracy_curves(ax, summary, looks, attack, protocol)
    axes[0].set_ylabel("Test accuracy")
    axes[0].legend(loc="lower left", fontsize="small")
    if any(look.published for look in looks.values()):
        published_legend(axes[1], PUBLISHED_MAIN)
    size_bars(axes[2], summary, looks, ticks)
    return figure


def attack_curves(table: pd.DataFrame, protocol: str, v1: str) -> Figure:
    """Accuracy against epsilon, and boundary-attack sizes; published values thin and dashed.

    v1: where S^neural comes from, 'simulated' or the file of a published predictor.
    """
    source = "simulated V1" if v1 == "simulated" else "V1 predictor"
    looks = {
        **LOOKS,
        NEURAL: Look(f"{S_NEURAL}, {source}", COLOURS[NEURAL], "D"),
        SHUFFLED_NEURAL: Look("the same, shuffled", COLOURS[SHUFFLED_NEURAL], "v"),
    }
    figure = three_attacks(table, looks, ["none", "pixel", "Th", "neural", "shuffled"], protocol, 3.0)
    first, second, bars = figure.axes
    handles = [*first.get_legend_handles_labels()[0], *second.get_legend().legend_handles]
    labels = [*first.get_legend_handles_labels()[1], PUBLISHED_MAIN.replace("\n", " ")]
    first.get_legend().remove()  # five curves leave no room for it
    second.get_legend().remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    bars.tick_params(axis="x", rotation=40)
    figure.suptitle(f"Protocol: {protocol}", fontsize="medium", x=0.01, ha="left")
    return figure


def set_looks(names: list[str], with_published: bool = True) -> dict[str, Look]:
    """Looks of none and of the regularization sets."""
    looks = {NONE: LOOKS[NONE] if with_published else Look("none", COLOURS[NONE])}
    sets = [name for name in names if name != NONE]
    for name, colour, marker in zip(sets, qualitative(len(sets)), cycle("^sDv"), strict=False):
        known = PUBLISHED_SETS.get(name) if with_published else None
        published = known and {
            "gaussian": (f"S_Th reg={known}", "4i"),
            "fgsm": (f"S_Th reg={known}", "4i"),
            "boundary": (f"reg={known}", "4i"),
        }
        looks[name] = Look(name, colour, marker, published or None)
    return looks


def regularization_sets(table: pd.DataFrame, protocol: str = "released") -> Figure:
    """Three attacks against the regularization set."""
    looks = set_looks(list(table["series"].unique()))
    return three_attacks(table, looks, _in_two_lines(looks), protocol)


def colour(table: pd.DataFrame, protocol: str = "released") -> Figure:
    """Three attacks on the task in colour; no published curve could be read off."""
    looks = set_looks(list(table["series"].unique()), with_published=False)
    return three_attacks(table, looks, _in_two_lines(looks), protocol)


def _in_two_lines(looks: dict[str, Look]) -> list[str]:
    return [look.label.replace("-", "-\n") for look in looks.values()]


def image_count_study(table: pd.DataFrame, protocol: str = "released") -> Figure:
    """Three attacks against the number of regularization images."""
    names = sorted(set(table["series"]) - {NONE}, key=lambda name: int(name.split("=")[1]))
    known = dict(zip(image_counts(table), ("N=100", "N=1000", "N=5000"), strict=True))
    looks = {NONE: LOOKS[NONE]}
    for name, colour, marker in zip(names, sequence(len(names)), cycle("^sDv"), strict=False):
        panel = {"gaussian": "iii-N", "fgsm": "iii-N", "boundary": "iii"}
        published = {attack: (known[name], own) for attack, own in panel.items()} if name in known else None
        looks[name] = Look(name, colour, marker, published)
    return three_attacks(table, looks, ["none", *(name.removeprefix("N = ") for name in names)], protocol)


# 03


def hyperparameter_planes(table: pd.DataFrame) -> Figure:
    """R_0/U_0 against R_D/U_D, a panel for each attack and one for the published plane; the chosen pair is ringed."""
    figure, axes = panels(1, 5, 2.7, sharex=True)
    pairs = [pair_of(series) for series in table["series"].unique() if series != NONE]
    alphas, thresholds = (sorted({pair[place] for pair in pairs}) for place in (0, 1))
    colours = dict(zip(alphas, sequence(len(alphas)), strict=True))
    markers = dict(zip(sorted({*thresholds, *PUBLISHED_GRID[1]}), "vDs^oPX*<>", strict=False))
    for ax, attack in zip(axes, ("gaussian", "uniform", "salt_and_pepper", "fgsm"), strict=False):
        for row in selection_ratios(table, attack).itertuples():
            alpha, threshold = pair_of(row.series)
            ax.plot(row.clean, row.robust, markers[threshold], color=colours[alpha], ms=5)
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


PUBLISHED_GRID = ((4, 10, 20), (0.2, 0.4, 0.6, 0.8))
PUBLISHED_ALPHAS = dict(zip(PUBLISHED_GRID[0], ("0.75", "0.5", "0.15"), strict=True))


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
    ax.axhline(1, color="0.6", lw=0.6, zorder=0)
    ax.axvline(ACCEPTED_CLEAN_RATIO, color="0.6", lw=0.6, zorder=0)
    ax.set(xlabel="$R_0 / U_0$", xlim=(0.5, 1.08), ylim=(low, high))


def _plane_legend(figure: Figure, colours: dict, markers: dict, seeds: int) -> None:
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


# 05


def common_corruptions(study: Study) -> Figure:
    """Accuracy by severity, by corruption and by frequency group; spectra of the corruptions themselves."""
    use_style()
    figure, axes = plt.subplot_mosaic(
        [["severity", "groups", "spectra"], ["bars"] * 3], figsize=(PAGE, 4.8), height_ratios=(1, 0.95)
    )
    table = study.table()
    own = table[table["attack"] == "corruption"]
    looks = set_looks(list(own["series"].unique()))
    _by_severity(axes["severity"], own, looks)
    _by_group(axes["groups"], own, looks)
    _by_corruption(axes["bars"], own, looks)
    _corruption_spectra(axes["spectra"], study)
    return figure


def mean_over_corruptions(table: pd.DataFrame, names: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Accuracy by series, severity and seed, mean over corruptions (all, or those named; the clean images as 0)."""
    rows = table if names is None else table[table["corruption"].isin(names)]
    return rows.groupby(["series", "severity", "seed"], sort=False)["value"].mean().reset_index()


def _mean_and_sem(values: pd.DataFrame, *keys: str) -> pd.DataFrame:
    return values.groupby(list(keys), sort=False)["value"].agg(["mean", "sem", "size"]).reset_index()


def _by_severity(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    summary = _mean_and_sem(mean_over_corruptions(table), "series", "severity")
    for series, look in looks.items():
        rows = summary[summary["series"] == series].sort_values("severity")
        label = f"{look.label} (n = {rows['size'].max()})"
        ax.plot(rows["severity"], rows["mean"], color=look.colour, marker=look.marker, label=label)
        shade(ax, rows["severity"], rows["mean"], rows["sem"], look.colour)
    ax.set(xlabel="Severity (0: clean)", ylabel="Test accuracy", xticks=range(6), ylim=(0, 1))
    ax.set_title("Mean of 15 corruptions", fontsize="medium")
    ax.legend(loc="lower left", fontsize="x-small")


def _bars(ax: Axes, groups: list[pd.DataFrame], looks: dict[str, Look]) -> float:
    """Bars of each series side by side in every group.  Returns the width of one."""
    width = 0.8 / len(looks)
    for place, group in enumerate(groups):
        for index, (series, look) in enumerate(looks.items()):
            values = group[group["series"] == series]["value"]
            x = place + (index - (len(looks) - 1) / 2) * width
            ax.bar(x, values.mean(), yerr=values.sem(), width=width, color=look.colour, error_kw={"lw": 0.8})
    return width


def _by_group(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    at = table[table["severity"] == BARS_SEVERITY]
    width = _bars(ax, [mean_over_corruptions(at, names) for names in GROUPS.values()], looks)
    for place, group in enumerate(GROUPS):
        for index, series in enumerate(looks):
            known = "unregularized" if series == NONE else f"reg={PUBLISHED_SETS.get(series)}"
            published = reference("accuracy", f"{group.capitalize()} {known}", ("4ii CIFAR-10-C sev4",))["y"]
            x = place + (index - (len(looks) - 1) / 2) * width
            for value in published:
                ax.plot([x - width / 2, x + width / 2], [value] * 2, color="k", lw=1, ls=(0, (2, 1)))
    ax.set_xticks(range(len(GROUPS)), list(GROUPS))
    ax.set(xlabel="Frequency of the corruption", ylim=(0, 1))
    ax.set_title(f"Severity {BARS_SEVERITY}", fontsize="medium")
    published_legend(ax, "published", loc="upper right")


def _by_corruption(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    at = table[table["severity"] == BARS_SEVERITY]
    ordered = [name for names in GROUPS.values() for name in names]
    _bars(ax, [mean_over_corruptions(at, (name,)) for name in ordered], looks)
    end = 0
    for group, names in GROUPS.items():
        middle = end + (len(names) - 1) / 2
        ax.text(middle, 1.08, f"{group} frequency", ha="center", va="top", fontsize="small", color="0.4")
        end += len(names)
        if end < len(ordered):
            ax.axvline(end - 0.5, color="0.8", lw=0.8)
    short = [name.removesuffix("_noise").removesuffix("_blur").removesuffix("_transform") for name in ordered]
    ax.set_xticks(range(len(ordered)), [name.removesuffix("_compression") for name in short], rotation=35, ha="right")
    ax.set(ylabel=f"Accuracy, severity {BARS_SEVERITY}", ylim=(0, 1.08), xlim=(-0.6, len(ordered) - 0.4))


def _corruption_spectra(ax: Axes, study: Study) -> None:
    radius = study.arrays("radius")["corruptions"][0]
    colours = dict(zip(GROUPS, ("#0072b2", "#009e73", "#d55e00"), strict=True))
    for group, names in GROUPS.items():
        for index, name in enumerate(names):
            cumulative = study.arrays(name)["corruptions"][0]
            ax.plot(radius, cumulative, color=colours[group], lw=0.8, label=group if index == 0 else None)
    ax.axhline(0.5, color="0.7", lw=0.6)
    ax.set(xlabel="Radial frequency (corner = 1)", ylabel="Cumulative power", xlim=(0, 1), ylim=(0, 1.02))
    ax.set_title("Spectra of the corruptions", fontsize="medium")
    ax.legend(title="group", loc="lower right", fontsize="small")


def corruption_table(study: Study) -> pd.DataFrame:
    """The numbers behind the corruption figure: accuracies over seeds, and the corruptions' radial profiles."""
    table = study.table()
    own = table[table["attack"] == "corruption"].fillna({"corruption": "clean"})
    accuracies = _mean_and_sem(own, "series", "corruption", "severity").rename(columns={"size": "seeds"})
    accuracies.insert(0, "quantity", "accuracy")
    radius = study.arrays("radius")["corruptions"][0]
    profiles = [
        {"quantity": "cumulative_power", "corruption": name, "severity": BARS_SEVERITY, "radius": r, "mean": value}
        for names in GROUPS.values()
        for name in names
        for r, value in zip(radius, study.arrays(name)["corruptions"][0], strict=True)
    ]
    return pd.concat([accuracies, pd.DataFrame(profiles)], ignore_index=True)


# 06


def frequency_spectra(study: Study) -> Figure:
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
        ax.plot(radius, mean, color=look.colour, marker=look.marker, ms=3, label=label)
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
        ax.plot([place] * len(values), values, look.marker, color=look.colour, mfc="none")
        ax.plot([place - 0.25, place + 0.25], [values.mean()] * 2, color=look.colour, lw=2)
        published = PUBLISHED_HALF_POWER[series]
        ax.plot([place - 0.4, place + 0.4], [published] * 2, color="0.5", lw=0.8, ls="--")
    ax.set_xticks(
        range(len(names)), [f"{LOOKS[series].label}\n(n = {(rows['series'] == series).sum()})" for series in names]
    )
    ax.set(ylabel="Half-power frequency\n(corner = 1)", xlim=(-0.6, len(names) - 0.4), ylim=(0, 0.7))


def spectrum_table(study: Study) -> pd.DataFrame:
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


# 07


def batch_size_curves(table: pd.DataFrame, costs: dict, protocol: str = "released") -> Figure:
    """Three attacks against k, and the measured cost of a training step."""
    figure, axes = panels(2, 2, 4.6)
    summary = summarize(table, "epsilon")
    names = [series for series in table["series"].unique() if series != NONE]
    looks = {NONE: LOOKS[NONE]}
    for name, colour, marker in zip(names, sequence(len(names)), cycle("^sDv"), strict=False):
        known = name.replace(" ", "")
        published = {"gaussian": (known, "iii-k"), "fgsm": (known, "iii-k"), "boundary": (known, "iii")}
        looks[name] = Look(name, colour, marker, published)
    for ax, attack in zip(axes[0], ("gaussian", "fgsm"), strict=True):
        accuracy_curves(ax, summary, looks, attack, protocol)
    axes[0, 0].set_ylabel("Test accuracy")
    axes[0, 0].legend(loc="lower left", fontsize="small")
    published_legend(axes[0, 1], PUBLISHED_MAIN)
    size_bars(axes[1, 0], summary, looks, [name.removeprefix("k = ") for name in looks])
    axes[1, 0].set_xlabel("Pairs a step, k")
    _time_against_k(axes[1, 1], costs)
    return figure


def _time_against_k(ax: Axes, costs: dict) -> None:
    rows = pd.DataFrame(costs["rows"])
    low, high = (rows["ratios"].map(pick) for pick in (min, max))
    error = [rows["ratio"] - low, high - rows["ratio"]]
    ax.errorbar(rows["k"], rows["ratio"], error, fmt="o-", color="#d55e00", capsize=2, label="measured")
    _predicted(ax, rows)
    ax.set(ylabel="Time of a training step\n(unregularized = 1)")
    ax.set_title(f"Cost on {costs['device']}", fontsize="small")


def _predicted(ax: Axes, rows: pd.DataFrame) -> None:
    ax.plot(rows["k"], rows["predicted"], color="0.5", ls=":", label="(batch + 2k) / batch")
    ax.set(xlabel="Pairs a step, k", xticks=rows["k"])
    ax.set_ylim(0, 1.1 * ax.get_ylim()[1])
    ax.legend(loc="lower right", fontsize="small")


# 10


def layer_weights(study: Study) -> Figure:
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
    for index, (name, colour) in enumerate(zip(weights, qualitative(len(weights)), strict=True)):
        final = weights[name][:, -1]
        x = np.arange(len(LAYERS)) + (index - (len(weights) - 1) / 2) * width
        error = final.std(axis=0, ddof=1) / np.sqrt(len(final))
        ax.bar(x, final.mean(axis=0), yerr=error, width=width, color=colour, label=f"{name} (n = {len(final)})")
    ax.set_xticks(range(len(LAYERS)), LAYERS)
    ax.set(ylabel="Layer weight γ")
    ax.set_title("After training, by regularization set", fontsize="medium")
    ax.legend(fontsize="small")


def layer_weight_table(study: Study) -> pd.DataFrame:
    """gamma by series, seed, epoch and layer."""
    return pd.DataFrame(
        {"series": series, "seed": seed, "epoch": epoch + 1, "layer": LAYERS[layer], "weight": value}
        for series, values in study.arrays("layer_weights").items()
        for (seed, epoch, layer), value in np.ndenumerate(values)
    )


# 11


def target_components(table: pd.DataFrame, protocol: str = "released") -> Figure:
    """Three attacks on parts of S^Th (above) and on controls (below)."""
    use_style()
    figure = plt.figure(figsize=(PAGE, 5.8), layout="constrained")
    above, below = figure.subfigures(2, 1)
    summary = summarize(table, "epsilon")
    parts = (PIXEL, THRESHOLD, LOW, HIGH, POSITIVE, NEGATIVE, DOUBLE)
    _component_row(above, summary, parts, "Parts of the target", protocol)
    _component_row(below, summary, (THRESHOLD, SHUFFLED, ZERO, NO_LOSS), "Controls", protocol)
    return figure


def _component_row(figure, summary: pd.DataFrame, names: tuple[str, ...], title: str, protocol: str) -> None:
    looks = {NONE: LOOKS[NONE]}
    free = iter([colour for index, colour in enumerate(qualitative(10)) if index not in (0, 3, 7)])
    for name, marker in zip(names, cycle("^sDvPXo"), strict=False):
        if name in (PIXEL, THRESHOLD):
            looks[name] = Look(LOOKS[name].label, LOOKS[name].colour, LOOKS[name].marker, PUBLISHED_PARTS[name])
        else:
            looks[name] = Look(PART_LABELS[name], next(free), marker, PUBLISHED_PARTS.get(name))
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 0.9))
    for ax, attack in zip(axes, ("gaussian", "fgsm"), strict=False):
        accuracy_curves(ax, summary, looks, attack, protocol)
    axes[0].set_ylabel("Test accuracy")
    size_bars(axes[2], summary, looks)
    axes[2].set_xticks([])
    handles, labels = axes[0].get_legend_handles_labels()
    handles.append(mpl.lines.Line2D([], [], color="0.5", lw=0.8, ls="--"))
    labels.append("published")
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small", columnspacing=1.2)
    figure.suptitle(title, fontsize="medium", x=0.01, ha="left")


# 12


def other_tasks_and_depths(table: pd.DataFrame, protocol: str = "released") -> Figure:
    """A row for each task, a column for each attack."""
    figure = _rows_of_groups(table, ("gaussian", "uniform", "salt_and_pepper", "fgsm"), _task_looks, protocol)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    handles.append(mpl.lines.Line2D([], [], color="0.5", lw=0.8, ls="--"))
    figure.legend(handles, [*labels, "published"], loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _rows_of_groups(
    table: pd.DataFrame, attacks: tuple[str, ...], looks_of: Callable[[str], dict[str, Look]], protocol: str
) -> Figure:
    """A row for each group, a column for each attack, the boundary attack last; without a legend."""
    groups = list(table["group"].unique())
    figure, axes = panels(len(groups), len(attacks) + 1, 1.75 * len(groups) + 0.4, squeeze=False)
    for own, group in zip(axes, groups, strict=True):
        summary = summarize(table[table["group"] == group], "epsilon")
        looks = looks_of(group)
        for ax, attack in zip(own, attacks, strict=False):
            accuracy_curves(ax, summary, looks, attack, protocol)
            ax.set(xlabel="")
        size_bars(own[-1], summary, looks)
        for ax in own:
            ax.title.set_fontsize("small")
        own[-1].set_title("Boundary attack", fontsize="small")
        own[-1].tick_params(axis="x", labelsize="x-small")
        own[0].set_ylabel(f"{group}\nTest accuracy", fontsize="small")
        own[-1].set_ylabel("Squared L2\nper pixel (× 10⁻³)", fontsize="small")
    for ax in axes[-1, :-1]:
        ax.set_xlabel("ε")
    return figure


def _task_looks(group: str) -> dict[str, Look]:
    if group == MAIN_TASK:
        return LOOKS
    panel = PUBLISHED_TASKS.get(group)
    names = {NONE: "unregularized", PIXEL: "S_pixel", THRESHOLD: "S_Th"}
    return {
        name: Look(look.label, look.colour, look.marker, panel and {"gaussian": (names[name], panel)})
        for name, look in LOOKS.items()
    }


# 15


def architectures(table: pd.DataFrame, protocol: str = "released") -> Figure:
    """A row for each architecture, a column for each attack; no published values, since the paper has none."""
    looks = {name: replace(LOOKS[name], published=None) for name in (NONE, THRESHOLD)}
    figure = _rows_of_groups(table, ("gaussian", "fgsm"), lambda group: looks, protocol)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    return figure


# 16


def cost(costs: dict) -> Figure:
    """Time and memory of a training step against k, and of the regularizer against N."""
    figure, axes = panels(1, 3, 2.6)
    _time_against_k(axes[0], costs)
    rows = pd.DataFrame(costs["rows"])
    axes[1].plot(rows["k"], rows["saved_bytes"] / rows["saved_bytes"].iloc[0], "s-", color="#0072b2", label="counted")
    _predicted(axes[1], rows)
    axes[1].set_ylabel("Memory kept for the backward\npass (unregularized = 1)")
    counts = pd.DataFrame(costs["image_counts"])
    axes[2].loglog(
        counts["N"], counts["held_bytes"] / 2**20, "s-", color="#0072b2", label="memory of the\nregularizer (MiB)"
    )
    axes[2].loglog(counts["N"], counts["seconds"] * 1e3, "o-", color="#d55e00", label="time of a step (ms)")
    square = counts["N"].astype(float) ** 2 / 2**20
    axes[2].loglog(counts["N"], square, color="0.5", ls=":", label="N² bytes")
    axes[2].set(xlabel="Regularization images, N")
    axes[2].legend(fontsize="small")
    return figure

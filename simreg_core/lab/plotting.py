"""One style, the figures, and one function that saves them with the numbers behind them."""

import json
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simreg_core.lab.claims import Verdict
from simreg_core.lab.experiment import PROJECT
from simreg_core.lab.store import StoreError, write_text, written_whole
from simreg_core.lab.studies import NONE, PIXEL, THRESHOLD, Study

COLUMN, PAGE = 3.4, 7.0  # inches: one column, two columns
ATTACK_NAMES = {"gaussian": "Gaussian noise", "fgsm": "Transferred FGSM", "boundary": "Boundary attack"}
LABELS = {NONE: "none", PIXEL: r"$S^{\mathrm{pixel}}$", THRESHOLD: r"$S^{\mathrm{Th}}$"}
COLOURS = {NONE: "0.25", PIXEL: "#0072b2", THRESHOLD: "#d55e00"}  # told apart by colour-blind readers
MARKERS = {NONE: "o", PIXEL: "s", THRESHOLD: "^"}
REFERENCE = PROJECT / "figures" / "reference" / "digitized.csv"
# gray CIFAR-10, ImageNet as regularization set, ResNet18
PUBLISHED = {
    "gaussian": ("gaussian_acc", {NONE: "unregularized", PIXEL: "S_pixel", THRESHOLD: "S_Th reg=ImageNet"}),
    "fgsm": ("fgsm_acc", {NONE: "unregularized", PIXEL: "S_pixel", THRESHOLD: "S_Th reg=ImageNet"}),
    "boundary": ("boundary_sqL2_per_pixel(1e-3)", {NONE: "unregularized", THRESHOLD: "reg=ImageNet"}),
}
PUBLISHED_SPECTRA = {NONE: "unregularized", THRESHOLD: "reg=ImageNet"}
PUBLISHED_HALF_POWER = {NONE: 0.546, THRESHOLD: 0.433}  # where the published curves cross one half
PUBLISHED_PANELS = ("4i", "2b CIFAR10-ImageNet R18", "3a CIFAR10-ImageNet R18")


def use_style() -> None:
    """The house style: readable at column width, text stays text in PDFs."""
    sns.set_theme(context="paper", style="ticks", font_scale=0.9)
    mpl.rcParams.update(
        {
            "figure.dpi": 120,
            "savefig.dpi": 200,
            "pdf.fonttype": 42,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "lines.markersize": 4,
            "figure.constrained_layout.use": True,
        }
    )


def published_curve(attack: str, series: str, panels: tuple[str, ...] = PUBLISHED_PANELS) -> pd.DataFrame:
    """The published values of one curve, columns x and y; empty where none could be read off."""
    metric, names = PUBLISHED[attack]
    return reference(metric, names.get(series), panels)


def reference(metric: str, series: str | None, panels: tuple[str, ...]) -> pd.DataFrame:
    """Digitized values of a metric and series in some panels, columns x and y, sorted by x."""
    rows = pd.read_csv(REFERENCE, dtype=str)
    chosen = rows[(rows["metric"] == metric) & (rows["series"] == series) & rows["panel"].isin(panels)]
    numbers = chosen[["x", "y"]].apply(pd.to_numeric, errors="coerce")
    return numbers.dropna(subset="y").sort_values("x").drop_duplicates("x").reset_index(drop=True)


def summarize(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Mean and SEM over seeds; repeats are averaged within a seed first.

    Returns one row for each combination of series, attack, protocol, metric and `columns`, with mean, sem,
    seeds, attempted and failed (summed).
    """
    keys = ["series", "attack", "protocol", "metric", *columns]
    own = table.groupby([*keys, "seed"], sort=False, dropna=False)
    by_seed = own.agg(value=("value", "mean"), attempted=("attempted", "sum"), failed=("failed", "sum")).reset_index()
    over_seeds = by_seed.groupby(keys, sort=False, dropna=False)
    return over_seeds.agg(
        mean=("value", "mean"),
        sem=("value", "sem"),
        seeds=("value", "size"),
        attempted=("attempted", "sum"),
        failed=("failed", "sum"),
    ).reset_index()


def attack_curves(table: pd.DataFrame, protocol: str) -> Figure:
    """Accuracy against epsilon, and boundary-attack sizes; published values thin and dashed."""
    use_style()
    figure, axes = plt.subplots(1, 3, figsize=(PAGE, 2.5), width_ratios=(1, 1, 0.8))
    summary = summarize(table, "epsilon")
    for ax, attack in zip(axes[:2], ("gaussian", "fgsm"), strict=True):
        for series in COLOURS:
            _published_line(ax, attack, series)
            rows = _rows(summary, series, attack, "accuracy", protocol)
            _curve(ax, rows, COLOURS[series], MARKERS[series], _label(series, rows))
        _epsilon_axis(ax, attack)
    axes[0].set_ylabel("Test accuracy")
    axes[0].legend(title="regularizer", loc="lower left")
    _published_legend(axes[1])
    boundary = [_rows(summary, series, "boundary", "median_squared_l2_per_pixel") for series in COLOURS]
    _size_bars(axes[2], boundary, [LABELS[s] for s in COLOURS], list(COLOURS.values()))
    for place, series in enumerate(COLOURS):
        for value in published_curve("boundary", series)["y"]:
            axes[2].plot([place - 0.4, place + 0.4], [value, value], color="0.5", lw=0.8, ls="--")
    figure.suptitle(f"Protocol: {protocol}", fontsize="medium", x=0.01, ha="left")
    return figure


def batch_size_curves(table: pd.DataFrame, costs: dict) -> Figure:
    """Three attacks against k, and the measured cost of a training step."""
    use_style()
    figure, axes = plt.subplots(2, 2, figsize=(PAGE, 4.6))
    summary = summarize(table, "epsilon")
    series = list(table["series"].unique())
    colours = ["0.25", *sns.color_palette("viridis_r", len(series) - 1)]
    for ax, attack in zip(axes[0], ("gaussian", "fgsm"), strict=True):
        for name, colour, marker in zip(series, colours, cycle("o^sDv"), strict=False):
            rows = _rows(summary, name, attack, "accuracy", "released")
            _curve(ax, rows, colour, marker, _label(name, rows))
            published = reference(PUBLISHED[attack][0], name.replace(" ", ""), ("iii-k",))
            if name == NONE:
                published = published_curve(attack, NONE)
            ax.plot(published["x"], published["y"], color=colour, lw=0.8, ls="--")
        _epsilon_axis(ax, attack)
    axes[0, 0].set_ylabel("Test accuracy")
    axes[0, 0].legend(loc="lower left", fontsize="small")
    _published_legend(axes[0, 1])
    boundary = [_rows(summary, name, "boundary", "median_squared_l2_per_pixel") for name in series]
    _size_bars(axes[1, 0], boundary, [name.removeprefix("k = ") for name in series], colours)
    axes[1, 0].set_xlabel("Pairs a step, k")
    _cost_lines(axes[1, 1], costs)
    return figure


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
    titles = [LABELS[PIXEL], *(f"$S^{{\\mathrm{{Th}}}}$, Th = {threshold:g}" for threshold in thresholds)]
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


def _cost_lines(ax: Axes, costs: dict) -> None:
    rows = pd.DataFrame(costs["rows"])
    ax.plot(rows["k"], rows["ratio"], "o-", color="#d55e00", label="measured")
    ax.plot(rows["k"], rows["predicted"], color="0.5", ls=":", label="(batch + 2k) / batch")
    ax.set(xlabel="Pairs a step, k", ylabel="Time of a training step\n(unregularized = 1)", xticks=rows["k"])
    ax.set_ylim(0)
    ax.set_title(f"Cost on {costs['device']}", fontsize="small")
    ax.legend(loc="lower right")


def frequency_spectra(study: Study) -> Figure:
    """2-D spectra, the cumulative radial profile, and the half-power frequency of each network."""
    use_style()
    rows = [[NONE, PIXEL, THRESHOLD], ["profile", "profile", "half"]]
    figure, axes = plt.subplot_mosaic(rows, figsize=(PAGE, 4.6), height_ratios=(1, 1.1))
    _power_maps(axes, study.arrays("power"))
    _radial_profiles(axes["profile"], study.arrays("cumulative"), next(iter(study.arrays("radius").values()))[0])
    _half_power_dots(axes["half"], study.table())
    return figure


def _power_maps(axes: dict[str, Axes], power: dict[str, np.ndarray]) -> None:
    """Each map over its own maximum, as published; logarithmic, since the zero frequency outshines the rest."""
    for series, maps in power.items():
        ax, mean = axes[series], maps.mean(axis=0)
        h, w = (0.5 / n for n in mean.shape)  # half a pixel: the zero frequency's pixel lies around 0
        norm = mpl.colors.LogNorm(1e-2, 1)
        image = ax.imshow(
            np.maximum(mean / mean.max(), 1e-2), cmap="magma", norm=norm, extent=(-0.5 - w, 0.5 - w, 0.5 - h, -0.5 - h)
        )
        ax.set_title(LABELS[series], fontsize="medium")
        ax.set(xticks=(-0.5, 0, 0.5), yticks=(-0.5, 0, 0.5), xlabel="cycles/pixel")
    axes[NONE].set_ylabel("cycles/pixel")
    ax.figure.colorbar(image, ax=ax, label="Power / maximum")


def _radial_profiles(ax: Axes, cumulative: dict[str, np.ndarray], radius: np.ndarray) -> None:
    for series, profiles in cumulative.items():
        published = reference("cumulative_power", PUBLISHED_SPECTRA.get(series), ("4ii radial spectrum",))
        ax.plot(published["x"], published["y"], color=COLOURS[series], lw=0.8, ls="--")
        mean, error = profiles.mean(axis=0), profiles.std(axis=0, ddof=1) / np.sqrt(len(profiles))
        label = f"{LABELS[series]} (n = {len(profiles)})"
        ax.plot(radius, mean, color=COLOURS[series], marker=MARKERS[series], ms=3, label=label)
        ax.fill_between(radius, mean - error, mean + error, color=COLOURS[series], alpha=0.2, lw=0)
    ax.plot([], [], color="0.5", lw=0.8, ls="--", label="published")
    ax.axhline(0.5, color="0.7", lw=0.6)
    ax.set(xlabel="Radial frequency (corner = 1)", ylabel="Cumulative power", xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(loc="lower right", fontsize="small")


def _half_power_dots(ax: Axes, table: pd.DataFrame) -> None:
    rows = table[table["metric"] == "half_power_frequency"]
    for place, series in enumerate(COLOURS):
        values = rows[rows["series"] == series]["value"]
        ax.plot([place] * len(values), values, MARKERS[series], color=COLOURS[series], mfc="none")
        ax.plot([place - 0.25, place + 0.25], [values.mean()] * 2, color=COLOURS[series], lw=2)
        published = PUBLISHED_HALF_POWER.get(series)
        if published is not None:
            ax.plot([place - 0.4, place + 0.4], [published] * 2, color="0.5", lw=0.8, ls="--")
    ax.set_xticks(range(len(COLOURS)), [LABELS[series] for series in COLOURS])
    ax.set(ylabel="Half-power frequency\n(corner = 1)", xlim=(-0.6, len(COLOURS) - 0.4), ylim=(0, 0.7))


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


def _rows(summary: pd.DataFrame, series: str, attack: str, metric: str, protocol: str | None = None) -> pd.DataFrame:
    chosen = (summary["series"] == series) & (summary["attack"] == attack) & (summary["metric"] == metric)
    if protocol is not None:
        chosen &= summary["protocol"] == protocol
    return summary[chosen]


def _curve(ax: Axes, rows: pd.DataFrame, colour, marker: str, label: str) -> None:
    ax.plot(rows["epsilon"], rows["mean"], color=colour, marker=marker, label=label)
    ax.fill_between(
        rows["epsilon"], rows["mean"] - rows["sem"], rows["mean"] + rows["sem"], color=colour, alpha=0.2, lw=0
    )


def _label(series: str, rows: pd.DataFrame) -> str:
    return f"{LABELS.get(series, series)} (n = {rows['seeds'].max()})"


def _published_line(ax: Axes, attack: str, series: str) -> None:
    published = published_curve(attack, series)
    ax.plot(published["x"], published["y"], color=COLOURS[series], lw=0.8, ls="--")


def _published_legend(ax: Axes) -> None:
    line = mpl.lines.Line2D([], [], color="0.5", lw=0.8, ls="--", label="published, gray\nCIFAR-10, ResNet18")
    ax.legend(handles=[line], loc="lower left")


def _epsilon_axis(ax: Axes, attack: str) -> None:
    ax.set(xlabel="ε (pixels in [0, 1])", ylim=(0, 1))
    ax.set_xlim(0, None)
    ax.set_title(ATTACK_NAMES[attack], fontsize="medium")


def _size_bars(ax: Axes, series_rows: list[pd.DataFrame], labels: list[str], colours: list) -> None:
    for place, (rows, colour) in enumerate(zip(series_rows, colours, strict=True)):
        ax.bar(place, rows["mean"].item() * 1e3, yerr=rows["sem"].item() * 1e3, color=colour, capsize=3, width=0.7)
    ax.set_xticks(range(len(labels)), labels)
    ax.set_ylabel("Median squared L2\nper pixel (× 10⁻³)")
    ax.set_title(f"Boundary attack (n = {series_rows[0]['seeds'].item()})", fontsize="medium")


def save_figure(figure: Figure, study: Study, table: pd.DataFrame, verdicts: list[Verdict] = (), **notes) -> list[Path]:
    """Save a figure as PDF and PNG, the numbers behind it as CSV, and where they come from as JSON.

    table: what is drawn.  notes: anything else for the JSON, such as measured times (which differ from run to
    run and so do not belong in the CSV).
    Returns the four paths.  Raises StoreError where a file cannot be written.
    """
    provenance = {
        "figure": study.name,
        "profile": study.profile.name,
        "records": [
            {
                "series": label,
                "seed": record.experiment.seed,
                "experiment": record.experiment_key,
                "evaluation": record.evaluation_key,
                "attack": record.evaluation.attack,
                **record.provenance.model_dump(),
            }
            for label, record in study.records()
        ],
        "claims": [verdict.as_dict() for verdict in verdicts],
        **notes,
    }
    return save_plain(figure, study.folder / study.name, table, provenance)


def save_plain(figure: Figure, stem: Path, table: pd.DataFrame, provenance: dict) -> list[Path]:
    """As `save_figure`, for a figure without a study.  stem: path without its suffix."""
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("pdf", "png", "csv", "json")]
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        # no dates: the same numbers give the same files
        for path, metadata in ((paths[0], {"CreationDate": None}), (paths[1], {"Software": None})):
            with written_whole(path) as temporary:
                figure.savefig(temporary, format=path.suffix[1:], metadata=metadata)
    except OSError as error:
        raise StoreError(f"cannot write {stem}: {error}") from error
    write_text(paths[2], table.to_csv(index=False, float_format="%.6g"))
    write_text(paths[3], json.dumps(provenance, indent=1, allow_nan=False) + "\n")
    return paths

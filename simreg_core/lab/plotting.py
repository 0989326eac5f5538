"""One style, the parts that figures share, and one function that saves them with the numbers behind them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simreg_core.lab.claims import Verdict
from simreg_core.lab.files import StoreError, write_text, written_whole
from simreg_core.lab.specs import PROJECT
from simreg_core.lab.studies import NEURAL, NONE, PIXEL, SHUFFLED_NEURAL, THRESHOLD, Study

COLUMN, PAGE = 3.4, 7.0  # inches: one column, two columns
ATTACK_NAMES = {
    "gaussian": "Gaussian noise",
    "uniform": "Uniform noise",
    "salt_and_pepper": "Salt and pepper",
    "fgsm": "Transferred FGSM",
    "boundary": "Boundary attack",
}
COLOURS = {  # told apart by colour-blind readers
    NONE: "0.25", PIXEL: "#0072b2", THRESHOLD: "#d55e00", NEURAL: "#009e73", SHUFFLED_NEURAL: "#cc79a7",
}  # fmt: skip
SIZE = "median_squared_l2_per_pixel"
REFERENCE = PROJECT / "figures" / "reference" / "digitized.csv"
METRICS = {  # of the digitized values, by attack
    "gaussian": "gaussian_acc",
    "fgsm": "fgsm_acc",
    "boundary": "boundary_sqL2_per_pixel(1e-3)",
}


@dataclass(frozen=True)
class Look:
    """How one series is drawn, and the published series beside it.

    label: in the legend.  published: for each attack the (series, panel) of the digitized values.
    """

    label: str
    colour: object
    marker: str = "o"
    published: dict[str, tuple[str, str]] | None = None


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


def reference(metric: str, series: str | None, panels: tuple[str, ...]) -> pd.DataFrame:
    """Digitized values of a metric and series in some panels, columns x and y, sorted by x; empty where none."""
    rows = pd.read_csv(REFERENCE, dtype=str)
    chosen = rows[(rows["metric"] == metric) & (rows["series"] == series) & rows["panel"].isin(panels)]
    numbers = chosen[["x", "y"]].apply(pd.to_numeric, errors="coerce")
    return numbers.dropna(subset="y").sort_values("x").drop_duplicates("x").reset_index(drop=True)


def published_curve(look: Look, attack: str) -> pd.DataFrame:
    """The published values beside one curve, columns x and y; empty where none could be read off."""
    series, panel = (look.published or {}).get(attack, (None, ""))
    return reference(METRICS.get(attack, ""), series, (panel,))


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


def rows_of(
    summary: pd.DataFrame, series: str, attack: str, metric: str = "accuracy", protocol: str = "released"
) -> pd.DataFrame:
    """One curve of a summary."""
    chosen = (summary["series"] == series) & (summary["attack"] == attack) & (summary["metric"] == metric)
    return summary[chosen & (summary["protocol"] == protocol)]


def accuracy_curves(ax: Axes, summary: pd.DataFrame, looks: dict[str, Look], attack: str, protocol="released") -> None:
    """Accuracy against epsilon, mean and SEM; published values thin and dashed."""
    for series, look in looks.items():
        published = published_curve(look, attack)
        ax.plot(published["x"], published["y"], color=look.colour, lw=0.8, ls="--")
        rows = rows_of(summary, series, attack, protocol=protocol)
        label = f"{look.label} (n = {rows['seeds'].max()})"
        ax.plot(rows["epsilon"], rows["mean"], color=look.colour, marker=look.marker, label=label)
        shade(ax, rows["epsilon"], rows["mean"], rows["sem"], look.colour)
    ax.set(xlabel="ε (pixels in [0, 1])", ylim=(0, 1))
    ax.set_xlim(0, None)
    ax.set_title(ATTACK_NAMES[attack], fontsize="medium")


def shade(ax: Axes, x: Iterable, mean: pd.Series, error: pd.Series, colour) -> None:
    """The standard error around a curve."""
    ax.fill_between(x, mean - error, mean + error, color=colour, alpha=0.2, lw=0)


def size_bars(ax: Axes, summary: pd.DataFrame, looks: dict[str, Look], labels: list[str] | None = None) -> None:
    """Median boundary-attack sizes, mean and SEM; published values dashed."""
    counts = []
    for place, (series, look) in enumerate(looks.items()):
        rows = rows_of(summary, series, "boundary", SIZE)
        counts.append(rows["seeds"].item())
        ax.bar(place, rows["mean"].item() * 1e3, yerr=rows["sem"].item() * 1e3, color=look.colour, capsize=2, width=0.7)
        for value in published_curve(look, "boundary")["y"]:
            ax.plot([place - 0.4, place + 0.4], [value, value], color="0.5", lw=0.8, ls="--")
    ax.set_xticks(range(len(looks)), labels or [look.label for look in looks.values()])
    ax.set_ylabel("Median squared L2\nper pixel (× 10⁻³)")
    low, high = min(counts), max(counts)
    said = f"Boundary attack (n = {low})" if low == high else f"Boundary (n = {low} to {high})"
    ax.set_title(said, fontsize="medium")


def published_legend(ax: Axes, what: str, **place) -> None:
    """A legend that says what the dashed lines are."""
    line = mpl.lines.Line2D([], [], color="0.5", lw=0.8, ls="--", label=what)
    ax.legend(handles=[line], **{"loc": "lower left", "fontsize": "small", **place})


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
                **({"group": group} if group else {}),
                "series": label,
                "seed": record.experiment.seed,
                "experiment": record.experiment_key,
                "evaluation": record.evaluation_key,
                "attack": record.evaluation.attack,
                **({"warnings": list(record.warnings)} if record.warnings else {}),
                **record.provenance.model_dump(exclude={"inputs"} if record.provenance.inputs is None else None),
            }
            for group, label, record in study.records()
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


def panels(rows: int, columns: int, height: float, **options) -> tuple[Figure, object]:
    """A page-wide figure in the house style."""
    use_style()
    return plt.subplots(rows, columns, figsize=(PAGE, height), **options)

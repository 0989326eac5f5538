"""What all figures share: one style, curves and legends, published values, and how a figure is saved."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from simreg_core.lab.files import StoreError, write_text, written_whole
from simreg_core.lab.series import NONE
from simreg_core.lab.specs import PROJECT
from simreg_core.later import Later

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture
else:
    Axes = Picture = Any  # named in signatures only

# loaded when they are first used: to plan needs the figures' experiments, but nothing drawn
mpl, plt, sns = Later("matplotlib"), Later("matplotlib.pyplot"), Later("seaborn")

COLUMN, PAGE = 3.4, 7.0  # inches: one column, two columns
REFERENCE = PROJECT / "figures" / "reference" / "digitized.csv"


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


def panels(rows: int, columns: int, height: float, **options) -> tuple[Picture, Any]:
    """A page-wide figure in the house style."""
    use_style()
    return plt.subplots(rows, columns, figsize=(PAGE, height), **options)


def sequence(count: int) -> list:
    """Colours of an ordered series."""
    return sns.color_palette("viridis_r", count + 1)[1:]


def reference(metric: str, series: str | None, panels: tuple[str, ...]) -> pd.DataFrame:
    """Digitized values of a metric and series in some panels, columns x and y, sorted by x; empty where none."""
    rows = pd.read_csv(REFERENCE, dtype=str)
    chosen = rows[(rows["metric"] == metric) & (rows["series"] == series) & rows["panel"].isin(panels)]
    numbers = chosen[["x", "y"]].apply(pd.to_numeric, errors="coerce")
    return numbers.dropna(subset="y").sort_values("x").drop_duplicates("x").reset_index(drop=True)


def mark(artist: Any, *series: str) -> None:
    """Say that an artist shows these series: `Study.draw` refuses a picture that leaves one out.

    For an artist of one series, `gid=series` when it is made does the same.
    """
    artist.set_gid("\n".join(series))


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


def summarize_groups(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """As `summarize`, group by group."""
    groups = {group: summarize(rows, *columns) for group, rows in table.groupby("group", sort=False)}
    return pd.concat(groups, names=["group"]).reset_index("group")


def mean_and_sem(values: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Mean, SEM and number of `value` for each combination of `keys`."""
    return values.groupby(list(keys), sort=False)["value"].agg(["mean", "sem", "size"]).reset_index()


def series_by(table: pd.DataFrame, column: str) -> dict[str, int]:
    """The regularized series with their number in a column ('k', 'count'), the smallest first."""
    rows = table[table["series"] != NONE].drop_duplicates("series").sort_values(column)
    return dict(zip(rows["series"], rows[column].astype(int), strict=True))


def shade(ax: Axes, x: Iterable, mean: pd.Series, error: pd.Series, colour) -> None:
    """The standard error around a curve."""
    ax.fill_between(x, mean - error, mean + error, color=colour, alpha=0.2, lw=0)


def published_legend(ax: Axes, what: str, **place) -> None:
    """A legend that says what the dashed lines are."""
    line = mpl.lines.Line2D([], [], color="0.5", lw=0.8, ls="--", label=what)
    ax.legend(handles=[line], **{"loc": "lower left", "fontsize": "small", **place})


def save_whole(picture: Picture, stem: Path, table: pd.DataFrame, provenance: dict) -> list[Path]:
    """Save a picture as PDF and PNG, a table as CSV, provenance as JSON.  stem: path without its suffix."""
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("pdf", "png", "csv", "json")]
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        # no dates: the same numbers give the same files
        for path, metadata in ((paths[0], {"CreationDate": None}), (paths[1], {"Software": None})):
            with written_whole(path) as temporary:
                picture.savefig(temporary, format=path.suffix[1:], metadata=metadata)
    except OSError as error:
        raise StoreError(f"cannot write {stem}: {error}") from error
    write_text(paths[2], table.to_csv(index=False, float_format="%.6g"))
    write_text(paths[3], json.dumps(provenance, indent=1, allow_nan=False) + "\n")
    return paths

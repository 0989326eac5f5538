"""What all figures share: one style, curves and legends, published values, and how a figure is saved."""

import json
import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from simreg_core.lab.claims import (
    CONTRADICTED,
    DIRECTION,
    NO_EFFECT,
    NOT_ACCEPTED,
    REPRODUCED,
    SMALLER,
    UNDECIDED,
)
from simreg_core.lab.files import StoreError, write_bytes, write_text
from simreg_core.lab.series import NONE, S_NEURAL, S_PIXEL, S_TH
from simreg_core.lab.specs import PROJECT
from simreg_core.lab.verdict_words import failing_part, is_too_small
from simreg_core.later import Later

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

    from simreg_core.lab.study import Study
else:
    Axes = Picture = Any  # named in signatures only

# loaded when they are first used: to plan needs the figures' experiments, but nothing drawn
mpl, plt, sns = Later("matplotlib"), Later("matplotlib.pyplot"), Later("seaborn")

COLUMN, PAGE = 3.4, 7.0  # inches: one column, two columns
SEEDS, CHANCE = "seeds", "chance"  # gids of what is drawn beside curves
REFERENCE = PROJECT / "figures" / "reference" / "digitized.csv"
NO_BREAK = "\N{NO-BREAK SPACE}"


def use_style() -> None:
    """The house style, whatever a user's matplotlibrc says: readable at column width, text stays text in PDFs."""
    mpl.rcdefaults()
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


def seed_dots(ax: Axes, x: Iterable, values: Iterable, colour: object) -> None:
    """A dot for each training seed, behind a curve or on a bar."""
    ax.plot(list(x), list(values), ".", color=colour, ms=3.5, alpha=0.6, mew=0, zorder=1.5, gid=SEEDS)


def of_seeds(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Values of one series by seed and `columns`, repeats averaged."""
    return table.groupby([*columns, "seed"], sort=False)["value"].mean().reset_index()


def scale_of(ax: Axes, table: pd.DataFrame, chance: bool = True, below: bool = False) -> None:
    """What accuracies are to be read against: how many test images there are, and what guessing would give.

    table: the rows behind the panel, with the columns attempted and chance.  chance: whether an accuracy is drawn.
    below: say it at the lower left, where no curve goes, not at the upper right.
    """
    if "attempted" in table and len(table):
        images = int(table["attempted"].min())
        place = {"transform": ax.transAxes, **({"va": "bottom"} if below else {"ha": "right", "va": "top"})}
        ax.text(
            *((0.02, 0.01) if below else (0.99, 0.99)), f"{images} images", fontsize="x-small", color="0.4", **place
        )
    if chance and "chance" in table and table["chance"].notna().any():
        ax.axhline(table["chance"].iloc[0], color="0.6", lw=0.8, ls=":", zorder=0, gid=CHANCE)


SENTENCES = {
    REPRODUCED: "{claim}",
    SMALLER: "{claim}, but less than published",
    DIRECTION: "{claim}",
    NO_EFFECT: "No effect here, within ±{margin:g}: “{claim}”",
    CONTRADICTED: "Contradicted here: “{claim}”",
    UNDECIDED: "Not decided here: “{claim}”",
    NOT_ACCEPTED: "No setting was accepted: “{claim}”",
}


def finding(study: "Study", *keys: str, width: int = 125) -> str:
    """What a figure finds, a sentence for each claim, written from its verdict with effect and interval.

    keys: of the figure's claims.  width: letters of a line.
    Raises LookupError for a key that the figure does not have.
    """
    found = {one.key: one for one in study.judge()}
    claims = {one.key: one for one in study.figure.claims}
    lines = []
    for key in keys:
        if key not in claims:
            raise LookupError(f"{study.name} has no claim '{key}'; allowed: {', '.join(claims)}")
        if key not in found:
            words = f"Not measured under protocol {study.protocol}"
            if getattr(study, "absent", ()):  # see `make.computed.PartOfStudy`
                words = "Not measured in full yet"
            lines.append(f"{words}: “{claims[key].text}”")
            continue
        one = found[key]
        sentence = SENTENCES[one.verdict].format(claim=one.claim, margin=one.margin or 0)
        if is_too_small(asdict(one)):
            sentence += ", but too little to matter"
        units = "" if one.unit == "seeds" else f" {one.unit}"
        part = failing_part(asdict(one))
        because = "" if part is None else f"; {part[0]}: {_effect(part[1], one.scale)}"
        count = f"n = {one.n}{units}".replace(" ", NO_BREAK)
        lines.append(f"{sentence} ({_effect(asdict(one), one.scale)}, {count}{because})")
    return in_symbols("\n".join(textwrap.fill(line, width).replace(NO_BREAK, " ") for line in lines))


def _effect(row: Mapping, scale: str) -> str:
    estimate, low, high = (row[name] for name in ("estimate", "low", "high"))
    if math.isnan(low):
        return "not measurable"
    if scale == "ratio":
        return f"× {estimate:.2f} [{low:.2f}, {high:.2f}]"
    digits = 2 if abs(estimate) >= 0.02 else 3  # of a small effect two would show a zero
    return f"{estimate:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]".replace("-", "−")


def in_symbols(text: str) -> str:
    """A sentence with the names of targets as symbols."""
    for name, symbol in (("S^Th", S_TH), ("S^pixel", S_PIXEL), ("S^neural", S_NEURAL)):
        text = text.replace(name, symbol)
    return text


def flagged_handle(study: "Study") -> list:
    """What a legend says last: how many records are flagged; nothing where none is."""
    count = sum(bool(record.warnings) for *_, record in study.records())
    label = f"{count} record{'s' * (count > 1)} flagged"
    return [mpl.lines.Line2D([], [], ls="", label=label)] if count else []


def legend_above(ax: Axes, room: float, **options: Any) -> None:
    """A legend in room that is made above the curves, so that it covers none.

    room: as a share of the axis.  options: of the legend. It is opaque: an interval can reach beyond the old limit.
    """
    low, high = ax.get_ylim()
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    ax.set_ylim(low, high + room * (high - low))
    ax.set_yticks(ticks)  # none in the room
    opaque = {"frameon": True, "facecolor": "white", "edgecolor": "none", "framealpha": 1, "borderpad": 0.2}
    ax.legend(**{"loc": "upper left", "fontsize": "x-small", "borderaxespad": 0, **opaque, **options})


def published_legend(ax: Axes, what: str, **place) -> None:
    """A legend that says what the dashed lines are."""
    line = mpl.lines.Line2D([], [], color="0.5", lw=0.8, ls="--", label=what)
    ax.legend(handles=[line], **{"loc": "lower left", "fontsize": "small", **place})


def save_whole(picture: Picture, stem: Path, table: pd.DataFrame, provenance: dict) -> list[Path]:
    """Save a picture as PDF and PNG, a table as CSV, provenance as JSON.  stem: path without its suffix."""
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("csv", "json")]
    pictures = save_picture(picture, stem)
    write_text(paths[0], table.to_csv(index=False, float_format="%.6g"))
    write_text(paths[1], json.dumps(provenance, indent=1, allow_nan=False) + "\n")
    return [*pictures, *paths]


def save_picture(picture: Picture, stem: Path) -> list[Path]:
    """Save a picture as PDF and PNG; the same picture gives the same bytes.  stem: path without its suffix."""
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("pdf", "png")]
    keep_places(picture)
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        # no dates
        for path, metadata in zip(paths, ({"CreationDate": None}, {"Software": None}), strict=True):
            made = BytesIO()  # not a file: on a full disk matplotlib says no more than that a stream has no position
            picture.savefig(made, format=path.suffix[1:], metadata=metadata)
            write_bytes(path, made.getvalue())
    except OSError as error:
        raise StoreError(f"cannot write {stem}: {error}") from error
    return paths


def keep_places(picture: Picture) -> None:
    """Lay a picture out, once for all its files, and round the places of its panels.  Changes the picture.

    The solver of the layout goes through its variables by their addresses in memory, so that the last digits of a
    place would differ from process to process.
    """
    if picture.get_layout_engine() is None:
        return
    shown = picture.dpi
    if mpl.rcParams["savefig.dpi"] != "figure":  # letters are wider or narrower by the dots that they are made of
        picture.set_dpi(mpl.rcParams["savefig.dpi"])
    for _ in range(2):  # the second time labels have the room that they lacked
        picture.draw_without_rendering()
    picture.set_dpi(shown)
    picture.set_layout_engine("none")
    for ax in picture.axes:
        ax.set_position([round(value, 6) for value in ax.get_position(original=True).bounds])

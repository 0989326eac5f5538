"""Figure 22: the sparse-coding front end (Bakiskan 2022, figures 4.10 to 4.13, tables 4.2 to 4.5 and B.1)."""

from typing import Any

import numpy as np
import pandas as pd

from simreg_core.lab.figures.kit import (
    PAGE,
    REFERENCE,
    Axes,
    Picture,
    finding,
    flagged_handle,
    mark,
    mpl,
    plt,
    scale_of,
    seed_dots,
    summarize_groups,
    use_style,
)
from simreg_core.lab.figures.kit_gains import DIAMOND, PUBLISHED, dot_with_interval, mean_interval_of
from simreg_core.lab.series import NONE, Look, looks_of
from simreg_core.lab.sparse_gains import (
    ALL_ATOMS,
    AUTHORS,
    BY_ATOMS,
    BY_NETWORK,
    CENTRED,
    CLAIMS,
    LOST,
    RANDOM,
    SPARSE,
    TRADES,
    TRANSFERRED,
    WORST,
    WORST_L1,
    WORST_L2,
    by_draws,
    by_epsilon,
    details,
    main_attack,
    of_codes,
    of_series,
    with_kept,
)
from simreg_core.lab.sparse_study import ANNEALED, experiments, series_of
from simreg_core.lab.specs import ADVERSARIAL, SparseTask
from simreg_core.lab.study import Figure, Study

CIFAR, IMAGENETTE = "CIFAR-10", "Imagenette"
TASKS = {"cifar10": CIFAR, "cifar10-jpeg75": CIFAR, "imagenette": IMAGENETTE}  # of the tables, by images
CLEAN, SOURCE, MOVED, ANY, L2, L1 = "clean", "source's", "moved", "worst", "L2", "L1"  # columns of the panel
COLUMNS = {
    CLEAN: "clean",
    SOURCE: "the\nsource's",
    MOVED: "trans-\nferred",
    ANY: "worst",
    L2: "worst\nL2",
    L1: "worst\nL1",
}
_TABLE_45 = {CLEAN: "clean", SOURCE: "Linf eps 8/255 cross-entropy", L2: "L2 eps 0.6", L1: "L1 eps 30"}
_TABLE_42 = {CLEAN: "clean", SOURCE: "white-box", MOVED: "PW-T"}
_TABLE_44 = {CLEAN: "clean", ANY: "eps 8/255"}
TABLES: dict[str, dict[str, tuple[str, str, dict[str, str]]]] = {  # (table, row, its columns) of each series
    CIFAR: {
        NONE: ("4.5", "Natural", _TABLE_45),
        ADVERSARIAL: ("4.5", "Adv. Training", _TABLE_45),
        TRADES: ("4.5", "TRADES", _TABLE_45),
        SPARSE: ("4.5", "T = 15 (ours)", _TABLE_45),
        LOST: ("4.2", "ours (stochastic encoder)", _TABLE_42),
    },
    IMAGENETTE: {
        NONE: ("4.4", "NT", _TABLE_44),
        ADVERSARIAL: ("4.4", "PGD AT", _TABLE_44),
        TRADES: ("4.4", "TRADES", _TABLE_44),
        LOST: ("4.4", "ours", _TABLE_44),
    },
}
SWEEP = {ALL_ATOMS: "white-box baseline", AUTHORS: "U=2T"}  # attackers of table B.1, by its columns
LARGE_EPSILON = "code:plot script of Fig. 4.13"
ROW = 2.1  # inches
MOSAIC = 12  # atoms a side


def _reference() -> pd.DataFrame:
    return pd.read_csv(REFERENCE.with_name("dissertation-tables.csv"))


def published(task: str) -> dict[tuple[str, str], float]:
    """Published accuracies of a task, shares, by series and column of the panel."""
    rows = _reference().set_index(["table", "row", "column"])["value"]
    return {
        (series, column): float(rows[table, row, name]) / 100
        for series, (table, row, names) in TABLES[task].items()
        for column, name in names.items()
    }


def published_sweep(attacker: str) -> pd.Series:
    """Accuracies of table B.1 by T, shares.  attacker: of SWEEP."""
    rows = _reference()
    rows = rows[(rows["table"] == "B.1") & (rows["column"] == SWEEP[attacker])]
    return pd.Series(
        rows["value"].astype(float).to_numpy() / 100, index=rows["row"].str.removeprefix("T = ").astype(int)
    )


def published_curve() -> pd.Series:
    """Accuracies of figure 4.13 by epsilon, shares: of T = 1, although its caption says 15."""
    rows = _reference()
    rows = rows[rows["table"] == LARGE_EPSILON]
    at = rows["column"].str.removeprefix("eps ").str.removesuffix("/255").astype(float) / 255
    return pd.Series(rows["value"].astype(float).to_numpy() / 100, index=at)


def draw(study: Study, protocol: str) -> Picture:
    """For each task four rows: accuracy against ε, and tables 4.2 to 4.5; accuracy under each attacker; draws, table
    B.1, correlations; coefficients and atoms.  The legend says how many records are flagged.
    """
    use_style()
    table, own = study.table(), study.profile.sparse_coding
    looks = looks_of(dict.fromkeys(name for task in own.tasks for name in series_of(own, task)))
    figure = plt.figure(figsize=(PAGE, ROW * 4 * len(own.tasks) + 1.4))
    strips = figure.subfigures(4 * len(own.tasks), 1, height_ratios=(1, 1.3, 0.9, 0.9) * len(own.tasks))
    for place, task in enumerate(own.tasks):
        rows, (first, second, third, fourth) = table[table["group"] == task.name], strips[4 * place : 4 * place + 4]
        swept = {with_kept(kept) for kept in task.sweep}
        shown = {name: looks[name] for name in series_of(own, task) if name not in swept}
        left, right = first.subplots(1, 2)
        _by_defence(left, rows, task, shown)
        _table(right, rows, task, shown)
        for ax, name in zip(second.subplots(1, 2), (SPARSE, RANDOM), strict=True):
            _by_attacker(ax, rows, task, name, looks)
        left, middle, right = third.subplots(1, 3)
        _draws(left, rows, task, looks)
        _sweep(middle, rows, task)
        _correlations(right, study, task)
        left, middle, right = fourth.subplots(1, 3)
        _coefficients(left, study, task)
        _atoms(middle, study, rows, task, SPARSE)
        _atoms(right, study, rows, task, CENTRED)
    _legend(figure, study, {name: look for name, look in looks.items() if not name.startswith("T = ")})
    keys = [claim.key for claim in CLAIMS]
    figure.suptitle(finding(study, *keys), fontsize="small", x=0.01, ha="left")
    return figure


def _legend(figure: Picture, study: Study, looks: dict[str, Look]) -> None:
    line = mpl.lines.Line2D
    handles = [line([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks.values()]
    tasks = {task.task.images for task in study.profile.sparse_coding.tasks}
    same = tasks <= TASKS.keys()
    label = "published" if same else "published, of CIFAR-10"
    handles.append(line([], [], **DIAMOND, mfc="0.6" if same else "white", label=label))
    figure.legend(handles=[*handles, *flagged_handle(study)], loc="outside lower center", ncols=4, fontsize="small")


def _curve(ax: Axes, values: pd.DataFrame, colour: object, label: str, gid: str | None = None, **style: Any) -> None:
    """Mean over seeds against the columns with its 95 % interval, and the seeds as dots."""
    mean, low, high = np.array([mean_interval_of(values[at]) for at in values]).T
    ax.plot(values.columns, mean, color=colour, label=label, gid=gid, **style)
    ax.fill_between(values.columns, low, high, color=colour, alpha=0.15, lw=0)
    for _, one in values.iterrows():
        seed_dots(ax, values.columns, one, colour)


def _accuracy_axes(ax: Axes, table: pd.DataFrame, title: str, xlabel: str) -> None:
    scale_of(ax, table[(table["attack"] == "code_attacks") & (table["condition"] == WORST)])
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel(xlabel, fontsize="small")
    ax.set_ylabel("Test accuracy", fontsize="small")
    ax.set_title(title, fontsize="medium")


def _by_defence(ax: Axes, table: pd.DataFrame, task: SparseTask, looks: dict[str, Look]) -> None:
    """Figure 4.13: accuracy under the worst attack against ε."""
    for name, look in looks.items():
        values = by_epsilon(table, task.name, name)
        if len(values):
            _curve(ax, values, look.colour, look.label, name, marker=look.marker, lw=1.1)
    known = published_curve()
    same = TASKS.get(task.task.images) == CIFAR
    ax.plot(known.index, known, **DIAMOND, mfc=looks[SPARSE].colour if same else "white", gid=PUBLISHED)
    ax.axvline(task.epsilon, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.set_xscale("symlog", linthresh=min(task.epsilons))
    ax.set_xlim(-0.1 * min(task.epsilons), 1.2 * max(task.epsilons))
    _accuracy_axes(ax, table, f"{task.name}: worst over attackers (Fig. 4.13)", "ε, L∞ (pixels in [0, 1])")


def _measured(table: pd.DataFrame, task: SparseTask, series: str, column: str) -> pd.Series | None:
    """Accuracy by seed of a place of the panel of tables; None where it is not measured."""
    conditions = {SOURCE: main_attack(series), ANY: WORST, L2: WORST_L2, L1: WORST_L1}
    try:
        if column == MOVED:
            moved = {name: of_series(table, task.name, series, name) for name in TRANSFERRED}
            return pd.DataFrame(moved).min(axis=1)
        return of_series(table, task.name, series, conditions.get(column, ""), attacked=column != CLEAN)
    except LookupError:
        return None


def _table(ax: Axes, table: pd.DataFrame, task: SparseTask, looks: dict[str, Look]) -> None:
    of = TASKS.get(task.task.images)
    known = published(of or CIFAR)
    names = [name for name in (NONE, ADVERSARIAL, TRADES, SPARSE, RANDOM, LOST) if name in looks]
    for step, name in enumerate(names):
        for place, column in enumerate(COLUMNS):
            at = place + 0.14 * (step - (len(names) - 1) / 2)
            values = _measured(table, task, name, column)
            if values is not None:
                dot_with_interval(ax, at, values, looks[name], name, aside=0.04)
            if (name, column) in known:
                fill = looks[name].colour if of else "white"
                style = {**DIAMOND, "mec": "k" if of else looks[name].colour}
                ax.plot(at - 0.04, known[name, column], **style, mfc=fill, gid=PUBLISHED)
    ax.set_xticks(range(len(COLUMNS)), list(COLUMNS.values()), fontsize="x-small")
    _accuracy_axes(ax, table, f"{task.name}, ε = {task.epsilon:.2g}: tables 4.2–4.5", "")


def _by_attacker(ax: Axes, table: pd.DataFrame, task: SparseTask, series: str, looks: dict[str, Look]) -> None:
    """A network under each attacker at the ε of comparison, the strongest at the top."""
    rows = table[(table["series"] == series) & (table["attack"] == "code_attacks") & (table["metric"] == "accuracy")]
    rows = rows[(rows["epsilon"] == task.epsilon) & rows["draws"].isna()]
    order = rows.groupby("condition")["value"].mean().sort_values(ascending=False)
    for place, name in enumerate(order.index):
        dot_with_interval(ax, place, rows[rows["condition"] == name]["value"], looks[series], series, across=True)
    clean = of_series(table, task.name, series, attacked=False).mean()
    ax.axvline(clean, color="0.5", lw=0.8, ls="--")
    ax.set_xlim(-0.02, max(clean, rows["value"].max()) + 0.05)
    words = {f"from surrogate {number}": f"from {what}" for number, what in enumerate(
        ("unsupervised copy", "undefended network", "copy without quantizer"), start=1)}  # fmt: skip
    labels = [_replaced(name, words) for name in order.index]
    ax.set_yticks(range(len(order)), labels, fontsize="x-small")
    ax.set_xlabel("Test accuracy; dashed: clean", fontsize="small")
    ax.set_title(f"{series}, ε = {task.epsilon:.2g}", fontsize="medium", loc="right")  # wider than its panel


def _replaced(name: str, words: dict[str, str]) -> str:
    for before, after in words.items():
        name = name.replace(before, after)
    return name


def _draws(ax: Axes, table: pd.DataFrame, task: SparseTask, looks: dict[str, Look]) -> None:
    _curve(ax, by_draws(table, task.name), looks[RANDOM].colour, RANDOM, RANDOM, marker=looks[RANDOM].marker)
    ax.set_xscale("log")
    _accuracy_axes(ax, table, f"{RANDOM}: draws", "draws that a gradient averages")


def _sweep(ax: Axes, table: pd.DataFrame, task: SparseTask) -> None:
    """Table B.1: two of its attackers, and the annealed walk, against T; only of the main T there are more."""
    of = {task.kept: SPARSE, **{kept: with_kept(kept) for kept in task.sweep}}
    same = TASKS.get(task.task.images) == CIFAR
    for colour, name in zip(("#0173b2", "#de8f05", "k"), (AUTHORS, ALL_ATOMS, ANNEALED), strict=True):
        values = pd.DataFrame({kept: of_series(table, task.name, of[kept], name) for kept in sorted(of)})
        _curve(ax, values, colour, name, marker="o", ms=3, lw=1.1)
        mark(ax.lines[-1], *(one for one in of.values() if one != SPARSE))
        if name in SWEEP:
            known, fill = published_sweep(name), colour if same else "white"
            ax.plot(known.index, known, **{**DIAMOND, "ms": 3, "mec": colour}, mfc=fill, gid=PUBLISHED)
    ax.set_xscale("log")
    _accuracy_axes(ax, table, "table B.1", "T, coefficients kept")
    ax.legend(fontsize="x-small", loc="upper left")


def _array(study: Study, task: SparseTask, name: str, series: str) -> Any:
    """An array of the first seed."""
    found = (
        record.arrays[name]
        for group, label, record in study.records()
        if (group, label) == (task.name, series) and name in record.arrays
    )
    return next(found)


def _correlations(ax: Axes, study: Study, task: SparseTask) -> None:
    """Figure 4.10: cosines of patches with atoms, and with the first filters of the undefended network."""
    counts = _array(study, task, "correlations", SPARSE)
    for colour, name, label in (("#d55e00", BY_ATOMS, "atoms"), ("0.3", BY_NETWORK, "first layer, none")):
        shares = np.array(counts[name]) / 1000
        ax.stairs(shares, np.linspace(-1, 1, len(shares) + 1), color=colour, label=label)
    ax.set(yscale="log", ylim=(1e-5, 10))
    ax.legend(fontsize="x-small", loc="upper left")
    ax.set_xlabel("cosine of a patch with a filter", fontsize="small")
    ax.set_ylabel("Share", fontsize="small")
    ax.set_title("Fig. 4.10", fontsize="medium")


def _coefficients(ax: Axes, study: Study, task: SparseTask) -> None:
    """Figure 4.11: all coefficients of one row of patches, and which of them are among the T largest."""
    values = np.array(_array(study, task, "coefficients", SPARSE))
    order = np.argsort(-np.abs(values).sum(axis=1))
    values = values[order]
    kept = np.argsort(-np.abs(values), axis=0)[: task.kept]
    largest = np.abs(values).max()
    ax.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    ax.plot(np.tile(np.arange(values.shape[1]), len(kept)), kept.ravel(), ".", color="k", ms=2)
    ax.set_xlabel("patch; dots: the T largest", fontsize="small")
    ax.set_ylabel("atom", fontsize="small")
    ax.set_title("Fig. 4.11", fontsize="medium")


def _atoms(ax: Axes, study: Study, table: pd.DataFrame, task: SparseTask, series: str) -> None:
    """Figure 4.12: the first atoms of the first seed, each scaled to its largest weight."""
    atoms = np.moveaxis(np.array(_array(study, task, "atoms", series)), 1, -1)  # [atoms, n, n, channels]
    atoms = atoms[: MOSAIC**2]
    side = atoms.shape[1] + 1
    mosaic = np.full((-(-len(atoms) // MOSAIC) * side - 1, MOSAIC * side - 1, atoms.shape[-1]), 0.5)
    for index, one in enumerate(atoms):
        row, column = side * (index // MOSAIC), side * (index % MOSAIC)
        mosaic[row : row + side - 1, column : column + side - 1] = 0.5 + one / np.abs(one).max() / 2
    ax.imshow(mosaic if mosaic.shape[-1] == 3 else mosaic[..., 0], cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()
    flat, nearest = (of_codes(table, task.name, name, series).mean() for name in ("flat_atoms", "nearest_atom"))
    words = f"Fig. 4.12, {series}:\n{100 * flat:.0f} % flat atoms, nearest |cosine| {nearest:.3f}"
    ax.set_title(words if series == CENTRED else words.replace(series, "atoms"), fontsize="x-small")


FIGURE = Figure(
    "22_sparse_coding_front_end",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize_groups(study.table(), "condition", "epsilon", "draws"),
    details=details,
    protocols=("strict",),
    part="sparse_coding",
    files=("lab/sparse_gains.py", "lab/sparse_study.py", "lab/partial_gains.py", "defences/sparse_training.py"),
)

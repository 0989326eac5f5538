"""Figure 21: the polarizing front end (Bakiskan 2022, figures 4.4, 4.6 and 4.7, table 4.1)."""

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
    legend_above,
    mpl,
    plt,
    scale_of,
    seed_dots,
    summarize_groups,
    use_style,
)
from simreg_core.lab.figures.kit_gains import DIAMOND, PUBLISHED, dot_with_interval, mean_interval_of
from simreg_core.lab.polarizing_gains import (
    BIM,
    CLAIMS,
    DRIFT,
    FGSM,
    FROZEN,
    PIXELS,
    POLARIZING,
    STAGE_ONE,
    STAGE_TWO,
    TRANSFERRED,
    UNPOLARIZED,
    UNQUANTIZED,
    UNTRAINED,
    WORST,
    details,
    of_filters,
    of_series,
    pgd_of,
)
from simreg_core.lab.series import NONE, QUALITATIVE, Look, looks_of
from simreg_core.lab.specs import (
    ADVERSARIAL,
    Evaluation,
    Experiment,
    FrontEndEvaluation,
    Network,
    PolarizationEvaluation,
    PolarizingStudy,
    PolarizingTask,
    Profile,
    build,
)
from simreg_core.lab.study import Block, Figure, Study

STAGES = 3
RULES: dict[str, dict] = {  # of what has a front end, beside the task's threshold
    POLARIZING: {},
    UNQUANTIZED: {"until": 2},
    UNPOLARIZED: {"weight": 0.0},
    FROZEN: {"filters": "frozen"},
    PIXELS: {"filters": "pixels"},
    DRIFT: {"freezing": "drift"},
}
WHOLE = ("polarizer", "identity")
ATTACKERS = {
    "annealed": "tanh, annealed",
    TRANSFERRED: "from no quantizer",
    "polarizer: identity": "whole front end: identity",
}
ROW = 1.75  # inches
PUBLISHED_TASKS = {"mnist-5k": "MNIST", "mnist": "MNIST", "fashion-mnist": "Fashion MNIST"}  # of table 4.1, by images
PUBLISHED_ROWS = {NONE: "no defense", ADVERSARIAL: "adversarial training", POLARIZING: "polarizing (ours)"}
MOSAIC = 5  # filters a side


def experiment(profile: Profile, own: PolarizingTask, seed: int, series: str, **changes: Any) -> Experiment:
    """One training.  changes: of the rule of a network with a front end."""
    study, rule = profile.polarizing, dict[str, Any]()
    optimization = study.optimization
    if series == ADVERSARIAL:
        rule = {"method": "pgd", "epsilon": own.epsilon, "steps": study.adversarial_steps}
        rule["warm_up"] = study.warm_up
    elif series != NONE:
        stages = STAGES if series == PIXELS else 1  # quantized pixels have one stage, as long as three
        optimization = optimization.changed(epochs=stages * study.stage_epochs)
        threshold = own.pixel_threshold if series == PIXELS else own.threshold
        rule = {"method": "polarizing", "threshold": threshold, "learning_rate": study.learning_rate}
        trained = {} if series in (PIXELS, FROZEN) else {"weight": study.weight}
        rule |= {"width": study.width, **trained, **RULES[series], **changes}
    network = Network(name="lenet", width=study.width, shift=0.0, gain=1.0)
    parts = {"task": own.task, "network": network, "optimization": optimization, "adversarial": rule or None}
    return build(Experiment, {**parts, "seed": seed, "protocol": profile.protocol})


def experiments(profile: Profile) -> tuple[Block, ...]:
    """All attackers on every network, and what each quantizer certifies; a block for each seed has its surrogates."""
    study = profile.polarizing
    if study is None:
        return ()
    blocks: list[Block] = []
    for own in study.tasks:
        for seed in range(study.seeds):
            trained = {name: experiment(profile, own, seed, name) for name in (NONE, ADVERSARIAL, *RULES)}
            for name, one in trained.items():
                measured: list[Evaluation] = []
                if name != DRIFT:
                    measured.append(_attacks(study, own, name, _surrogate(profile, own, seed, name)))
                if name not in (NONE, ADVERSARIAL, UNQUANTIZED):
                    measured.append(_polarization(study, own))
                blocks.append(Block({name: (one,)}, tuple(measured), own.name))
    return tuple(blocks)


def _surrogate(profile: Profile, own: PolarizingTask, seed: int, series: str) -> Experiment | None:
    """The same network without a quantizer, on which transferred attacks are made; of quantized pixels, none."""
    if series == PIXELS:
        return experiment(profile, own, seed, NONE)
    if series in (POLARIZING, UNPOLARIZED, FROZEN):
        return experiment(profile, own, seed, series, until=2)
    return None


def _attacks(
    study: PolarizingStudy, own: PolarizingTask, series: str, surrogate: Experiment | None
) -> FrontEndEvaluation:
    """Behind a quantizer all ways of an attacker; elsewhere the gradient itself, and AutoAttack."""
    names = ("images", "steps", "restarts", "queries", "few_steps")
    sizes: dict[str, Any] = {name: getattr(study, name) for name in names}
    if surrogate is None:
        sizes |= {name: getattr(study, name) for name in ("autoattack_images", "autoattack_budget")} | {"ways": ()}
    else:
        ways = tuple(("quantizer", way) for way in study.ways)
        sizes["ways"] = ways if series == PIXELS else (*ways, WHOLE)
        sizes["annealed"] = tuple(("quantizer", way) for way in study.annealed) or None
        sizes |= {"surrogates": (surrogate,), "certificates": (own.epsilon, *own.epsilons), "margin_loss": True}
    return FrontEndEvaluation(epsilon=own.epsilon, epsilons=own.epsilons, protocol="strict", **sizes)


def _polarization(study: PolarizingStudy, own: PolarizingTask) -> PolarizationEvaluation:
    certificates = tuple(sorted({*study.certificates, own.epsilon}))
    return PolarizationEvaluation(epsilon=own.epsilon, certificates=certificates, protocol="strict")


def draw(study: Study, protocol: str) -> Picture:
    """For each task four rows: what is certified, and accuracy by defence; accuracy by attacker, and table 4.1;
    activations by stage; filters by stage.  The legend says how many records are flagged.
    """
    use_style()
    table, tasks = study.table(), study.profile.polarizing.tasks
    looks = looks_of((NONE, ADVERSARIAL, *RULES))
    rows = 4 * len(tasks)
    figure = plt.figure(figsize=(PAGE, ROW * rows + 1.2))
    heights = (1.25, 1.25, 0.8, 0.9) * len(tasks)
    grid = figure.add_gridspec(rows, 6, height_ratios=heights)
    for place, own in enumerate(tasks):
        row, rows_of_task = 4 * place, table[table["group"] == own.name]
        left, right = slice(0, 3), slice(3, 6)
        _certified(figure.add_subplot(grid[row, left]), rows_of_task, own, looks)
        _by_defence(figure.add_subplot(grid[row, right]), rows_of_task, own, looks)
        _by_attacker(figure.add_subplot(grid[row + 1, left]), rows_of_task, own)
        _table(figure.add_subplot(grid[row + 1, right]), rows_of_task, own, looks)
        for column, stage in enumerate((UNTRAINED, STAGE_ONE, STAGE_TWO)):
            spot = slice(2 * column, 2 * column + 2)
            _activations(figure.add_subplot(grid[row + 2, spot]), study, own, stage, column == 0)
            _filters(figure.add_subplot(grid[row + 3, spot]), study, rows_of_task, own, stage)
    _legend(figure, study, looks)
    found = finding(study, "polarizing-helps", "polarizing-over-pixels", "polarizing-certificate")
    figure.suptitle(found, fontsize="small", x=0.01, ha="left")
    return figure


def _legend(figure: Picture, study: Study, looks: dict[str, Look]) -> None:
    line = mpl.lines.Line2D
    handles = [line([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks.values()]
    handles.append(line([], [], **DIAMOND, mfc="0.6", label="published, table 4.1"))
    figure.legend(handles=[*handles, *flagged_handle(study)], loc="outside lower center", ncols=4, fontsize="small")


def _curve(ax: Axes, rows: pd.DataFrame, colour: object, label: str, gid: str | None = None, **style: Any) -> None:
    """Mean over seeds against ε with its 95 % interval, and the seeds as dots."""
    values = rows.pivot(index="seed", columns="epsilon", values="value")
    mean, low, high = np.array([mean_interval_of(values[epsilon]) for epsilon in values]).T
    ax.plot(values.columns, mean, color=colour, label=label, gid=gid, **style)
    ax.fill_between(values.columns, low, high, color=colour, alpha=0.15, lw=0)
    for _, one in values.iterrows():
        seed_dots(ax, values.columns, one, colour)


def _certified(ax: Axes, table: pd.DataFrame, own: PolarizingTask, looks: dict[str, Look]) -> None:
    for name, look in looks.items():
        rows = table[(table["series"] == name) & (table["attack"] == "polarization") & (table["metric"] == "certified")]
        rows = rows[rows["epsilon"] > 0]  # at 0 every image is
        if len(rows):
            style = "--" if name == DRIFT else "-"
            _curve(ax, rows, look.colour, look.label, name, marker=look.marker, ls=style)
    ax.axvline(own.epsilon, color="0.6", lw=0.8, ls=":", zorder=0)
    scale_of(ax, table[(table["attack"] == "polarization") & (table["metric"] == "certified")], chance=False)
    ax.set(xscale="log", ylim=(-0.03, 1.03))
    ax.set_xlabel("ε (pixels in [0, 1]); dotted: that of the attacks", fontsize="small")
    ax.set_ylabel("Certified images", fontsize="small")
    ax.set_title(f"{own.name}: certificate", fontsize="medium")


def _under(table: pd.DataFrame, series: str, condition: str) -> pd.DataFrame:
    """Accuracies at each ε, that of clean images first."""
    rows = table[(table["series"] == series) & (table["attack"] == "front_end") & (table["metric"] == "accuracy")]
    return rows[(rows["condition"] == condition) | (rows["epsilon"] == 0)]


def _accuracy_axes(ax: Axes, table: pd.DataFrame, own: PolarizingTask, title: str, below: bool = False) -> None:
    scale_of(ax, table[(table["attack"] == "front_end") & (table["condition"] == WORST)], below=below)
    ax.axvline(own.epsilon, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("ε (pixels in [0, 1])", fontsize="small")
    ax.set_ylabel("Test accuracy", fontsize="small")
    ax.set_title(title, fontsize="medium")


def _by_defence(ax: Axes, table: pd.DataFrame, own: PolarizingTask, looks: dict[str, Look]) -> None:
    for name, look in looks.items():
        rows = _under(table, name, WORST)
        if len(rows):
            _curve(ax, rows, look.colour, look.label, name, marker=look.marker)
    _accuracy_axes(ax, table, own, f"{own.name}: worst over attackers")


def _by_attacker(ax: Axes, table: pd.DataFrame, own: PolarizingTask) -> None:
    """The polarizing network under each attacker that has a curve."""
    rows = table[(table["series"] == POLARIZING) & (table["attack"] == "front_end") & (table["epsilon"] > 0)]
    rows = rows[rows["metric"] == "accuracy"]
    wide = rows.groupby("condition", sort=False)["epsilon"].nunique()
    names = [name for name in wide.index[wide > 1] if name != WORST]
    for colour, name in zip(QUALITATIVE, names, strict=False):
        label = ATTACKERS.get(name, name.replace("quantizer: ", "quantizer as "))
        _curve(ax, _under(table, POLARIZING, name), colour, label, lw=1.1)
    _curve(ax, _under(table, POLARIZING, WORST), "k", "worst, image by image", lw=1.6, ls="--")
    _accuracy_axes(ax, table, own, f"{own.name}: {POLARIZING}, each attacker", below=True)
    legend_above(ax, 0.45, ncols=2)


def published_table(images: str) -> pd.DataFrame:
    """Table 4.1, shares: a row for each defence, columns clean, FGSM, BIM, PGD; empty for images that it has not."""
    rows = pd.read_csv(REFERENCE.with_name("dissertation-tables.csv"))
    task = PUBLISHED_TASKS.get(images)
    rows = rows[(rows["table"] == "4.1") & rows["column"].str.startswith(f"{task} ")]
    rows = rows.assign(column=rows["column"].str.removeprefix(f"{task} "), value=rows["value"].astype(float) / 100)
    return rows.pivot(index="row", columns="column", values="value")


def _table(ax: Axes, table: pd.DataFrame, own: PolarizingTask, looks: dict[str, Look]) -> None:
    published, columns = published_table(own.task.images), ("clean", FGSM, BIM, "PGD", WORST)
    for step, (name, row) in enumerate(PUBLISHED_ROWS.items()):
        for place, column in enumerate(columns):
            at, condition = place + 0.28 * (step - 1), pgd_of(name) if column == "PGD" else column
            values = of_series(table, own.name, name, condition, attacked=column != "clean")
            dot_with_interval(ax, at, values, looks[name], name, aside=0.06)
            if row in published.index and column in published:
                ax.plot(at - 0.07, published.loc[row, column], **DIAMOND, mfc=looks[name].colour, gid=PUBLISHED)
    scale_of(ax, table[(table["attack"] == "front_end") & (table["condition"] == WORST)])
    ax.set_xticks(range(len(columns)), ["clean", "FGSM", "BIM", "PGD", "worst"], fontsize="small")
    ax.set_ylim(-0.03, 1.03)
    ax.set_ylabel("Test accuracy", fontsize="small")
    ax.set_title(f"{own.name}, ε = {own.epsilon:g}: table 4.1", fontsize="medium")


def _arrays(study: Study, own: PolarizingTask, name: str, stage: str) -> list:
    """An array of the polarizing network at a stage, of each seed."""
    return [
        record.arrays[name][stage]
        for group, series, record in study.records()
        if (group, series) == (own.name, POLARIZING) and name in record.arrays
    ]


def _activations(ax: Axes, study: Study, own: PolarizingTask, stage: str, first: bool) -> None:
    """Histogram of z; where a perturbation of size ε could cross a threshold is shaded."""
    shares = np.array(_arrays(study, own, "histograms", stage))
    edges = np.linspace(-1, 1, shares.shape[1] + 1)
    for one in shares:
        ax.stairs(one, edges, color="0.3", lw=0.5, alpha=0.4)
    ax.stairs(shares.mean(axis=0), edges, color="k", lw=1)
    for side in (-1, 1):
        middle = side * own.threshold
        ax.axvspan(middle - own.epsilon, middle + own.epsilon, color="#d55e00", alpha=0.15, lw=0)
        ax.axvline(middle, color="#d55e00", lw=0.8)
    ax.set(yscale="log", xlim=(-1, 1), ylim=(1e-6, 1))
    ax.set_title(stage, fontsize="small")
    ax.set_xlabel("z; shaded: within ε of ±c", fontsize="small")
    if first:
        ax.set_ylabel("Share of\nactivations", fontsize="small")


def _filters(ax: Axes, study: Study, table: pd.DataFrame, own: PolarizingTask, stage: str) -> None:
    """The filters of the first seed, each scaled to its largest weight."""
    filters = np.array(_arrays(study, own, "filters", stage)[0])
    side = filters.shape[1] + 1
    mosaic = np.full((MOSAIC * side - 1, -(-len(filters) // MOSAIC) * side - 1), np.nan)
    for index, one in enumerate(filters):
        row, column = side * (index % MOSAIC), side * (index // MOSAIC)
        mosaic[row : row + side - 1, column : column + side - 1] = one / np.abs(one).max()
    ax.imshow(mosaic, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set_axis_off()
    share = of_filters(table, own.name, "pixel_like", condition=stage)["value"].mean()
    ax.set_title(f"filters {stage}: {share * len(filters):.0f} of {len(filters)} pixel-like", fontsize="x-small")


FIGURE = Figure(
    "21_polarizing_front_end",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize_groups(study.table(), "condition", "epsilon"),
    details=details,
    protocols=("strict",),
    part="polarizing",
    files=("lab/polarizing_gains.py", "lab/partial_gains.py", "defences/polarized_training.py"),
)

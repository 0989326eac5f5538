"""Figure 23: Hebbian networks (Bakiskan 2022, figures 5.4, 5.6 to 5.8 and 5.10, tables 5.1 to 5.3)."""

from collections.abc import Iterable
from typing import Any, Literal

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
    mark,
    mpl,
    plt,
    scale_of,
    seed_dots,
    summarize_groups,
    use_style,
)
from simreg_core.lab.figures.kit_gains import DIAMOND, PUBLISHED, dot_with_interval, mean_interval_of, no_gain_line
from simreg_core.lab.hebbian_gains import (
    ABLATIONS,
    BASELINES,
    BATCH,
    BLUR,
    CLAIMS,
    COUNTS,
    FREE,
    HAH,
    INSTANCE,
    LINF,
    LOCAL,
    MAIN,
    MEAN,
    NARROW,
    NO_COST,
    NO_THRESHOLD,
    RESPONSES,
    STANDARD,
    TEXT,
    THRESHOLDED,
    WORST,
    attacked,
    attacked_l2,
    by_count,
    by_layer,
    clean,
    corrupted,
    details,
    noisy,
    smallest,
)
from simreg_core.lab.image_files import CIFAR10_SIZE, has_cifar10_c
from simreg_core.lab.series import FREE_COLOURS, QUALITATIVE, Look, looks_of
from simreg_core.lab.specs import (
    ADVERSARIAL,
    NOISE,
    CorruptionEvaluation,
    Evaluation,
    Experiment,
    FrontEndEvaluation,
    HebbianEvaluation,
    HebbianStudy,
    MinimumNormEvaluation,
    NoiseEvaluation,
    Profile,
    WhiteBoxEvaluation,
    build,
)
from simreg_core.lab.study import COMPARED, Block, Figure, Study

RELEASED_ANTI, TEXT_ANTI = 1.0, 0.1  # λ of the released code, which made the published numbers, and of the text
NORMS: tuple[Literal["linf", "l2", "l0"], ...] = ("linf", "l2", "l0")
NORM_NAMES = {"linf": "L∞", "l2": "L2", "l0": "L0"}
WAYS = (("threshold", "exact"), ("threshold", "identity"), ("threshold", "soft"), ("normalization", "constant"))
ATTACKERS = {
    "threshold: exact": "the gradient itself",
    "threshold: identity": "threshold as identity",
    "threshold: soft": "threshold as soft gate",
    "normalization: constant": "normalization constant",
    "from surrogate 1": "from standard",
    "from surrogate 2": "from no threshold",
}
PUBLISHED_ROWS = {STANDARD: "Standard", HAH: "All included", NO_COST: "No HaH loss",
                  BATCH: "Batch norm instead of divisive norm", NO_THRESHOLD: "No thresholding"}  # fmt: skip
PUBLISHED_COLUMNS = {"clean": "clean", "noise": "noisy sigma 0.1", "L∞": "Linf eps 2/255", "L2": "L2 eps 0.25"}
PUBLISHED_CORRUPTIONS = {STANDARD: "Standard", ADVERSARIAL: "Adv (8/255)", HAH: "HaH (ours)"}
CORRUPTION_NAMES = {  # in table 5.2, where they differ from ours without '_'
    "gaussian_noise": "Gaussian noise", "elastic_transform": "elastic",
}  # fmt: skip
MORE_COLOURS = ("#56b4e9", "#ca9161", "#949494", "#cc78bc")
CURVES = (STANDARD, HAH, NOISE)


def rules(study: HebbianStudy) -> dict[str, dict[str, Any]]:
    """The rule of each series."""
    none = {"blocks": 0}
    return {
        STANDARD: none,
        HAH: {},
        TEXT: {"anti": TEXT_ANTI},
        NO_COST: {"cost": 0.0},
        BATCH: {"normalization": "batch"},
        NO_THRESHOLD: {"threshold": "none"},
        MEAN: {"normalization": "mean"},
        FREE: {"flow": "free"},
        ADVERSARIAL: {
            **none, "images": "adversarial", "strength": study.adversarial_epsilon or study.epsilon,
            "steps": study.adversarial_steps,
        },
        NOISE: {**none, "images": "noisy", "strength": study.noise_strength},
        BLUR: {**none, "images": "blurred", "strength": study.blur_strength},
        NARROW: none,
        INSTANCE: {"normalization": "instance", "cost": 0.0, "threshold": "none"},
        LOCAL: {"normalization": "local", "cost": 0.0, "threshold": "none"},
    }  # fmt: skip


def experiment(profile: Profile, seed: int, series: str, **changes: Any) -> Experiment:
    """One training.  changes: of its rule."""
    study = profile.hebbian
    common = {"blocks": study.blocks, "anti": RELEASED_ANTI, "alphas": study.alphas, "active": study.active}
    rule = {"method": "hebbian", **common, "keep": study.keep, "learning_rate": study.learning_rate}
    network = study.network.changed(width=study.narrow) if series == NARROW else study.network
    parts = {"task": study.task, "network": network, "optimization": study.optimization}
    rule |= {**rules(study)[series], **changes}
    return build(Experiment, {**parts, "adversarial": rule, "seed": seed, "protocol": profile.protocol})


def named(count: int) -> str:
    """'1 block', '2 blocks': the series of another number of Hebbian blocks."""
    return f"{count} block{'s' * (count > 1)}"


def experiments(profile: Profile) -> tuple[Block, ...]:
    """Every network under noise and attack; the standard and the Hebbian network under all that is asked."""
    study = profile.hebbian
    if study is None:
        return ()
    blocks: list[Block] = []
    for seed in range(study.seeds):
        trained = {name: experiment(profile, seed, name) for name in rules(study)}
        for name, one in trained.items():
            surrogates = (trained[STANDARD], trained[NO_THRESHOLD]) if name in THRESHOLDED else ()
            measured = (_layers(profile), _attacks(study, name, surrogates), _l2(study), *_more(profile, name))
            blocks.append(Block({name: (one,)}, measured, MAIN))
        counts = {named(count): experiment(profile, seed, HAH, blocks=count) for count in study.counts}
        for name, one in {STANDARD: trained[STANDARD], HAH: trained[HAH], **counts}.items():
            blocks.append(Block({name: (one,)}, (_layers(profile), _linf(study)), COUNTS))
    return tuple(blocks)


def _layers(profile: Profile) -> HebbianEvaluation:
    return HebbianEvaluation(epsilon=profile.hebbian.noise, images=profile.studies.test_images, protocol="strict")


def _attacks(study: HebbianStudy, series: str, surrogates: tuple[Experiment, ...]) -> FrontEndEvaluation:
    """Where there is a threshold, all ways of an attacker; curves of what is compared most, and AutoAttack of what the
    claims set side by side: a worst case with it is no match for one without."""
    sizes: dict[str, Any] = {name: getattr(study, name) for name in ("images", "steps", "restarts", "queries")}
    names: tuple[str, ...] = ("epsilons", "few_steps") if series in (STANDARD, HAH, ADVERSARIAL) else ()
    names += ("autoattack_images", "autoattack_budget") if series in (STANDARD, HAH, ADVERSARIAL, *ABLATIONS) else ()
    sizes |= {name: getattr(study, name) for name in names}
    ways = WAYS if surrogates else ()
    return FrontEndEvaluation(epsilon=study.epsilon, ways=ways, surrogates=surrogates, protocol="strict", **sizes)


def _l2(study: HebbianStudy) -> WhiteBoxEvaluation:
    sizes: dict[str, Any] = {name: getattr(study, name) for name in ("images", "steps", "restarts")}
    return WhiteBoxEvaluation(norm="l2", epsilons=(study.l2,), protocol="strict", **sizes)


def _linf(study: HebbianStudy) -> WhiteBoxEvaluation:
    sizes: dict[str, Any] = {name: getattr(study, name) for name in ("images", "steps", "restarts")}
    return WhiteBoxEvaluation(epsilons=(study.epsilon,), protocol="strict", **sizes)


def _more(profile: Profile, series: str) -> tuple[Evaluation, ...]:
    """What only some networks are measured for."""
    study, found = profile.hebbian, list[Evaluation]()
    if series in CURVES:
        images = profile.studies.test_images
        found.append(NoiseEvaluation(attack="gaussian", epsilons=study.noises, images=images, protocol="strict"))
    if series in (*PUBLISHED_CORRUPTIONS, INSTANCE):
        theirs = (study.task.images, study.task.size) == ("cifar10", CIFAR10_SIZE) and has_cifar10_c()
        own: dict[str, Any] = {"corruptions": study.corruptions, "severities": study.severities}
        own |= {"source": "files" if theirs else "generated", "images": study.corruption_images}
        found.append(CorruptionEvaluation(protocol="strict", **own))
    if series in (STANDARD, HAH):
        few: dict[str, Any] = {"images": study.minimum_images, "steps": study.minimum_steps, "protocol": "strict"}
        found += [MinimumNormEvaluation(norm=norm, **few) for norm in NORMS]
    return tuple(found)


def published(table: str, row: str) -> pd.Series:
    """Shares of a row of tables 5.1 to 5.3, by column.  table: '5.2', say."""
    rows = pd.read_csv(REFERENCE.with_name("dissertation-tables.csv"), dtype={"table": str})
    rows = rows[(rows["system"] == "D_HaH") & (rows["table"] == table) & (rows["row"] == row)]
    return rows.set_index("column")["value"].astype(float) / 100


def draw(study: Study, protocol: str) -> Picture:
    """Noise, SNR, h; tables 5.1 and 5.3; baselines; table 5.2; number of blocks, smallest perturbations, attackers."""
    use_style()
    table, own = study.table(), study.profile.hebbian
    main = table[table["group"] == MAIN]
    names = (STANDARD, HAH, ADVERSARIAL, NOISE, *ABLATIONS, TEXT, MEAN, FREE, *BASELINES[1:])
    looks = looks_of(names, (*FREE_COLOURS, *MORE_COLOURS))
    figure = plt.figure(figsize=(PAGE, 11.2))
    grid = figure.add_gridspec(5, 1, height_ratios=(1, 1, 1, 1.05, 1))
    above, below = grid[0].subgridspec(1, 3), grid[4].subgridspec(1, 3, width_ratios=(1.2, 0.8, 1.3))
    _noise(figure.add_subplot(above[0]), main, looks)
    _layer_curves(figure.add_subplot(above[1]), main, looks, "snr_db", None, f"SNR (dB), σ = {own.noise:g}")
    _layer_curves(figure.add_subplot(above[2]), main, looks, "activation_sparsity", RESPONSES, "h of responses")
    _components(figure.add_subplot(grid[1]), main, own, looks)
    _baselines(figure.add_subplot(grid[2]), main, own, looks)
    _corruptions(figure.add_subplot(grid[3]), main, own, looks)
    _blocks(figure.add_subplot(below[0]), table, own)
    _sizes(figure.add_subplot(below[1]), main, looks)
    _attackers(figure.add_subplot(below[2]), main, own)
    _legend(figure, study, looks)
    found = finding(study, "hebbian-noise", "hebbian-components", "hebbian-not-masked")
    figure.suptitle(found, fontsize="small", x=0.01, ha="left")
    return figure


def _legend(figure: Picture, study: Study, looks: dict[str, Look]) -> None:
    line = mpl.lines.Line2D
    handles = [line([], [], color=look.colour, marker=look.marker, label=look.label) for look in looks.values()]
    handles.append(line([], [], **DIAMOND, mfc="0.6", label="published (CIFAR-10)"))
    figure.legend(handles=[*handles, *flagged_handle(study)], loc="outside lower center", ncols=5, fontsize="x-small")


def _curve(ax: Axes, values: pd.DataFrame, colour: object, label: str, gid: str | None = None, **style: Any) -> None:
    """Mean over seeds with its 95 % interval, and the seeds as dots.  values: [seeds, x]."""
    mean, low, high = np.array([mean_interval_of(values[x]) for x in values]).T
    ax.plot(values.columns, mean, color=colour, label=label, gid=gid, **style)
    ax.fill_between(values.columns.to_numpy(float), low, high, color=colour, alpha=0.15, lw=0)
    for _, one in values.iterrows():
        seed_dots(ax, values.columns, one, colour)


def _noise(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    rows = table[table["attack"] == "gaussian"]
    for name in CURVES:
        values = rows[rows["series"] == name].pivot(index="seed", columns="epsilon", values="value")
        _curve(ax, values, looks[name].colour, looks[name].label, name, marker=looks[name].marker)
    scale_of(ax, rows)
    ax.set(ylim=(-0.03, 1.03))
    ax.set_xlabel("σ of Gaussian noise", fontsize="small")
    ax.set_ylabel("Test accuracy", fontsize="small")
    ax.set_title("Noise (Fig. 5.7)", fontsize="medium")


def _layer_curves(
    ax: Axes, table: pd.DataFrame, looks: dict[str, Look], metric: str, condition: str | None, label: str
) -> None:
    for name in (STANDARD, HAH):
        values = by_layer(table, name, metric, condition)
        values.columns = [int(layer) + 1 for layer in values.columns]
        _curve(ax, values, looks[name].colour, looks[name].label, name, marker=looks[name].marker)
    ax.set_xlabel("block", fontsize="small")
    ax.set_ylabel(label, fontsize="small")
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    ax.set_title("SNR of inputs (Fig. 5.6)" if metric == "snr_db" else "Sparsity (Fig. 5.4)", fontsize="medium")


def _columns(own: HebbianStudy) -> dict[str, tuple[Any, str]]:
    """What is measured in each column of tables 5.1 and 5.3, and how its tick says it."""
    return {
        "clean": (clean, "clean"),
        "noise": (noisy, f"noise, σ = {own.noise:g}"),
        "L∞": (attacked, f"worst attack, L∞ {own.epsilon:g}"),
        "L2": (attacked_l2, f"PGD, L2 {own.l2:g}"),
    }


def _dots(
    ax: Axes, table: pd.DataFrame, own: HebbianStudy, looks: dict[str, Look], names: Iterable[str], theirs: bool
) -> None:
    """Accuracies by column, a dot for each kind of network.  theirs: with the published ones."""
    names = tuple(names)
    step = 0.84 / len(names)
    for place, (column, (measure, _)) in enumerate(_columns(own).items()):
        for number, name in enumerate(names):
            at = place + step * (number - (len(names) - 1) / 2)
            dot_with_interval(ax, at, measure(name)(table), looks[name], name, aside=0.25 * step)
            if theirs:
                value = published("5.1" if name == STANDARD else "5.3", PUBLISHED_ROWS[name])[PUBLISHED_COLUMNS[column]]
                ax.plot(at - 0.25 * step, value, **DIAMOND, mfc=looks[name].colour, gid=PUBLISHED)
    scale_of(ax, table[(table["attack"] == "front_end") & (table["condition"] == WORST)])
    ax.set_xticks(range(4), [words for _, words in _columns(own).values()], fontsize="small")
    ax.set_ylim(-0.03, 1.03)
    ax.set_ylabel("Test accuracy", fontsize="small")


def _components(ax: Axes, table: pd.DataFrame, own: HebbianStudy, looks: dict[str, Look]) -> None:
    _dots(ax, table, own, looks, PUBLISHED_ROWS, theirs=True)
    ax.set_title("What each component is worth (tables 5.1 and 5.3)", fontsize="medium")


def _baselines(ax: Axes, table: pd.DataFrame, own: HebbianStudy, looks: dict[str, Look]) -> None:
    _dots(ax, table, own, looks, (STANDARD, HAH, TEXT, MEAN, FREE, ADVERSARIAL, *BASELINES), theirs=False)
    ax.set_title("Beside baselines that the source lacks, and other settings", fontsize="medium")


def _corruptions(ax: Axes, table: pd.DataFrame, own: HebbianStudy, looks: dict[str, Look]) -> None:
    labels = [CORRUPTION_NAMES.get(one, one.replace("_", " ")) for one in own.corruptions]
    for number, (name, row) in enumerate(PUBLISHED_CORRUPTIONS.items()):
        theirs = published("5.2", row)
        for place, (one, label) in enumerate(zip((*own.corruptions, None), (*labels, None), strict=True)):
            at = place + 0.26 * (number - 1)
            where = {} if one is None else {"corruption": one}
            dot_with_interval(ax, at, corrupted(name, **where)(table), looks[name], name, aside=0.07)
            value = theirs.reindex(labels).mean() if label is None else theirs.get(label, np.nan)
            ax.plot(at - 0.07, value, **DIAMOND, mfc=looks[name].colour, gid=PUBLISHED)
    scale_of(ax, table[table["attack"] == "corruption"])
    words = [label.replace(" ", "\n") for label in labels]
    ax.set_xticks(range(len(words) + 1), [*words, "mean"], fontsize="x-small")
    ax.set_ylim(-0.03, 1.03)
    ax.set_ylabel("Test accuracy", fontsize="small")
    severities = ", ".join(map(str, own.severities))
    ax.set_title(f"Corruptions of severity {severities} (table 5.2)", fontsize="medium")


def _blocks(ax: Axes, table: pd.DataFrame, own: HebbianStudy) -> None:
    kinds = {
        "clean": by_count(table, "hebbian", epsilon=0.0),
        f"noise {own.noise:g}": by_count(table, "hebbian", role=COMPARED),
        f"PGD {own.epsilon:g}": by_count(table, "white_box", condition=LINF),
    }
    for colour, (label, values) in zip(QUALITATIVE, kinds.items(), strict=False):
        _curve(ax, values, colour, label, marker="o")
    mark(ax.lines[0], *(named(count) for count in own.counts))
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    ax.set(ylim=(-0.03, 1.03))
    ax.set_xlabel("Hebbian blocks", fontsize="small")
    ax.set_ylabel("Test accuracy", fontsize="small")
    legend_above(ax, 0.2, ncols=3, handlelength=1.2, columnspacing=0.8, handletextpad=0.4)
    ax.set_title("Number of blocks (Fig. 5.10)", fontsize="medium")


def _sizes(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    no_gain_line(ax, 1)
    for place, norm in enumerate(NORMS):
        ratio = (smallest(HAH, norm)(table) / smallest(STANDARD, norm)(table)).replace(np.inf, np.nan).dropna()
        if len(ratio):
            dot_with_interval(ax, place, ratio, looks[HAH], HAH, aside=0.2)
    ax.set_xticks(range(len(NORMS)), [NORM_NAMES[norm] for norm in NORMS], fontsize="small")
    ax.set_xlim(-0.5, len(NORMS) - 0.5)
    ax.set_xlabel("norm", fontsize="small")
    ax.set_title("Smallest sizes,\nHaH ÷ standard (5.8)", fontsize="small")


def _attackers(ax: Axes, table: pd.DataFrame, own: HebbianStudy) -> None:
    """The Hebbian network under each attacker at the ε of comparison, the worst on top."""
    rows = table[(table["series"] == HAH) & (table["attack"] == "front_end") & (table["role"] == COMPARED)]
    means = rows[rows["metric"] == "accuracy"].groupby("condition")["value"].mean().sort_values(ascending=False)
    names = [*(name for name in means.index if name != WORST), WORST]
    look = Look("", "0.3", "o")
    for place, name in enumerate(names):
        dot_with_interval(ax, place, attacked(HAH, name)(table), look, HAH, across=True, aside=0.25)
    scale_of(ax, rows, chance=False)
    ax.set_yticks(range(len(names)), [ATTACKERS.get(name, name) for name in names], fontsize="x-small")
    ax.set_xlabel("Test accuracy", fontsize="small")
    ax.set_title(f"{HAH}, L∞ {own.epsilon:g}: each attacker", fontsize="medium")


FIGURE = Figure(
    "23_hebbian_networks",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize_groups(study.table(), "condition", "epsilon", "layer", "corruption", "blocks"),
    details=details,
    protocols=("strict",),
    part="hebbian",
    files=("lab/hebbian_gains.py", "defences/hebbian_training.py"),
)

"""Figure 20: partial adversarial training (Bakiskan 2022, figures 3.6 to 3.21)."""

from typing import Any

import numpy as np
import pandas as pd

from simreg_core.defences.partial import CODES
from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import (
    PAGE,
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
from simreg_core.lab.figures.kit_gains import mean_interval_of
from simreg_core.lab.partial_gains import (
    ALL_A,
    ALL_N,
    CLAIMS,
    FIRST,
    PGD,
    STAGE_ONE,
    WORST,
    claim,
    curve,
    drops,
    early_growth,
    fit,
    of_layers,
    of_network,
    over,
)
from simreg_core.lab.series import LOOKS, NONE, Look
from simreg_core.lab.specs import (
    ADVERSARIAL,
    Experiment,
    LayersEvaluation,
    LogitsEvaluation,
    PartialNetwork,
    PartialStudy,
    Profile,
    TransferEvaluation,
    build,
)
from simreg_core.lab.study import Block, Figure, Study

BASES = {ALL_A: Look(ALL_A, LOOKS[ADVERSARIAL].colour, "s"), ALL_N: Look(ALL_N, LOOKS[NONE].colour, "o")}
COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", *["0.6"] * 4)  # of codes; the controls are gray
LOOKS_OF_CODES: dict[str, Look] = {
    code: Look(code, colour, marker) for code, colour, marker in zip(CODES, COLOURS, "^v^vxxxx", strict=True)
}
PERTURBATIONS = {"own attack": "-", "common perturbation": "--", "noise": ":"}
STATISTICS = {"mean": "running mean", "variance": "running variance", "weight": "weight γ", "bias": "bias β"}
ROW = 1.6  # inches


def experiment(profile: Profile, own: PartialNetwork, seed: int, code: str, **where: int) -> Experiment:
    """One training.  code: of stage one or two.  where: its cut, or its single module."""
    study: Any = profile.partial
    rule: dict[str, Any] = {"method": "partial", "code": code, "epsilon": study.epsilon, "steps": study.steps}
    if code in CODES:
        first = code[:2] if code[1] == "1" else code[2:]
        rule |= {"parent": {"adversarial": {**rule, "code": first}}, **where}
    parts = {"task": study.task, "network": own.network, "optimization": study.optimization}
    return build(Experiment, {**parts, "adversarial": rule, "seed": seed, "protocol": profile.protocol})


def experiments(profile: Profile) -> tuple[Block, ...]:
    """All that is measured of each network: logits under attack, transferred attacks, and the bases layer by layer."""
    study = profile.partial
    if study is None:
        return ()
    blocks: list[Block] = []
    for own in study.networks:
        kinds: dict[str, tuple[str, dict[str, int]]] = {label: (code, {}) for label, code in STAGE_ONE.items()}
        kinds |= {f"{code}, cut {cut}": (code, {"cut": cut}) for code in study.codes for cut in own.cuts}
        kinds |= {f"A1N2, module {one}": ("A1N2", {"single": one}) for one in own.singles}
        series = {
            label: tuple(experiment(profile, own, seed, code, **where) for seed in range(study.seeds))
            for label, (code, where) in kinds.items()
        }
        surrogate = experiment(profile, own, study.seeds, "N1")  # of a seed that no curve has
        mixed = {label: seeds for label, seeds in series.items() if label not in STAGE_ONE}
        bases = {label: series[label] for label in STAGE_ONE}
        blocks += [
            Block(series, (_logits(study),), own.name),
            Block(mixed, (_transfer(study, surrogate),), own.name),
            Block(bases, (_layers(study, surrogate),), own.name),
        ]
    return tuple(blocks)


def _logits(study: PartialStudy) -> LogitsEvaluation:
    names = ("epsilon", "restarts", "queries", "autoattack_images", "autoattack_budget", "images")
    own = {name: getattr(study, name) for name in names}
    return LogitsEvaluation(steps=study.attack_steps, protocol="strict", **own)


def _transfer(study: PartialStudy, surrogate: Experiment) -> TransferEvaluation:
    own: dict[str, Any] = {"images": study.images, "steps": study.transfer_steps, "protocol": "strict"}
    return TransferEvaluation(name=ALL_N, epsilons=(study.epsilon,), surrogates=(surrogate,), **own)


def _layers(study: PartialStudy, surrogate: Experiment) -> LayersEvaluation:
    own: dict[str, Any] = {"images": study.images, "steps": study.layer_steps, "protocol": "strict"}
    return LayersEvaluation(epsilon=study.epsilon, surrogate=surrogate, **own)


def _not_masked(table: pd.DataFrame, group: str) -> pd.Series:
    """Mean over the mixed networks: accuracy under transferred PGD minus accuracy under the worst white-box attack."""
    rows = table[(table["group"] == group) & table["code"].isin(CODES)]
    transferred = rows[(rows["attack"] == "transfer") & (rows["condition"] == f"PGD from {ALL_N}")]
    white_box = rows[(rows["attack"] == "logits") & (rows["metric"] == "accuracy") & (rows["condition"] == WORST)]
    return transferred.groupby("seed")["value"].mean() - white_box.groupby("seed")["value"].mean()


def details(table: pd.DataFrame) -> list[Claim]:
    """The positive control, each code at its first cut, whether what is mixed is only masked, and what the claims of
    loss and PSR say beside what the table of claims asks: a good fit, and growth in early layers first."""
    statistic = "accuracy under the worst attack"
    control = claim(
        "partial-control",
        "Adversarial training raises accuracy under attack",
        f"{statistic}, all adversarial minus all natural",
        over("accuracy", "A1", "N1"),
        {},
        main=False,
        note="The positive control.",
    )
    masked = claim(
        "partial-not-masked",
        "White-box attacks fool mixed networks more than transferred ones",
        f"accuracy under PGD from a natural network minus {statistic}",
        _not_masked,
        {},
        main=False,
    )
    codes = [
        claim(
            f"partial-{code}",
            f"{code}: robust with the first cut",
            f"{statistic}, {code} at the first cut minus all natural",
            over("accuracy", code, "N1", FIRST),
            {},
            main=False,
        )
        for code in CODES
        if code in set(table["code"])
    ]
    fits = claim(
        "partial-fit",
        "An exponential describes the loss of A1N2",
        "R² of an exponential, cross-entropy under PGD against the cut",
        fit,
        {},
        scale="share",
        threshold=0.95,
        main=False,
    )
    first = claim(
        "partial-psr-early",
        "PSR of the natural network runs ahead in early layers first",
        "PSR natural over adversarial: growth over the first half of the convolutions over that of the second, own PGD",
        early_growth,
        {},
        scale="ratio",
        threshold=1.0,
        attack="layers",
        main=False,
    )
    return [control, masked, *codes, fits, first]


def draw(study: Study, protocol: str) -> Picture:
    """A column for each network: accuracy, loss and margin against the cut, single modules, and layer by layer.

    Below, batch norm of the first network; the legend says how many records are flagged.
    """
    use_style()
    table = study.table()
    groups = list(table["group"].unique())
    rows = (_accuracies, _losses, _margins, _singles, _ratios, _sparsity)
    figure = plt.figure(figsize=(PAGE, ROW * (len(rows) + 2) + 0.6))
    grid = figure.add_gridspec(len(rows) + 2, 4 * len(groups))
    for column, group in enumerate(groups):
        axes = [figure.add_subplot(grid[row, 4 * column : 4 * column + 4]) for row in range(len(rows) + 1)]
        axes[0].set_title(group, fontsize="medium")
        for ax, panel in zip(axes, rows, strict=False):
            panel(ax, table, group)
        _spectra(axes[-1], study, group)
    for column, name in enumerate(STATISTICS):
        place = slice(column * len(groups), (column + 1) * len(groups))
        _batch_norm(figure.add_subplot(grid[-1, place]), study, groups[0], name)
    _legend(figure, study)
    found = finding(study, "partial-asymmetry", "partial-few-modules", "partial-depth")
    figure.suptitle(found, fontsize="small", x=0.01, ha="left")
    return figure


def _legend(figure: Picture, study: Study) -> None:
    line = mpl.lines.Line2D
    shown = set(study.table()["code"])
    looks = [*BASES.values(), *(look for code, look in LOOKS_OF_CODES.items() if code in shown)]
    handles = [line([], [], color=one.colour, marker=one.marker, label=one.label) for one in looks]
    figure.legend(handles=[*handles, *flagged_handle(study)], loc="outside lower center", ncols=4, fontsize="small")


def _codes(table: pd.DataFrame, group: str) -> list[str]:
    own = table[(table["group"] == group) & table["cut"].notna()]
    return [code for code in CODES if code in set(own["code"])]


def _against_cut(ax: Axes, table: pd.DataFrame, group: str, metric: str, condition: str, style: str = "-") -> None:
    """A curve for each code, mean and 95 % interval with the seeds; the two bases as level lines."""
    for code in _codes(table, group):
        look, values = LOOKS_OF_CODES[code], curve(table, group, code, metric, condition)
        mean, low, high = np.array([mean_interval_of(values[cut]) for cut in values]).T
        x = values.columns.to_numpy()
        (drawn,) = ax.plot(x, mean, style, color=look.colour, marker=look.marker if style == "-" else None)
        mark(drawn, *(f"{code}, cut {cut}" for cut in x))
        if style == "-":
            ax.fill_between(x, low, high, color=look.colour, alpha=0.15, lw=0)
            for cut in x:
                seed_dots(ax, [cut] * len(values), values[cut], look.colour)
    for label, code in STAGE_ONE.items():
        level = of_network(table, group, code, metric, condition).mean()
        ax.axhline(level, color=BASES[label].colour, lw=1.0, ls=style, zorder=1, gid=label)


def _count(ax: Axes, label: str) -> None:
    """The lower axis counts: no ticks between whole numbers."""
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator("auto", integer=True))
    ax.set_xlabel(label, fontsize="small")


def _accuracies(ax: Axes, table: pd.DataFrame, group: str) -> None:
    own = table[(table["group"] == group) & (table["attack"] == "logits") & (table["condition"] == WORST)]
    scale_of(ax, own, below=True)
    _against_cut(ax, table, group, "accuracy", WORST)
    ax.set_ylim(0)
    ax.set_ylabel("Accuracy, worst\nover attackers", fontsize="small")
    _count(ax, "Modules in the early part")


def _losses(ax: Axes, table: pd.DataFrame, group: str) -> None:
    _against_cut(ax, table, group, "cross_entropy", PGD)
    _against_cut(ax, table, group, "matched_cross_entropy", PGD, "--")
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    few = high / low < 4  # then 1, 2 and 5 are too far apart
    ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4) if few else mpl.ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    ax.set_ylabel("Loss under PGD\n(dashed: matched)", fontsize="small")
    _count(ax, "Modules in the early part")


def _margins(ax: Axes, table: pd.DataFrame, group: str) -> None:
    _against_cut(ax, table, group, "margin", PGD)
    ax.axhline(0, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.set_ylabel("Margin under\nPGD", fontsize="small")
    _count(ax, "Modules in the early part")


def _singles(ax: Axes, table: pd.DataFrame, group: str) -> None:
    """What the natural training of one module costs the adversarial network."""
    values, look = drops(table, group), LOOKS_OF_CODES["A1N2"]
    for module in values:
        mean, low, high = mean_interval_of(values[module])
        ax.plot([module, module], [low, high], color=look.colour, lw=1.4)
        ax.plot(module, mean, look.marker, color=look.colour, ms=4.5, gid=f"A1N2, module {module}")
        seed_dots(ax, [module] * len(values), values[module], look.colour)
    ax.axhline(0, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.set_ylabel("Accuracy lost by\none natural module", fontsize="small")
    _count(ax, "The module, in order")


def _ratios(ax: Axes, table: pd.DataFrame, group: str) -> None:
    for label, code in STAGE_ONE.items():
        for condition, style in PERTURBATIONS.items():
            mean = of_layers(table, group, code, "psr_db", condition).mean()
            ax.plot(mean.index, mean, style, color=BASES[label].colour, lw=1.2, gid=label)
    handles = [mpl.lines.Line2D([], [], color="0.4", ls=style, label=one) for one, style in PERTURBATIONS.items()]
    legend_above(ax, 0.25, handles=handles, ncols=3)
    ax.set_ylabel("PSR [dB]", fontsize="small")
    _count(ax, "Convolution, in order")


def _sparsity(ax: Axes, table: pd.DataFrame, group: str) -> None:
    for label, code in STAGE_ONE.items():
        values = of_layers(table, group, code, "filter_sparsity")
        look = BASES[label]
        ax.plot(values.columns, values.mean(), color=look.colour, marker=look.marker, gid=label)
        for layer in values:
            seed_dots(ax, [layer] * len(values), values[layer], look.colour)
    ax.set_ylabel("Filter sparsity h\n(0: one weight)", fontsize="small")
    _count(ax, "Convolution, in order")


def _arrays(study: Study, group: str, label: str, name: str) -> list[dict]:
    """An array of what is measured layer by layer, of each seed of a network."""
    return [
        record.arrays[name] for own, series, record in study.records() if (own, series) == (group, label)
        if name in record.arrays
    ]  # fmt: skip


def _spectra(ax: Axes, study: Study, group: str) -> None:
    """Singular values of the first, the middle and the last convolution, over the largest; circular padding.

    The legend counts convolutions as the panels above do; the names in the network's code say a reader nothing.
    """
    names = _arrays(study, group, ALL_N, "convolutions")[0]
    chosen = dict(zip((0, len(names) // 2, len(names) - 1), ("-", "--", ":"), strict=True))
    for label in STAGE_ONE:
        found = _arrays(study, group, label, "singular_values")
        for place, style in chosen.items():
            of_seeds = [one[names[place]]["circular"] for one in found]
            values = np.mean([one for one in of_seeds if one is not None], axis=0)
            ax.plot(np.linspace(0, 1, len(values)), values, style, color=BASES[label].colour, lw=1.2, gid=label)
    line = mpl.lines.Line2D
    handles = [line([], [], color="0.4", ls=style, label=f"convolution {place}") for place, style in chosen.items()]
    ax.legend(handles=handles, fontsize="x-small", loc="best")
    ax.set_ylabel("Singular value\n÷ the largest", fontsize="small")
    ax.set_xlabel("Rank, as a share", fontsize="small")


def _batch_norm(ax: Axes, study: Study, group: str, name: str) -> None:
    """Histogram of one statistic over all channels of all layers and seeds."""
    values = {
        label: np.concatenate(
            [own[name] for found in _arrays(study, group, label, "batch_norm") for own in found.values()]
        )
        for label in STAGE_ONE
    }
    low, high = np.quantile(np.concatenate([*values.values()]), (0.01, 0.99))
    edges = np.linspace(low, high if high > low else low + 1, 31)
    for label, own in values.items():
        counts, _ = np.histogram(own, edges)
        ax.stairs(counts / len(own), edges, color=BASES[label].colour, lw=1.2, gid=label)
    ax.set_xlabel(f"{STATISTICS[name]}\n({group})", fontsize="small")
    if name == "mean":
        ax.set_ylabel("Share of channels", fontsize="small")


FIGURE = Figure(
    "20_partial_adversarial_training",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize_groups(study.table(), "code", "cut", "single", "condition", "epsilon", "layer"),
    details=details,
    protocols=("strict",),
    part="partial",
    files=("lab/partial_gains.py", "defences/partial.py"),
)

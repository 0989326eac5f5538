"""Figure 14: attackers who have the network, and other defences (ours, not the paper's)."""

from typing import Any

import numpy as np
import pandas as pd

from simreg_core.lab import recipes
from simreg_core.lab.afterwards import Afterwards, afterwards
from simreg_core.lab.claims import OURS, Claim, mean_interval
from simreg_core.lab.figures.kit import (
    PAGE,
    Axes,
    Picture,
    finding,
    plt,
    scale_of,
    seed_dots,
    shade,
    summarize,
    use_style,
)
from simreg_core.lab.figures.kit_attacks import minimal_size
from simreg_core.lab.figures.kit_forest import Effect, Row, forest_column, images_in_words
from simreg_core.lab.gains import beside_gain, by_seed, gain, regularized
from simreg_core.lab.protocol_of_claims import FEWEST_SEEDS, NOT_INFERIOR
from simreg_core.lab.recipes import experiment, first_free_seed, levels, noise, seeds_of
from simreg_core.lab.series import LOOKS, NONE, THRESHOLD, Look, looks_of
from simreg_core.lab.specs import (
    ADVERSARIAL,
    NOISE,
    Experiment,
    MinimumNormEvaluation,
    Profile,
    TransferEvaluation,
    WhiteBoxEvaluation,
)
from simreg_core.lab.study import COMPARED, Block, Figure, Study

AUTOATTACKS = ("AutoAttack", "AutoAttack, reduced")  # whichever a profile has: it is slow


def defended(profile: Profile) -> dict[str, tuple[Experiment, ...]]:
    """None, S^Th, and the profile's defences, by seed."""
    series = {name: seeds_of(profile, name, profile.seeds) for name in (NONE, THRESHOLD)}
    for label, spec in profile.defences.items():
        series[label] = tuple(recipes.defended(profile, spec, seed) for seed in range(profile.seeds))
    return series


def experiments(profile: Profile) -> tuple[Block, ...]:
    """PGD, AutoAttack and Square on none, S^Th and other defences; minimum-norm, query and transferred attacks.

    The latter, which are slow, on none, S^Th and adversarial training.
    """
    own = profile.white_box
    few: dict[str, Any] = {"images": own.minimum_images, "protocol": "strict"}
    walked: dict[str, Any] = {"images": own.images, "steps": own.steps, "restarts": own.restarts, "protocol": "strict"}
    together = {name: getattr(own, name) for name in ("queries", "autoattack_images", "autoattack_budget")}
    fast = (
        WhiteBoxEvaluation(epsilons=own.epsilons, epsilon=own.epsilon, **together, **walked),
        WhiteBoxEvaluation(norm="l2", epsilons=own.l2_epsilons, **walked),
        noise(profile, "gaussian", "strict"),
    )
    slow = (
        *(MinimumNormEvaluation(norm=norm, steps=own.minimum_steps, **few) for norm in ("linf", "l2", "l0")),
        MinimumNormEvaluation(method="hop_skip_jump", steps=own.query_steps, **few),
        *(_transfer(profile, target) for target in (NONE, THRESHOLD)),
    )
    series = defended(profile)
    compared = {name: series[name] for name in (NONE, THRESHOLD, ADVERSARIAL)}
    return Block(series, fast), Block(compared, slow)


def _transfer(profile: Profile, target: str) -> TransferEvaluation:
    """From networks with the seeds after those of all curves; from S^Th, an attacker who knows of the defence."""
    first = first_free_seed(profile)
    seeds = range(first, first + profile.white_box.surrogates)
    return TransferEvaluation(
        name=target,
        epsilons=levels(profile.studies.epsilons.fgsm)[::3],
        surrogates=tuple(experiment(profile, target, seed) for seed in seeds),
        images=profile.white_box.images,
        protocol="strict",
        steps=profile.white_box.transfer_steps,
    )


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracies under white-box attacks at the epsilon where these are set side by side."""
    return table[(table["attack"] == "white_box") & (table["metric"] == "accuracy") & (table["role"] == COMPARED)]


def at_epsilon(table: pd.DataFrame, series: str, attack: str) -> pd.Series:
    """Accuracy by seed under a white-box attack, at the epsilon where attacks are set side by side."""
    return by_seed(compared(table), series, condition=attack)


def _autoattack_of(table: pd.DataFrame) -> str:
    return next(name for name in AUTOATTACKS if name in set(table["condition"]))


def at_epsilon_over(table: pd.DataFrame, attack: str, series: str = THRESHOLD, over: str = NONE) -> pd.Series:
    """Difference of accuracies under a white-box attack, by seed."""
    return at_epsilon(table, series, attack) - at_epsilon(table, over, attack)


def transferred(table: pd.DataFrame, series: str, surrogate: str) -> pd.Series:
    """Mean accuracy over the grid of epsilon, momentum attack from several surrogates, by seed."""
    return by_seed(table, series, attack="transfer", condition=f"momentum from {surrogate}", epsilon="grid")


def transferred_over(table: pd.DataFrame, surrogate: str, series: str = THRESHOLD, over: str = NONE) -> pd.Series:
    """Difference of such accuracies under the same attack, by seed."""
    return transferred(table, series, surrogate) - transferred(table, over, surrogate)


CLAIMS = (
    Claim(
        key="white-box",
        text="S^Th raises accuracy under white-box PGD",
        source=OURS,
        statistic="accuracy at the ε of comparison, S^Th minus none",
        measure=lambda table: at_epsilon_over(table, "PGD"),
        attack="PGD",
    ),
    Claim(
        key="autoattack",
        text="S^Th raises accuracy under AutoAttack",
        source=OURS,
        statistic="accuracy at the ε of comparison, S^Th minus none",
        measure=lambda table: at_epsilon_over(table, _autoattack_of(table)),
        attack="white_box",
        note="With a profile's `autoattack_budget` the attack is reduced, and its curve says so.",
        conditions=AUTOATTACKS,
    ),
    Claim(
        key="over-adversarial",
        text="S^Th does no worse than adversarial training under white-box PGD",
        source=OURS,
        statistic="accuracy at the ε of comparison, S^Th minus adversarial training",
        measure=lambda table: at_epsilon_over(table, "PGD", over=ADVERSARIAL),
        threshold=NOT_INFERIOR,
        not_inferior=True,
        attack="PGD",
        note="'As robust as' is non-inferiority, with a loss of at most 0.02 of accuracy.",
    ),
    Claim(
        key="over-noise",
        text="S^Th raises accuracy under noise more than noise augmentation",
        source=OURS,
        statistic="mean accuracy over the grid of ε, S^Th minus noise augmentation",
        measure=lambda table: gain(table, THRESHOLD, "gaussian", over=NOISE),
        also=beside_gain(THRESHOLD, "gaussian", NOISE),
        attack="gaussian",
        note="The profile says at which σ the augmentation trains; in quick it is 0.2, and noise up to 0.5 is tested.",
    ),
    Claim(
        key="minimal",
        text="The smallest perturbations that fool S^Th are larger",
        source=OURS,
        statistic="median L2 of minimum-norm attacks, S^Th over none",
        threshold=1.0,
        scale="ratio",
        attack="minimum_norm",
        measure=lambda table: minimal_size(table, THRESHOLD, "l2") / minimal_size(table, NONE, "l2"),
    ),
    Claim(
        key="transfer",
        text="S^Th raises accuracy under stronger transferred attacks",
        source=OURS,
        statistic="mean accuracy over the grid of ε, S^Th minus none",
        measure=lambda table: transferred_over(table, NONE),
        attack="transfer",
        note="The attack takes momentum steps on several unregularized networks together.",
    ),
    Claim(
        key="adaptive",
        text="S^Th raises accuracy under attacks made on S^Th networks",
        source=OURS,
        statistic="mean accuracy over the grid of ε, S^Th minus none",
        measure=lambda table: transferred_over(table, THRESHOLD),
        attack="transfer",
        note="An attacker who knows of the defence: momentum steps on several networks trained with S^Th.",
    ),
)

ASKED = (
    *(
        Afterwards(
            key=f"l0-{name}",
            statistic=f"median L0 of minimum-norm attacks, {name} over none",
            measure=lambda table, name=name: minimal_size(table, name, "l0") / minimal_size(table, NONE, "l0"),
        )
        for name in (ADVERSARIAL, THRESHOLD)  # the first is the positive control
    ),
    Afterwards(
        key="transfer-own-kind",
        statistic="mean accuracy over the grid of ε under the momentum attack made on networks of the same kind, "
        "S^Th minus none",
        measure=lambda table: transferred(table, THRESHOLD, THRESHOLD) - transferred(table, NONE, NONE),
    ),
    Afterwards(
        key="transfer-either",
        statistic="mean accuracy over the grid of ε under the stronger of two momentum attacks on each network, made "
        "on networks of the same kind or the other, S^Th minus none",
        measure=lambda table: _under_either(table, THRESHOLD) - _under_either(table, NONE),
    ),
)


def _under_either(table: pd.DataFrame, series: str) -> pd.Series:
    both = (transferred(table, series, surrogate) for surrogate in (THRESHOLD, NONE))
    return pd.concat(both, axis=1).min(axis=1)


def details(table: pd.DataFrame) -> list[Claim]:
    """Each defence under each of the attacks that are set side by side."""
    return [
        Claim(
            key=f"{one}-{attack}",
            text=f"{one}: raises accuracy under {attack}",
            source=OURS,
            statistic="accuracy at the ε of comparison, minus none",
            measure=lambda table, one=one, attack=attack: at_epsilon_over(table, attack, one),
            main=False,
            conditions=(attack,),
            attack=attack,
        )
        for one in regularized(table)
        for attack in ("PGD", *AUTOATTACKS, "Square")
    ]


def flagged(study: Study) -> pd.DataFrame:
    """What checks found of attacks that may not have worked: series, seed, warning."""
    rows = [
        (label, record.experiment.seed, warning) for _, label, record in study.records() for warning in record.warnings
    ]
    return pd.DataFrame(rows, columns=["series", "seed", "warning"])


def draw(study: Study, protocol: str) -> Picture:
    """Accuracy under PGD; gains over none against ε, of adversarial training too; attacks and sizes side by side.

    The legend says how many records of each series are flagged.
    """
    use_style()
    places = [[*"aabbcc"], [*"ddeeff"], [*"ggghhh"]]
    figure, axes = plt.subplot_mosaic(places, figsize=(PAGE, 7.0), height_ratios=(1, 1, 1.25))
    table = study.table()
    accuracies = table[table["metric"] == "accuracy"]
    looks = looks_of(table["series"])
    pgd, noises = _of_condition(accuracies, "PGD"), accuracies[accuracies["attack"] == "gaussian"]
    _accuracies(axes["a"], pgd, looks)
    _gains(axes["b"], pgd, looks, "PGD, L∞")
    _gains(axes["c"], _of_condition(accuracies, "PGD, L2"), looks, "PGD, L2")
    _gains(axes["d"], noises, looks, "Gaussian noise")
    for name, source in (("e", NONE), ("f", THRESHOLD)):
        own = _of_condition(accuracies, f"momentum from {source}")
        _gains(axes[name], own, looks, f"Transferred from {LOOKS[source].label}")
    for name in "ab":
        _equal_steps(axes[name], pgd)
    axes["a"].set_ylabel("Test accuracy")
    for name in "bd":
        axes[name].set_ylabel("Gain over none")
    _side_by_side(axes["g"], accuracies, looks)
    _minimal_sizes(axes["h"], table, looks)
    _legend(figure, axes["a"], flagged(study)["series"].value_counts())
    found = finding(study, "white-box", "over-adversarial", "over-noise")
    figure.suptitle(found, fontsize="small", x=0.01, ha="left")
    return figure


def _legend(figure: Picture, ax: Axes, warnings: pd.Series) -> None:
    handles, labels = ax.get_legend_handles_labels()
    counts = [warnings.get(handle.get_gid(), 0) for handle in handles]
    labels = [label + (f", {count} flagged" if count else "") for label, count in zip(labels, counts, strict=True)]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")


def _of_condition(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    return table[table["condition"] == condition]


def _accuracies(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Accuracy against epsilon under one attack, mean and SEM: where the attack bites."""
    summary = summarize(table, "epsilon")
    for name, look in looks.items():
        rows = summary[summary["series"] == name]
        label = f"{look.label} (n = {rows['seeds'].max()})"
        ax.plot(rows["epsilon"], rows["mean"], color=look.colour, marker=look.marker, label=label, gid=name)
        shade(ax, rows["epsilon"], rows["mean"], rows["sem"], look.colour)
    scale_of(ax, table)
    ax.set_ylim(0, 1)
    ax.set_xlabel("ε (pixels in [0, 1])", fontsize="small")
    ax.set_title("PGD, L∞: accuracy", fontsize="medium")


def gains_by_epsilon(table: pd.DataFrame, series: str, over: str = NONE) -> pd.DataFrame:
    """Difference of accuracies of one attack, a row for each epsilon, a column for each seed that both have."""
    one, other = (
        table[table["series"] == name].groupby(["epsilon", "seed"])["value"].mean().unstack() for name in (series, over)
    )
    return (one - other).dropna(axis="columns")


def _gains(ax: Axes, table: pd.DataFrame, looks: dict[str, Look], title: str) -> None:
    """Gain over none against epsilon, mean, 95 % interval and seeds; slow attacks are made on fewer defences."""
    measured = set(table["series"]) - {NONE}
    for name, look in looks.items():
        if name not in measured:
            continue
        gains = gains_by_epsilon(table, name)
        ax.plot(gains.index, gains.mean(axis=1), color=look.colour, marker=look.marker, gid=name)
        for seed in gains:
            seed_dots(ax, gains.index, gains[seed], look.colour)
        if gains.shape[1] >= FEWEST_SEEDS:
            intervals = [mean_interval(values) for values in gains.to_numpy()]
            ax.fill_between(gains.index, *zip(*intervals, strict=True), color=look.colour, alpha=0.15, lw=0)
    ax.axhline(0, color=looks[NONE].colour, lw=0.8, zorder=1)
    ax.set_xlabel("ε (pixels in [0, 1])" + _left_out(table, looks), fontsize="small")
    ax.locator_params(axis="x", nbins=4)
    ax.set_title(title, fontsize="medium")
    place = {"transform": ax.transAxes, "ha": "right", "va": "top"}
    ax.text(0.99, 0.99, images_in_words(table), fontsize="x-small", color="0.4", **place)


def _left_out(table: pd.DataFrame, looks: dict[str, Look]) -> str:
    """The series that an attack was not made on, in a line of their own."""
    names = [look.label for name, look in looks.items() if name not in set(table["series"])]
    return f"\nnot on: {', '.join(names)}" if names else ""


def _equal_steps(ax: Axes, table: pd.DataFrame) -> None:
    """An axis on which all measured epsilons are equally far apart: the largest is ten times the others."""
    levels = sorted(table["epsilon"].unique())
    if len(levels) < 3:
        return
    places = range(len(levels))
    ax.set_xscale(
        "function", functions=(lambda x: np.interp(x, levels, places), lambda y: np.interp(y, places, levels))
    )
    ax.set_xticks(levels, [f"{level:.2g}".replace("0.", ".") for level in levels], fontsize="x-small")
    ax.set_xlim(levels[0], levels[-1])


def _side_by_side(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Gains over none under several attacks at one epsilon."""
    own = compared(table)
    (epsilon,) = own["epsilon"].unique()
    attacks = [name for name in ("Square", "PGD", *AUTOATTACKS) if name in set(own["condition"])]
    rows, title = [], f"L∞, ε = {epsilon:g}"
    for attack in attacks:
        effects = [
            Effect(at_epsilon_over(table, attack, name), look, name) for name, look in looks.items() if name != NONE
        ]
        label = attack.replace(", ", ",\n") + "\n" + images_in_words(_of_condition(own, attack))
        rows.append(Row(label, {title: tuple(effects)}))
    forest_column(ax, rows, title, xlabel="Gain in accuracy over none", names=True)


def _minimal_sizes(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Median sizes of the smallest perturbations found, over those of none."""
    kinds = {
        "L∞": ("linf", "fast"),
        "L2": ("l2", "fast"),
        "L0": ("l0", "fast"),
        "HopSkip-\nJump, L2": ("l2", "hop_skip_jump"),
    }
    own, title = table[table["attack"] == "minimum_norm"], "Smallest perturbations"
    measured = [name for name in looks if name in set(own["series"]) - {NONE}]
    rows = [
        Row(label, {title: tuple(Effect(_over_none(own, name, *kind), looks[name], name) for name in measured)})
        for label, kind in kinds.items()
    ]
    xlabel = "Median size ÷ that of none" + _left_out(own, looks)
    forest_column(ax, rows, title, xlabel=xlabel, line=1.0, names=True, below=images_in_words(own))


def _over_none(table: pd.DataFrame, series: str, norm: str, method: str) -> pd.Series:
    return minimal_size(table, series, norm, method) / minimal_size(table, NONE, norm, method)


FIGURE = Figure(
    "14_white_box",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize(study.table(), "condition", "epsilon"),
    details=details,
    notes=lambda study: afterwards(study, ASKED),
    protocols=("strict",),
)

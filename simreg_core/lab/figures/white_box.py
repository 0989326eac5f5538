"""Figure 14: attackers who have the network, and other defences (ours, not the paper's)."""

from typing import Any

import pandas as pd

from simreg_core.lab.claims import OURS, Claim
from simreg_core.lab.figures.kit import Axes, Picture, of_seeds, panels, scale_of, seed_dots, shade, summarize
from simreg_core.lab.figures.kit_attacks import minimal_size
from simreg_core.lab.gains import beside_gain, by_seed, gain, regularized
from simreg_core.lab.protocol_of_claims import NOT_INFERIOR
from simreg_core.lab.recipes import experiment, first_free_seed, levels, noise, seeds_of
from simreg_core.lab.series import NONE, S_TH, THRESHOLD, Look, looks_of
from simreg_core.lab.specs import (
    ADVERSARIAL,
    NOISE,
    DefenceSpec,
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
    none = seeds_of(profile, NONE, profile.seeds)
    series = {NONE: none, THRESHOLD: seeds_of(profile, THRESHOLD, profile.seeds)}
    for label, spec in profile.defences.items():
        if isinstance(spec, DefenceSpec):
            series[label] = tuple(one.changed(adversarial=spec) for one in none)
        else:
            network = profile.network.changed(front_end=spec)
            series[label] = tuple(one.changed(network=network) for one in none)
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


def transferred_over(table: pd.DataFrame, surrogate: str, series: str = THRESHOLD, over: str = NONE) -> pd.Series:
    """Difference of mean accuracies over the grid of epsilon, momentum attack from several surrogates, by seed."""
    where = {"attack": "transfer", "condition": f"momentum from {surrogate}", "epsilon": "grid"}
    return by_seed(table, series, **where) - by_seed(table, over, **where)


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
        note="The profile says at which σ the augmentation trains; in quick it is the largest σ that is tested.",
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
    """Accuracy under PGD and transferred attacks, attacks set side by side, and sizes of minimal perturbations.

    The legend says how many records of each series are flagged.
    """
    table = study.table()
    figure, axes = panels(2, 3, 5.2)
    looks = looks_of(table["series"])
    warnings = flagged(study)["series"].value_counts()
    accuracies = table[(table["metric"] == "accuracy")]
    _by_condition(axes[0, 0], accuracies, looks, "PGD", "PGD, L∞")
    _by_condition(axes[0, 1], accuracies, looks, "PGD, L2", "PGD, L2")
    _side_by_side(axes[0, 2], accuracies, looks)
    _by_condition(axes[1, 0], accuracies, looks, f"momentum from {NONE}", "Transferred from none")
    _by_condition(axes[1, 1], accuracies, looks, f"momentum from {THRESHOLD}", f"Transferred from {S_TH}")
    _minimal_sizes(axes[1, 2], table, looks)
    axes[0, 0].set_ylabel("Test accuracy")
    axes[0, 0].set_xscale("symlog", linthresh=0.01)
    axes[0, 0].set_xticks([0, 0.01, 0.1, 0.5], ["0", "0.01", "0.1", "0.5"])
    axes[0, 0].set_xlim(0, 0.6)
    axes[1, 0].set_ylabel("Test accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    counts = [warnings.get(handle.get_gid(), 0) for handle in handles]
    labels = [label + (f", {count} flagged" if count else "") for label, count in zip(labels, counts, strict=True)]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _of_condition(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    return table[table["condition"] == condition]


def _by_condition(ax: Axes, table: pd.DataFrame, looks: dict[str, Look], condition: str, title: str) -> None:
    """Accuracy against epsilon under one attack, mean and SEM."""
    own = _of_condition(table, condition)
    summary = summarize(own, "epsilon")
    for name, look in looks.items():
        rows = summary[summary["series"] == name]
        if rows.empty:  # slow attacks are made on fewer defences
            continue
        label = f"{look.label} (n = {rows['seeds'].max()})"
        ax.plot(rows["epsilon"], rows["mean"], color=look.colour, marker=look.marker, label=label, gid=name)
        shade(ax, rows["epsilon"], rows["mean"], rows["sem"], look.colour)
        seeds = of_seeds(own[own["series"] == name], "epsilon")
        seed_dots(ax, seeds["epsilon"], seeds["value"], look.colour)
    scale_of(ax, own)
    ax.set(xlabel="ε (pixels in [0, 1])", ylim=(0, 1), xlim=(0, None))
    ax.set_title(title, fontsize="medium")


def _side_by_side(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Accuracy under several attacks at one epsilon."""
    own = compared(table)
    (epsilon,) = own["epsilon"].unique()
    names = own["condition"].unique()
    order = sorted(names, key=lambda name: (name in AUTOATTACKS, name == "PGD", name != "Square", name))
    for name, look in looks.items():
        means = [at_epsilon(table, name, attack).mean() for attack in order]
        ax.plot(range(len(order)), means, color=look.colour, marker=look.marker, ls="")
    ax.set_xticks(range(len(order)), order, rotation=40, ha="right", fontsize="small")
    ax.set(ylim=(0, 1))
    ax.set_title(f"L∞, ε = {epsilon:g}", fontsize="medium")


def _minimal_sizes(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Median sizes of the smallest perturbations found, over those of none."""
    kinds = {
        "L∞": ("linf", "fast"),
        "L2": ("l2", "fast"),
        "L0": ("l0", "fast"),
        "HopSkipJump, L2": ("l2", "hop_skip_jump"),
    }
    measured = set(table.loc[table["attack"] == "minimum_norm", "series"])
    for name, look in looks.items():
        if name not in measured:
            continue
        ratios = [
            (minimal_size(table, name, norm, method) / minimal_size(table, NONE, norm, method)).mean()
            for norm, method in kinds.values()
        ]
        ax.plot(range(len(kinds)), ratios, color=look.colour, marker=look.marker, ls="")
    ax.axhline(1, color="0.7", lw=0.8)
    ax.set_xticks(range(len(kinds)), kinds, rotation=40, ha="right", fontsize="small")
    ax.set(ylim=(0, None), ylabel="Median size / none's")
    ax.set_title("Smallest perturbations", fontsize="medium")


FIGURE = Figure(
    "14_white_box",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize(study.table(), "condition", "epsilon"),
    details=details,
    protocols=("strict",),
)

"""What is measured of each seed of Hebbian networks, and the claims of figure 23."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from simreg_core.lab.claims import DISSERTATION, Claim, Statistic
from simreg_core.lab.gains import mean_of
from simreg_core.lab.protocol_of_claims import NOT_INFERIOR
from simreg_core.lab.specs import ADVERSARIAL, NOISE
from simreg_core.lab.study import COMPARED

MAIN, COUNTS = "main", "number of blocks"  # groups
STANDARD, HAH, TEXT = "standard", "HaH", "HaH, λ of the text"
NO_COST, BATCH, NO_THRESHOLD = "no HaH cost", "batch norm", "no threshold"
MEAN, FREE = "plain mean", "free gradients"
BLUR, NARROW, INSTANCE, LOCAL = "blur augmentation", "narrower", "instance norm", "local response norm"
ABLATIONS = (NO_COST, BATCH, NO_THRESHOLD)
BASELINES = (NOISE, BLUR, NARROW, INSTANCE, LOCAL)  # that the source lacks
THRESHOLDED = (HAH, TEXT, NO_COST, BATCH, MEAN, FREE)
WORST, PGD, EXACT, SQUARE = "worst", "PGD", "threshold: exact", "Square"  # conditions of `FrontEndEvaluation`
FROM_STANDARD, FROM_NO_THRESHOLD = "from surrogate 1", "from surrogate 2"  # likewise
L2, LINF = "PGD, L2", "PGD"  # conditions of `WhiteBoxEvaluation`
RESPONSES, OUTPUTS = "responses", "outputs"  # of `HebbianEvaluation`
SOURCE = f"{DISSERTATION}, chapter 5"
PUBLISHED = "CIFAR-10 in colour"  # the task of tables 5.1 to 5.3
Measure = Callable[[pd.DataFrame], pd.Series]  # of a table, by seed


def of(table: pd.DataFrame, series: str, attack: str, metric: str = "accuracy", **where: Any) -> pd.Series:
    """What was measured of one kind of network by seed, the mean of what is left.

    where: column = value; group is MAIN if it is not given.  Raises LookupError where nothing is left.
    """
    chosen = {"series": series, "attack": attack, "metric": metric, "group": MAIN, **where}
    rows = table
    for column, value in chosen.items():
        rows = rows[rows[column] == value]
    if rows.empty:
        raise LookupError(f"no {metric} of '{series}' under {attack}, {where}")
    return rows.groupby("seed")["value"].mean()


def clean(series: str) -> Measure:
    """Accuracy without noise, by seed."""
    return lambda table: of(table, series, "hebbian", epsilon=0.0)


def noisy(series: str) -> Measure:
    """Under the noise of comparison, mean over its draws."""
    return lambda table: of(table, series, "hebbian", role=COMPARED)


def attacked(series: str, condition: str = WORST) -> Measure:
    """At the epsilon of comparison."""
    return lambda table: of(table, series, "front_end", role=COMPARED, condition=condition)


def attacked_l2(series: str) -> Measure:
    """Accuracy under PGD of an L2 size, by seed."""
    return lambda table: of(table, series, "white_box", condition=L2)


def corrupted(series: str, **where: Any) -> Measure:
    """The mean over corruptions and severities; without those of clean images."""

    def measure(table: pd.DataFrame) -> pd.Series:
        return of(table[table["severity"] > 0], series, "corruption", **where)

    return measure


def smallest(series: str, norm: str) -> Measure:
    """The median size of the smallest perturbations found."""
    return lambda table: of(table, series, "minimum_norm", f"median_{norm}")


def author_s(series: str) -> str:
    """The condition of the source's attack, along the network's own gradient."""
    return EXACT if series in THRESHOLDED else PGD


def by_layer(table: pd.DataFrame, series: str, metric: str, condition: str | None = None) -> pd.DataFrame:
    """What was measured of each block, [seeds, blocks].  Raises LookupError where nothing is left."""
    rows = table[(table["attack"] == "hebbian") & (table["group"] == MAIN) & (table["series"] == series)]
    rows = rows[rows["metric"] == metric]
    rows = rows if condition is None else rows[rows["condition"] == condition]
    if rows.empty:
        raise LookupError(f"no {metric} of '{series}', {condition}")
    return rows.pivot(index="seed", columns="layer", values="value")


def by_count(table: pd.DataFrame, attack: str, **where: Any) -> pd.DataFrame:
    """Accuracies of networks that differ in their number of Hebbian blocks only, [seeds, numbers]."""
    rows = table[(table["group"] == COUNTS) & (table["attack"] == attack) & (table["metric"] == "accuracy")]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows.groupby(["seed", "blocks"])["value"].mean().unstack()


def minus(one: Measure, other: Measure) -> Measure:
    """The difference of two measures, by seed."""
    return lambda table: one(table) - other(table)


def over(of_series: Callable[[str], Measure], one: str = HAH, other: str = STANDARD) -> Measure:
    """A difference between two kinds of network."""
    return minus(of_series(one), of_series(other))


def _hebbian_layers(table: pd.DataFrame) -> int:
    return int(table.loc[(table["group"] == MAIN) & (table["series"] == HAH), "blocks"].max())


def _sparser(condition: str) -> Measure:
    """h of the standard network's blocks minus that of Hebbian ones, mean over the blocks that are Hebbian."""

    def measure(table: pd.DataFrame) -> pd.Series:
        gap = [by_layer(table, name, "activation_sparsity", condition) for name in (STANDARD, HAH)]
        return (gap[0] - gap[1]).iloc[:, : _hebbian_layers(table)].mean(axis=1)

    return measure


def _snr(table: pd.DataFrame) -> pd.Series:
    """SNR, HaH minus standard in dB, mean over what leaves the Hebbian blocks."""
    gap = by_layer(table, HAH, "snr_db") - by_layer(table, STANDARD, "snr_db")
    return gap.loc[:, 1 : _hebbian_layers(table)].mean(axis=1)


def _rises(attack: str, **where: Any) -> Measure:
    """Spearman's rank correlation of accuracy with the number of Hebbian blocks, by seed; 0 where all are the same."""

    def measure(table: pd.DataFrame) -> pd.Series:
        own = by_count(table, attack, **where)
        counts = pd.Series(own.columns, index=own.columns).rank()
        return own.rank(axis=1).apply(lambda row: row.corr(counts) if row.nunique() > 1 else 0.0, axis=1)

    return measure


def _parts(measures: Mapping[str, Measure]) -> Callable[[pd.DataFrame], dict[str, pd.Series]]:
    return lambda table: {name: measure(table) for name, measure in measures.items()}


def _smallest_of(measures: Mapping[str, Measure]) -> Measure:
    """The least of them, seed by seed."""
    return lambda table: pd.concat(_parts(measures)(table), axis=1).min(axis=1)


COMPONENTS = {
    f"{name}, {words}": over(measure, HAH, name)
    for name in ABLATIONS
    for words, measure in (("noise", noisy), ("attack", attacked))
}
ORDER = {
    f"{HAH} minus {ADVERSARIAL}": over(corrupted, HAH, ADVERSARIAL),
    f"{ADVERSARIAL} minus {STANDARD}": over(corrupted, ADVERSARIAL, STANDARD),
}
UNMASKED: dict[str, Measure] = {
    f"all attackers, {name}": minus(attacked(name), attacked(name, author_s(name))) for name in (HAH, STANDARD)
}


def _claim(key: str, text: str, statistic: str, measure: Measure, **own: Any) -> Claim:
    return Claim(key=key, text=text, source=SOURCE, statistic=statistic, measure=measure, setting=None, **own)


def _beside(key: str, statistic: str, measure: Measure, published: float | None = None) -> Statistic:
    found = {} if published is None else {PUBLISHED: published}
    return Statistic(key=key, statistic=statistic, measure=measure, published=found)


LOST = "accuracy under the worst attack"
CLAIMS = (
    _claim(
        "hebbian-sparser",
        "Few channels of a Hebbian block answer at a place",
        "h of responses over channels, standard minus HaH, mean over Hebbian blocks",
        _sparser(RESPONSES),
        also=(_beside("outputs", "the same after normalization and threshold", _sparser(OUTPUTS)),),
        scale="share",
        attack="hebbian",
    ),
    _claim(
        "hebbian-noise",
        "Hebbian blocks raise accuracy under Gaussian noise",
        "accuracy under clamped noise of the σ of comparison, HaH minus standard",
        over(noisy),
        also=(
            _beside("clean", "clean accuracy, HaH minus standard", over(clean), -0.052),
            _beside("snr", "SNR in dB behind Hebbian blocks, HaH minus standard, mean", _snr),
            _beside(
                "noise-training", "accuracy under that noise, HaH minus noise augmentation", over(noisy, HAH, NOISE)
            ),
        ),
        published={PUBLISHED: 0.374},
        attack="hebbian",
    ),
    _claim(
        "hebbian-components",
        "Cost, divisive normalization and threshold each help",
        "accuracy, HaH minus an ablation, mean over three ablations under noise and the worst attack",
        lambda table: mean_of(_parts(COMPONENTS)(table)),
        parts=_parts(COMPONENTS),
        published={PUBLISHED: 0.1618},
        attack=WORST,
        note="Published: under the source's attack, APGD of two losses. Each part must not be surely below 0.",
    ),
    _claim(
        "hebbian-corruptions",
        "Corruptions: HaH above adversarial training, that above standard",
        "mean accuracy over corruptions, the smaller of HaH minus adversarial and adversarial minus standard",
        _smallest_of(ORDER),
        also=(
            *(_beside(name.split()[0].lower(), name, measure) for name, measure in ORDER.items()),
            _beside(
                "contrast",
                "contrast, HaH minus standard",
                over(lambda one: corrupted(one, corruption="contrast")),
                0.533,
            ),
            _beside(
                "instance",
                f"contrast, HaH minus {INSTANCE}",
                over(lambda one: corrupted(one, corruption="contrast"), HAH, INSTANCE),
            ),
        ),
        parts=_parts(ORDER),
        published={PUBLISHED: 0.0682},
        attack="corruption",
        note="Published: over the 13 corruptions that are here too, of 16; the severity is not stated.",
    ),
    _claim(
        "hebbian-not-masked",
        "No attacker finds much that the network's own gradient misses",
        "accuracy under all attackers minus under PGD along the gradient, of HaH",
        UNMASKED[f"all attackers, {HAH}"],
        also=(
            _beside("standard", "the same of the standard network", UNMASKED[f"all attackers, {STANDARD}"]),
            _beside(
                "square",
                "accuracy of HaH under Square minus under PGD",
                minus(attacked(HAH, SQUARE), attacked(HAH, EXACT)),
            ),
            _beside(
                "transfer",
                "accuracy of HaH under PGD from its copy without threshold minus under PGD",
                minus(attacked(HAH, FROM_NO_THRESHOLD), attacked(HAH, EXACT)),
            ),
        ),
        threshold=NOT_INFERIOR,
        not_inferior=True,
        attack=WORST,
        note="Attackers: the threshold exact, as the identity, as a soft gate; normalization as a constant; transfer "
        "from the standard network and the copy without threshold; Square; AutoAttack.",
    ),
    _claim(
        "hebbian-blocks",
        "More Hebbian blocks make the network more robust",
        "rank correlation of the number of Hebbian blocks with accuracy under PGD",
        _rises("white_box", condition=LINF),
        also=(
            _beside("noise", "the same with accuracy under noise", _rises("hebbian", role=COMPARED)),
            _beside("clean", "the same with clean accuracy", _rises("hebbian", epsilon=0.0)),
        ),
        scale="correlation",
        attack="white_box",
    ),
)


def details(table: pd.DataFrame) -> list[Claim]:
    """The defence itself, its positive control, what divisive normalization may amount to, λ, M, and cheating."""
    made = [
        _claim("hebbian-helps", "Hebbian blocks raise accuracy under attack", f"{LOST}, HaH minus standard",
               over(attacked), published={PUBLISHED: 0.111},
               also=(_beside("l2", "accuracy under PGD, L2, the same", over(attacked_l2), 0.137),
                     *(_beside(norm, f"median smallest {norm} perturbation, HaH over standard", _ratio(norm))
                       for norm in ("linf", "l2", "l0")))),
        _claim("hebbian-control", "Adversarial training raises accuracy under attack",
               f"{LOST}, {ADVERSARIAL} minus standard", over(attacked, ADVERSARIAL), note="The positive control."),
    ]  # fmt: skip
    for key, other in (("text", TEXT), ("mean", MEAN), *((name.split()[0], name) for name in BASELINES)):
        made.append(
            _claim(
                f"hebbian-over-{key}",
                f"HaH raises accuracy under noise more than: {other}",
                f"accuracy under noise, HaH minus {other}",
                over(noisy, HAH, other),
                also=(
                    _beside("attack", f"{LOST}, the same", over(attacked, HAH, other)),
                    _beside("clean", "clean accuracy, the same", over(clean, HAH, other)),
                ),
            )
        )
    cheats = minus(_fixed(FREE), _fixed(HAH))
    made.append(
        _claim("hebbian-cheating", "Free gradients let the same channels win everywhere",
               "share of wins of the most frequent winners, free gradients minus stopped, mean over blocks",
               cheats, scale="share", attack="hebbian")
    )  # fmt: skip
    return [replace(one, main=False) for one in made]


def _ratio(norm: str) -> Measure:
    return lambda table: (smallest(HAH, norm)(table) / smallest(STANDARD, norm)(table)).replace(np.inf, np.nan)


def _fixed(series: str) -> Measure:
    def measure(table: pd.DataFrame) -> pd.Series:
        return by_layer(table, series, "fixed_channels").iloc[:, : _hebbian_layers(table)].mean(axis=1)

    return measure

"""Choosing alpha and Th on validation images: the grid, the paper's criterion, and whether other attacks agree."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from simreg_core.lab.recipes import defended, fgsm, noise, seeds_of
from simreg_core.lab.series import NONE, THRESHOLD
from simreg_core.lab.specs import AnyDefence, AnyExperiment, DefenceSpec, Evaluation, Profile, SpecError
from simreg_core.lab.study import Block
from simreg_core.names import ACCEPTED_CLEAN_RATIO, NOISE_NAMES

STRENGTHS = {"pgd": "epsilon", "trades": "beta", "gaussian": "epsilon", "blur": "sigma"}  # a field of each defence


def grid_of(profile: Profile, target: str = THRESHOLD) -> tuple[Block, ...]:
    """A target over the (alpha, Th) grid and none, without and with the largest attack, on VALIDATION images.

    target: a target without a threshold uses only the profile's.
    """
    grid = profile.selection
    series = {NONE: seeds_of(profile, NONE, grid.seeds)}
    for alpha in grid.alphas:
        for threshold in grid.thresholds if target == THRESHOLD else (profile.regularizer.threshold,):
            label = f"α = {alpha:g}, Th = {threshold:g}"
            series[label] = seeds_of(profile, target, grid.seeds, alpha=alpha, threshold=threshold)
    attacks = [*(noise(profile, kind) for kind in NOISE_NAMES), fgsm(profile)]
    return (Block(series, tuple(map(_ends_on_validation, attacks))),)


def _ends_on_validation(attack: Any) -> Evaluation:
    """An attack's first and largest epsilon, on all validation images."""
    return attack.changed(split="validation", images=None, epsilons=(0.0, attack.epsilons[-1]))


def matched_grid(profile: Profile, target: str) -> tuple[Block, ...]:
    """A target over the alphas of the grid, and the profile's S^Th, without noise and with most on VALIDATION images.

    target: a label of `series.TARGETS`, such as 'all targets 0'.
    """
    seeds = profile.selection.seeds
    alphas = {f"{target}, α = {alpha:g}": alpha for alpha in profile.selection.alphas}
    return _beside_threshold(
        profile, {label: seeds_of(profile, target, seeds, alpha=alpha) for label, alpha in alphas.items()}
    )


def matched_defences(
    profile: Profile, name: str, spec: AnyDefence, strengths: Iterable[float]
) -> tuple[tuple[Block, ...], dict[str, float]]:
    """As `matched_grid`, a defence at each of these strengths; and the strengths by the names of their curves.

    Raises SpecError for a defence without a strength, or a strength that cannot be.
    """
    kind = spec.method if isinstance(spec, DefenceSpec) else spec.kind
    if kind not in STRENGTHS:
        raise SpecError(f"'{name}' ({kind}) has no strength to choose; those of {', '.join(STRENGTHS)} have one")
    series, found = {}, {}
    for strength in strengths:
        own, label = spec.changed(**{STRENGTHS[kind]: strength}), f"{name}, {STRENGTHS[kind]} = {strength:g}"
        series[label] = tuple(defended(profile, own, seed) for seed in range(profile.selection.seeds))
        found[label] = strength
    return _beside_threshold(profile, series), found


def _beside_threshold(profile: Profile, series: Mapping[str, tuple[AnyExperiment, ...]]) -> tuple[Block, ...]:
    threshold = {THRESHOLD: seeds_of(profile, THRESHOLD, profile.selection.seeds)}
    return (Block({**threshold, **series}, (_ends_on_validation(noise(profile, "gaussian")),)),)


def matched_alpha(table: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    """`matched_strength` of a table of `matched_grid`, whose strengths are alphas."""
    alphas = table.groupby("series")["alpha"].first().to_dict()
    return matched_strength(table, alphas, "alpha")


def matched_strength(
    table: pd.DataFrame, strengths: Mapping[str, float], name: str = "strength"
) -> tuple[float, pd.DataFrame]:
    """The strength at which clean accuracy is nearest to S^Th's, and the accuracies of all.

    table: with S^Th, and the series that `strengths` names.
    Returns the strength, and series, strength (as `name`), clean (mean over seeds) and distance from S^Th's.
    """
    clean = table[(table["epsilon"] == 0) & (table["metric"] == "accuracy")]
    means = clean.groupby("series", sort=False).agg(clean=("value", "mean"))
    means.insert(0, name, pd.Series(strengths))
    means["distance"] = (means["clean"] - means.loc[THRESHOLD, "clean"]).abs()
    nearest = means.drop(THRESHOLD)["distance"].idxmin()
    return float(means.loc[nearest, name]), means.reset_index()


def selection_ratios(table: pd.DataFrame, attack: str = "gaussian") -> pd.DataFrame:
    """The paper's criterion (v2 Fig. 4) on a table of `grid_of`, for one attack.

    Returns one row for each regularized series: clean = R_0/U_0 and robust = R_D/U_D, ratios of mean accuracies
    to the unregularized network's at no noise and at the largest, accepted = clean >= 0.9 and robust >= 1, and
    chosen, true for the accepted row with the largest `robust` (for none where none is accepted), alpha and threshold.
    """
    own = table[table["attack"] == attack]
    means = own.groupby(["series", "epsilon"], sort=False)["value"].mean().unstack()
    means = means[[means.columns.min(), means.columns.max()]].set_axis(["clean", "robust"], axis=1)
    ratios = (means / means.loc[NONE]).drop(NONE)
    ratios["accepted"] = (ratios["clean"] >= ACCEPTED_CLEAN_RATIO) & (ratios["robust"] >= 1)
    best = ratios.loc[ratios["accepted"], "robust"].max()
    ratios["chosen"] = ratios["accepted"] & (ratios["robust"] == best)
    return ratios.join(own.groupby("series")[["alpha", "threshold"]].first()).reset_index()


def chosen_pair(table: pd.DataFrame, attack: str = "gaussian") -> tuple[float, float] | None:
    """(alpha, Th) that the criterion of `selection_ratios` chooses; None where it accepts none."""
    ratios = selection_ratios(table, attack)
    chosen = ratios[ratios["chosen"]]
    return (float(chosen["alpha"].iloc[0]), float(chosen["threshold"].iloc[0])) if len(chosen) else None


def rank_correlations(table: pd.DataFrame, reference: str = "gaussian") -> pd.DataFrame:
    """Do other attacks rank the (alpha, Th) pairs as the reference attack does?

    table: of `grid_of`.  Returns attack, seed and correlation: Spearman's between the pairs' accuracies under the
    largest attack, one for each training seed.
    """
    largest = table[table["epsilon"] > 0]
    accuracy = largest[largest["series"] != NONE].pivot_table(
        index="series", columns=["attack", "seed"], values="value"
    )
    return pd.DataFrame(
        {
            "attack": attack,
            "seed": seed,
            "correlation": accuracy[attack][seed].corr(accuracy[reference][seed], method="spearman"),
        }
        for attack in accuracy.columns.unique("attack")
        if attack != reference
        for seed in accuracy[attack].columns
    )

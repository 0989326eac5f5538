"""Figure 13: what of the result is the released protocol's (ours, not the paper's)."""

from typing import Any

import pandas as pd

from simreg_core.lab.claims import OURS, Claim, Verdict, verdicts
from simreg_core.lab.figures.kit import Axes, Picture, finding, panels, scale_of, seed_dots, summarize_groups
from simreg_core.lab.figures.kit_attacks import ATTACK_NAMES, helps, minimal_size
from simreg_core.lab.figures.kit_forest import (
    OTHER,
    Effect,
    Row,
    forest_column,
    forest_legend,
    height_of,
    images_in_words,
)
from simreg_core.lab.gains import beside_gain, by_seed, gain, regularized
from simreg_core.lab.recipes import boundary, fgsm, long_boundary, noise, seeds_of
from simreg_core.lab.series import LOOKS, NO_LOSS, NONE, S_TH, THRESHOLD
from simreg_core.lab.specs import MinimumNormEvaluation, Profile
from simreg_core.lab.study import Block, Figure, Study

AUDIT, STEPS, SKIPPED, FAILURES = "audit", "boundary steps", "failures skipped", "failures counted"  # groups
CLAMPED = "strict clamp"  # the same
ALL_CHANGED = "all of them"
STRICT_CLAMP = ("gaussian", "fgsm")  # attacks that the strict protocol clamps otherwise
KINDS = {  # what is changed, by kind, and its label
    "As released": {THRESHOLD: S_TH, CLAMPED: "attack clamped to [0, 1]"},
    "Loss": {
        NO_LOSS: NO_LOSS,
        "loss as printed (α / 4)": "as printed (α / 4)",
        "ε = 0.01 in the loss": "ε₀ = 0.01",
        "own mean subtracted": "own mean subtracted",
    },
    "Batch norm": {
        "pairs with statistics of their own": "pairs: own statistics",
        "pairs with frozen statistics": "pairs: frozen statistics",
        "running mean follows in validation": "mean also in validation",
    },
    "Images": {
        "fresh augmentation": "fresh augmentation",
        "validation images kept out": "validation kept out",
    },
    "Together": {ALL_CHANGED: "all with *"},
}


def audit_changes(profile: Profile) -> dict[str, dict]:
    """What each property of the released code is changed to: fields of the regularizer; 'strict' of the experiment."""
    alpha, augment = profile.regularizer.alpha, profile.task.augment
    fresh: dict[str, Any] = {"augment_each": "crop-flip" if augment == "crop-flip" else "flip", "augment_once": "none"}
    changes: dict[str, dict] = {
        "loss as printed (α / 4)": {"alpha": alpha / 4},
        "ε = 0.01 in the loss": {"eps": 1e-2},
        "pairs with statistics of their own": {"statistics": "separate"},
        "pairs with frozen statistics": {"statistics": "frozen"},
        "running mean follows in validation": {"mean_in_validation": True},
        "fresh augmentation": fresh,
        "validation images kept out": {"strict": True},
        "own mean subtracted": {"subtract": "own_mean"},
    }
    # the loss's scale is a choice of alpha; the mean of the images is the method itself; both stay as they are
    together: dict = {"statistics": "separate", **fresh, "strict": True, "eps": 1e-2}
    return {**changes, ALL_CHANGED: together}


def experiments(profile: Profile) -> tuple[Block, ...]:
    """S^Th with one property of the released code changed at a time; boundary attacks against their steps."""
    evaluations = (noise(profile, "gaussian"), fgsm(profile))
    series = {target: seeds_of(profile, target, profile.seeds) for target in (NONE, THRESHOLD)}
    audited = {**series, NO_LOSS: seeds_of(profile, THRESHOLD, profile.seeds, alpha=0.0)}
    for label, change in audit_changes(profile).items():
        fields = {name: value for name, value in change.items() if name != "strict"}
        changed = seeds_of(profile, THRESHOLD, profile.seeds, **fields)
        audited[label] = tuple(one.changed(protocol="strict") for one in changed) if "strict" in change else changed
    strict = (noise(profile, "gaussian", "strict"), fgsm(profile, "strict"))
    return (
        Block(audited, evaluations, AUDIT),
        Block(series, strict, CLAMPED),
        *_boundary_audit(profile),
    )


def _boundary_audit(profile: Profile) -> tuple[Block, ...]:
    """None and S^Th: sizes against steps, minimal ones as reference, and failures counted as infinitely far."""
    seeds = min(profile.seeds, profile.studies.spectrum_seeds)
    series = {target: seeds_of(profile, target, seeds) for target in (NONE, THRESHOLD)}
    attack = long_boundary(profile)
    by_steps = [
        Block(series, (attack.changed(steps=steps),), f"{STEPS}: {steps}") for steps in profile.white_box.boundary_steps
    ]
    same: dict[str, Any] = {"images": attack.images, "away_from": "prediction"}
    references = [
        MinimumNormEvaluation(method="fast", **same),
        MinimumNormEvaluation(method="deepfool", steps=50, **same),
    ]
    if profile.white_box.carlini_wagner_steps is not None:
        steps = profile.white_box.carlini_wagner_steps
        references.append(MinimumNormEvaluation(method="carlini_wagner", steps=steps, **same))
    counted = boundary(profile).changed(protocol="strict")
    return (
        *by_steps,
        Block(series, tuple(references), "minimal"),
        Block(series, (boundary(profile),), SKIPPED),
        Block(series, (counted,), FAILURES),
    )


def against_steps(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of boundary attacks that differ in their steps."""
    return table[table["group"].str.startswith(STEPS)]


def converged_sizes(table: pd.DataFrame) -> pd.Series:
    """Median squared L2 of the longest boundary attack, S^Th over none, by seed."""
    own = against_steps(table)
    return gain(own[own["steps"] == own["steps"].max()], THRESHOLD, "boundary")


CLAIMS = (
    Claim(
        key="audit",
        text="S^Th raises accuracy under noise in a corrected protocol",
        source=OURS,
        statistic="mean accuracy over the grid of ε, S^Th with all corrections minus none",
        measure=lambda table: gain(table, ALL_CHANGED, "gaussian", group=AUDIT),
        also=beside_gain(ALL_CHANGED, "gaussian", group=AUDIT),
        attack="gaussian",
        note="All that can be corrected together, without a new choice of α; the attack stays as released.",
    ),
)


def details(table: pd.DataFrame) -> list[Claim]:
    """Each change of the protocol, and the converged boundary attack."""
    audited = [one for one in regularized(table[table["group"] == AUDIT]) if one != THRESHOLD]
    return [
        *(helps(one, one, "gaussian", OURS, group=AUDIT) for one in (THRESHOLD, *audited)),
        *(_changes_the_gain(one) for one in audited),
        Claim(
            key="converged",
            text="S^Th makes converged boundary-attack perturbations larger",
            source=OURS,
            statistic="median squared L2 per pixel after the most steps, S^Th over none",
            threshold=1.0,
            scale="ratio",
            measure=converged_sizes,
            main=False,
            attack="boundary",
        ),
    ]


def _changes_the_gain(series: str) -> Claim:
    return Claim(
        key=f"more-{series}",
        text=f"The gain is larger with: {series}",
        source=OURS,
        statistic="mean accuracy over the grid of Gaussian ε, minus S^Th as released",
        measure=lambda table: gain(table, series, "gaussian", over=THRESHOLD, group=AUDIT),
        main=False,
        attack="gaussian",
    )


def judge(study: Study, protocol: str) -> list[Verdict]:
    """The verdicts under the released protocol only: it is what is changed, one property at a time."""
    table = study.table()
    released = table[table["protocol"] == "released"]
    return verdicts((*CLAIMS, *details(released)), released, "released", study.circumstances)


def draw(study: Study, protocol: str) -> Picture:
    """Gain of S^Th with each property changed, grouped by kind; boundary-attack sizes against steps."""
    table = study.table()
    rows = audit_rows(table, members_of_all(study.profile))
    figure, axes = panels(1, 3, height_of(rows), width_ratios=(1, 1, 0.9))
    for ax, attack in zip(axes, STRICT_CLAMP, strict=False):
        images = images_in_words(table[(table["attack"] == attack) & (table["group"] == AUDIT)])
        xlabel = "Gain in accuracy over none,\nmean over ε"
        forest_column(ax, rows, ATTACK_NAMES[attack], xlabel=xlabel, names=ax is axes[0], below=images)
    _sizes_against_steps(axes[2], table)
    forest_legend(figure, rows)
    figure.suptitle(finding(study, "audit"), fontsize="small", x=0.01, ha="left")
    return figure


def members_of_all(profile: Profile) -> set[str]:
    """The changes that are made together in 'all of them'."""
    changes = audit_changes(profile)
    together = changes[ALL_CHANGED].items()
    return {name for name, change in changes.items() if name != ALL_CHANGED and change.items() <= together}


def audit_rows(table: pd.DataFrame, together: set[str]) -> list[Row]:
    """A row for each change, and one for the strict attack, in the order of KINDS.  together: get an asterisk."""
    released = table[(table["protocol"] == "released") & (table["group"] == AUDIT)]
    strict = table[(table["protocol"] == "strict") & (table["group"] == CLAMPED)]
    kinds = {name: (kind, label) for kind, names in KINDS.items() for name, label in names.items()}
    measured = [*regularized(released), *([CLAMPED] if len(strict) else [])]
    # A change that leaves every network as it is has no row: it would only repeat the first one. So it is with kept-out
    # validation images wherever a task has validation images that no training image comes from.
    same = [name for name in measured if name not in (THRESHOLD, CLAMPED) and _changes_nothing(released, name)]
    rows = []
    for name in sorted(set(measured) - set(same), key=[*kinds, *measured].index):
        own, series = (strict, THRESHOLD) if name == CLAMPED else (released, name)
        marked = "\n".join([THRESHOLD, *same]) if name == THRESHOLD else series
        look = LOOKS[THRESHOLD] if series == THRESHOLD else OTHER
        effects = {ATTACK_NAMES[attack]: (Effect(gain(own, series, attack), look, marked),) for attack in STRICT_CLAMP}
        kind, label = kinds.get(name, ("Other", name))
        rows.append(Row(f"{label} *" if name in together else label, effects, kind))
    return rows


def _changes_nothing(table: pd.DataFrame, series: str) -> bool:
    """Whether every number is that of S^Th as released."""
    keys = ["attack", "metric", "epsilon", "seed"]
    one, other = (table[table["series"] == name].groupby(keys)["value"].mean() for name in (series, THRESHOLD))
    return one.equals(other)


def _sizes_against_steps(ax: Axes, table: pd.DataFrame) -> None:
    """Median boundary-attack sizes against steps, and what minimum-norm attacks find: mean, SEM and seeds."""
    own = against_steps(table)
    steps = sorted(own["steps"].astype(int).unique())
    places = range(len(steps) + 1)
    for name, aside in ((NONE, -0.06), (THRESHOLD, 0.06)):
        look = LOOKS[name]
        sizes = [by_seed(own, name, steps=count, metric="median_l2") for count in steps]
        sizes.append(minimal_size(table, name, "l2"))
        means, errors = [one.mean() for one in sizes], [one.sem() for one in sizes]
        where = [place + aside for place in places]
        label = f"{look.label} (n = {len(sizes[0])})"
        ax.errorbar(where, means, errors, color=look.colour, marker=look.marker, ls="", label=label, gid=name)
        ax.plot(where[:-1], means[:-1], color=look.colour)
        for place, values in zip(where, sizes, strict=True):
            seed_dots(ax, [place + aside] * len(values), values, look.colour)
    ax.set_xticks(places, [*map(str, steps), "min.-\nnorm"], fontsize="small")
    ax.tick_params(axis="y", labelsize="small")
    ax.set_ylim(0, None)
    ax.set_xlabel("Steps of the boundary attack;\nlast: minimum-norm attack", fontsize="small")
    ax.set_ylabel("Median L2 (mean ± SEM)", fontsize="small")
    ax.set_title("Size of perturbations", fontsize="medium", pad=11)
    ax.legend(fontsize="x-small")
    scale_of(ax, own, chance=False)


FIGURE = Figure(
    "13_protocol_audit",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize_groups(study.table(), "epsilon", "condition"),
    details=details,
    judge=judge,
    protocols=("both",),
)

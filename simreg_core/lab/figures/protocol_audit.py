"""Figure 13: what of the result is the released protocol's (ours, not the paper's)."""

from typing import Any

import pandas as pd

from simreg_core.lab.claims import OURS, Claim, Verdict, mean_interval, verdicts
from simreg_core.lab.figures.kit import Axes, Picture, panels, shade, summarize_groups
from simreg_core.lab.figures.kit_attacks import ATTACK_NAMES, helps, minimal_size
from simreg_core.lab.gains import beside_gain, by_seed, gain, regularized
from simreg_core.lab.recipes import boundary, fgsm, long_boundary, noise, seeds_of
from simreg_core.lab.series import LOOKS, NO_LOSS, NONE, S_TH, THRESHOLD
from simreg_core.lab.specs import MinimumNormEvaluation, Profile
from simreg_core.lab.study import Block, Figure, Study

AUDIT, STEPS, SKIPPED, FAILURES = "audit", "boundary steps", "failures skipped", "failures counted"  # groups
ALL_CHANGED = "all of them"
STRICT_CLAMP = ("gaussian", "fgsm")  # attacks that the strict protocol clamps otherwise


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
        Block(series, strict, "strict clamp"),
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
    """Gain of S^Th with each property changed, with intervals over seeds; boundary-attack sizes against steps."""
    table = study.table()
    figure, axes = panels(1, 3, 3.9, width_ratios=(1, 1, 1.1))
    names = [THRESHOLD, *(one for one in regularized(table[table["group"] == AUDIT]) if one != THRESHOLD)]
    for ax, attack in zip(axes, STRICT_CLAMP, strict=False):
        _gains(ax, table, names, attack)
        ax.set_yticks(range(len(names)), [f"{S_TH} as released", *names[1:]] if ax is axes[0] else [], fontsize="small")
    _sizes_against_steps(axes[2], table)
    handles, labels = [
        [*one, *other]
        for one, other in zip(axes[0].get_legend_handles_labels(), axes[2].get_legend_handles_labels(), strict=True)
    ]
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _gains(ax: Axes, table: pd.DataFrame, names: list[str], attack: str) -> None:
    """Accuracy at the largest epsilon minus that of none, mean and interval over seeds, a row for each network."""
    released = table[table["protocol"] == "released"]
    for place, name in enumerate(names):
        gains = gain(released, name, attack, group=AUDIT, epsilon="largest")
        low, high = mean_interval(gains) if len(gains) > 1 else (gains.mean(),) * 2
        colour = LOOKS[THRESHOLD].colour if name == THRESHOLD else "0.3"
        label = f"mean and 95 % interval (n = {len(gains)})" if place == 1 else None
        ax.plot([low, high], [place, place], color=colour, lw=1.5)
        ax.plot(gains.mean(), place, "o", color=colour, label=label, gid=name)
    strict = gain(table[table["protocol"] == "strict"], THRESHOLD, attack, epsilon="largest")
    ax.plot(strict.mean(), -0.35, "D", color=LOOKS[THRESHOLD].colour, mfc="white", label="attack clamped to [0, 1]")
    ax.axvline(0, color="0.7", lw=0.8)
    ax.set(xlabel="Gain in accuracy\nat the largest ε", ylim=(len(names) - 0.5, -0.7))
    ax.set_title(ATTACK_NAMES[attack], fontsize="medium")


def _sizes_against_steps(ax: Axes, table: pd.DataFrame) -> None:
    """Median boundary-attack sizes against steps; dashed, what minimum-norm attacks find."""
    own = against_steps(table)
    steps = sorted(own["steps"].astype(int).unique())
    for name in (NONE, THRESHOLD):
        look = LOOKS[name]
        sizes = [by_seed(own, name, steps=count, metric="median_l2") for count in steps]
        mean, error = pd.Series([one.mean() for one in sizes]), pd.Series([one.sem() for one in sizes])
        label = f"{look.label} (n = {len(sizes[0])})"
        ax.plot(steps, mean, color=look.colour, marker=look.marker, label=label, gid=name)
        shade(ax, steps, mean, error, look.colour)
        ax.axhline(minimal_size(table, name, "l2").mean(), color=look.colour, lw=0.8, ls="--")
    ax.plot([], [], color="0.5", lw=0.8, ls="--", label="minimum-norm attack")
    ax.set(xscale="log", ylim=(0, None), xlabel="Boundary-attack steps", ylabel="Median L2 of the perturbation")


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

"""What is measured of each seed of the polarizing front end, and the claims of figure 21."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from simreg_core.lab.claims import DISSERTATION, Claim
from simreg_core.lab.partial_gains import Measure, accuracy_of, claim
from simreg_core.lab.protocol_of_claims import NOT_INFERIOR
from simreg_core.lab.series import NONE
from simreg_core.lab.specs import ADVERSARIAL
from simreg_core.lab.study import COMPARED

POLARIZING, UNQUANTIZED, UNPOLARIZED = "polarizing", "no quantizer", "no polarization"
FROZEN, PIXELS, DRIFT = "random filters", "quantized pixels", "momentum drift"
WORST, PGD, FGSM, BIM, SQUARE = "worst", "PGD", "FGSM", "BIM", "Square"  # conditions of `FrontEndEvaluation`
AUTHORS, TRANSFERRED = "quantizer: identity", "from surrogate 1"  # likewise
UNTRAINED, STAGE_ONE, STAGE_TWO = "untrained", "after stage one", "after stage two"  # of `PolarizationEvaluation`
CERTIFIED, OTHERS = "certified", "others"
SOURCE = f"{DISSERTATION}, section 4.1"
LOST = "accuracy under the worst attack"
of_series = partial(accuracy_of, attack="front_end")


def pgd_of(series: str) -> str:
    """The condition of the source's PGD: along the gradient, or through a quantizer as the identity."""
    return PGD if series in (NONE, ADVERSARIAL, UNQUANTIZED) else AUTHORS


def of_filters(
    table: pd.DataFrame, group: str, metric: str, series: str = POLARIZING, condition: str | None = None
) -> pd.DataFrame:
    """Rows of what was measured of a front end, sorted by seed.  condition: a stage, CERTIFIED or OTHERS; None: any.

    Raises LookupError where nothing is left.
    """
    rows = table[(table["attack"] == "polarization") & (table["group"] == group) & (table["series"] == series)]
    rows = rows[rows["metric"] == metric]
    rows = rows if condition is None else rows[rows["condition"] == condition]
    if rows.empty:
        raise LookupError(f"no {metric} of '{series}' of '{group}', {condition}")
    return rows.sort_values(["seed", "epsilon"])


def _at_stage(metric: str, condition: str) -> Measure:
    def measure(table: pd.DataFrame, group: str) -> pd.Series:
        return of_filters(table, group, metric, condition=condition).set_index("seed")["value"]

    return measure


def _by_own_gradient(table: pd.DataFrame, group: str) -> pd.Series:
    """The least accuracy, by seed, under one of the attackers who follow the polarizing network itself."""
    rows = table[(table["attack"] == "front_end") & (table["group"] == group) & (table["series"] == POLARIZING)]
    rows = rows[(rows["metric"] == "accuracy") & (rows["role"] == COMPARED)]
    rows = rows[~rows["condition"].isin((WORST, TRANSFERRED, SQUARE, FGSM))]
    return rows.groupby("seed")["value"].min()


def _minus(one: Measure, other: Measure) -> Measure:
    return lambda table, group: one(table, group) - other(table, group)


def _accuracy(series: str, condition: str = WORST, attacked: bool = True) -> Measure:
    return lambda table, group: of_series(table, group, series, condition, attacked)


def over(series: str, base: str, of: Callable[[str], str] = lambda series: WORST) -> Measure:
    """A difference of accuracies under attack.  of: the condition of each series."""
    return _minus(_accuracy(series, of(series)), _accuracy(base, of(base)))


def clean_over(series: str, base: str) -> Measure:
    """A difference of clean accuracies."""
    return _minus(_accuracy(series, attacked=False), _accuracy(base, attacked=False))


def _kept(table: pd.DataFrame, group: str, condition: str) -> pd.DataFrame:
    """The share of images that keep their levels, [seeds, epsilons]; NaN where there is no such image."""
    rows = table[(table["attack"] == "polarization") & (table["group"] == group) & (table["series"] == POLARIZING)]
    seeds, rows = sorted(rows["seed"].unique()), rows[(rows["metric"] == "levels_kept") & (rows["epsilon"] > 0)]
    rows = rows[rows["condition"] == condition]
    return rows.pivot(index="seed", columns="epsilon", values="value").reindex(seeds)


def _proven(table: pd.DataFrame, group: str) -> pd.Series:
    return _kept(table, group, CERTIFIED).min(axis=1) - 1


def _changed(table: pd.DataFrame, group: str) -> pd.Series:
    kept = _kept(table, group, OTHERS)
    return 1 - kept[kept.columns.max()] if len(kept.columns) else pd.Series(float("nan"), index=kept.index)


def _certified_share(table: pd.DataFrame, group: str) -> pd.Series:
    """At the epsilon of comparison."""
    rows = of_filters(table, group, "certified")
    return rows[rows["role"] == COMPARED].set_index("seed")["value"]


def _claim(
    key: str, text: str, statistic: str, measure: Measure, also: dict[str, tuple[str, Measure]], **own: Any
) -> Claim:
    made = claim(key, text, statistic, measure, also, **{"source": SOURCE, "attack": WORST, **own})
    return replace(made, statistic=f"{statistic}, mean over tasks")


CLAIMS = (
    _claim(
        "polarizing-helps",
        "The polarizing front end raises accuracy under attack",
        f"{LOST}, {POLARIZING} minus none",
        over(POLARIZING, NONE),
        {
            "pgd": ("accuracy under PGD, the quantizer as the identity, the same", over(POLARIZING, NONE, pgd_of)),
            "clean": (f"clean accuracy, {POLARIZING} minus none", clean_over(POLARIZING, NONE)),
        },
        published={"MNIST": 0.708, "Fashion-MNIST": 0.4439},
        note="Published: under PGD with the quantizer as the identity, 20 restarts of 100 steps.",
    ),
    _claim(
        "polarizing-below-adversarial",
        "Adversarial training protects more than the front end does",
        f"{LOST}, {ADVERSARIAL} minus {POLARIZING}",
        over(ADVERSARIAL, POLARIZING),
        {"pgd": ("accuracy under PGD, the quantizer as the identity, the same", over(ADVERSARIAL, POLARIZING, pgd_of))},
        published={"MNIST": 0.159, "Fashion-MNIST": 0.296},
        note="Published: under PGD, as for the claim above.",
    ),
    _claim(
        "polarizing-over-pixels",
        "Learned filters protect more than quantized pixels",
        f"{LOST}, {POLARIZING} minus {PIXELS}",
        over(POLARIZING, PIXELS),
        {"clean": (f"clean accuracy, {POLARIZING} minus {PIXELS}", clean_over(POLARIZING, PIXELS))},
        note="The source has no such baseline: if the learned filters are pixels, the defence is input thresholding.",
    ),
    _claim(
        "polarizing-certificate",
        "No attack on the levels changes those of a certified image",
        "share of certified images that keep their levels, the least over ε, minus 1",
        _proven,
        {
            "others": ("share of the other images whose levels change, at the largest ε", _changed),
            "share": ("share of certified images at the ε of the attacks", _certified_share),
        },
        threshold=NOT_INFERIOR,
        not_inferior=True,
        scale="share",
        attack=CERTIFIED,
        note="Proven. The attacks move the activation that is closest to its threshold, and by random signs.",
    ),
    _claim(
        "polarizing-filters",
        "Most filters become pixel-like",
        "share of filters with more than half of their L1 norm in one weight, after stage two",
        _at_stage("pixel_like", STAGE_TWO),
        {
            "grown": (
                "the same minus that of untrained filters",
                _minus(_at_stage("pixel_like", STAGE_TWO), _at_stage("pixel_like", UNTRAINED)),
            ),
        },
        threshold=0.5,
        scale="share",
        published={"Fashion-MNIST": 0.72},
        attack=None,
        note="Published: of the authors' saved filters, 18 of 25. Of those for MNIST 8 of 25, so not most of them.",
    ),
)


def details(table: pd.DataFrame) -> list[Claim]:
    """The positive control, each part of the defence left out, activations near thresholds, the drift, masking."""
    parts = {
        "control": ("Adversarial training raises accuracy under attack", ADVERSARIAL, NONE, "The positive control."),
        "quantizer": ("The quantizer raises accuracy under attack", POLARIZING, UNQUANTIZED, ""),
        "polarization": ("Polarization raises accuracy under attack", POLARIZING, UNPOLARIZED, ""),
        "training": ("Trained filters protect more than random ones", POLARIZING, FROZEN, ""),
    }
    made = [
        _claim(f"polarizing-{key}", text, f"{LOST}, {one} minus {other}", over(one, other), {}, main=False, note=note)
        for key, (text, one, other, note) in parts.items()
    ]
    masked = _minus(_accuracy(POLARIZING, TRANSFERRED), _by_own_gradient)
    drift = _minus(
        lambda table, group: of_filters(table, group, "drift", DRIFT).set_index("seed")["value"],
        lambda table, group: of_filters(table, group, "drift").set_index("seed")["value"],
    )
    danger = _minus(_at_stage("danger", STAGE_ONE), _at_stage("danger", STAGE_TWO))
    return [
        *made,
        _claim(
            "polarizing-danger",
            "Stage two moves activations away from the thresholds",
            "share of activations closer than ε to a threshold, after stage one minus after stage two",
            danger,
            {},
            main=False,
            scale="share",
            published={"MNIST": 0.181, "Fashion-MNIST": 0.07},
            attack=STAGE_ONE,
        ),
        _claim(
            "polarizing-drift",
            "Momentum moves filters after they are frozen",
            "largest change of a weight in stage three, as released minus exactly frozen",
            drift,
            {},
            main=False,
            scale="share",
            attack=None,
        ),
        _claim(
            "polarizing-not-masked",
            "Attacks on the network itself fool it more than transferred ones",
            "accuracy under PGD from the network without quantizer minus under the strongest attack on itself",
            masked,
            {},
            main=False,
        ),
    ]

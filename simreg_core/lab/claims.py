"""What the measured seeds say of a claim: a statistic of each seed, a t-interval, a verdict."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from simreg_core.lab.series import NONE

CONFIDENCE = 0.95
# Accuracies of a few dozen images are multiples of some hundredths: two seeds often agree exactly, and an interval
# without width would decide. Three seldom do; their interval is wide (4.3 standard errors) but covers.
FEWEST_SEEDS = 3
VERDICTS = ("holds", "does not hold", "undecided")
ATTACKS = {"gaussian": "Gaussian noise", "fgsm": "transferred FGSM", "boundary": "the boundary attack"}
OURS = "not in the paper"
GAIN = "accuracy at the largest ε, S^Th minus none"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim, and how it is checked.

    key: its name in the JSON files.  text: one sentence.  source: where the paper states it.
    statistic: what `measure` computes of each seed, in words.  measure: the statistic by seed, from a study's table.
    threshold: the claim asks for a statistic above it.  published: the statistic of the published curves, where they
    could be read off.  main: whether it stands in the table of claims, or in its notebook only.
    confidence: of the interval that decides; above 95 % where the statistic is the best of several for the claim.
    protocols: under which it is measured.  conditions: it is judged where the table has one of them; empty: always.
    strict_in: where its verdict under the strict protocol is found, if it is another claim's: (notebook, key).
    """

    key: str
    text: str
    source: str
    statistic: str
    measure: Callable
    threshold: float = 0.0
    published: float | None = None
    main: bool = True
    confidence: float = CONFIDENCE
    protocols: tuple[str, ...] = ("released", "strict")
    conditions: tuple[str, ...] = ()
    strict_in: tuple[str, str] | None = None


@dataclass(frozen=True)
class Verdict:
    """A claim and what the measured seeds say of it.

    estimate, low, high: mean over seeds and its t-interval (95 %, if `statistic` names no other).
    n: seeds, or what `unit` says.
    verdict: one of VERDICTS.  strict: the verdict under the strict protocol, where that is measured too.
    protocol: under which the verdict was measured; None where nothing is attacked.
    The rest as in `Claim`.
    """

    claim: str
    source: str
    statistic: str
    threshold: float
    estimate: float
    low: float
    high: float
    n: int
    verdict: str
    key: str = ""
    published: float | None = None
    main: bool = False
    unit: str = "seeds"
    strict: str | None = None
    protocol: str | None = None

    def __str__(self) -> str:
        return (
            f"{self.verdict.upper():14} {self.claim}\n{'':14} {self.statistic}: {self.estimate:.3f} "
            f"[{self.low:.3f}, {self.high:.3f}], n = {self.n} {self.unit}; asked: > {self.threshold:g} ({self.source})"
        )

    def as_dict(self) -> dict:
        """Plain values, for JSON; a number that is not finite is None."""
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def mean_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """t-interval of the mean: it covers as often as it says where the values are normally distributed.

    values: [n], the statistic of each seed (a difference or ratio: of the same seed), n >= 2, finite.
    confidence: in (0, 1).
    Raises ValueError for fewer than two values, or values that are not finite.
    """
    from scipy.special import stdtrit  # here: its import takes longer than to plan, which needs none

    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least two of them, got {values.size}")
    if not np.isfinite(values).all():
        raise ValueError("an interval needs finite values; count failures before averaging")
    reach = stdtrit(len(values) - 1, (1 + confidence) / 2) * (values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean() - reach), float(values.mean() + reach)


def judge(claim: Claim, values: np.ndarray | pd.Series, unit: str = "seeds") -> Verdict:
    """Holds where the whole interval lies above the threshold, does not hold where it lies below.

    values: the statistic of each seed, [n]; with fewer than FEWEST_SEEDS, or a value that is not finite (every image
        failed), the verdict is 'undecided'.
    """
    values = np.asarray(values, dtype=float)
    finite = bool(np.isfinite(values).all()) and len(values) > 1
    low, high = mean_interval(values, claim.confidence) if finite else (float("nan"), float("nan"))
    verdict = side_of(low, high, claim.threshold) if finite and len(values) >= FEWEST_SEEDS else "undecided"
    mean = float(np.mean(values)) if len(values) else float("nan")
    return Verdict(
        claim.text, claim.source, claim.statistic, claim.threshold, mean, low, high, len(values), verdict,
        claim.key, claim.published, claim.main, unit,
    )  # fmt: skip


def side_of(low: float, high: float, threshold: float) -> str:
    """The verdict of an interval."""
    if low > threshold:
        return "holds"
    return "does not hold" if high < threshold else "undecided"


def verdicts(claims: Iterable[Claim], table: pd.DataFrame, protocol: str) -> list[Verdict]:
    """What a study's table says of claims under a protocol, and under the strict one, where that is measured too.

    A claim that is not measured under the protocol is left out.
    Raises LookupError where the table lacks a number that a claim is measured on.
    """
    own, strict = table[table["protocol"] == protocol], table[table["protocol"] == "strict"]
    found = []
    for claim in claims:
        if protocol not in claim.protocols:
            continue
        if claim.conditions and not set(claim.conditions) & set(own["condition"]):
            continue
        verdict = judge(claim, claim.measure(own))
        both = "strict" in claim.protocols and len(strict)
        under_strict = judge(claim, claim.measure(strict)).verdict if both else None
        found.append(replace(verdict, strict=under_strict, protocol=protocol))
    return found


def as_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """Verdicts for a notebook: claim, statistic, mean with its interval, what is asked, verdict."""
    return pd.DataFrame(
        {
            "claim": verdict.claim,
            "statistic": verdict.statistic,
            "mean [95 % interval]": f"{verdict.estimate:.3f} [{verdict.low:.3f}, {verdict.high:.3f}]",
            "asked": f"> {verdict.threshold:g}",
            "published": "" if verdict.published is None else f"{verdict.published:.3f}",
            "n": verdict.n,
            "verdict": verdict.verdict,
        }
        for verdict in verdicts
    )


# What is measured of each seed


def by_seed(table: pd.DataFrame, series: str, **where) -> pd.Series:
    """Values of one series by seed, repeats averaged.

    where: column = value; epsilon may be 'largest' or 'zero'.
    Raises LookupError where nothing is left.
    """
    rows = table[table["series"] == series]
    epsilon = where.pop("epsilon", None)
    for column, value in where.items():
        rows = rows[rows[column] == value]
    if epsilon is not None:
        rows = rows[rows["epsilon"] == (rows["epsilon"].max() if epsilon == "largest" else 0)]
    if rows.empty:
        raise LookupError(f"no measurement of series '{series}' with {where}")
    return rows.groupby("seed")["value"].mean()


def accuracy(table: pd.DataFrame, series: str, attack: str, epsilon: str = "largest", **where) -> pd.Series:
    """Accuracy by seed."""
    return by_seed(table, series, attack=attack, metric="accuracy", epsilon=epsilon, **where)


def robustness(table: pd.DataFrame, series: str, attack: str, **where) -> pd.Series:
    """Accuracy at the largest epsilon, or the median squared size of the boundary attack, by seed."""
    if attack == "boundary":
        return by_seed(table, series, attack=attack, metric="median_squared_l2_per_pixel", **where)
    return accuracy(table, series, attack, **where)


def gain(table: pd.DataFrame, series: str, attack: str, over: str = NONE, **where) -> pd.Series:
    """Difference of accuracies, or ratio of boundary-attack sizes, by seed."""
    one, other = paired(*(robustness(table, name, attack, **where) for name in (series, over)))
    return one / other if attack == "boundary" else one - other


def paired(one: pd.Series, other: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Two statistics by seed, of the seeds that both have."""
    return one.align(other, join="inner")


def weakest(of_each: Iterable[pd.Series]) -> pd.Series:
    """The least favourable of several statistics that are to lie above zero.

    It is the statistic whose interval lies wholly below zero, or else reaches lowest: a claim then holds of all where
    it holds of this one, whatever their spreads.
    """

    def support(values: pd.Series) -> tuple[bool, float]:
        finite = len(values) > 1 and np.isfinite(values).all()
        low, high = mean_interval(values) if finite else (values.mean(), values.mean())
        return bool(high >= 0), float(low)

    return min(of_each, key=support)


def regularized(table: pd.DataFrame) -> list[str]:
    """The series of a table but the unregularized one."""
    return [series for series in table["series"].unique() if series != NONE]


def weakest_gain(table: pd.DataFrame, attack: str = "gaussian") -> pd.Series:
    """Gain of the series that gains least."""
    return weakest(gain(table, series, attack) for series in regularized(table))

"""What the measured seeds say of a claim: an effect with its t-interval, a verdict, and what else to know of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd

from simreg_core.lab.protocol_of_claims import (
    CONFIDENCE,
    FEWEST_SEEDS,
    HEADLINE,
    MARGINS,
    POWER,
    PUBLISHED_ENDS,
    SEEDS,
    SHARE_OF_PUBLISHED,
)
from simreg_core.lab.specs import MAIN_SETTING, Choice

REPRODUCED, SMALLER, DIRECTION = "reproduced", "same direction, smaller", "direction holds"
NO_EFFECT, CONTRADICTED, UNDECIDED = "no effect", "contradicted", "not decided here"
VERDICTS = (REPRODUCED, SMALLER, DIRECTION, NO_EFFECT, CONTRADICTED, UNDECIDED)
NOT_ACCEPTED, NOT_MEASURED = "not accepted", "not measured"  # in place of a verdict
HOLDS = (REPRODUCED, SMALLER, DIRECTION)
OURS, DISSERTATION = "not in the paper", "Bakiskan 2022"  # sources; of the latter with its section
GROUPS = {"headline": "The paper's headline", "paper": "The paper's further claims", "ours": "Ours"}
GROUPS |= {"dissertation": "The dissertation's"}
PLANNED_SEEDS = {**SEEDS, "dissertation": 5, "all defences": 5}  # of quick
ROUNDING = 1e-12  # of binary fractions: 0.92 - 0.9 is a little more than 0.02


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """A number beside a claim's primary one: shown with its interval, never judged.

    published: its published value by task.
    """

    key: str
    statistic: str
    measure: Callable
    published: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim, and how it is checked.

    key: its name in the JSON files.  text: one sentence that says what is measured.  source: where the paper states it.
    note: what a reader may want to know of its definition, for docs/claims.md.
    statistic: what `measure` computes of each seed, in words.  measure: the statistic by seed, from a study's table.
    threshold: the claim asks for a statistic above it.  scale: a key of MARGINS.
    published: the statistic of the published curves by task, where they could be read off.
    also: secondary statistics.
    parts: the members of a claim of all sets, tasks, ...: by name, each by seed. The claim is contradicted where one
    of them surely lies on the wrong side (a Bonferroni interval).
    not_inferior: it asks for a loss that is smaller than the margin; then no interval is 'no effect'.
    main: whether it stands in the table of claims, or in its notebook only.
    confidence: of the interval that decides; above 95 % where the statistic is the best of several for the claim.
    protocols: under which it is measured.  conditions: it is judged where the table has one of them; empty: always.
    strict_in: where its verdict under the strict protocol is found, if it is another claim's: (notebook, key).
    attack: whose images are counted, a value of the table's column 'attack' or 'condition'.  images_in: the group of
        rows in which they are counted; None: all.
    setting: the choice of α and Th that it rests on, by its name in the profile; None: on none.
    prefix: before the names of settings, where the profile names the choices of another task.
    task: under whose name its effect is published; None: the profile's.
    seeds: how many quick plans for it; None: as many as for its group.
    """

    key: str
    text: str
    source: str
    statistic: str
    measure: Callable
    threshold: float = 0.0
    scale: str = "accuracy"
    published: Mapping[str, float] = field(default_factory=dict)
    also: tuple[Statistic, ...] = ()
    parts: Callable[..., dict[str, pd.Series]] | None = None
    note: str = ""
    not_inferior: bool = False
    main: bool = True
    confidence: float = CONFIDENCE
    protocols: tuple[str, ...] = ("released", "strict")
    conditions: tuple[str, ...] = ()
    strict_in: tuple[str, str] | None = None
    attack: str | None = None
    images_in: str | None = None
    setting: str | None = MAIN_SETTING
    prefix: str = ""
    task: str | None = None
    seeds: int | None = None

    @property
    def group(self) -> str:
        """A key of GROUPS."""
        if self.source.startswith(DISSERTATION):
            return "dissertation"
        return "headline" if self.key in HEADLINE else "ours" if self.source == OURS else "paper"

    @property
    def margin(self) -> float | None:
        """Half the width of what counts as no effect; None of a claim of non-inferiority."""
        return None if self.not_inferior else MARGINS[self.scale]


@dataclass(frozen=True)
class Circumstances:
    """What a profile says that verdicts depend on.

    task: under whose name effects are published.  chosen: how each setting's α and Th were chosen.
    """

    task: str | None = None
    chosen: Mapping[str, Choice] = field(default_factory=dict)

    def choice(self, name: str | None, prefix: str = "") -> Choice | None:
        """The choice of a setting; of one that is not named, that without the prefix, or of the main setting.

        None: no choice.
        """
        if name is None:
            return None
        names = (prefix + name, name, MAIN_SETTING)
        return next((self.chosen[one] for one in names if one in self.chosen), None)

    def rejected(self, prefix: str = "") -> list[str]:
        """The settings that the criterion did not accept, without the prefix."""
        names = dict.fromkeys(name.removeprefix(prefix) for name in self.chosen)
        return [name for name in names if not self.choice(name, prefix).accepted]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A claim and what the measured seeds say of it.

    estimate, low, high: mean over seeds and its interval.  n: seeds, or what `unit` says; planned: of quick.
    images: the fewest behind one of its numbers.  detectable: the smallest effect, as a distance from the threshold,
    that this n and spread would have found with 80 % power.
    verdict: one of VERDICTS, or NOT_ACCEPTED.  strict: the same under the strict protocol, where that is measured too.
    protocol: under which the verdict was measured; None where nothing is attacked.
    same: the published effect, where it is of the same task and grid of ε.
    also: the secondary statistics; of a claim with parts, the least favourable one too.
    chosen: how α and Th were chosen.  left_out: parts whose setting was not accepted.
    The rest as in `Claim`.
    """

    key: str
    claim: str
    source: str
    group: str
    statistic: str
    scale: str
    threshold: float
    margin: float | None
    estimate: float
    low: float
    high: float
    n: int
    unit: str = "seeds"
    planned: int | None = None
    images: int | None = None
    detectable: float | None = None
    verdict: str
    strict: str | None = None
    protocol: str | None = None
    published: dict[str, float] = field(default_factory=dict)
    same: float | None = None
    also: tuple[dict, ...] = ()
    chosen: str | None = None
    left_out: tuple[str, ...] = ()
    main: bool = False

    def __str__(self) -> str:
        return (
            f"{self.verdict.upper():24} {self.claim}\n{'':24} {self.statistic}: {self.estimate:.3f} "
            f"[{self.low:.3f}, {self.high:.3f}], n = {self.n} {self.unit}; asked: > {self.threshold:g} ({self.source})"
        )

    def as_dict(self) -> dict:
        """Plain values, for JSON; a number that is not finite is None."""
        return _plain(asdict(self))


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


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


def smallest_detectable(values: np.ndarray, confidence: float = CONFIDENCE) -> float:
    """The effect that a paired t-test with this n and spread finds with 80 % power.

    values: [n], n >= 2, finite.  The far tail of the two-sided test, less than a thousandth here, is left out.
    """
    from scipy.special import nctdtrinc, stdtrit

    values = np.asarray(values, dtype=float)
    n = len(values)
    shift = nctdtrinc(n - 1, 1 - POWER, stdtrit(n - 1, (1 + confidence) / 2))
    return float(shift * values.std(ddof=1) / np.sqrt(n))


def rule(
    estimate: float, low: float, high: float, threshold: float, margin: float | None, published: float | None = None
) -> str:
    """The verdict of an effect with its interval.  The first rule that fits decides.

    margin: None where no interval counts as no effect.  published: the effect on the same task; None: there is none.
    """
    if low > threshold:
        if published is None:
            return DIRECTION
        half = SHARE_OF_PUBLISHED * (published - threshold)
        return REPRODUCED if estimate - threshold >= half - ROUNDING else SMALLER
    if is_within(low, high, threshold, margin):
        return NO_EFFECT
    return CONTRADICTED if high < threshold else UNDECIDED


def is_within(low: float | None, high: float, threshold: float, margin: float | None) -> bool:
    """Whether an interval lies within what counts as no effect.  low: None or NaN of no interval."""
    if margin is None or low is None:
        return False
    return bool(low >= threshold - margin - ROUNDING and high <= threshold + margin + ROUNDING)


def judge(
    claim: Claim,
    values: np.ndarray | pd.Series,
    unit: str = "seeds",
    published: float | None = None,
    parts: Mapping[str, pd.Series] | None = None,
) -> Verdict:
    """The verdict of `rule`; of a claim with parts, contradicted where one of them surely is.

    values: the statistic of each seed, [n]; with fewer than FEWEST_SEEDS, or a value that is not finite (every image
        failed), nothing is decided.
    published: the effect on the same task.
    """
    estimate, low, high = interval_of(values, claim.confidence)
    decides = len(values) >= FEWEST_SEEDS and np.isfinite(low)
    verdict = rule(estimate, low, high, claim.threshold, claim.margin, published) if decides else UNDECIDED
    least = _least_favourable(claim, parts) if parts else None
    if least is not None and least["verdict"] == CONTRADICTED:
        verdict = CONTRADICTED
    return verdict_of(
        claim,
        estimate=estimate,
        low=low,
        high=high,
        n=len(values),
        unit=unit,
        planned=(claim.seeds or PLANNED_SEEDS[claim.group]) if unit == "seeds" else None,
        detectable=smallest_detectable(values, claim.confidence) if np.isfinite(low) else None,
        verdict=verdict,
        same=published,
        also=() if least is None else (least,),
    )


def verdict_of(claim: Claim, **measured) -> Verdict:
    """A verdict with what the claim says of itself."""
    names = ("key", "source", "group", "scale", "threshold", "margin", "main")
    said = {name: getattr(claim, name) for name in names}
    return Verdict(
        **{**said, "claim": claim.text, "statistic": claim.statistic, "published": dict(claim.published), **measured}
    )


def interval_of(values: np.ndarray | pd.Series, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Mean and interval; NaN where there is none."""
    values = np.asarray(values, dtype=float)
    mean = float(np.mean(values)) if len(values) else float("nan")
    if len(values) < 2 or not np.isfinite(values).all():
        return mean, float("nan"), float("nan")
    return mean, *mean_interval(values, confidence)


def _least_favourable(claim: Claim, parts: Mapping[str, pd.Series]) -> dict | None:
    """The part whose interval reaches lowest, one that is surely on the wrong side first."""
    confidence = 1 - (1 - CONFIDENCE) / len(parts)
    found = []
    for name, values in parts.items():
        estimate, low, high = interval_of(values, confidence)
        decides = len(values) >= FEWEST_SEEDS and np.isfinite(low)
        verdict = rule(estimate, low, high, claim.threshold, claim.margin) if decides else UNDECIDED
        widened = f" (interval: {confidence:.1%}, as {len(parts)} are looked at)" if len(parts) > 1 else ""
        words = f"the least favourable: {name}{widened}"
        row = {"key": "least-favourable", "statistic": words, "estimate": estimate, "low": low, "high": high}
        found.append({**row, "n": len(values), "published": {}, "verdict": verdict})
    order = {True: 0, False: 1}
    return min(found, key=lambda row: (order[row["verdict"] == CONTRADICTED], row["low"]), default=None)


def verdicts(
    claims: Iterable[Claim], table: pd.DataFrame, protocol: str, where: Circumstances | None = None
) -> list[Verdict]:
    """What a study's table says of claims under a protocol, and under the strict one, where that is measured too.

    A claim that is not measured under the protocol is left out.
    Raises LookupError where the table lacks a number that a claim is measured on.
    """
    where = where or Circumstances()
    own, strict = table[table["protocol"] == protocol], table[table["protocol"] == "strict"]
    found = []
    for claim in claims:
        if protocol not in claim.protocols:
            continue
        if claim.conditions and not set(claim.conditions) & set(own["condition"]):
            continue
        verdict = _of_table(claim, own, where)
        both = "strict" in claim.protocols and len(strict)
        under_strict = _of_table(claim, strict, where, beside=False).verdict if both else None
        found.append(replace(verdict, strict=under_strict, protocol=protocol))
    return found


def _of_table(claim: Claim, table: pd.DataFrame, where: Circumstances, beside: bool = True) -> Verdict:
    """A claim's verdict; what rests on a setting that the criterion rejected is left out, or has none.

    beside: whether the secondary statistics are wanted too.
    """
    choice, rejected = where.choice(claim.setting, claim.prefix), where.rejected(claim.prefix)
    accepted, left_out = choice is None or choice.accepted, ()
    if claim.parts is not None and rejected:
        column = "group" if "group" in table and set(table["group"]) & set(rejected) else "series"
        kept = table[~table[column].isin(rejected)]
        left_out = tuple(sorted(set(table[column]) & set(rejected)))
        accepted = accepted and bool(claim.parts(kept))
        table = kept if accepted else table
    parts = claim.parts(table) if claim.parts is not None else None
    verdict = judge(claim, claim.measure(table), published=_same_task(claim, table, where), parts=parts)
    also = [_beside(one, table) for one in claim.also] if beside else []
    return replace(
        verdict,
        also=(*also, *verdict.also),
        images=images_of(table, claim.attack, claim.images_in),
        chosen=None if choice is None else choice.how,
        left_out=left_out,
        verdict=verdict.verdict if accepted else NOT_ACCEPTED,
    )


def _beside(one: Statistic, table: pd.DataFrame) -> dict:
    values = one.measure(table)
    row = dict(zip(("estimate", "low", "high"), interval_of(values), strict=True))
    return {"key": one.key, "statistic": one.statistic, **row, "n": len(values), "published": dict(one.published)}


def _rows_of(table: pd.DataFrame, attack: str) -> pd.DataFrame:
    chosen = table["attack"] == attack
    return table[chosen | (table["condition"] == attack)] if "condition" in table else table[chosen]


def _same_task(claim: Claim, table: pd.DataFrame, where: Circumstances) -> float | None:
    """The published effect on the same task, over the same grid of ε."""
    task = claim.task or where.task
    end = PUBLISHED_ENDS.get((task, claim.attack))
    if end is not None and not np.isclose(_rows_of(table, claim.attack)["epsilon"].max(), end):
        return None
    return claim.published.get(task)


def images_of(table: pd.DataFrame, attack: str | None, group: str | None = None) -> int | None:
    """The fewest images behind a number of an attack, in a group if one is named; None where no attack is named."""
    if attack is None or "attempted" not in table:
        return None
    own = table if group is None else table[table["group"] == group]
    fewest = _rows_of(own, attack)["attempted"].min()
    return None if np.isnan(fewest) else int(fewest)


def number(row: Mapping) -> str:
    """'0.100 [0.020, 0.180]'; 'not measurable' where it is not finite.  row: with estimate, low and high."""
    estimate, low, high = (row[name] for name in ("estimate", "low", "high"))
    if low is None or not np.isfinite(low):
        return "not measurable"
    return f"{estimate:.3f} [{low:.3f}, {high:.3f}]"

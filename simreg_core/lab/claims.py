"""The paper's claims as checks: a statistic for each seed, a bootstrap interval, a verdict."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from simreg_core.lab.studies import NONE, PIXEL, THRESHOLD

RESAMPLES = 10_000
CONFIDENCE = 0.95
FEWEST_SEEDS = 4  # with two or three, a bootstrap interval says little more than that all agree in sign
VERDICTS = ("holds", "does not hold", "undecided")


@dataclass(frozen=True)
class Verdict:
    """A claim and what the measured seeds say of it.

    claim: one sentence.  source: where the paper states it.  statistic: what was computed of each seed.
    threshold: the claim asks for a statistic above it.  estimate, low, high: mean over seeds and its 95 %
    bootstrap interval (over seeds).  n: seeds.  verdict: one of VERDICTS.
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

    def __str__(self) -> str:
        return (
            f"{self.verdict.upper():14} {self.claim}\n{'':14} {self.statistic}: {self.estimate:.3f} "
            f"[{self.low:.3f}, {self.high:.3f}], n = {self.n} seeds; asked: > {self.threshold:g} ({self.source})"
        )

    def as_dict(self) -> dict:
        """Plain values, for JSON; a number that is not finite is None."""
        return {
            name: None if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def bootstrap_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    values: [n], one for each seed, n >= 2, finite.  With few seeds it is too narrow rather than too wide.
    Raises ValueError for fewer than two values, or values that are not finite.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least two of them, got {values.size}")
    if not np.isfinite(values).all():
        raise ValueError("an interval needs finite values; count failures before averaging")
    generator = np.random.default_rng(0)  # a fixed stream: the same interval on every run
    means = values[generator.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def judge(claim: str, source: str, statistic: str, values: np.ndarray, threshold: float) -> Verdict:
    """Holds where the whole interval lies above the threshold, does not hold where it lies below.

    values: the statistic of each seed, [n]; with fewer than four, or one that is not finite (every image failed),
        the verdict is 'undecided'.
    """
    finite = bool(np.isfinite(values).all()) and len(values) > 1
    low, high = bootstrap_interval(values) if finite else (float("nan"), float("nan"))
    if not finite or len(values) < FEWEST_SEEDS:
        verdict = "undecided"
    elif low > threshold:
        verdict = "holds"
    elif high < threshold:
        verdict = "does not hold"
    else:
        verdict = "undecided"
    mean = float(np.mean(values)) if len(values) else float("nan")
    return Verdict(claim, source, statistic, threshold, mean, low, high, len(values), verdict)


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


def attack_claims(table: pd.DataFrame, protocol: str) -> list[Verdict]:
    """The claims of the attack figure.  table: of `studies.attack_curves`."""

    def accuracy(series: str, attack: str, epsilon: str = "largest") -> pd.Series:
        return by_seed(table, series, attack=attack, protocol=protocol, metric="accuracy", epsilon=epsilon)

    def size(series: str) -> pd.Series:
        return by_seed(table, series, attack="boundary", metric="median_squared_l2_per_pixel")

    gain = "accuracy at the largest ε, S^Th minus none"
    claims = [
        ("S^Th makes the network robust to Gaussian noise", "v2 Fig. 3", gain,
         accuracy(THRESHOLD, "gaussian") - accuracy(NONE, "gaussian"), 0.0),
        ("S^Th makes the network robust to transferred FGSM", "v2 Fig. 3", gain,
         accuracy(THRESHOLD, "fgsm") - accuracy(NONE, "fgsm"), 0.0),
        ("S^Th makes boundary-attack perturbations larger", "v2 Fig. 3", "median squared L2 per pixel, S^Th over none",
         size(THRESHOLD) / size(NONE), 1.0),
        ("S^Th costs little clean accuracy", "v2 Fig. 4 (A_0 = 0.9)", "clean accuracy, S^Th over none",
         accuracy(THRESHOLD, "gaussian", "zero") / accuracy(NONE, "gaussian", "zero"), 0.9),
        ("S^Th protects against Gaussian noise better than S^pixel", "v2 Fig. 3",
         "accuracy at the largest ε, S^Th minus S^pixel",
         accuracy(THRESHOLD, "gaussian") - accuracy(PIXEL, "gaussian"), 0.0),
    ]  # fmt: skip
    if protocol == "strict":  # the 50-step boundary attack is measured under 'released' alone
        claims.pop(2)
    return [judge(claim, source, what, np.asarray(values), asked) for claim, source, what, values, asked in claims]


def spectrum_claims(table: pd.DataFrame) -> list[Verdict]:
    """The claim of the spectra.  table: of `studies.frequency_spectra`."""

    def frequency(series: str) -> pd.Series:
        return by_seed(table, series, metric="half_power_frequency")

    return [
        judge(
            f"Fooling {series} takes lower frequencies than fooling an unregularized network",
            "v2 Fig. 7",
            f"half-power frequency, none minus {series}, in corner radii",
            (frequency(NONE) - frequency(series)).dropna().to_numpy(),
            0.0,
        )
        for series in (THRESHOLD, PIXEL)
    ]


def batch_size_claims(table: pd.DataFrame) -> list[Verdict]:
    """Every k helps against every attack.  table: of `studies.batch_size_study`."""
    ks = [series for series in table["series"].unique() if series != NONE]
    verdicts = []
    for attack, name in (("gaussian", "Gaussian noise"), ("fgsm", "transferred FGSM")):
        measured = {"attack": attack, "metric": "accuracy", "epsilon": "largest"}
        for k in ks:
            gain = by_seed(table, k, **measured) - by_seed(table, NONE, **measured)
            verdicts.append(
                judge(
                    f"{k} pairs a step help against {name}",
                    "v2 Fig. 8",
                    "accuracy at the largest ε, regularized minus none",
                    gain.to_numpy(),
                    0.0,
                )
            )
    for k in ks:
        sizes = [by_seed(table, s, attack="boundary", metric="median_squared_l2_per_pixel") for s in (k, NONE)]
        verdicts.append(
            judge(
                f"{k} pairs a step make boundary-attack perturbations larger",
                "v2 Fig. 8",
                "median squared L2 per pixel, regularized over none",
                (sizes[0] / sizes[1]).to_numpy(),
                1.0,
            )
        )
    return verdicts


def as_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """Verdicts for a notebook: claim, statistic, mean with its interval, what is asked, verdict."""
    return pd.DataFrame(
        {
            "claim": verdict.claim,
            "statistic": verdict.statistic,
            "mean [95 % interval]": f"{verdict.estimate:.3f} [{verdict.low:.3f}, {verdict.high:.3f}]",
            "asked": f"> {verdict.threshold:g}",
            "seeds": verdict.n,
            "verdict": verdict.verdict,
        }
        for verdict in verdicts
    )

"""The paper's claims as data: what is measured of each training seed, a t-interval, a verdict."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from simreg_core.lab.specs import ADVERSARIAL, NOISE
from simreg_core.lab.studies import (
    ALL_CHANGED,
    AUDIT,
    CROP,
    FULL_FRAME,
    HIGH,
    LOW,
    MAIN_TASK,
    NEURAL,
    NO_LOSS,
    NONE,
    PIXEL,
    RECOVERY,
    SHUFFLED,
    SHUFFLED_NEURAL,
    STEPS,
    THRESHOLD,
    ZERO,
    rank_correlations,
)
from simreg_core.names import GROUPS

CONFIDENCE = 0.95
# Accuracies of a few dozen images are multiples of some hundredths: two seeds often agree exactly, and an interval
# without width would decide. Three seldom do; their interval is wide (4.3 standard errors) but covers.
FEWEST_SEEDS = 3
NOT_INFERIOR = -0.02  # "an alternative to" asks that no more than this accuracy is lost against the other
VERDICTS = ("holds", "does not hold", "undecided")
NOT_MEASURED = "not measured"
BARS_SEVERITY = 4  # of the paper's bars by frequency group
ATTACKS = {"gaussian": "Gaussian noise", "fgsm": "transferred FGSM", "boundary": "the boundary attack"}
OURS = "not in the paper"
AUTOATTACKS = ("AutoAttack", "AutoAttack, reduced")  # whichever a profile has: it is slow
SIMILARITY = "01_pixel_vs_neural_similarity"
PRINTED_R = 0.83  # in the text of v2 and the abstract's figure
MATRICES_R = 0.51  # read off the paper's own printed 100x100 matrices by inverting their colours; interval 0.43 to 0.59
OF_THREE = 1 - (1 - CONFIDENCE) / len(ATTACKS)  # Bonferroni: the attack was chosen for the claim among three

Measure = Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Claim:
    """A claim, and how it is checked.

    key: its name in the JSON files.  notebook: where it is measured.  claim: one sentence.
    source: where the paper states it.  statistic: what `measure` computes of each seed, in words.
    threshold: the claim asks for a statistic above it.  published: the statistic of the published curves, where they
    could be read off.  main: whether it stands in the table of claims, or in its notebook alone.
    confidence: of the interval that decides; above 95 % where the statistic is the best of several for the claim.
    """

    key: str
    notebook: str
    claim: str
    source: str
    statistic: str
    threshold: float
    measure: Measure | None
    published: float | None = None
    main: bool = True
    confidence: float = CONFIDENCE


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
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least two of them, got {values.size}")
    if not np.isfinite(values).all():
        raise ValueError("an interval needs finite values; count failures before averaging")
    reach = stdtrit(len(values) - 1, (1 + confidence) / 2) * (values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean() - reach), float(values.mean() + reach)


def judge(claim: Claim, values: np.ndarray, unit: str = "seeds") -> Verdict:
    """Holds where the whole interval lies above the threshold, does not hold where it lies below.

    values: the statistic of each seed, [n]; with fewer than FEWEST_SEEDS, or a value that is not finite (every image
        failed), the verdict is 'undecided'.
    """
    values = np.asarray(values, dtype=float)
    finite = bool(np.isfinite(values).all()) and len(values) > 1
    low, high = mean_interval(values, claim.confidence) if finite else (float("nan"), float("nan"))
    verdict = _side(low, high, claim.threshold) if finite and len(values) >= FEWEST_SEEDS else "undecided"
    mean = float(np.mean(values)) if len(values) else float("nan")
    return Verdict(
        claim.claim, claim.source, claim.statistic, claim.threshold, mean, low, high, len(values), verdict,
        claim.key, claim.published, claim.main, unit,
    )  # fmt: skip


def _side(low: float, high: float, threshold: float) -> str:
    """The verdict of an interval."""
    if low > threshold:
        return "holds"
    return "does not hold" if high < threshold else "undecided"


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


def _clean_ratio(table: pd.DataFrame) -> pd.Series:
    return accuracy(table, THRESHOLD, "gaussian", "zero") / accuracy(table, NONE, "gaussian", "zero")


def _pixel_shortfall(table: pd.DataFrame) -> pd.Series:
    """1 - S^pixel / none at the attack where S^pixel does worst: the choice favours the claim (see OF_THREE)."""
    both = [paired(robustness(table, PIXEL, attack), robustness(table, NONE, attack)) for attack in ATTACKS]
    ratios = [pixel / none for pixel, none in both]
    return 1 - min(ratios, key=lambda ratio: ratio.mean())


def _weakest_rank_correlation(table: pd.DataFrame) -> pd.Series:
    correlations = rank_correlations(table)
    return weakest(own.set_index("seed")["correlation"] for _, own in correlations.groupby("attack"))


def group_gain(table: pd.DataFrame, series: str, group: str, severity: int = BARS_SEVERITY) -> pd.Series:
    """Gain in accuracy by seed, mean over the corruptions of a frequency group ('low', 'medium', 'high')."""
    own = table[table["corruption"].isin(GROUPS[group])]
    one, other = (by_seed(own, name, metric="accuracy", severity=severity) for name in (series, NONE))
    return one - other


def _high_group_lead(table: pd.DataFrame) -> pd.Series:
    own = table[table["attack"] == "corruption"]

    def lead(series: str) -> pd.Series:
        low, medium, high = (group_gain(own, series, group) for group in ("low", "medium", "high"))
        return high - max(low, medium, key=lambda values: values.mean())

    return weakest(lead(series) for series in regularized(own))


def _half_power_drop(table: pd.DataFrame) -> pd.Series:
    frequency = {name: by_seed(table, name, metric="half_power_frequency") for name in (NONE, THRESHOLD)}
    return (frequency[NONE] - frequency[THRESHOLD]).dropna()


def image_counts(table: pd.DataFrame) -> tuple[str, str, str]:
    """The smallest, the middle and the largest N of a table of `studies.image_count_study`."""
    counts = sorted(regularized(table), key=lambda series: int(series.split("=")[1]))
    return counts[0], counts[len(counts) // 2], counts[-1]


def _count_suffices(table: pd.DataFrame) -> pd.Series:
    """Gaussian gain of the middle N less half that of the largest N, or, if smaller, the gain of the largest itself.

    Where the largest N does not help, no number suffices.
    """
    _, middle, largest = (gain(table, name, "gaussian") for name in image_counts(table))
    return weakest([middle - largest / 2, largest])


def _count_too_small(table: pd.DataFrame) -> pd.Series:
    """Half the Gaussian gain of the largest N less that of the smallest N, or, if smaller, the gain of the largest.

    Where the largest N does not help, the smallest is not what lacks.
    """
    smallest, _, largest = (gain(table, name, "gaussian") for name in image_counts(table))
    return weakest([largest / 2 - smallest, largest])


def low_layers_lead(table: pd.DataFrame, series: str) -> pd.Series:
    """gamma of the two lowest of the five maps minus that of the two highest, after training."""
    layers = [by_seed(table, series, metric="layer_weight", layer=layer) for layer in range(5)]
    return layers[0] + layers[1] - layers[3] - layers[4]


def _weakest_other_task(table: pd.DataFrame) -> pd.Series:
    groups = [group for group in table["group"].unique() if group != MAIN_TASK]
    return weakest(gain(table, THRESHOLD, "gaussian", group=group) for group in groups)


def _weakest_architecture(table: pd.DataFrame) -> pd.Series:
    return weakest(gain(table, THRESHOLD, "gaussian", group=group) for group in table["group"].unique())


def at_epsilon(table: pd.DataFrame, series: str, attack: str) -> pd.Series:
    """Accuracy by seed under a white-box attack, at the epsilon where attacks are set side by side."""
    own = table[(table["attack"] == "white_box") & (table["metric"] == "accuracy")]
    (epsilon,) = own.loc[own["condition"] == "Square", "epsilon"].unique()
    return by_seed(own[own["epsilon"] == epsilon], series, condition=attack)


def _autoattack_of(table: pd.DataFrame) -> str:
    return next(name for name in AUTOATTACKS if name in set(table["condition"]))


def at_epsilon_over(table: pd.DataFrame, attack: str, series: str = THRESHOLD, over: str = NONE) -> pd.Series:
    """Difference of accuracies under a white-box attack, by seed."""
    return at_epsilon(table, series, attack) - at_epsilon(table, over, attack)


def minimal_size(table: pd.DataFrame, series: str, norm: str, method: str = "fast") -> pd.Series:
    """Median size of the smallest perturbations found, by seed."""
    return by_seed(table, series, attack="minimum_norm", metric=f"median_{norm}", condition=method)


def transferred_over(table: pd.DataFrame, surrogate: str, series: str = THRESHOLD, over: str = NONE) -> pd.Series:
    """Difference of accuracies at the largest epsilon under the momentum attack from several surrogates, by seed."""
    where = {"attack": "transfer", "condition": f"momentum from {surrogate}", "epsilon": "largest"}
    return by_seed(table, series, **where) - by_seed(table, over, **where)


def converged_sizes(table: pd.DataFrame) -> pd.Series:
    """Median squared L2 of the longest boundary attack, S^Th over none, by seed."""
    own = table[table["group"].str.startswith(STEPS)]
    longest = max(own["group"].unique(), key=lambda group: int(group.split(": ")[1]))
    return gain(own, THRESHOLD, "boundary", group=longest)


GAIN = "accuracy at the largest ε, S^Th minus none"
SIZE = "median squared L2 per pixel, S^Th over none"

CLAIMS = (
    Claim("gaussian", "02_attack_curves", "S^Th makes the network robust to Gaussian noise", "v2 Fig. 3", GAIN, 0.0,
          lambda table: gain(table, THRESHOLD, "gaussian"), 0.260),
    Claim("fgsm", "02_attack_curves", "S^Th makes the network robust to transferred FGSM", "v2 Fig. 3", GAIN, 0.0,
          lambda table: gain(table, THRESHOLD, "fgsm"), 0.186),
    Claim("boundary", "02_attack_curves", "S^Th makes boundary-attack perturbations larger", "v2 Fig. 3", SIZE, 1.0,
          lambda table: gain(table, THRESHOLD, "boundary"), 1.867),
    Claim("clean", "02_attack_curves", "S^Th costs little clean accuracy", "v2 Fig. 4 (A_0 = 0.9)",
          "clean accuracy, S^Th over none", 0.9, _clean_ratio, 0.965),
    Claim("over-pixel", "02_attack_curves", "S^Th protects against Gaussian noise better than S^pixel", "v2 Fig. 3",
          "accuracy at the largest ε, S^Th minus S^pixel", 0.0,
          lambda table: gain(table, THRESHOLD, "gaussian", over=PIXEL), 0.179),
    Claim("pixel-inconsistent", "02_attack_curves", "S^pixel fails against at least one of the three attacks",
          "v2 Figs. 1 and 3", "1 − S^pixel / none (accuracy or size) at the attack where S^pixel does worst (interval: "
          f"{OF_THREE:.1%}, as this attack is chosen among three)", 0.0, _pixel_shortfall, confidence=OF_THREE),
    Claim("consistent", "03_hyperparameter_selection", "What is chosen on Gaussian noise holds for other attacks",
          "v2 Fig. 4", "rank correlation over (α, Th) with Gaussian noise, for the least favourable attack",
          0.0, _weakest_rank_correlation),
    Claim("sets", "04_regularization_sets", "Every regularization set helps against Gaussian noise", "v2 Fig. 5",
          GAIN + ", for the least favourable set", 0.0, weakest_gain, 0.249),
    Claim("corruptions", "05_common_corruptions", "The gain on common corruptions is largest for high frequencies",
          "v2 Fig. 7", "gain of the high group minus the next largest group's at severity 4, for the least "
          "favourable set", 0.0, _high_group_lead, 0.067),
    Claim("half-power", "06_frequency_spectra",
          "Fooling S^Th takes lower frequencies than fooling an unregularized network", "v2 Fig. 7",
          "half-power frequency, none minus S^Th, in corner radii", 0.0,
          _half_power_drop, 0.113),
    Claim("every-k", "07_batch_size_study", "Every number of pairs a step helps against Gaussian noise", "v2 Fig. 8",
          GAIN + ", for the least favourable k", 0.0, weakest_gain, 0.260),
    Claim("count-suffices", "08_image_count_study",
          "The middle number of regularization images suffices (paper: N = 1000 of 5000)", "v2 Fig. 9",
          "gain in Gaussian noise of the middle N minus half that of the largest N, or the gain of the largest N "
          "itself: the smaller of the two", 0.0, _count_suffices, 0.222),
    Claim("count-too-small", "08_image_count_study", "The smallest does not suffice (paper: N = 100 of 5000)",
          "v2 Fig. 9", "half the gain in Gaussian noise of the largest N minus that of the smallest N, or the gain of "
          "the largest N itself: the smaller of the two", 0.0, _count_too_small, 0.062),
    Claim("colour", "09_colour", "Every regularization set helps against Gaussian noise in colour", "v2 Fig. 10",
          GAIN + ", for the least favourable set", 0.0, weakest_gain),
    Claim("low-layers", "10_layer_weights", "Low layers win the layer weights", "A.6",
          "γ of stem and stage 1 minus γ of stages 3 and 4 after training, for the least favourable set",
          0.0, lambda table: weakest(low_layers_lead(table, series) for series in table["series"].unique())),
    Claim("not-low", "11_target_components", "The ±1 targets protect: S_low alone, with zeros only, gains less",
          "A.7", "accuracy at the largest Gaussian ε, S^Th minus S_low", 0.0,
          lambda table: gain(table, THRESHOLD, "gaussian", over=LOW), 0.281),
    Claim("not-shuffled", "11_target_components", "Which pairs are ±1 matters: a shuffled target matrix gains less",
          OURS, "accuracy at the largest Gaussian ε, S^Th minus shuffled S^Th", 0.0,
          lambda table: gain(table, THRESHOLD, "gaussian", over=SHUFFLED)),
    Claim("not-batch-norm", "11_target_components", "The loss protects, not only the pairs' batch-norm statistics",
          OURS, "accuracy at the largest Gaussian ε, S^Th minus pairs without a loss", 0.0,
          lambda table: gain(table, THRESHOLD, "gaussian", over=NO_LOSS)),
    Claim("other-tasks", "12_other_tasks_and_depths", "S^Th helps against Gaussian noise on every other task and depth "
          "measured (quick: one other task, no other depth)", "A.2 to A.4, A.8",
          GAIN + ", for the least favourable task", 0.0, _weakest_other_task, 0.079),
    Claim("architectures", "15_architectures", "S^Th helps against Gaussian noise on every other architecture", OURS,
          GAIN + ", for the least favourable architecture", 0.0, _weakest_architecture),
    Claim("audit", "13_protocol_audit", "The gain survives when what can be corrected of the released protocol is",
          OURS, "accuracy at the largest Gaussian ε, S^Th with all corrections minus none", 0.0,
          lambda table: gain(table, ALL_CHANGED, "gaussian", group=AUDIT)),
    Claim("white-box", "14_white_box", "S^Th is robust to white-box PGD", OURS,
          "accuracy at the ε of comparison, S^Th minus none", 0.0, lambda table: at_epsilon_over(table, "PGD")),
    Claim("autoattack", "14_white_box", "S^Th is robust to AutoAttack", OURS,
          "accuracy at the ε of comparison, S^Th minus none (in quick the attack is reduced)", 0.0,
          lambda table: at_epsilon_over(table, _autoattack_of(table))),
    Claim("over-adversarial", "14_white_box", "S^Th is as robust to PGD as adversarial training", OURS,
          "accuracy at the ε of comparison, S^Th minus adversarial training", 0.0,
          lambda table: at_epsilon_over(table, "PGD", over=ADVERSARIAL)),
    Claim("over-noise", "14_white_box", "S^Th protects against Gaussian noise better than noise augmentation (quick: "
          "trained at exactly the tested σ)", OURS, "accuracy at the largest ε, S^Th minus noise augmentation", 0.0,
          lambda table: gain(table, THRESHOLD, "gaussian", over=NOISE)),
    Claim("minimal", "14_white_box", "The smallest perturbations that fool S^Th are larger", OURS,
          "median L2 of minimum-norm attacks, S^Th over none", 1.0,
          lambda table: minimal_size(table, THRESHOLD, "l2") / minimal_size(table, NONE, "l2")),
    Claim("transfer", "14_white_box", "S^Th is robust to stronger transferred attacks", OURS,
          "accuracy at the largest ε, momentum from several unregularized networks, S^Th minus none", 0.0,
          lambda table: transferred_over(table, NONE)),
    Claim("adaptive", "14_white_box", "S^Th is robust to attacks transferred from networks trained with S^Th", OURS,
          "accuracy at the largest ε, momentum from several S^Th networks, S^Th minus none", 0.0,
          lambda table: transferred_over(table, THRESHOLD)),
    Claim("cost", "16_cost", "k pairs a step cost no more than 2k more images (quick: width 8; at width 16 "
          "BENCHMARKS.md has 0.93 to 0.96)", "v2 section 4.6",
          "predicted over measured time of a step, for the least favourable k", 0.9, None),
    Claim("pixel-neural", SIMILARITY, "Similarities of mouse V1 correlate with pixel similarities",
          "v2 Fig. 2", "Pearson r over image pairs, for the real series where it is smallest", 0.0, None, PRINTED_R),
    Claim("as-printed", SIMILARITY, f"They do so as strongly as is printed (r = {PRINTED_R})", "v2 Fig. 2",
          "Pearson r over image pairs, for the real series and condition where it is largest", PRINTED_R, None,
          PRINTED_R),
    Claim("neural-target", "02_attack_curves", "A target from V1's similarity protects against Gaussian noise",
          "v2 Fig. 1; Li et al. 2019", "accuracy at the largest ε, S^neural minus none", 0.0,
          lambda table: gain(table, NEURAL, "gaussian")),
    Claim("alternative", "02_attack_curves",
          "S^Th is an alternative to V1's similarity: not inferior under Gaussian noise", "title",
          "accuracy at the largest ε, S^Th minus S^neural", NOT_INFERIOR,
          lambda table: gain(table, THRESHOLD, "gaussian", over=NEURAL)),
    Claim("not-shuffled-neural", "02_attack_curves", "Which images V1 finds alike matters: shuffled it gains less",
          "Li et al. 2019", "accuracy at the largest Gaussian ε, S^neural minus shuffled S^neural", 0.0,
          lambda table: gain(table, NEURAL, "gaussian", over=SHUFFLED_NEURAL)),
)  # fmt: skip


def _helps(name: str, what: str, series: str, attack: str, source: str, **where) -> Claim:
    """A finer claim of a notebook: one curve against one attack."""
    sizes = attack == "boundary"
    statistic = "median squared L2 per pixel, over none" if sizes else "accuracy at the largest ε, minus none"
    return Claim(
        f"{where.get('group', '')}{series}-{attack}", name, f"{what} helps against {ATTACKS.get(attack, attack)}",
        source, statistic, 1.0 if sizes else 0.0, lambda t: gain(t, series, attack, **where), main=False,
    )  # fmt: skip


def _of_each_curve(name: str, table: pd.DataFrame) -> list[Claim]:
    """Each curve against each of the three attacks."""
    series = regularized(table)
    source = {"04": "v2 Fig. 5", "07": "v2 Fig. 8", "08": "v2 Fig. 9", "09": "v2 Fig. 10"}[name[:2]]
    return [_helps(name, one, one, attack, source) for attack in ATTACKS for one in series]


def _of_components(name: str, table: pd.DataFrame) -> list[Claim]:
    """Each part of the target, and S^Th against two of them."""
    series = regularized(table)
    claims = [_helps(name, one, one, "gaussian", OURS if one in (SHUFFLED, ZERO, NO_LOSS) else "A.7") for one in series]
    against = {ZERO: "all targets 0", HIGH: "S_high"}
    return claims + [
        Claim(f"over-{one}", name, f"S^Th protects against Gaussian noise better than {said}",
              OURS if one == ZERO else "A.7", "accuracy at the largest ε, S^Th minus the other", 0.0,
              lambda t, one=one: gain(t, THRESHOLD, "gaussian", over=one), main=False)
        for one, said in against.items()
    ]  # fmt: skip


def _of_tasks(name: str, table: pd.DataFrame) -> list[Claim]:
    """Each target on each task under each attack."""
    series = regularized(table)
    names = {"uniform": "uniform noise", "salt_and_pepper": "salt-and-pepper noise"}
    return [
        _helps(name, f"{group}: {one}", one, attack, "A.2 to A.4, A.8", group=group)
        if attack in ATTACKS
        else Claim(f"{group}{one}-{attack}", name, f"{group}: {one} helps against {names[attack]}", "A.2, A.3",
                   "accuracy at the largest ε, minus none", 0.0,
                   lambda t, one=one, attack=attack, group=group: gain(t, one, attack, group=group), main=False)
        for group in table["group"].unique()
        for one in series
        for attack in ("gaussian", *names, "fgsm", "boundary")
    ]  # fmt: skip


def _of_architectures(name: str, table: pd.DataFrame) -> list[Claim]:
    """S^Th on each architecture under each attack."""
    return [
        _helps(name, f"{group}: {THRESHOLD}", THRESHOLD, attack, OURS, group=group)
        for group in table["group"].unique()
        for attack in ATTACKS
    ]


def _of_the_audit(name: str, table: pd.DataFrame) -> list[Claim]:
    """Each change of the protocol, and the converged boundary attack."""
    audited = [one for one in regularized(table[table["group"] == AUDIT]) if one != THRESHOLD]
    return [
        *(_helps(name, one, one, "gaussian", OURS, group=AUDIT) for one in (THRESHOLD, *audited)),
        *(_changes_the_gain(name, one) for one in audited),
        Claim("converged", name, "S^Th makes converged boundary-attack perturbations larger", OURS,
              "median squared L2 per pixel after the most steps, S^Th over none", 1.0, converged_sizes, main=False),
    ]  # fmt: skip


def _of_defences(name: str, table: pd.DataFrame) -> list[Claim]:
    """Each defence under each of the attacks that are set side by side."""
    series = regularized(table)
    return [
        Claim(f"{one}-{attack}", name, f"{one}: robust to {attack}", OURS,
              "accuracy at the ε of comparison, minus none", 0.0,
              lambda t, one=one, attack=attack: at_epsilon_over(t, attack, one), main=False)
        for one in series
        for attack in ("PGD", *AUTOATTACKS, "Square")
        if attack in set(table["condition"])
    ]  # fmt: skip


def _of_corruptions(name: str, table: pd.DataFrame) -> list[Claim]:
    """Each set against each frequency group."""
    series = regularized(table)
    own = [one for one in series if one != "corruptions"]
    return [
        Claim(f"{one}-{group}", name, f"{one} helps against corruptions of {group} frequency", "v2 Fig. 7",
              "accuracy at severity 4, mean of the group, S^Th minus none", 0.0,
              lambda t, one=one, group=group: group_gain(t[t["attack"] == "corruption"], one, group), main=False)
        for group in GROUPS
        for one in own
    ]  # fmt: skip


def _of_layers(name: str, table: pd.DataFrame) -> list[Claim]:
    """Each set's layer weights."""
    series = regularized(table)
    return [
        Claim(f"low-{one}", name, f"{one}: low layers win the layer weights", "A.6",
              "γ of stem and stage 1 minus γ of stages 3 and 4", 0.0,
              lambda t, one=one: low_layers_lead(t, one), main=False)
        for one in series
    ]  # fmt: skip


# the finer claims of each notebook, which depend on what curves it has
DETAILS: dict[str, Callable[[str, pd.DataFrame], list[Claim]]] = {
    "04_regularization_sets": _of_each_curve,
    "05_common_corruptions": _of_corruptions,
    "07_batch_size_study": _of_each_curve,
    "08_image_count_study": _of_each_curve,
    "09_colour": _of_each_curve,
    "10_layer_weights": _of_layers,
    "11_target_components": _of_components,
    "12_other_tasks_and_depths": _of_tasks,
    "13_protocol_audit": _of_the_audit,
    "14_white_box": _of_defences,
    "15_architectures": _of_architectures,
}


def _changes_the_gain(name: str, series: str) -> Claim:
    return Claim(f"more-{series}", name, f"The gain is larger with: {series}", OURS,
                 "accuracy at the largest Gaussian ε, minus S^Th as released", 0.0,
                 lambda t: gain(t, series, "gaussian", over=THRESHOLD, group=AUDIT), main=False)  # fmt: skip


def verdicts(name: str, table: pd.DataFrame, protocol: str = "released") -> list[Verdict]:
    """What a study's table says of the claims of its notebook, those of the table of claims first.

    protocol: what the boundary attack is not measured under is left out.
    """
    own = table[(table["protocol"] == protocol)]
    claims = [claim for claim in CLAIMS if claim.notebook == name and claim.measure is not None]
    if name == "14_white_box" and not set(AUTOATTACKS) & set(own["condition"]):
        claims = [claim for claim in claims if claim.key != "autoattack"]
    if protocol == "strict":  # the 50-step boundary attack is measured under 'released' alone
        claims = [claim for claim in claims if claim.key not in ("boundary", "pixel-inconsistent")]
    strict = table[table["protocol"] == "strict"]
    details = DETAILS[name](name, own) if name in DETAILS else []
    return [
        replace(judge(claim, claim.measure(own)), strict=_verdict_of(claim, strict), protocol=protocol)
        for claim in [*claims, *details]
    ]


def _verdict_of(claim: Claim, table: pd.DataFrame) -> str | None:
    """The verdict on a claim, or None where the table lacks what it is measured on."""
    try:
        return judge(claim, claim.measure(table)).verdict
    except (LookupError, ValueError):
        return None


def cost_verdict(costs: dict) -> list[Verdict]:
    """The claim on time.  costs: of `cost.step_costs`; the interval is over repeated measurements."""
    (claim,) = (claim for claim in CLAIMS if claim.key == "cost")
    of_each_k = [row["predicted"] / np.array(row["ratios"]) for row in costs["rows"] if row["k"] > 0]
    return [judge(claim, min(of_each_k, key=np.mean), unit="measurements")]


def similarity_verdicts(table: pd.DataFrame) -> list[Verdict]:
    """What notebook 01's table says of pixel and neural similarity; its main claims are of real responses alone.

    Intervals of real series come from resampling images, those of the simulation from its animals.
    """
    main = {claim.key: claim for claim in CLAIMS if claim.notebook == SIMILARITY}
    real = correlations(table[table["group"] == "recorded"])
    full = real[real["condition"] == FULL_FRAME]
    found = [
        _of_images(main["pixel-neural"], full.loc[full["pearson"].idxmin()]),
        _of_images(main["as-printed"], real.loc[real["pearson"].idxmax()]),
    ]
    details = [
        Claim(f"{row.series}-{what}", SIMILARITY, f"{row.series}, {row.condition}: {words}", "v2 Fig. 2",
              "Pearson r over image pairs", threshold, None, main=False)
        for row in real.itertuples()
        for what, words, threshold in (
            (f"{row.condition}-positive", "similarities correlate", 0.0),
            (f"{row.condition}-matrices", f"as the printed matrices do (r = {MATRICES_R})", MATRICES_R),
        )
        if row.condition in (FULL_FRAME, CROP)
    ]  # fmt: skip
    rows = [row for _, row in real.iterrows() if row["condition"] in (FULL_FRAME, CROP) for _ in range(2)]
    found += [_of_images(claim, row) for claim, row in zip(details, rows, strict=True)]
    return [*found, *_simulated_verdicts(table)]


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each (series, seed, condition): pearson, pearson_low, pearson_high, spearman, and n images."""
    rows = table[table["metric"].isin(["pearson", "pearson_low", "pearson_high", "spearman"])]
    keys = ["group", "series", "seed", "condition"]
    wide = rows.pivot_table(index=keys, columns="metric", values="value", sort=False)
    return wide.join(rows.groupby(keys, sort=False)["attempted"].first().rename("n")).reset_index()


def _of_images(claim: Claim, row: pd.Series) -> Verdict:
    """A verdict on one correlation, whose interval comes from resampling its images."""
    low, high = row["pearson_low"], row["pearson_high"]
    return Verdict(
        claim.claim, claim.source, f"{claim.statistic} ({row['series']}, {row['condition']})" if claim.main
        else claim.statistic, claim.threshold, row["pearson"], low, high, int(row["n"]),
        _side(low, high, claim.threshold), claim.key, claim.published, claim.main, "images",
    )  # fmt: skip


def _simulated_verdicts(table: pd.DataFrame) -> list[Verdict]:
    """Of the simulation, over its animals: does the whole path recover what is known there?"""
    closeness = table[(table["group"] == RECOVERY) & (table["metric"] == "to_noise_free")]
    found = []
    for series in closeness["series"].unique():
        predicted, averaged = (by_seed(closeness, series, condition=one) for one in ("predicted", "trial_mean"))
        claim = Claim(
            f"recovery-{series}", SIMILARITY, f"Simulated V1, {series}: the predictor denoises", OURS,
            "correlation with the noise-free similarity, of the predicted minus of the trial-averaged one", 0.0, None,
            main=False,
        )  # fmt: skip
        found.append(judge(claim, predicted - averaged, unit="animals"))
    simulated = correlations(table[table["group"] == "simulated"])
    claim = Claim("simulated", SIMILARITY, "Simulated V1: similarities correlate", OURS,
                  "Pearson r over image pairs, full frame", 0.0, None, main=False)  # fmt: skip
    return [judge(claim, simulated.loc[simulated["condition"] == FULL_FRAME, "pearson"], unit="animals"), *found]


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


def table_of_claims(figures: dict[str, dict]) -> list[dict]:
    """The main claims with their verdicts, as plain values in the order of CLAIMS.

    figures: the JSON of each notebook's figure by the notebook's name; a claim of another is 'not measured'.
    """
    rows = []
    for claim in CLAIMS:
        made = figures.get(claim.notebook, {}).get("claims", [])
        found = next((one for one in made if one.get("key") == claim.key), None)
        row = {
            "key": claim.key,
            "claim": claim.claim,
            "source": claim.source,
            "notebook": claim.notebook,
            "statistic": claim.statistic,
            "threshold": claim.threshold,
            "published": claim.published,
        }
        measured = {name: found[name] if found else None for name in ("estimate", "low", "high", "n", "unit")}
        records = figures.get(claim.notebook, {}).get("records", [])
        flagged = sum(bool(record.get("warnings")) for record in records)
        verdict = found["verdict"] if found else NOT_MEASURED
        rows.append(
            {**row, **measured, "verdict": verdict, "strict": _strict(claim, found, figures), "flagged": flagged}
        )
    return rows


def _strict(claim: Claim, found: dict | None, figures: dict[str, dict]) -> str | None:
    """The verdict under the strict protocol; of the boundary attack it is that of its most steps, in notebook 13."""
    if claim.key == "boundary":
        audit = figures.get("13_protocol_audit", {}).get("claims", [])
        return next((one["verdict"] for one in audit if one.get("key") == "converged"), None)
    return found.get("strict") if found else None


def claims_markdown(rows: list[dict], others: dict[str, list[dict]] | None = None) -> str:
    """The table of claims as Markdown.

    rows: of `table_of_claims`.  others: the same of other profiles by name, each a column more.
    """
    others = others or {}
    columns = [
        "claim",
        "where",
        "statistic",
        "asked",
        "published",
        "measured [95 % interval]",
        "n",
        "verdict",
        "strict",
    ]
    lines = [_line([*columns, *others]), _line(["---"] * (len(columns) + len(others)))]
    for row in rows:
        published = "" if row["published"] is None else f"{row['published']:.3f}"
        n = "" if row["n"] is None else f"{row['n']} {row['unit']}"
        verdict = f"**{row['verdict']}**{_flags(row['flagged'])}"
        cells = [row["claim"], f"{row['source']}; {row['notebook']}", row["statistic"], f"> {row['threshold']:g}"]
        cells += [published, _measured(row), n, verdict, row["strict"] or ""]
        for other in others.values():
            found = next((one for one in other if one["key"] == row["key"] and one["n"] is not None), None)
            cells.append("" if found is None else f"{found['verdict']}: {_measured(found)}")
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _measured(row: dict) -> str:
    """Estimate and interval of a row, where there are any."""
    if row["n"] is None:
        return ""
    interval = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return ("" if row["estimate"] is None else f"{row['estimate']:.3f}") + interval


def _flags(count: int) -> str:
    return f" (⚠ {count} records flagged)" if count else ""

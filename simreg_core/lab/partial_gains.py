"""What is measured of each seed of partial adversarial training, and the claims of figure 20."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from simreg_core.lab.claims import DISSERTATION, Claim, Statistic
from simreg_core.lab.gains import mean_of
from simreg_core.lab.protocol_of_claims import NOT_INFERIOR
from simreg_core.lab.study import COMPARED

ALL_A, ALL_N = "all adversarial", "all natural"
STAGE_ONE = {ALL_A: "A1", ALL_N: "N1"}
WORST, PGD = "worst", "PGD"  # conditions of what is measured of logits
FIRST, LAST = "first", "last"  # cuts
Measure = Callable[[pd.DataFrame, str], pd.Series]  # of a table and the name of a network, by seed
SOURCE = f"{DISSERTATION}, chapter 3"


def of_network(
    table: pd.DataFrame,
    group: str,
    code: str,
    metric: str = "accuracy",
    condition: str = WORST,
    attacked: bool = True,
    cut: int | str | None = None,
    single: int | None = None,
) -> pd.Series:
    """What was measured of the logits of one kind of network, by seed.

    group: name of the network.  cut: a number, or FIRST or LAST of those of this code.  attacked: else clean images.
    Raises LookupError where nothing is left.
    """
    rows = table[(table["attack"] == "logits") & (table["group"] == group) & (table["code"] == code)]
    if cut is not None and isinstance(cut, str):
        cut = rows["cut"].min() if cut == FIRST else rows["cut"].max()
    condition = condition if attacked else PGD
    rows = rows[(rows["metric"] == metric) & (rows["condition"] == condition)]
    rows = rows[(rows["role"] == COMPARED) == attacked]
    for column, value in (("cut", cut), ("single", single)):
        rows = rows[rows[column].isna() if value is None else rows[column] == value]
    if rows.empty:
        raise LookupError(f"no measurement of {metric} of '{code}', cut {cut}, module {single}, of '{group}'")
    return rows.set_index("seed")["value"].sort_index()


def accuracy_of(
    table: pd.DataFrame, group: str, series: str, condition: str = WORST, attacked: bool = True, *, attack: str
) -> pd.Series:
    """Accuracy of one kind of network by seed, at the epsilon of comparison.

    group: name of the task.  attacked: else of clean images, whatever the condition.  attack: of which evaluations.
    Raises LookupError where nothing is left.
    """
    rows = table[(table["attack"] == attack) & (table["group"] == group) & (table["series"] == series)]
    rows = rows[rows["metric"] == "accuracy"]
    compared = (rows["role"] == COMPARED) & (rows["condition"] == condition)
    rows = rows[compared if attacked else rows["epsilon"] == 0]
    if rows.empty:
        raise LookupError(f"no accuracy of '{series}' of '{group}' under {condition if attacked else 'no attack'}")
    return rows.groupby("seed")["value"].mean().sort_index()


def curve(table: pd.DataFrame, group: str, code: str, metric: str, condition: str, attacked: bool = True):
    """Values by cut and seed, [seeds, cuts]; the columns are the cuts."""
    cuts = sorted(table.loc[(table["group"] == group) & (table["code"] == code), "cut"].dropna().unique())
    found = {int(cut): of_network(table, group, code, metric, condition, attacked, cut=cut) for cut in cuts}
    return pd.DataFrame(found)


def drops(table: pd.DataFrame, group: str) -> pd.DataFrame:
    """Accuracy that is lost when one module of the adversarial network is trained naturally, [seeds, modules]."""
    own = table[(table["group"] == group) & table["single"].notna()]
    base = of_network(table, group, "A1")
    modules = sorted(own["single"].unique())
    return pd.DataFrame({int(one): base - of_network(table, group, "A1N2", single=one) for one in modules})


def of_layers(table: pd.DataFrame, group: str, code: str, metric: str, condition: str | None = None) -> pd.DataFrame:
    """What was measured layer by layer, [seeds, layers]."""
    rows = table[(table["attack"] == "layers") & (table["group"] == group) & (table["code"] == code)]
    rows = rows[rows["metric"] == metric]
    rows = rows if condition is None else rows[rows["condition"] == condition]
    return rows.pivot(index="seed", columns="layer", values="value")


def _fits(table: pd.DataFrame, group: str, metric: str) -> pd.DataFrame:
    """R² of an exponential and of a line through loss against cut, by seed, of A1N2; cut 0 is the natural network."""
    losses = curve(table, group, "A1N2", metric, PGD)
    losses.insert(0, 0, of_network(table, group, "N1", metric, PGD))
    x = losses.columns.to_numpy(float)

    def r2(y: np.ndarray, fitted: np.ndarray) -> float:
        return float(1 - ((y - fitted) ** 2).sum() / ((y - y.mean()) ** 2).sum())

    rows = []
    for y in losses.to_numpy():
        exponential = np.exp(np.polyval(np.polyfit(x, np.log(y), 1), x))
        rows.append((r2(y, exponential), r2(y, np.polyval(np.polyfit(x, y, 1), x))))
    return pd.DataFrame(rows, index=losses.index, columns=["exponential", "line"])


def _better_fit(metric: str) -> Measure:
    def measure(table: pd.DataFrame, group: str) -> pd.Series:
        fits = _fits(table, group, metric)
        return fits["exponential"] - fits["line"]

    return measure


def fit(table: pd.DataFrame, group: str) -> pd.Series:
    """R² of an exponential through the loss of A1N2 under PGD against the cut, by seed."""
    return _fits(table, group, "cross_entropy")["exponential"]


def _few_layers(table: pd.DataFrame, group: str) -> pd.Series:
    reached = of_network(table, group, "A2N1", "cross_entropy", PGD, cut=FIRST)
    return of_network(table, group, "A1", "cross_entropy", PGD) / reached


def _collapse(table: pd.DataFrame, group: str) -> pd.Series:
    chance = table.loc[table["group"] == group, "chance"].iloc[0]
    return chance - of_network(table, group, "N1A2", cut=LAST)


def _with_depth(table: pd.DataFrame, group: str) -> pd.Series:
    """-Spearman's rank correlation of depth and drop, by seed; 0 where all drops are the same."""
    own = drops(table, group)
    depth = pd.Series(own.columns, index=own.columns).rank()
    return -own.rank(axis=1).apply(lambda row: row.corr(depth) if row.nunique() > 1 else 0.0, axis=1)


def early_growth(table: pd.DataFrame, group: str) -> pd.Series:
    """How many times more PSR_N / PSR_A grows in the first half of the convolutions than in the second, own PGD."""
    psr = [of_layers(table, group, code, "psr_db", "own attack") for code in ("N1", "A1")]
    gap = (psr[0] - psr[1]).to_numpy()
    middle = gap[:, [(gap.shape[1] - 1) // 2, gap.shape[1] // 2]].mean(axis=1)  # of both halves
    return pd.Series(10 ** ((2 * middle - gap[:, 0] - gap[:, -1]) / 20), index=psr[0].index)


def _psr(condition: str) -> Measure:
    """How many times PSR_N / PSR_A grows from the first convolution to the last, by a line in dB through all."""

    def measure(table: pd.DataFrame, group: str) -> pd.Series:
        gap = of_layers(table, group, "N1", "psr_db", condition) - of_layers(table, group, "A1", "psr_db", condition)
        slope = np.polyfit(gap.columns.to_numpy(float), gap.to_numpy().T, 1)[0]
        return pd.Series(10 ** (slope * (gap.shape[1] - 1) / 20), index=gap.index)

    return measure


def _first_filters(table: pd.DataFrame, group: str) -> pd.Series:
    h = {code: of_layers(table, group, code, "filter_sparsity").iloc[:, 0] for code in ("A1", "N1")}
    return h["N1"] - h["A1"]


def _asymmetry(table: pd.DataFrame, group: str) -> pd.Series:
    return of_network(table, group, "N1A2", cut=FIRST) - of_network(table, group, "N2A1", cut=FIRST)


def over(metric: str, code: str, base: str, cut: str | None = None, condition: str = WORST) -> Measure:
    """A difference of what is measured of two kinds of network."""

    def measure(table: pd.DataFrame, group: str) -> pd.Series:
        own = of_network(table, group, code, metric, condition, cut=cut)
        return own - of_network(table, group, base, metric, condition)

    return measure


def _by_network(measure: Measure) -> Callable[[pd.DataFrame], dict[str, pd.Series]]:
    return lambda table: {group: measure(table, group) for group in table["group"].unique()}


def claim(key: str, text: str, statistic: str, measure: Measure, also: dict[str, tuple[str, Measure]], **own) -> Claim:
    """A claim of all networks: their mean decides, and each is a part.  also: key -> (statistic, measure)."""
    members = _by_network(measure)
    beside = tuple(
        Statistic(key=name, statistic=words, measure=lambda table, one=one: mean_of(_by_network(one)(table)))
        for name, (words, one) in also.items()
    )
    return Claim(
        **{
            "key": key,
            "text": text,
            "source": SOURCE,
            "statistic": f"{statistic}, mean over networks",
            "measure": lambda table: mean_of(members(table)),
            "parts": members,
            "also": beside,
            "attack": "logits",
            "setting": None,  # no network here is regularized
            **own,
        }
    )


CLAIMS = (
    claim(
        "partial-asymmetry",
        "Natural early modules cost more retrained than frozen",
        "accuracy under the worst attack, N1A2 minus N2A1 at the first cut",
        _asymmetry,
        {},
        published={"CIFAR-10, ResNet-32": 0.3527},
        note="Published: of the first convolution, under an attack that is not known (a spreadsheet of the authors').",
    ),
    claim(
        "partial-exponential",
        "The loss of A1N2 falls exponentially with the cut",
        "R² of an exponential minus R² of a line, cross-entropy under PGD against the cut",
        _better_fit("cross_entropy"),
        {"matched": ("the same of the loss at a matched temperature", _better_fit("matched_cross_entropy"))},
        scale="share",
        note="Cut 0 is the natural network. Loss depends on the scale of logits; a matched temperature undoes that.",
    ),
    claim(
        "partial-few-modules",
        "Few early adversarial modules reach the loss of all",
        "cross-entropy under PGD, all adversarial over A2N1 at the first cut",
        _few_layers,
        {
            "accuracy": (
                "accuracy under the worst attack, A2N1 at the first cut minus all adversarial",
                over("accuracy", "A2N1", "A1", FIRST),
            ),
            "margin": ("margin under PGD, the same", over("margin", "A2N1", "A1", FIRST, PGD)),
        },
        scale="ratio",
        threshold=0.95,
        note="The dissertation says 'as few as 4'; the profile's first cut is as many or fewer.",
    ),
    claim(
        "partial-collapse",
        "N1A2 falls to chance at the last cut",
        "chance minus accuracy under the worst attack of N1A2 at the last cut",
        _collapse,
        {
            "clean": (
                "clean accuracy, N1A2 at the last cut minus all adversarial",
                lambda table, group: (
                    of_network(table, group, "N1A2", attacked=False, cut=LAST)
                    - of_network(table, group, "A1", attacked=False)
                ),
            )
        },
        threshold=NOT_INFERIOR,
        not_inferior=True,
    ),
    claim(
        "partial-depth",
        "The earlier a module, the more its natural training costs",
        "rank correlation of a module's depth and the accuracy that its natural training costs, times −1",
        _with_depth,
        {},
        scale="correlation",
    ),
    claim(
        "partial-psr",
        "PSR grows faster with depth in the natural network",
        "PSR natural over adversarial: growth from the first to the last convolution (line in dB), own PGD",
        _psr("own attack"),
        {
            "common": ("the same for one common perturbation", _psr("common perturbation")),
            "noise": ("the same for noise of that size", _psr("noise")),
        },
        scale="ratio",
        threshold=1.0,
        attack="layers",
    ),
    claim(
        "partial-sparsity",
        "Adversarial training makes the first filters sparser",
        "mean h of the first filters, all natural minus all adversarial",
        _first_filters,
        {},
        scale="share",
        attack="layers",
    ),
)

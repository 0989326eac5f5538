"""What is measured of each seed: accuracies, sizes of perturbations, and how much a regularizer gains."""

from collections.abc import Callable, Mapping

import pandas as pd

from simreg_core.lab.claims import Statistic
from simreg_core.lab.series import NONE

ATTACKS = {"gaussian": "Gaussian noise", "fgsm": "transferred FGSM", "boundary": "the boundary attack"}
SIZE = "median_squared_l2_per_pixel"
GAIN = "mean accuracy over the grid of ε, S^Th minus none"
AT_LARGEST = "the same at the largest ε"  # fixed with the list of claims; `verdict_words.in_full` says of what
Members = Callable[[pd.DataFrame], dict[str, pd.Series]]


def by_seed(table: pd.DataFrame, series: str, **where) -> pd.Series:
    """Values of one series by seed, repeats averaged.

    where: column = value; epsilon may be 'largest', 'zero' or 'grid', the mean over all.
    Raises LookupError where nothing is left.
    """
    epsilon = where.pop("epsilon", None)
    chosen = (table["series"] == series).to_numpy()
    for column, value in where.items():  # all at once: a table for each column would take most of the time of a verdict
        chosen = chosen & (table[column] == value).to_numpy()
    if not chosen.any():
        raise LookupError(f"no measurement of series '{series}' with {where}")
    columns = ("seed", "value", "epsilon") if epsilon else ("seed", "value")
    rows = pd.DataFrame({column: table[column].to_numpy()[chosen] for column in columns})
    if epsilon == "grid":
        return rows.groupby(["seed", "epsilon"])["value"].mean().groupby("seed").mean().rename("value")
    if epsilon is not None:
        rows = rows[rows["epsilon"] == (rows["epsilon"].max() if epsilon == "largest" else 0)]
    return rows.groupby("seed")["value"].mean()


def accuracy(table: pd.DataFrame, series: str, attack: str, epsilon: str = "largest", **where) -> pd.Series:
    """Accuracy by seed.  epsilon: 'largest', 'zero' or 'grid'."""
    return by_seed(table, series, attack=attack, metric="accuracy", epsilon=epsilon, **where)


def robustness(table: pd.DataFrame, series: str, attack: str, epsilon: str = "grid", **where) -> pd.Series:
    """Mean accuracy over the grid of epsilon (or at its end), or the median size of the boundary attack, by seed."""
    if attack == "boundary":
        return by_seed(table, series, attack=attack, metric=SIZE, **where)
    return accuracy(table, series, attack, epsilon, **where)


def gain(table: pd.DataFrame, series: str, attack: str, over: str = NONE, **where) -> pd.Series:
    """Difference of accuracies (the area between two curves), or ratio of boundary-attack sizes, by seed."""
    one, other = paired(*(robustness(table, name, attack, **where) for name in (series, over)))
    return one / other if attack == "boundary" else one - other


def less_lost(table: pd.DataFrame, series: str, attack: str, over: str = NONE, **where) -> pd.Series:
    """How much less accuracy is lost from clean to the largest epsilon, by seed."""
    at_end, clean = (gain(table, series, attack, over, epsilon=one, **where) for one in ("largest", "zero"))
    return at_end - clean


def beside_gain(
    series: str, attack: str, over: str = NONE, published: Mapping[str, float] | None = None, **where
) -> tuple[Statistic, ...]:
    """What stands beside the area between two curves: accuracy at the largest epsilon, and accuracy lost from clean.

    published: the difference at the largest epsilon by task.
    """
    if attack == "boundary":
        return ()
    at_end = {"epsilon": "largest", **where}
    return (
        Statistic(
            key="at-largest",
            statistic=f"accuracy at the largest ε, {series} minus {over}",
            measure=lambda table: gain(table, series, attack, over, **at_end),
            published=published or {},
        ),
        Statistic(
            key="less-lost",
            statistic=f"accuracy lost from clean to the largest ε, {over} minus {series}",
            measure=lambda table: less_lost(table, series, attack, over, **where),
        ),
    )


def paired(one: pd.Series, other: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Two statistics by seed, of the seeds that both have."""
    return one.align(other, join="inner")


def mean_of(parts: Mapping[str, pd.Series]) -> pd.Series:
    """The mean over parts by seed, of the seeds that all have.  Raises LookupError where there is no part."""
    if not parts:
        raise LookupError("a mean over sets, tasks or the like needs at least one of them")
    return pd.concat(list(parts.values()), axis=1, join="inner").mean(axis=1)


def mean_over(members: Members) -> Callable[[pd.DataFrame], pd.Series]:
    """What a claim of all members measures.  members: the claim's `parts`."""
    return lambda table: mean_of(members(table))


def at_largest(members: Callable[..., dict[str, pd.Series]], published: Mapping[str, float] | None = None) -> Statistic:
    """Beside a mean over members: the same at the largest epsilon.  members: takes epsilon."""
    return Statistic(
        key="at-largest",
        statistic=AT_LARGEST,
        measure=lambda table: mean_of(members(table, epsilon="largest")),
        published=published or {},
    )


def regularized(table: pd.DataFrame) -> list[str]:
    """The series of a table but the unregularized one."""
    return [series for series in table["series"].unique() if series != NONE]


def gain_of_each(table: pd.DataFrame, **where) -> dict[str, pd.Series]:
    """The gain of every regularized series under Gaussian noise."""
    return {series: gain(table, series, "gaussian", **where) for series in regularized(table)}

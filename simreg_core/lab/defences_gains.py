"""What notebook 24 measures of each seed, by column, and its claims."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from simreg_core.lab.claims import OURS, PLANNED_SEEDS, Claim, Statistic
from simreg_core.lab.defences_study import HAH, OWN_BASES, PARTIAL, POLARIZING, SPARSE
from simreg_core.lab.gains import SIZE, mean_over
from simreg_core.lab.series import NEURAL, NONE, PIXEL, THRESHOLD
from simreg_core.lab.specs import ADVERSARIAL, MAIN_SETTING
from simreg_core.lab.study import COMPARED

DIGITS, PHOTOGRAPHS = "digits", "photographs"
# of S^Th, by the profile's names; where it has no such, its main one
SETTINGS = {DIGITS: MAIN_SETTING, PHOTOGRAPHS: "photographs, ResNet10"}
STRUCTURAL = (PARTIAL, POLARIZING, SPARSE, HAH)
WORST, PGD = "worst", "PGD"  # conditions of `FrontEndEvaluation` and `CodeAttacksEvaluation`
AUTOATTACKS = ("AutoAttack", "AutoAttack, reduced")
OWN_PGD = {  # the way in which PGD follows the gradient of what has one of its own, as its source does
    POLARIZING: "quantizer: identity",
    SPARSE: "smooth, 2T atoms",
    HAH: "threshold: exact",
}
WITHOUT_AUTOATTACK = (POLARIZING, SPARSE)  # they quantize: the gradients that it follows are not their own
Measure = Callable[[pd.DataFrame], pd.DataFrame]  # of a table: values by seed, a column for each (task, row)


def compared_with(series: str) -> str:
    """The undefended network of the same classifier."""
    return OWN_BASES.get(series, NONE)


def rows_of_tables(table: pd.DataFrame, group: str) -> list[str]:
    """The rows of a task, without the undefended networks of other classifiers."""
    names = table.loc[table["group"] == group, "series"].unique()
    return [name for name in names if name not in OWN_BASES.values()]


def _by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby(["seed", "group", "series"], sort=False)["value"].mean().unstack(["group", "series"])


def _accuracies(table: pd.DataFrame, attack: str) -> pd.DataFrame:
    return table[(table["attack"] == attack) & (table["metric"] == "accuracy") & (table["protocol"] == "strict")]


def under_noise(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over the grid of Gaussian epsilon."""
    return _by_seed(_accuracies(table, "gaussian"))


def _clean(table: pd.DataFrame) -> pd.DataFrame:
    rows = _accuracies(table, "gaussian")
    return _by_seed(rows[rows["epsilon"] == 0])


def _corrupted(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over corruptions and severities, without the clean images."""
    rows = _accuracies(table, "corruption")
    return _by_seed(rows[rows["severity"] > 0])


def _compared(table: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Rows of the attackers of a defence's own kind, at the epsilon of comparison."""
    rows = table[(table["role"] == COMPARED) & table["attack"].isin(("front_end", "code_attacks"))]
    return rows[rows["metric"] == metric]


def worst(table: pd.DataFrame) -> pd.DataFrame:
    """Worst over all attackers, image by image."""
    rows = _compared(table)
    return _by_seed(rows[rows["condition"] == WORST])


def _pgd(table: pd.DataFrame) -> pd.DataFrame:
    rows = _compared(table)
    return _by_seed(rows[rows["condition"] == rows["series"].map(lambda series: OWN_PGD.get(series, PGD))])


def _autoattack(table: pd.DataFrame) -> pd.DataFrame:
    rows = _compared(table)
    return _by_seed(rows[rows["condition"].isin(AUTOATTACKS)])


def _ratio(metric: str) -> Measure:
    """Over the undefended network of the same classifier, seed by seed."""

    def measure(table: pd.DataFrame) -> pd.DataFrame:
        found = _by_seed(table[table["metric"] == metric])
        return found / _bases(found)

    return measure


def _bases(found: pd.DataFrame) -> pd.DataFrame:
    """The values of what each row is compared with, in the row's column."""
    bases = [(group, compared_with(series)) for group, series in found.columns]
    return found[bases].set_axis(found.columns, axis=1)


@dataclass(frozen=True)
class Column:
    """A column of the table.

    key: in the CSV.  title: of its panel.  measure: NaN or no column where it is not measured.
    ratio: over the undefended network of the same classifier.
    """

    key: str
    title: str
    measure: Measure
    ratio: bool = False


COLUMNS = (
    Column("clean", "Clean", _clean),
    Column("gaussian", "Gaussian noise", under_noise),
    Column("corruptions", "Corruptions", _corrupted),
    Column("fgsm", "Transferred FGSM", lambda table: _by_seed(_accuracies(table, "fgsm"))),
    Column("boundary", "Boundary size", _ratio(SIZE), ratio=True),
    Column("pgd", "PGD", _pgd),
    Column("worst", "Strongest attack", worst),
    Column("autoattack", "AutoAttack", _autoattack),
    Column("certified", "Certified", lambda table: _by_seed(_compared(table, "certified"))),
    Column("training", "Training cost", _ratio("training_multiply_adds"), ratio=True),
    Column("inference", "Inference cost", _ratio("multiply_adds"), ratio=True),
    Column("parameters", "Parameters", _ratio("parameters"), ratio=True),
)
BY_KEY = {one.key: one for one in COLUMNS}
Cells = dict[tuple[str, str], pd.Series]


def cells(table: pd.DataFrame, group: str) -> Cells:
    """Values by seed of every (column, row) of a task; empty where it is not measured."""
    rows = table[table["group"] == group]
    found = {column.key: column.measure(rows) for column in COLUMNS}
    nothing = pd.Series(dtype=float)
    return {
        (key, name): values[group, name].dropna() if (group, name) in values else nothing
        for key, values in found.items()
        for name in rows["series"].unique()
    }


def ordered(table: pd.DataFrame, group: str) -> list[str]:
    """The rows of a task, that with the highest accuracy under its strongest attack first."""
    means = worst(table)[group].mean()
    return sorted(rows_of_tables(table, group), key=lambda name: -means[name])


def gains(of: Measure, table: pd.DataFrame) -> pd.DataFrame:
    """What each row adds to the undefended network of its classifier, by seed."""
    found = of(table)
    return found - _bases(found)


def _is_structural(name: str) -> bool:
    return name in STRUCTURAL


def _is_of_another_kind(name: str) -> bool:
    """A defence that has no targets for pairs of images."""
    return name not in (NONE, PIXEL, THRESHOLD, NEURAL)


def _leads(of: Measure, over: Callable[[str], bool]) -> Callable[[pd.DataFrame], dict[str, pd.Series]]:
    """What S^Th adds, more than another row adds, of each of these rows of each task."""

    def parts(table: pd.DataFrame) -> dict[str, pd.Series]:
        found = gains(of, table)
        return {
            f"{group}, over {name}": found[group, THRESHOLD] - found[group, name]
            for group in table["group"].unique()
            for name in rows_of_tables(table, group)
            if over(name)
        }

    return parts


over_structural, over_others = _leads(worst, _is_structural), _leads(under_noise, _is_of_another_kind)
STRONGEST = "accuracy under the strongest attack known for each"


def _difference(of: Measure, group: str, one: str, other: str) -> Callable[[pd.DataFrame], pd.Series]:
    def measure(table: pd.DataFrame) -> pd.Series:
        found = of(table)
        return found[group, one] - found[group, other]

    return measure


def _over_adversarial(group: str) -> Claim:
    return Claim(
        key=f"all-{group}",
        text=f"On {group} adversarial training withstands more than S^Th",
        source=OURS,
        seeds=PLANNED_SEEDS["all defences"],
        statistic=f"{STRONGEST}, adversarial training minus S^Th",
        measure=_difference(worst, group, ADVERSARIAL, THRESHOLD),
        also=(
            Statistic(
                key="th", statistic="the same, S^Th minus none", measure=_difference(worst, group, THRESHOLD, NONE)
            ),
            Statistic(
                key="noise",
                statistic="mean accuracy over the grid of Gaussian ε, adversarial training minus S^Th",
                measure=_difference(under_noise, group, ADVERSARIAL, THRESHOLD),
            ),
        ),
        protocols=("strict",),
        attack=WORST,
        setting=SETTINGS[group],
        note="Worst over all attacks, image by image.",
    )


CLAIMS = (
    _over_adversarial(DIGITS),
    _over_adversarial(PHOTOGRAPHS),
    Claim(
        key="all-structural",
        text="S^Th withstands more than the dissertation's defences",
        source=OURS,
        seeds=PLANNED_SEEDS["all defences"],
        statistic=f"gain in {STRONGEST} over the same classifier undefended, S^Th minus another, mean",
        measure=mean_over(over_structural),
        parts=over_structural,
        protocols=("strict",),
        attack=WORST,
        note="Its parts are partial training, polarizing, sparse coding and HaH on digits and on photographs.",
    ),
    Claim(
        key="all-noise",
        text="Under noise S^Th gains more than every other kind of defence",
        source=OURS,
        seeds=PLANNED_SEEDS["all defences"],
        statistic="gain in mean accuracy over the grid of Gaussian ε, S^Th minus another, mean",
        measure=mean_over(over_others),
        parts=over_others,
        protocols=("strict",),
        attack="gaussian",
        note="Its parts are the usual defences and the dissertation's, on digits and on photographs.",
    ),
)


def details(table: pd.DataFrame) -> list[Claim]:
    """Each defence against its strongest attack, and S^Th over each."""
    found = []
    for group in table["group"].unique():
        for name in rows_of_tables(table, group):
            if name != NONE:
                text = f"{group}: {name} withstands more than none"
                found.append(_detail(f"{group}-{name}", text, _gain(group, name)))
            if name not in (NONE, THRESHOLD):
                text = f"{group}: S^Th withstands more than {name}"
                found.append(_detail(f"{group}-over-{name}", text, _gain(group, THRESHOLD, name)))
    return found


def _gain(group: str, series: str, over: str | None = None) -> Callable[[pd.DataFrame], pd.Series]:
    """What a row adds under the strongest attack; more than another adds."""

    def measure(table: pd.DataFrame) -> pd.Series:
        found = gains(worst, table)[group]
        return found[series] if over is None else found[series] - found[over]

    return measure


def _detail(key: str, text: str, measure: Callable[[pd.DataFrame], pd.Series]) -> Claim:
    return Claim(
        key=key,
        text=text,
        source=OURS,
        seeds=PLANNED_SEEDS["all defences"],
        statistic=f"gain in {STRONGEST} over the same classifier undefended",
        measure=measure,
        main=False,
        protocols=("strict",),
        attack=WORST,
    )

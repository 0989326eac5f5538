"""Figure 08: three attacks against the number of regularization images (paper v2, Figure 9)."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from simreg_core.lab.claims import Claim, Statistic
from simreg_core.lab.figures.kit import Picture, finding, sequence, series_by
from simreg_core.lab.figures.kit_attacks import MAIN_LOOKS, draw_three_attacks, each_curve_helps
from simreg_core.lab.gains import gain
from simreg_core.lab.recipes import seeds_of, three_attacks
from simreg_core.lab.series import NONE, THRESHOLD, looks_of
from simreg_core.lab.specs import Profile
from simreg_core.lab.study import Block, Figure, Study

PUBLISHED_COUNTS = ("N=100", "N=1000", "N=5000")  # the smallest, the middle and the largest


def experiments(profile: Profile) -> tuple[Block, ...]:
    """S^Th with N regularization images, and none, under the three attacks."""
    series = {NONE: seeds_of(profile, NONE, profile.seeds)}
    for count in sorted(profile.studies.image_counts):
        series[f"N = {count}"] = seeds_of(profile, THRESHOLD, profile.seeds, count=count)
    return (Block(series, three_attacks(profile)),)


def image_counts(table: pd.DataFrame) -> tuple[str, str, str]:
    """The series with the smallest, the middle and the largest N."""
    counts = list(series_by(table, "count"))
    return counts[0], counts[len(counts) // 2], counts[-1]


def _gains(table: pd.DataFrame, **where) -> list[pd.Series]:
    """The Gaussian gains of the smallest, the middle and the largest N."""
    return [gain(table, name, "gaussian", **where) for name in image_counts(table)]


def _count_suffices(table: pd.DataFrame, **where) -> pd.Series:
    _, middle, largest = _gains(table, **where)
    return middle - largest / 2


def _count_too_small(table: pd.DataFrame, **where) -> pd.Series:
    smallest, _, largest = _gains(table, **where)
    return largest / 2 - smallest


def _largest(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Where the largest N surely does harm, no number suffices, and the smallest is not what lacks."""
    return {"gain of the largest N": _gains(table)[2]}


def _at_end(measure: Callable[..., pd.Series], published: float) -> tuple[Statistic]:
    words = "the same at the largest ε"
    of_end = partial(measure, epsilon="largest")
    return (Statistic(key="at-largest", statistic=words, measure=of_end, published={"CIFAR-10": published}),)


CLAIMS = (
    Claim(
        key="count-suffices",
        text="A middle number of images brings over half the gain of the most",
        source="v2 Fig. 9",
        statistic="gain in mean accuracy over the grid of Gaussian ε: middle N minus half of the largest N",
        measure=_count_suffices,
        parts=_largest,
        published={"CIFAR-10": 0.086},
        also=_at_end(_count_suffices, 0.222),
        attack="gaussian",
        note="In the paper the numbers are 100, 1,000 and 5,000. Contradicted also where the largest N surely does "
        "harm: then no number suffices.",
    ),
    Claim(
        key="count-too-small",
        text="The fewest images bring less than half the gain of the most",
        source="v2 Fig. 9",
        statistic="gain in mean accuracy over the grid of Gaussian ε: half of the largest N minus smallest N",
        measure=_count_too_small,
        parts=_largest,
        published={"CIFAR-10": 0.052},
        also=_at_end(_count_too_small, 0.062),
        attack="gaussian",
        note="Contradicted also where the largest N surely does harm: then the smallest is not what lacks.",
    ),
)


def draw(study: Study, protocol: str) -> Picture:
    """Three attacks, a curve for each N; the published curves in the colours of the N that play their part."""
    table = study.table()
    counts = series_by(table, "count")
    known = dict(zip(image_counts(table), PUBLISHED_COUNTS, strict=True))
    looks = {NONE: MAIN_LOOKS[NONE]}
    for name, look in looks_of(counts, sequence(len(counts)), "^sDv").items():
        panels = {"gaussian": "iii-N", "fgsm": "iii-N", "boundary": "iii"}
        published = {attack: (known[name], panel) for attack, panel in panels.items()} if name in known else None
        looks[name] = look.beside(published)
    figure = draw_three_attacks(table, looks, [NONE, *map(str, counts.values())], protocol, 3.0)
    figure.suptitle(finding(study, "count-suffices", "count-too-small"), fontsize="small", x=0.01, ha="left")
    return figure


FIGURE = Figure("08_image_count_study", experiments, CLAIMS, draw, details=each_curve_helps("v2 Fig. 9"))

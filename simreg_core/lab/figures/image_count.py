"""Figure 08: three attacks against the number of regularization images (paper v2, Figure 9)."""

import pandas as pd

from simreg_core.lab.claims import Claim, gain, weakest
from simreg_core.lab.figures.kit import Picture, sequence, series_by
from simreg_core.lab.figures.kit_attacks import MAIN_LOOKS, draw_three_attacks, each_curve_helps
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


CLAIMS = (
    Claim(
        key="count-suffices",
        text="The middle number of regularization images suffices (paper: N = 1000 of 5000)",
        source="v2 Fig. 9",
        statistic="gain in Gaussian noise of the middle N minus half that of the largest N, or the gain of the "
        "largest N itself: the smaller of the two",
        measure=_count_suffices,
        published=0.222,
    ),
    Claim(
        key="count-too-small",
        text="The smallest does not suffice (paper: N = 100 of 5000)",
        source="v2 Fig. 9",
        statistic="half the gain in Gaussian noise of the largest N minus that of the smallest N, or the gain of the "
        "largest N itself: the smaller of the two",
        measure=_count_too_small,
        published=0.062,
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
    return draw_three_attacks(table, looks, [NONE, *map(str, counts.values())], protocol)


FIGURE = Figure("08_image_count_study", experiments, CLAIMS, draw, details=each_curve_helps("v2 Fig. 9"))

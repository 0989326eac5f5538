"""Figure 04: three attacks against the regularization set (paper v2, Figure 5)."""

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import Picture
from simreg_core.lab.figures.kit_attacks import PUBLISHED_WORDS, each_curve_helps, published_task, set_looks
from simreg_core.lab.figures.kit_gains import curves_and_gains, title, with_gains
from simreg_core.lab.gains import GAIN, at_largest, gain_of_each, mean_over
from simreg_core.lab.recipes import headline_seeds, seeds_of, sets_of, three_attacks
from simreg_core.lab.series import NONE
from simreg_core.lab.specs import Profile
from simreg_core.lab.study import Block, Figure, Study


def experiments(profile: Profile) -> tuple[Block, ...]:
    """None, and S^Th with each regularization set, under the three attacks."""
    seeds, sets = headline_seeds(profile), profile.studies.regularization_sets
    series = {NONE: seeds_of(profile, NONE, seeds), **sets_of(profile, sets, seeds)}
    return (Block(series, three_attacks(profile)),)


CLAIMS = (
    Claim(
        key="sets",
        text="S^Th raises accuracy under noise over all sets; no set loses",
        source="v2 Fig. 5",
        statistic=GAIN + ", mean over regularization sets",
        measure=mean_over(gain_of_each),
        parts=gain_of_each,
        published={"CIFAR-10": 0.148},
        also=(at_largest(gain_of_each, {"CIFAR-10": 0.262}),),
        attack="gaussian",
    ),
)


def draw(study: Study, protocol: str) -> Picture:
    """Three attacks, a curve for each set, beside the published set that plays its part; below, gains over none."""
    task = study.circumstances.task
    beside = published_task(task)
    looks = set_looks(study.table(), study.profile, beside)
    words, same = PUBLISHED_WORDS[beside], beside == task
    figure = curves_and_gains(study.table(), looks, protocol, published=words, same=same)
    title(figure, study, protocol, "sets")
    return figure


FIGURE = Figure(
    "04_regularization_sets",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: with_gains(study.table()),
    details=each_curve_helps("v2 Fig. 5"),
)

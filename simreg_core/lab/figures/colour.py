"""Figure 09: three attacks on the task in colour, against the regularization set (paper v2, Figure 10)."""

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import Picture
from simreg_core.lab.figures.kit_attacks import each_curve_helps, set_looks
from simreg_core.lab.figures.kit_gains import curves_and_gains, title, with_gains
from simreg_core.lab.gains import GAIN, at_largest, gain_of_each, mean_over
from simreg_core.lab.recipes import in_colour, seeds_of, sets_of, three_attacks
from simreg_core.lab.series import NONE
from simreg_core.lab.specs import COLOUR, Profile
from simreg_core.lab.study import Block, Figure, Study


def experiments(profile: Profile) -> tuple[Block, ...]:
    """None, and S^Th with colour regularization sets, on the task in colour, under the three attacks."""
    coloured = in_colour(profile)
    seeds, sets = profile.seeds, profile.studies.colour_sets
    series = {NONE: seeds_of(coloured, NONE, seeds), **sets_of(coloured, sets, seeds)}
    return (Block(series, three_attacks(coloured)),)


CLAIMS = (
    Claim(
        key="colour",
        text="In colour S^Th raises accuracy over all sets; no set loses",
        source="v2 Fig. 10",
        statistic=GAIN + ", mean over regularization sets",
        measure=mean_over(gain_of_each),
        parts=gain_of_each,
        also=(at_largest(gain_of_each),),
        attack="gaussian",
        prefix=COLOUR,
    ),
)


def draw(study: Study, protocol: str) -> Picture:
    """Three attacks, a curve for each set; below, gains over none; no published curve could be read off."""
    looks = set_looks(study.table(), in_colour(study.profile), published=None)
    figure = curves_and_gains(study.table(), looks, protocol)
    title(figure, study, protocol, "colour")
    return figure


FIGURE = Figure(
    "09_colour",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: with_gains(study.table()),
    details=each_curve_helps("v2 Fig. 10", COLOUR),
)

"""Figure 07: three attacks against the number of pairs a step, and what pairs cost (paper v2, Figure 8)."""

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import Picture, panels, published_legend, sequence, series_by
from simreg_core.lab.figures.kit_attacks import (
    MAIN_LOOKS,
    PUBLISHED_MAIN,
    accuracy_curves,
    each_curve_helps,
    size_bars,
)
from simreg_core.lab.figures.kit_cost import step_costs, time_against_k, timed_steps
from simreg_core.lab.gains import GAIN, at_largest, gain_of_each, mean_over
from simreg_core.lab.recipes import seeds_of, three_attacks
from simreg_core.lab.series import NONE, THRESHOLD, looks_of
from simreg_core.lab.specs import Profile
from simreg_core.lab.study import Block, Figure, Study


def experiments(profile: Profile) -> tuple[Block, ...]:
    """S^Th with k pairs a step, and none, under the three attacks; what a step costs."""
    series = {NONE: seeds_of(profile, NONE, profile.seeds)}
    for k in profile.studies.pairs_per_step:
        series[f"k = {k}"] = seeds_of(profile, THRESHOLD, profile.seeds, pairs_per_step=k)
    return (Block(series, three_attacks(profile)), *timed_steps(profile))


CLAIMS = (
    Claim(
        key="every-k",
        text="S^Th raises accuracy under noise over all k; no k loses",
        source="v2 Fig. 8",
        statistic=GAIN + ", mean over k",
        measure=mean_over(gain_of_each),
        parts=gain_of_each,
        published={"CIFAR-10": 0.172},
        also=(at_largest(gain_of_each, {"CIFAR-10": 0.345}),),
        attack="gaussian",
    ),
)


def draw(study: Study, protocol: str) -> Picture:
    """Three attacks, a curve for each k beside the published one, and the measured time of a training step."""
    figure, axes = panels(2, 2, 4.6)
    table = study.table()
    numbers = series_by(table, "k")
    looks = {NONE: MAIN_LOOKS[NONE]}
    for name, look in looks_of(numbers, sequence(len(numbers)), "^sDv").items():
        known = f"k={numbers[name]}"
        looks[name] = look.beside({"gaussian": (known, "iii-k"), "fgsm": (known, "iii-k"), "boundary": (known, "iii")})
    for ax, attack in zip(axes[0], ("gaussian", "fgsm"), strict=True):
        accuracy_curves(ax, table, looks, attack, protocol)
    axes[0, 0].set_ylabel("Test accuracy")
    axes[0, 0].legend(loc="lower left", fontsize="small")
    published_legend(axes[0, 1], PUBLISHED_MAIN)
    size_bars(axes[1, 0], table, looks, [NONE, *map(str, numbers.values())])
    axes[1, 0].set_xlabel("Pairs a step, k")
    time_against_k(axes[1, 1], step_costs(study))
    return figure


FIGURE = Figure(
    "07_batch_size_study",
    experiments,
    CLAIMS,
    draw,
    details=each_curve_helps("v2 Fig. 8"),
    notes=lambda study: {"measured_cost": step_costs(study)},
)

"""Figure 11: parts of S^Th, and controls that the paper lacks (paper, appendix A.7; poster panel 6)."""

import pandas as pd

from simreg_core.lab.claims import OURS, Claim
from simreg_core.lab.figures.kit import Picture, finding
from simreg_core.lab.figures.kit_attacks import helps
from simreg_core.lab.figures.kit_forest import OTHER, Row, effects_of_attacks, forest_of_attacks
from simreg_core.lab.gains import beside_gain, gain, regularized
from simreg_core.lab.recipes import seeds_of, three_attacks
from simreg_core.lab.series import (
    DOUBLE,
    HIGH,
    LOOKS,
    LOW,
    NEGATIVE,
    NO_LOSS,
    NONE,
    PIXEL,
    POSITIVE,
    SHUFFLED,
    THRESHOLD,
    ZERO,
)
from simreg_core.lab.specs import Profile
from simreg_core.lab.study import Block, Figure, Study

CONTROLS = (SHUFFLED, ZERO, NO_LOSS)
# of the poster; its S^Th Gaussian curve is the FGSM one by mistake: panel 4i stands for it
PUBLISHED_PARTS = {
    PIXEL: {},
    THRESHOLD: {"gaussian": ("S_Th reg=CIFAR10", "4i"), "fgsm": ("S_Th", "6"), "boundary": ("S_Th", "6")},
    LOW: {"gaussian": ("S_low", "6"), "boundary": ("S_low", "6")},
    HIGH: {"gaussian": ("S_high", "6"), "fgsm": ("S_high", "6"), "boundary": ("S_high", "6")},
    POSITIVE: {"gaussian": ("S_plus", "6"), "fgsm": ("S_plus", "6"), "boundary": ("S_plus", "6")},
    NEGATIVE: {"gaussian": ("S_minus", "6"), "fgsm": ("S_minus", "6"), "boundary": ("S_minus", "6")},
    DOUBLE: {
        "gaussian": ("S_double(Th1,Th2)", "6"),
        "fgsm": ("S_double(Th1,Th2)", "6"),
        "boundary": ("S_double", "6"),
    },
}


def experiments(profile: Profile) -> tuple[Block, ...]:
    """Parts of S^Th, and three controls, under the three attacks."""
    own = profile.studies.component_set.fields()
    ways: dict[str, dict] = {
        PIXEL: {"target": "pixel", "alpha": profile.pixel_alpha},
        THRESHOLD: {},
        LOW: {"pairs": "low"},
        HIGH: {"pairs": "high"},
        POSITIVE: {"pairs": "positive"},
        NEGATIVE: {"pairs": "negative"},
        DOUBLE: {"pairs": "double", "low_threshold": profile.studies.low_threshold},
        SHUFFLED: {"target": "shuffled"},
        ZERO: {"target": "zero"},
        NO_LOSS: {"alpha": 0.0},
    }
    series = {NONE: seeds_of(profile, NONE, profile.seeds)}
    for label, way in ways.items():
        series[label] = seeds_of(profile, THRESHOLD, profile.seeds, **{**own, **way})
    return (Block(series, three_attacks(profile)),)


CLAIMS = (
    Claim(
        key="not-low",
        text="S^Th raises accuracy under noise more than its zero targets do",
        source="A.7",
        statistic="mean accuracy over the grid of Gaussian ε, S^Th minus S_low",
        measure=lambda table: gain(table, THRESHOLD, "gaussian", over=LOW),
        published={"CIFAR-10": 0.197},
        also=beside_gain(THRESHOLD, "gaussian", LOW, published={"CIFAR-10": 0.281}),
        attack="gaussian",
    ),
    Claim(
        key="not-shuffled",
        text="S^Th raises accuracy under noise more than the same, shuffled",
        source=OURS,
        statistic="mean accuracy over the grid of Gaussian ε, S^Th minus shuffled S^Th",
        measure=lambda table: gain(table, THRESHOLD, "gaussian", over=SHUFFLED),
        also=beside_gain(THRESHOLD, "gaussian", SHUFFLED),
        attack="gaussian",
        note="Tells whether it matters which pairs have the targets ±1.",
    ),
    Claim(
        key="not-batch-norm",
        text="S^Th raises accuracy under noise more than pairs without loss",
        source=OURS,
        statistic="mean accuracy over the grid of Gaussian ε, S^Th minus pairs without a loss",
        measure=lambda table: gain(table, THRESHOLD, "gaussian", over=NO_LOSS),
        also=beside_gain(THRESHOLD, "gaussian", NO_LOSS),
        attack="gaussian",
        note="Pairs without a loss act through their batch-norm statistics only.",
    ),
)


def details(table: pd.DataFrame) -> list[Claim]:
    """Each part of the target, and S^Th against two of them."""
    each = [helps(one, one, "gaussian", OURS if one in CONTROLS else "A.7") for one in regularized(table)]
    return [*each, _over(ZERO, "all targets 0", OURS), _over(HIGH, "S_high", "A.7")]


def _over(other: str, words: str, source: str) -> Claim:
    return Claim(
        key=f"over-{other}",
        text=f"S^Th raises accuracy under Gaussian noise more than {words}",
        source=source,
        statistic="mean accuracy over the grid of ε, S^Th minus the other",
        measure=lambda table: gain(table, THRESHOLD, "gaussian", over=other),
        also=beside_gain(THRESHOLD, "gaussian", other),
        attack="gaussian",
        main=False,
    )


def draw(study: Study, protocol: str) -> Picture:
    """A row for each part of S^Th and each control: what it gains over none under three attacks, and what it costs."""
    table = study.table()
    rows = []
    for series in regularized(table):
        look = LOOKS[series].beside(PUBLISHED_PARTS.get(series))
        own_look = look if series in (PIXEL, THRESHOLD) else OTHER  # the labels tell the others apart
        effects = effects_of_attacks(table, series, protocol, own_look, look)
        rows.append(Row(look.label, effects, "Controls" if series in CONTROLS else "Parts"))
    figure = forest_of_attacks(table, rows, protocol, "published (gray CIFAR-10, ResNet18)")
    found = finding(study, "not-low", "not-shuffled", "not-batch-norm")
    figure.suptitle(found, fontsize="small", x=0.01, ha="left")
    return figure


FIGURE = Figure("11_target_components", experiments, CLAIMS, draw, details=details, named=True)

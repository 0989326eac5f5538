"""Figure 15: three attacks on networks that the regularizer was not made for (ours, not the paper's)."""

import pandas as pd

from simreg_core.lab.claims import OURS, Claim
from simreg_core.lab.figures.kit import Picture, finding, summarize_groups
from simreg_core.lab.figures.kit_attacks import helps
from simreg_core.lab.figures.kit_forest import Row, effects_of_attacks, forest_of_attacks
from simreg_core.lab.gains import ATTACKS, GAIN, at_largest, gain, mean_over
from simreg_core.lab.recipes import of_architecture, seeds_of, three_attacks
from simreg_core.lab.series import LOOKS, NONE, THRESHOLD
from simreg_core.lab.specs import Profile
from simreg_core.lab.study import Block, Figure, Study
from simreg_core.names import LAYERS


def experiments(profile: Profile) -> tuple[Block, ...]:
    """None and S^Th on networks that the regularizer was not made for, under the three attacks."""
    bases = {one.name: of_architecture(profile, one) for one in profile.studies.architectures}
    return tuple(
        Block({target: seeds_of(one, target, one.seeds) for target in (NONE, THRESHOLD)}, three_attacks(one), name)
        for name, one in bases.items()
    )


def _gains(table: pd.DataFrame, **where) -> dict[str, pd.Series]:
    return {group: gain(table, THRESHOLD, "gaussian", group=group, **where) for group in table["group"].unique()}


CLAIMS = (
    Claim(
        key="architectures",
        text="S^Th raises accuracy over other architectures; none loses",
        source=OURS,
        statistic=GAIN + ", mean over architectures",
        measure=mean_over(_gains),
        parts=_gains,
        also=(at_largest(_gains),),
        attack="gaussian",
    ),
)


def details(table: pd.DataFrame) -> list[Claim]:
    """S^Th on each architecture under each attack."""
    return [
        helps(f"{group}: {THRESHOLD}", THRESHOLD, attack, OURS, group, group=group)
        for group in table["group"].unique()
        for attack in ATTACKS
    ]


def draw(study: Study, protocol: str) -> Picture:
    """A row for each architecture: what S^Th gains over none; no published values, since the paper has none."""
    table = study.table()
    rows = []
    for name in table["group"].unique():
        own = table[table["group"] == name]
        rows.append(Row(name, effects_of_attacks(own, THRESHOLD, protocol, LOOKS[THRESHOLD])))
    figure = forest_of_attacks(table, rows, protocol)
    figure.suptitle(finding(study, "architectures"), fontsize="small", x=0.01, ha="left")
    return figure


def settings(study: Study) -> list[dict]:
    """What each architecture takes: width, alpha, Th, learning rate, layers, number of weights."""
    from simreg_core.architectures import architecture  # here: it needs torch, and to draw needs none

    def weights(one: Profile) -> int:
        network = architecture(one.network.name, one.task.size, one.task.channels, width=one.network.width)
        return sum(weight.numel() for weight in network.parameters())

    bases = [of_architecture(study.profile, one) for one in study.profile.studies.architectures]
    return [
        {
            "architecture": one.network.name,
            "width": one.network.width,
            "alpha": one.regularizer.alpha,
            "Th": one.regularizer.threshold,
            "learning rate": one.optimization.learning_rate,
            "layers": ", ".join(LAYERS[one.network.name]),
            "weights": weights(one),
        }
        for one in bases
    ]


FIGURE = Figure(
    "15_architectures",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize_groups(study.table(), "epsilon"),
    details=details,
    notes=lambda study: {"settings": settings(study)},
)

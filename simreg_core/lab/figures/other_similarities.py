"""Figure 18: other target similarities, another layer measure, a table, a low-pass set (ours, not the paper's)."""

import pandas as pd

from simreg_core.lab.claims import OURS, Claim
from simreg_core.lab.figures.kit import Picture, finding, summarize_groups
from simreg_core.lab.figures.kit_attacks import helps
from simreg_core.lab.figures.kit_forest import OTHER, Row, effects_of_attacks, forest_of_attacks
from simreg_core.lab.gains import ATTACKS, at_largest, beside_gain, gain, mean_over, regularized
from simreg_core.lab.protocol_of_claims import NOT_INFERIOR
from simreg_core.lab.recipes import of_variant, seeds_of, three_attacks
from simreg_core.lab.series import LOOKS, MAIN_TASK, NONE, THRESHOLD
from simreg_core.lab.specs import TABLE_SETTING as TABLE, Profile
from simreg_core.lab.study import Block, Figure, Study
from simreg_core.names import TARGET_SIMILARITIES

UNTRAINED, LINEAR_CKA, LOW_PASS = "untrained features", "S^Th by linear CKA", "S^Th, blurred images"
LABELS = {  # series, by the names of `specs.OtherSimilarity`
    "euclidean": "Euclidean distance", "ssim": "SSIM", "blurred": "cosine after blurring", "untrained": UNTRAINED,
    "linear_cka": LINEAR_CKA, "low_pass": LOW_PASS,
}  # fmt: skip
OF_TARGETS = tuple(LABELS[name] for name in TARGET_SIMILARITIES)
KINDS = {  # groups of rows, by series
    THRESHOLD: "Targets made of", **dict.fromkeys(OF_TARGETS, "Targets made of"),
    LINEAR_CKA: "Layers compared by", LOW_PASS: "Regularization images",
}  # fmt: skip
WORDS = {  # labels of rows, where the group's name says the rest
    THRESHOLD: "cosine of pixels ($S^{\\mathrm{Th}}$)", LINEAR_CKA: "linear CKA", LOW_PASS: "blurred",
}  # fmt: skip


TABLE_CASES = 100  # a table has few cases: where a profile asks for more images, all cases are attacked, but for the
# boundary attack, which takes so many


def _of_table(profile: Profile) -> Profile:
    table, few = of_variant(profile, profile.studies.tabular), profile.studies.test_images
    sizes = {
        "test_images": few if few is not None and few <= TABLE_CASES else None,
        "boundary_images": min(profile.studies.boundary_images, TABLE_CASES),
    }
    return table.changed(studies=table.studies.changed(**sizes))


def experiments(profile: Profile) -> tuple[Block, ...]:
    """None, S^Th, and S^Th with another similarity each, on the main task; none and S^Th on a table."""
    series = {target: seeds_of(profile, target, profile.seeds) for target in (NONE, THRESHOLD)}
    for one in profile.studies.other_similarities:
        series[LABELS[one.name]] = seeds_of(profile, THRESHOLD, profile.seeds, **one.fields())
    table = _of_table(profile)
    of_table = {target: seeds_of(table, target, table.seeds) for target in (NONE, THRESHOLD)}
    return (Block(series, three_attacks(profile), MAIN_TASK), Block(of_table, three_attacks(table), TABLE))


def _gains(table: pd.DataFrame, **where) -> dict[str, pd.Series]:
    """Of each other target similarity, under Gaussian noise."""
    main = table[table["group"] == MAIN_TASK]
    return {series: gain(main, series, "gaussian", **where) for series in regularized(main) if series in OF_TARGETS}


GRID = "mean accuracy over the grid of Gaussian ε"
CLAIMS = (
    Claim(
        key="other-similarities",
        text="Other target similarities raise accuracy as well; none loses",
        source=OURS,
        statistic=f"{GRID}, each with as many ±1 pairs as S^Th, minus none, mean",
        measure=mean_over(_gains),
        parts=_gains,
        also=(at_largest(_gains),),
        attack="gaussian",
        images_in=MAIN_TASK,
        note="+1 for the most similar pairs and -1 for the least, as many as S^Th has; alpha is S^Th's.",
    ),
    Claim(
        key="pixel-cosine",
        text="The pixel cosine raises accuracy more than untrained features",
        source=OURS,
        statistic=f"{GRID}, S^Th minus the same of an untrained network's features",
        measure=lambda table: gain(table, THRESHOLD, "gaussian", over=UNTRAINED, group=MAIN_TASK),
        also=beside_gain(THRESHOLD, "gaussian", UNTRAINED, group=MAIN_TASK),
        attack="gaussian",
        images_in=MAIN_TASK,
    ),
    Claim(
        key="linear-cka",
        text="S^Th compared by linear CKA raises accuracy under noise",
        source=OURS,
        statistic=f"{GRID}, S^Th with linear CKA minus none",
        measure=lambda table: gain(table, LINEAR_CKA, "gaussian", group=MAIN_TASK),
        also=beside_gain(LINEAR_CKA, "gaussian", group=MAIN_TASK),
        attack="gaussian",
        images_in=MAIN_TASK,
        setting="linear_cka",
        note="The loss, 1 - CKA, has another scale than the paper's, so its alpha is another.",
    ),
    Claim(
        key="tabular",
        text="S^Th raises accuracy under noise on data that are not images",
        source=OURS,
        statistic=f"{GRID} on a tabular set, S^Th minus none",
        measure=lambda table: gain(table, THRESHOLD, "gaussian", group=TABLE),
        also=beside_gain(THRESHOLD, "gaussian", group=TABLE),
        attack="gaussian",
        images_in=TABLE,
        setting=TABLE,
        note="d features are an image of 1 x d, scaled to [0, 1] by their least and largest training value.",
    ),
    Claim(
        key="low-pass-set",
        text="A low-pass regularization set does no worse",
        source=OURS,
        statistic=f"{GRID}, S^Th with a low-pass regularization set minus S^Th",
        measure=lambda table: gain(table, LOW_PASS, "gaussian", over=THRESHOLD, group=MAIN_TASK),
        threshold=NOT_INFERIOR,
        not_inferior=True,
        also=beside_gain(LOW_PASS, "gaussian", THRESHOLD, group=MAIN_TASK),
        attack="gaussian",
        images_in=MAIN_TASK,
        note="The images of the set are blurred once; the targets are those of the blurred images, at the same Th.",
    ),
)


def details(table: pd.DataFrame) -> list[Claim]:
    """Each curve against each attack."""
    groups = {group: table[table["group"] == group] for group in table["group"].unique()}
    return [
        helps(f"{group}: {one}", one, attack, OURS, group=group)
        for group, own in groups.items()
        for one in regularized(own)
        for attack in ATTACKS
    ]


def draw(study: Study, protocol: str) -> Picture:
    """A row for each similarity, and one for the table: gains over none under three attacks, and the cost."""
    table = study.table()
    main = table[table["group"] == MAIN_TASK]
    rows = []
    for series in sorted(regularized(main), key=[*KINDS].index):
        look = LOOKS[THRESHOLD] if series == THRESHOLD else OTHER
        effects = effects_of_attacks(main, series, protocol, look)
        rows.append(Row(WORDS.get(series, series), effects, KINDS[series]))
    of_table = effects_of_attacks(table[table["group"] == TABLE], THRESHOLD, protocol, LOOKS[THRESHOLD])
    rows.append(Row(study.profile.studies.tabular.name, of_table, "A table"))
    figure = forest_of_attacks(table, rows, protocol)
    titles = [one.key for one in CLAIMS]
    figure.suptitle(finding(study, *titles), fontsize="small", x=0.01, ha="left")
    return figure


FIGURE = Figure(
    "18_other_similarities",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize_groups(study.table(), "epsilon"),
    details=details,
    part="studies.other_similarities",
)

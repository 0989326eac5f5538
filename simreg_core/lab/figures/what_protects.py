"""Figure 17: what protects: the similarity, the decorrelation, the batch norm or the images (ours, not the paper's)."""

from collections.abc import Callable, Iterable

import pandas as pd

from simreg_core.lab.claims import (
    OURS,
    Claim,
    Statistic,
    Verdict,
    interval_of,
    number,
    verdicts,
)
from simreg_core.lab.figures.kit import (
    PAGE,
    Axes,
    Picture,
    finding,
    in_symbols,
    plt,
    shade,
    summarize_groups,
    use_style,
)
from simreg_core.lab.figures.kit_attacks import helps
from simreg_core.lab.figures.kit_conclusions import Mechanism
from simreg_core.lab.figures.kit_design import Contrast, cells_of, interaction, main_effect
from simreg_core.lab.figures.kit_forest import (
    AXES,
    CLEAN,
    Effect,
    Row,
    draw_effect,
    forest_column,
    forest_legend,
    height_of,
    images_in_words,
)
from simreg_core.lab.gains import AT_LARGEST, by_seed, gain, regularized
from simreg_core.lab.recipes import seeds_of, three_attacks
from simreg_core.lab.series import LOOKS, NO_LOSS, NONE, THRESHOLD, ZERO
from simreg_core.lab.specs import (
    ALIKE,
    FrequencyBiasEvaluation,
    PairSimilarityEvaluation,
    Profile,
)
from simreg_core.lab.study import NO_LOSS_NAME, SHARED, Block, Figure, Study

CLEAN_MATCHED = "Equal clean accuracy"
UNSEEN, SEEN = "", "seen pairs"  # groups
PAIR_IMAGES = 500  # whose pairs are looked at
AT_END = "at largest"  # a column beside those of `kit_forest.COLUMNS`
TITLES = {
    "gaussian": "Gaussian noise",
    AT_END: "Gaussian, largest ε",
    CLEAN: "No attack",
    "boundary": "Boundary attack",
}
LABELS = {**AXES, AT_END: "Gain in accuracy\nat the largest ε", CLEAN: "Gain in clean\naccuracy"}


def experiments(profile: Profile) -> tuple[Block, ...]:
    """None, S^Th and the cells of the profile's design under the three attacks, and what their networks look at."""
    series = {NONE: seeds_of(profile, NONE, profile.seeds), **cells_of(profile)}
    images = profile.studies.test_images
    unseen = PairSimilarityEvaluation(images=min(PAIR_IMAGES, images or PAIR_IMAGES))
    everything = (*three_attacks(profile), FrequencyBiasEvaluation(images=images), unseen)
    blocks = [Block(series, everything, UNSEEN)]
    for label, networks in series.items():
        if (spec := networks[0].regularizer) is not None:
            seen = PairSimilarityEvaluation(images=min(PAIR_IMAGES, spec.count), seen=spec)
            blocks.append(Block({label: networks}, (seen,), SEEN))
    return tuple(blocks)


LOSS, BATCH_NORM, IMAGES, INTERACTIONS = "Loss", "Batch norm of pairs", "Images", "Interactions"
STATISTICS, SETS = (SHARED, "separate"), ("own", "foreign")
CONTRASTS = (
    Contrast("targets", "S^Th − all targets 0", LOSS, main_effect("loss", "threshold", "zero")),
    Contrast("true-pairs", "S^Th − shuffled S^Th", LOSS, main_effect("loss", "threshold", "shuffled")),
    Contrast("loss", "S^Th − pairs, no loss", LOSS, main_effect("loss", "threshold", NO_LOSS_NAME)),
    Contrast("pixel-loss", "S^pixel − pairs, no loss", LOSS, main_effect("loss", "pixel", NO_LOSS_NAME)),
    Contrast("zeros-help", "all targets 0 − none", LOSS, main_effect("loss", "zero", None)),
    Contrast("pairs-help", "pairs, no loss − none", LOSS, main_effect("loss", NO_LOSS_NAME, None, statistics=SHARED)),
    *(
        Contrast(key, f"S^Th: shared − {other}", BATCH_NORM, main_effect("statistics", SHARED, other, loss="threshold"))
        for key, other in (("shared-statistics", "separate"), ("shared-over-frozen", "frozen"))
    ),
    Contrast("own-images", "S^Th: own − foreign", IMAGES, main_effect("set", *SETS, loss="threshold")),
    *(
        Contrast(f"{key}-by-{factor}", f"(S^Th − {words}): {' − '.join(levels)}", INTERACTIONS, corners)
        for factor, levels in (("statistics", STATISTICS), ("set", SETS))
        for key, words, other in (("loss", "no loss", NO_LOSS_NAME), ("targets", "zeros", "zero"))
        for corners in [interaction("threshold", other, factor, levels)]
    ),
    Contrast("matched-zeros", "S^Th − all targets 0", CLEAN_MATCHED, main_effect("loss", "threshold", "zero"), True),
    Contrast(
        "matched-shuffled", "S^Th − shuffled S^Th", CLEAN_MATCHED, main_effect("loss", "threshold", "shuffled"), True
    ),
)
BY_KEY = {one.key: one for one in CONTRASTS}


def _claim(key: str, text: str, statistic: str, note: str = "") -> Claim:
    """A claim on a contrast, with what it is at the largest epsilon and without noise beside it."""
    own = BY_KEY[key]
    beside = (("at-largest", AT_LARGEST, "largest"), ("clean", "the same of clean accuracy", "zero"))
    return Claim(
        key=key,
        text=text,
        source=OURS,
        statistic=statistic,
        measure=own.effect,
        also=tuple(
            Statistic(key=name, statistic=words, measure=lambda table, end=end: own.effect(table, epsilon=end))
            for name, words, end in beside
        ),
        attack="gaussian",
        note=note,
    )


def share_removed(of: str) -> Callable[[pd.DataFrame], pd.Series]:
    """The share of high frequencies of 'gradient' or 'filter', none minus S^Th, by seed."""
    where = {"attack": "frequency_bias", "metric": f"{of}_high_frequency_share"}
    return lambda table: (by_seed(table, NONE, **where) - by_seed(table, THRESHOLD, **where)).dropna()


def correlations(table: pd.DataFrame, series: str, group: str = UNSEEN) -> pd.Series:
    """Correlation of S^CNN, all layers alike, with pixel similarity, by seed."""
    return by_seed(table, series, attack="pair_similarity", metric="pearson", condition=ALIKE, group=group)


GRID = "mean accuracy over the grid of Gaussian ε"
CLAIMS = (
    _claim(
        "targets",
        "The targets ±1 raise accuracy under noise more than zeros do",
        f"{GRID}, S^Th minus all targets 0, mean over batch norms and sets",
        "The zeros decorrelate all pairs, with S^Th's alpha; 'matched' in notebook 17 is with an alpha of their own.",
    ),
    _claim(
        "true-pairs",
        "True targets raise accuracy under noise more than shuffled ones",
        f"{GRID}, S^Th minus shuffled S^Th, mean over batch norms and sets",
    ),
    _claim(
        "loss",
        "S^Th raises accuracy under noise more than pairs without loss",
        f"{GRID}, S^Th minus pairs without loss, mean over batch norms and sets",
        "Pairs without a loss act through batch norm only; with separate or frozen statistics they do nothing.",
    ),
    _claim(
        "zeros-help",
        "All targets zero raise accuracy under Gaussian noise",
        f"{GRID}, all targets 0 minus none, mean over batch norms and sets",
    ),
    _claim(
        "shared-statistics",
        "S^Th raises accuracy more when pairs share batch norm",
        f"{GRID}, S^Th with shared minus separate statistics, mean over sets",
    ),
    _claim(
        "own-images",
        "S^Th raises accuracy more with the task's own images",
        f"{GRID}, S^Th own minus foreign images, mean over batch norms",
        "Each set has its own alpha, where the profile has chosen one for it.",
    ),
    Claim(
        key="smooth-gradient",
        text="S^Th takes high frequencies out of the input gradient",
        source=OURS,
        statistic="share of power above 0.25 cycles/pixel of input gradients, none minus S^Th",
        measure=share_removed("gradient"),
        scale="share",
        protocols=("released",),
    ),
    Claim(
        key="smooth-filters",
        text="S^Th takes high frequencies out of the first filters",
        source=OURS,
        statistic="share of power above 0.25 cycles/pixel of the first layer's filters, none minus S^Th",
        measure=share_removed("filter"),
        scale="share",
        protocols=("released",),
    ),
    Claim(
        key="unseen-pairs",
        text="On unseen pairs S^Th makes the network's similarity follow pixels'",
        source=OURS,
        statistic="correlation of S^CNN, all layers alike, with pixel similarity over pairs of test images, "
        "S^Th minus none",
        measure=lambda table: (correlations(table, THRESHOLD) - correlations(table, NONE)).dropna(),
        scale="correlation",
        protocols=("released",),
    ),
)


def details(table: pd.DataFrame) -> list[Claim]:
    """Every cell over none, and the contrasts that have no claim of their own."""
    claimed = {one.key for one in CLAIMS}
    more = [one for one in CONTRASTS if one.key not in claimed and one.series(table)]
    return [
        *(helps(one, one, "gaussian", OURS) for one in regularized(table)),
        *(
            Claim(
                key=one.key,
                text=f"{one.group}: {one.label}",
                source=OURS,
                statistic=GRID,
                measure=one.effect,
                main=False,
                attack="gaussian",
            )
            for one in more
        ),
    ]


def measured(claims: Iterable[Claim], table: pd.DataFrame) -> list[Claim]:
    """The claims whose cells were trained: a smaller design lacks some."""
    return [one for one in claims if one.key not in BY_KEY or BY_KEY[one.key].series(table)]


def judge(study: Study, protocol: str) -> list[Verdict]:
    """The verdicts on the claims whose cells the profile's design has."""
    table = study.table()
    own = (*measured(CLAIMS, table), *details(table[table["protocol"] == protocol]))
    return verdicts(own, table, protocol, study.circumstances)


def draw(study: Study, protocol: str) -> Picture:
    """Main effects and interactions, and below them where the networks look and what they make of unseen pairs."""
    table = study.table()
    rows = rows_of_contrasts(table, protocol)
    use_style()
    above, below = height_of(rows, 1.3), 2.1
    figure = plt.figure(figsize=(PAGE, above + below), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(above, below))
    for ax, (column, title) in zip(top.subplots(1, len(TITLES)), TITLES.items(), strict=True):
        sizes = column == "boundary"
        own = table[table["attack"] == ("boundary" if sizes else "gaussian")]
        label = "Size of perturbation,\nratio" if sizes else LABELS[column]
        forest_column(
            ax, rows, title, xlabel=label, line=float(sizes), names=column == "gaussian", below=images_in_words(own)
        )
    forest_legend(top, rows)
    filters, gradients, pairs = bottom.subplots(1, 3, width_ratios=(1, 1, 1.5))
    _shares(filters, table, "filter", "First filters")
    _shares(gradients, table, "gradient", "Input gradients")
    gradients.set_yticklabels([])
    _similarities(pairs, study)
    judged = [one.key for one in study.judge(protocol)]
    titles = [key for key in ("loss", "targets", "true-pairs", "zeros-help") if key in judged]
    figure.suptitle(finding(study, *titles), fontsize="small", x=0.01, ha="left")
    return figure


def rows_of_contrasts(table: pd.DataFrame, protocol: str) -> list[Row]:
    """A row for each contrast whose cells were trained."""
    own, released = table[table["protocol"] == protocol], table[table["protocol"] == "released"]
    rows = []
    for one in CONTRASTS:
        shown = "\n".join(dict.fromkeys(name for names in one.series(table) for name in names))
        if shown:
            effects = {
                "gaussian": one.effect(own),
                AT_END: one.effect(own, epsilon="largest"),
                CLEAN: one.effect(own, epsilon="zero"),
                "boundary": one.effect(released, "boundary"),
            }
            columns = {TITLES[column]: (Effect(values, series=shown),) for column, values in effects.items()}
            rows.append(Row(in_symbols(one.label), columns, one.group))
    return rows


def _shares(ax: Axes, table: pd.DataFrame, of: str, title: str) -> None:
    """The share of high frequencies of the main series: mean, interval and seeds."""
    shown = [name for name in (NONE, NO_LOSS, ZERO, THRESHOLD) if name in set(table["series"])]
    where = {"attack": "frequency_bias", "metric": f"{of}_high_frequency_share"}
    for place, name in enumerate(shown):
        draw_effect(ax, Effect(by_seed(table, name, **where), LOOKS[name], name), place)
    ax.set_yticks(range(len(shown)), [LOOKS[name].label for name in shown], fontsize="small")
    ax.set(ylim=(len(shown) - 0.4, -0.6))
    ax.set_xlabel("Share of power above\n0.25 cycles/pixel", fontsize="small")
    ax.tick_params(axis="x", labelsize="small")
    ax.set_title(title, fontsize="medium")


def _similarities(ax: Axes, study: Study) -> None:
    """Mean of S^CNN in bins of pixel similarity, over pairs of test images; shaded, its spread over pairs."""
    edges = next(iter(study.arrays("bin_edges", UNSEEN).values()))[0]
    middles = (edges[1:] + edges[:-1]) / 2
    means, spreads = (study.arrays(name, UNSEEN) for name in ("means", "deviations"))
    for name in (NONE, ZERO, THRESHOLD):
        if name in means:
            look, mean = LOOKS[name], means[name].astype(float).mean(axis=0)  # None: a bin without pairs
            ax.plot(middles, mean, color=look.colour, marker=look.marker, label=look.label, gid=name)
            shade(ax, middles, mean, spreads[name].astype(float).mean(axis=0), look.colour)
    ax.axline((0, 0), slope=1, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.set_xlabel("Pixel similarity of a pair of test images", fontsize="small")
    ax.set_ylabel(r"$S^{\mathrm{CNN}}$ (shaded: s.d. of pairs)", fontsize="small")
    ax.tick_params(labelsize="small")
    ax.set_title("Unseen pairs", fontsize="medium")
    ax.legend(fontsize="x-small")


MECHANISMS = (
    Mechanism(
        "The similarity",
        {
            "targets": ("the targets ±1 do more than zeros", "the targets ±1 do no more than zeros"),
            "true-pairs": (
                "it matters which pairs are asked to be alike",
                "it does not matter which pairs are asked to be alike",
            ),
        },
        "shuffled targets, or zeros, that gain as much at the same α or at equal clean accuracy",
    ),
    Mechanism(
        "Decorrelation",
        {"zeros-help": ("asking all pairs to be dissimilar protects", "asking all pairs to be dissimilar does not")},
        "zeros that gain nothing over none on one of the sets, or only by a batch norm that the pairs share",
    ),
    Mechanism(
        "Batch norm",
        {
            "loss": ("the loss does more than its pairs in batch norm", "pairs in batch norm do as much as the loss"),
            "shared-statistics": (
                "S^Th gains by pairs that move the running statistics",
                "S^Th gains as much where pairs leave the running statistics alone",
            ),
        },
        "a loss that gains as much with separate or frozen statistics, and pairs without loss that gain nothing",
    ),
    Mechanism(
        "The images",
        {"own-images": ("the task's images protect more than others", "other images protect as much as the task's")},
        "a foreign set that gains as much once its α is chosen by the same criterion",
    ),
    Mechanism(
        "Low frequencies",
        {
            "smooth-gradient": ("the loss follows lower frequencies of the image", "the loss follows no lower ones"),
            "smooth-filters": ("the first filters are smoother", "the first filters are no smoother"),
        },
        "a control with as little power at high frequencies that gains nothing under noise",
    ),
    Mechanism(
        "What the loss asks",
        {
            "unseen-pairs": (
                "on unseen pairs the network's similarity follows that of pixels more",
                "on unseen pairs the network's similarity follows that of pixels no more",
            )
        },
        "a network that gains under noise while its similarity of unseen pairs stays that of an unregularized one",
    ),
)


def cell_table(study: Study) -> pd.DataFrame:
    """Every cell: what was trained, and its gain over none with its interval under Gaussian noise and FGSM, the ratio
    of its boundary-attack sizes, its clean accuracy lost, and how its similarity of seen and unseen pairs follows
    that of pixels."""
    table = study.table()
    own, released = table[table["protocol"] == study.protocol], table[table["protocol"] == "released"]
    rows = []
    for name in regularized(table):
        what = table[table["series"] == name].iloc[0]
        numbers = {
            "Gaussian": gain(own, name, "gaussian", epsilon="grid"),
            "FGSM": gain(own, name, "fgsm", epsilon="grid"),
            "boundary, ratio": gain(released, name, "boundary"),
            "clean": gain(own, name, "gaussian", epsilon="zero"),
            "r, seen pairs": correlations(table, name, SEEN),
            "r, unseen pairs": correlations(table, name),
        }
        words = {
            column: number(dict(zip(("estimate", "low", "high"), interval_of(values), strict=True)))
            for column, values in numbers.items()
        }
        rows.append({**what[["loss", "statistics", "images", "alpha"]].to_dict(), **words})
    return pd.DataFrame(rows)


FIGURE = Figure(
    "17_what_protects",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize_groups(study.table(), "epsilon", "condition"),
    details=details,
    judge=judge,
    part="studies.design",
)

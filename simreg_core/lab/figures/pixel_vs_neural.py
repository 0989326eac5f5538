"""Figure 01: neural against pixel similarity (paper v2, Figure 2)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from simreg_core.lab.claims import OURS, Claim, Verdict, interval_of, judge, rule, verdict_of
from simreg_core.lab.figures.kit import PAGE, Axes, Picture, finding, mark, mpl, plt, seed_dots, use_style
from simreg_core.lab.gains import by_seed
from simreg_core.lab.protocol_of_claims import FEWEST_SEEDS
from simreg_core.lab.recipes import simulated_animals
from simreg_core.lab.series import S_NEURAL, S_PIXEL
from simreg_core.lab.specs import (
    ANTOLIK_REGIONS,
    Condition,
    NeuralExperiment,
    Profile,
    Published,
    Recorded,
    SimilarityEvaluation,
)
from simreg_core.lab.study import Block, Figure, Study

SIMULATED_V1, PUBLISHED_V1, RECOVERY = "simulated V1", "V1 predictor (published)", "recovery"
ANTOLIK, PUBLISHED_IMAGES = "mouse-v1-antolik2016", "imagenet-1k-sample-lossless"
FULL_FRAME, CROP = "full frame", "receptive-field crop"
MOUSE_V1 = "mouse V1"
PRINTED_R = 0.83  # in the text of v2 and the abstract's figure
MATRICES_R = 0.51  # read off the paper's own printed 100x100 matrices by inverting their colours; interval 0.43 to 0.59
COLOURS = {
    SIMULATED_V1: "0.35",
    "mouse V1, region 1": "#0072b2",
    "mouse V1, region 2": "#56b4e9",
    "mouse V1, region 3": "#009e73",
    PUBLISHED_V1: "#d55e00",
}
MARKERS = dict(zip(COLOURS, "osD^v", strict=True))
REAL = (PUBLISHED_V1, *(name for name in COLOURS if name.startswith(MOUSE_V1)))
SHARES = (1e-6, 1e-2)  # of image pairs in one cell of a scatter: the ends of the colours
IN_WORDS = {  # what a condition's name says to those who know the paper
    FULL_FRAME: "whole images",
    CROP: "cut to receptive fields",
    "quarter size": "at quarter size",
    "own mean subtracted": "each image's mean taken off",
    "crop, own mean subtracted": "cut, and its mean taken off",
    "weighted by w": "reliable neurons count more",
    "weighted by w v": "reliable neurons count more",
    "linear cells, own mean subtracted": "linear cells, mean taken off",
    "trial average of 8 animals": "trial average, 8 animals",
}


def experiments(profile: Profile) -> tuple[Block, ...]:
    """Neural against pixel similarity: simulated V1 under every condition, its recovery, and the real recordings."""
    own = profile.neural
    sizes: dict[str, Any] = {"images": own.images, "resamples": own.resamples, "permutations": own.permutations}
    animals = simulated_animals(profile, own.simulation.trials)
    simulated = SimilarityEvaluation(conditions=simulated_conditions(own.simulation.size), **sizes)
    few = SimilarityEvaluation(conditions=(_plain("predicted"),), images=own.images, resamples=10, permutations=0)
    recovery = {f"{trials} trials": simulated_animals(profile, trials) for trials in own.trial_counts}
    return (
        Block({SIMULATED_V1: animals}, (simulated,), "simulated"),
        Block(recovery, (few,), RECOVERY),
        *recorded_blocks(),
    )


def recorded_blocks() -> tuple[Block, ...]:
    """Real recordings of mouse V1, and the published predictor on 1,000 ImageNet images."""
    regions = {
        f"mouse V1, region {region}": (NeuralExperiment(source=Recorded(recording=f"{ANTOLIK}/{region}")),)
        for region in ANTOLIK_REGIONS
    }
    predictor = {PUBLISHED_V1: (NeuralExperiment(source=Published()),)}
    of_images = SimilarityEvaluation(image_set=PUBLISHED_IMAGES, conditions=published_conditions())
    return (
        Block(predictor, (of_images,), "recorded", recorded=True),
        Block(regions, (SimilarityEvaluation(conditions=recorded_conditions()),), "recorded", recorded=True),
    )


def _plain(responses: Any, name: str = FULL_FRAME, **changes) -> Condition:
    return Condition(name=name, responses=responses, **changes)


def simulated_conditions(size: tuple[int, int]) -> tuple[Condition, ...]:
    """Of a simulation: as measured, what processing changes, and which populations would give more."""
    h, w = size
    return (
        _plain("predicted"),
        _plain("predicted", CROP, crop=(h // 6, h - h // 6, w // 6, w - w // 6)),
        _plain("predicted", "quarter size", size=(h // 4, w // 4)),
        _plain("predicted", "own mean subtracted", subtract="own_mean"),
        _plain("predicted", "weighted by w v", weighted=True),
        _plain("trial_mean", "trial average"),
        _plain("trial_mean", "trial average of 8 animals", recordings=8),
        _plain("noise_free", "without noise"),
        _plain("noise_free", "without noise, 8 animals", recordings=8),
        _plain("simple", "simple cells"),
        _plain("complex", "complex cells"),
        _plain("linear", "linear cells"),
        _plain("linear", "linear cells, own mean subtracted", subtract="own_mean"),
        _plain("luminance", "luminance cells"),
    )


def recorded_conditions() -> tuple[Condition, ...]:
    """Of a recording without a predictor, images of 31x31."""
    return (
        _plain("trial_mean"),
        _plain("trial_mean", CROP, crop=(8, 23, 8, 23)),
        _plain("trial_mean", "quarter size", size=(8, 8)),
        _plain("trial_mean", "own mean subtracted", subtract="own_mean"),
        _plain("trial_mean", "weighted by w", weighted=True),
        _plain("trial_mean", "25 neurons", neurons=25),
    )


def published_conditions() -> tuple[Condition, ...]:
    """Of the published predictor, images of 36x64; its neurons look at rows 6 to 30, columns 10 to 50."""
    crop = (6, 30, 10, 50)
    return (
        _plain("predicted"),
        _plain("predicted", CROP, crop=crop),
        _plain("predicted", "quarter size", size=(9, 16)),
        _plain("predicted", "own mean subtracted", subtract="own_mean"),
        _plain("predicted", "crop, own mean subtracted", crop=crop, subtract="own_mean"),
        _plain("predicted", "25 neurons", neurons=25),
        _plain("predicted", "250 neurons", neurons=250),
        _plain("predicted", "2,500 neurons", neurons=2500),
    )


def correlations(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each (series, seed, condition): pearson, pearson_low, pearson_high, spearman, and n images."""
    rows = table[table["metric"].isin(["pearson", "pearson_low", "pearson_high", "spearman"])]
    keys = ["group", "series", "seed", "condition"]
    wide = rows.pivot_table(index=keys, columns="metric", values="value", sort=False)
    return wide.join(rows.groupby(keys, sort=False)["attempted"].first().rename("n")).reset_index()


def _full_frame(real: pd.DataFrame) -> pd.DataFrame:
    return real[real["condition"] == FULL_FRAME]


CLAIMS = (  # measured on one row of `correlations`, of real responses
    Claim(
        key="pixel-neural",
        text="Similarities of mouse V1 and of pixels correlate",
        source="v2 Fig. 2",
        statistic="Pearson r over image pairs, published V1 predictor on 1,000 ImageNet images, full frame",
        measure=lambda real: _full_frame(real).set_index("series").loc[PUBLISHED_V1],
        scale="correlation",
        published={MOUSE_V1: PRINTED_R},
        task=MOUSE_V1,
        note="The series that is most like the paper's: a predictor of mouse V1, fitted to other animals, on ImageNet "
        "images. The three recordings stand beside it. The interval comes from resampling images.",
    ),
    Claim(
        key="as-printed",
        text=f"Similarities of V1 and of pixels correlate as printed (r = {PRINTED_R})",
        source="v2 Fig. 2",
        statistic="Pearson r over image pairs, for the real series and condition where it is largest",
        measure=lambda real: real.loc[real["pearson"].idxmax()],
        threshold=PRINTED_R,
        scale="correlation",
        published={MOUSE_V1: PRINTED_R},
        task=MOUSE_V1,
        note="The choice of the largest favours the claim.",
    ),
)


def verdicts(study: Study, protocol: None) -> list[Verdict]:
    """The verdicts: main claims on real responses only.

    Intervals of real series come from resampling images, those of the simulation from its animals.
    """
    table = study.table()
    real = correlations(table[table["group"] == "recorded"])
    main = [_of_images(claim, claim.measure(real)) for claim in CLAIMS]
    main[0] = replace(main[0], also=tuple(_beside(row) for _, row in _full_frame(real).iterrows()))
    finer = [_of_images(claim, claim.measure(real)) for claim in _of_each_series(real)]
    return [*main, *finer, *_of_simulation(table)]


def _of_each_series(real: pd.DataFrame) -> Iterator[Claim]:
    """Does each real series correlate, and as strongly as the printed matrices do?"""
    for place, row in real[real["condition"].isin([FULL_FRAME, CROP])].iterrows():
        for key, words, threshold in (
            ("positive", "similarities correlate", 0.0),
            ("matrices", f"as the printed matrices do (r = {MATRICES_R})", MATRICES_R),
        ):
            yield Claim(
                key=f"{row['series']}-{row['condition']}-{key}",
                text=f"{row['series']}, {row['condition']}: {words}",
                source="v2 Fig. 2",
                statistic="Pearson r over image pairs",
                measure=lambda real, place=place: real.loc[place],
                threshold=threshold,
                scale="correlation",
                main=False,
            )


def _of_images(claim: Claim, row: pd.Series) -> Verdict:
    """A verdict on one correlation, whose interval comes from resampling its images."""
    found = {"estimate": row["pearson"], "low": row["pearson_low"], "high": row["pearson_high"]}
    same = claim.published.get(claim.task)
    verdict = rule(**found, threshold=claim.threshold, margin=claim.margin, published=same)
    return verdict_of(claim, **found, n=int(row["n"]), unit="images", verdict=verdict, same=same)


def _beside(row: pd.Series) -> dict:
    """The correlation of one real series, as a secondary statistic."""
    found = {"estimate": row["pearson"], "low": row["pearson_low"], "high": row["pearson_high"], "n": int(row["n"])}
    return {"key": row["series"], "statistic": f"{row['series']}, full frame", **found, "published": {}}


def _of_simulation(table: pd.DataFrame) -> list[Verdict]:
    """Over the simulation's animals: does the whole path recover what is known there?"""
    closeness = table[(table["group"] == RECOVERY) & (table["metric"] == "to_noise_free")]

    def closer(table: pd.DataFrame, series: str) -> pd.Series:
        predicted, averaged = (by_seed(table, series, condition=one) for one in ("predicted", "trial_mean"))
        return predicted - averaged

    recovery = [
        Claim(
            key=f"recovery-{series}",
            text=f"Simulated V1, {series}: the predictor denoises",
            source=OURS,
            statistic="correlation with the noise-free similarity, of the predicted minus of the trial-averaged one",
            scale="correlation",
            measure=lambda table, series=series: closer(table, series),
            main=False,
        )
        for series in closeness["series"].unique()
    ]
    correlated = Claim(
        key="simulated",
        text="Simulated V1: similarities correlate",
        source=OURS,
        statistic="Pearson r over image pairs, full frame",
        scale="correlation",
        measure=lambda simulated: _full_frame(simulated)["pearson"],
        main=False,
    )
    simulated = correlations(table[table["group"] == "simulated"])
    return [
        judge(correlated, correlated.measure(simulated), unit="animals"),
        *(judge(claim, claim.measure(closeness), unit="animals") for claim in recovery),
    ]


def draw(study: Study, protocol: None) -> Picture:
    """Real responses first: image pairs by both similarities, r under each condition, matrices; then the simulation."""
    use_style()
    table = study.table()
    found = correlations(table)
    figure = plt.figure(figsize=(PAGE, 8.3), layout="constrained")
    figure.get_layout_engine().set(rect=(0.015, 0, 0.985, 1))  # the label of a square in a wide place leaves its own
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1, 1.45, 1.75))
    _scatters(top, study, table)
    forest, matrices = middle.subfigures(1, 2, width_ratios=(2, 1))
    _conditions(
        forest.subplots(), found[found["group"] == "recorded"], "Real responses (bars: 95 % interval over images)"
    )
    _matrices(matrices, study)
    bottom.suptitle("Simulated V1, where the truth is known", fontsize="medium")
    pairs, conditions = bottom.subfigures(1, 2, width_ratios=(1, 1.35))
    axes = pairs.subplots(2, 1)
    _pairs(axes[0], study, table, SIMULATED_V1)
    _recovery(axes[1], table)
    simulated = found[found["group"] == "simulated"]
    _conditions(conditions.subplots(), simulated, "What would give more (dots: animals)")
    figure.suptitle(finding(study, "pixel-neural", "as-printed"), fontsize="small", x=0.01, ha="left")
    return figure


def _scatters(figure: Any, study: Study, table: pd.DataFrame) -> None:
    """The paper's scatter, of every real series, the one most like the paper's first."""
    axes = figure.subplots(1, len(REAL), sharex=True, sharey=True)
    axes[0].set_anchor("E")  # a square in a wide place: its label would leave the page at the left
    for ax, series in zip(axes, REAL, strict=True):
        pairs = _pairs(ax, study, table, series)
    bar = figure.colorbar(pairs, ax=list(axes), label="share of pairs", shrink=0.8)
    bar.minorticks_off()


def _pairs(ax: Axes, study: Study, table: pd.DataFrame, series: str):
    """Which share of pairs has both similarities, and their correlation."""
    density = study.arrays("density")[series].sum(axis=0)
    shown = np.ma.masked_equal(density.T / density.sum(), 0)
    norm = mpl.colors.LogNorm(*SHARES, clip=True)
    pairs = ax.imshow(shown, origin="lower", extent=(-1, 1, -1, 1), cmap="viridis", norm=norm, interpolation="nearest")
    own = correlations(table[(table["series"] == series) & (table["condition"] == FULL_FRAME)])
    n = f"{own['n'].iloc[0]} images" + (f", {len(own)} animals" if len(own) > 1 else "")
    ceiling = table.loc[(table["series"] == series) & (table["metric"] == "ceiling"), "value"]
    beside = f", ceiling {ceiling.mean():.2f}" if len(ceiling) else ""
    beside = f", printed {PRINTED_R}" if series == PUBLISHED_V1 else beside
    title = series.removesuffix(" (published)").replace("mouse V1,", "V1")
    ax.set_title(f"{title}, {n}\nr = {own['pearson'].mean():.2f}{beside}", fontsize="x-small")
    ax.set(xlabel=S_PIXEL, xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    ax.axline((0, 0), slope=1, color="0.7", lw=0.6)
    if ax.get_subplotspec().is_first_col():
        ax.set_ylabel(S_NEURAL, labelpad=0)
    return pairs


def _matrices(figure: Any, study: Study) -> None:
    """Both matrices of the published predictor, the images in the same order."""
    axes = figure.subplots(2, 1)
    for ax, name, title in zip(axes, ("pixel", "neural"), (S_PIXEL, S_NEURAL), strict=True):
        matrix = study.arrays(f"{name}_matrix")[PUBLISHED_V1][0]
        image = ax.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        ax.set(xticks=(), yticks=(), ylabel=f"{len(matrix)} images")
        ax.set_title(title + (", V1 predictor" if name == "neural" else ""), fontsize="small")
    axes[1].set_xlabel("in the same order")
    figure.colorbar(image, ax=list(axes), shrink=0.8, ticks=(-1, 0, 1), label="similarity")


def _recovery(ax: Axes, table: pd.DataFrame) -> None:
    """How close the predicted and the averaged similarity come to that of noise-free responses."""
    own = table[(table["group"] == RECOVERY) & (table["metric"] == "to_noise_free")].astype({"trials": int})
    for condition, label, colour, marker in (
        ("predicted", "predictor", "#d55e00", "o"),
        ("trial_mean", "trial average", "0.35", "s"),
    ):
        rows = own[own["condition"] == condition]
        values = rows.groupby("trials")["value"]
        trials = list(values.groups)
        means, *ends = np.array([_interval(one) for _, one in values]).T
        seed_dots(ax, rows["trials"], rows["value"], colour)
        error = np.abs(np.array(ends) - means)
        drawn = ax.errorbar(trials, means, error, color=colour, marker=marker, capsize=2, label=label)
        mark(drawn.lines[0], *own["series"].unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(trials, [str(count) for count in trials])
    ax.set(xlabel="Trials an image", ylabel="r with the\nnoise-free", ylim=(0, 1))
    ax.set_title(f"Recovery (n = {values.size().iloc[0]} animals)", fontsize="small")
    ax.legend(loc="lower right", fontsize="small")


def _interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean and 95 % interval; NaN for an interval of fewer animals than any verdict takes."""
    mean, low, high = interval_of(values)
    return (mean, low, high) if len(values) >= FEWEST_SEEDS else (mean, float("nan"), float("nan"))


def _conditions(ax: Axes, found: pd.DataFrame, title: str) -> None:
    """r under each condition, from the top down; the printed values as lines."""
    names = list(dict.fromkeys(found["condition"]))
    series = list(found["series"].unique())
    for place, name in enumerate(names):
        if place % 2 == 0:  # leads the eye from the label to the marks
            ax.axhspan(place - 0.5, place + 0.5, color="0.955", lw=0, zorder=0)
        for index, one in enumerate(series):
            rows = found[(found["condition"] == name) & (found["series"] == one)]
            if rows.empty:
                continue
            y = place + (index - (len(series) - 1) / 2) * 0.2
            _point(ax, rows, y, one, label=one if name == names[0] else None)
    ax.axvline(0, color="0.8", lw=0.6)
    ax.axvline(PRINTED_R, color="k", lw=0.9, ls="--", label=f"printed, r = {PRINTED_R}")
    ax.axvline(MATRICES_R, color="k", lw=0.9, ls=":", label=f"printed matrices, r ≈ {MATRICES_R}")
    ax.set_yticks(range(len(names)), [IN_WORDS.get(name, name) for name in names], fontsize="small")
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel=f"Pearson r of {S_NEURAL} and {S_PIXEL}", xlim=(-0.1, 1), ylim=(len(names) - 0.4, -0.6))
    ax.set_title(title, fontsize="small")
    if len(series) > 1:
        ax.figure.legend(loc="outside lower center", ncols=3, fontsize="x-small", columnspacing=1)


def _point(ax: Axes, rows: pd.DataFrame, y: float, series: str, label: str | None) -> None:
    """One correlation with its interval over images, or the mean of several animals with its interval and dots."""
    look = {"color": COLOURS[series], "marker": MARKERS[series], "ls": "", "label": label, "gid": series}
    if len(rows) > 1:
        found, low, high = _interval(rows["pearson"])
        seed_dots(ax, rows["pearson"], [y + 0.3] * len(rows), COLOURS[series])
    else:
        found, low, high = rows.iloc[0][["pearson", "pearson_low", "pearson_high"]]
    ax.errorbar(found, y, xerr=[[found - low], [high - found]], ms=3.5, elinewidth=1, **look)


def numbers(study: Study) -> pd.DataFrame:
    """The numbers behind the figure."""
    table = study.table()
    return table[["group", "series", "seed", "condition", "metric", "value", "attempted"]]


FIGURE = Figure(
    "01_pixel_vs_neural_similarity", experiments, CLAIMS, draw, numbers=numbers, judge=verdicts, protocols=()
)

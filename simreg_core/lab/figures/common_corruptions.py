"""Figure 05: accuracy under the 15 common corruptions (paper v2, Figures 6, 7 and 25)."""

from dataclasses import replace
from typing import Literal

import pandas as pd

from simreg_core.lab.afterwards import Afterwards, afterwards
from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import (
    COLUMN,
    PAGE,
    Axes,
    Picture,
    finding,
    mean_and_sem,
    plt,
    reference,
    scale_of,
    seed_dots,
    shade,
    use_style,
)
from simreg_core.lab.figures.kit_attacks import PUBLISHED_SETS, set_looks
from simreg_core.lab.figures.kit_forest import Effect, Row, forest_column, forest_legend, height_of, images_in_words
from simreg_core.lab.gains import by_seed, mean_over, paired, regularized
from simreg_core.lab.image_files import CIFAR10_SIZE, has_cifar10_c
from simreg_core.lab.recipes import headline_seeds, seeds_of, sets_of, under_corruptions
from simreg_core.lab.series import NONE, Look
from simreg_core.lab.specs import CORRUPTIONS, CorruptionEvaluation, CorruptionSpectraEvaluation, Profile
from simreg_core.lab.study import Block, Figure, Study
from simreg_core.names import GROUPS

BARS_SEVERITY = 4  # of the paper's bars by frequency group
GAINS = "Gain by corruption"
TALLEST = 6.4  # inches
OWN_SPECTRA = "corruptions"  # the series of what the corruptions themselves do


def experiments(profile: Profile) -> tuple[Block, ...]:
    """None, and S^Th with each regularization set, under the 15 common corruptions; their own spectra."""
    profile = under_corruptions(profile)
    seeds, sets = headline_seeds(profile), profile.studies.regularization_sets
    series = {NONE: seeds_of(profile, NONE, seeds), **sets_of(profile, sets, seeds)}
    is_theirs = profile.task.images == "cifar10" and profile.task.size == CIFAR10_SIZE
    source: Literal["files", "generated"] = "files" if is_theirs and has_cifar10_c() else "generated"
    images = profile.studies.corruption_images
    first = {OWN_SPECTRA: seeds_of(profile, NONE, 1)}
    return (
        Block(series, (CorruptionEvaluation(source=source, images=images),)),
        Block(first, (CorruptionSpectraEvaluation(source=source, images=images),), "spectra"),
    )


def corrupted(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of networks under corruptions, without the corruptions' own spectra."""
    return table[table["attack"] == "corruption"]


def group_gain(table: pd.DataFrame, series: str, group: str, severity: int = BARS_SEVERITY) -> pd.Series:
    """Gain in accuracy by seed, mean over the corruptions of a frequency group ('low', 'medium', 'high')."""
    return _gain(table, series, GROUPS[group], severity)


def _high_group_leads(table: pd.DataFrame) -> dict[str, pd.Series]:
    own = corrupted(table)
    return {
        f"{series}, over {group}": group_gain(own, series, "high") - group_gain(own, series, group)
        for series in regularized(own)
        for group in ("low", "medium")
    }


CLAIMS = (
    Claim(
        key="corruptions",
        text="S^Th raises accuracy most under high-frequency corruptions",
        source="v2 Fig. 7",
        statistic="gain in accuracy at severity 4: high group minus the mean of low and medium, mean over sets",
        measure=mean_over(_high_group_leads),
        parts=_high_group_leads,
        published={"CIFAR-10": 0.153},
        attack="corruption",
        prefix=CORRUPTIONS,
        note="Its parts are the leads over the low and the medium group, with each regularization set. A group that "
        "costs none nearly no accuracy leaves nearly nothing to gain; what each group costs is asked afterwards.",
    ),
)


def _lost_by_none(table: pd.DataFrame, group: str) -> pd.Series:
    own = corrupted(table)
    under = own[own["corruption"].isin(GROUPS[group])]
    clean = by_seed(own, NONE, metric="accuracy", severity=0)
    return clean - by_seed(under, NONE, metric="accuracy", severity=BARS_SEVERITY)


ASKED = tuple(
    Afterwards(
        key=f"lost-{group}",
        statistic=f"accuracy that corruptions of {group} frequency take from none, severity {BARS_SEVERITY}",
        measure=lambda table, group=group: _lost_by_none(table, group),
    )
    for group in GROUPS
)


def details(table: pd.DataFrame) -> list[Claim]:
    """Each set against each frequency group."""
    return [
        Claim(
            key=f"{one}-{group}",
            text=f"{one}: raises accuracy under corruptions of {group} frequency",
            source="v2 Fig. 7",
            statistic="accuracy at severity 4, mean of the group, S^Th minus none",
            measure=lambda table, one=one, group=group: group_gain(corrupted(table), one, group),
            main=False,
            attack="corruption",
            setting=one,
            prefix=CORRUPTIONS,
        )
        for group in GROUPS
        for one in regularized(corrupted(table))
    ]


def draw(study: Study, protocol: str) -> Picture:
    """Gain by corruption and frequency group; accuracy by severity; spectra of the corruptions themselves."""
    own = corrupted(study.table())
    looks = set_looks(own, under_corruptions(study.profile))
    rows = corruption_rows(own, looks)
    use_style()
    places = [["gains", "severity"], ["gains", "spectra"]]
    figure, axes = plt.subplot_mosaic(places, figsize=(PAGE, min(height_of(rows), TALLEST)), width_ratios=(1.2, 1))
    chance = f"; chance: {own['chance'].iloc[0]:g}" if own["chance"].notna().any() else ""
    xlabel = f"Gain in accuracy over none, severity {BARS_SEVERITY}\n(in brackets: accuracy of none{chance})"
    below = images_in_words(own)
    forest_column(axes["gains"], rows, GAINS, xlabel=xlabel, names=True, below=below)
    _by_severity(axes["severity"], own, looks)
    _corruption_spectra(axes["spectra"], study)
    curves = axes["severity"].get_legend_handles_labels()[0]
    forest_legend(figure, rows, "published (gray CIFAR-10, ResNet18)", curves)
    figure.suptitle(finding(study, "corruptions"), fontsize="small", x=0.01, ha="left")
    return figure


def small(study: Study) -> Picture:
    """The means of the frequency groups, without their corruptions: what can be read in the README's gallery."""
    own = corrupted(study.table())
    looks = set_looks(own, under_corruptions(study.profile))
    means = [row for row in corruption_rows(own, looks) if row.label.startswith("mean")]
    rows = [replace(row, label=row.group.replace(" ", "\n"), group="") for row in means]
    use_style()
    figure, ax = plt.subplots(figsize=(COLUMN, 2.4))
    forest_column(ax, rows, GAINS, xlabel=f"Gain in accuracy over none, severity {BARS_SEVERITY}", names=True)
    ax.set_title("Gain by frequency", fontsize="medium")
    for name, look in looks.items():
        if name != NONE:
            ax.plot([], [], color=look.colour, marker=look.marker, label=look.label)
    return figure


def corruption_rows(table: pd.DataFrame, looks: dict[str, Look]) -> list[Row]:
    """A row for each frequency group, and for each of its corruptions, sorted by the gain of the first set.

    looks: of none and the sets, in the order of the curves.
    """
    sets = [name for name in looks if name != NONE]
    rows = []
    for group, names in GROUPS.items():
        heading = f"{group.capitalize()} frequency"
        gains = {name: {one: _gain(table, one, (name,)) for one in sets} for name in names}
        whole = {one: group_gain(table, one, group) for one in sets}
        effects = tuple(Effect(whole[one], looks[one], one, published_group_gain(group, one)) for one in sets)
        rows.append(Row(f"mean {_of_none(table, names)}", {GAINS: effects}, heading))
        for name in sorted(names, key=lambda name: gains[name][sets[0]].mean(), reverse=True):
            effects = tuple(Effect(values, looks[one], one) for one, values in gains[name].items())
            rows.append(Row(f"{_short(name)} {_of_none(table, (name,))}", {GAINS: effects}, heading))
    return rows


def _gain(table: pd.DataFrame, series: str, names: tuple[str, ...], severity: int = BARS_SEVERITY) -> pd.Series:
    """Gain in accuracy by seed, mean over corruptions."""
    own = table[table["corruption"].isin(names)]
    one, other = paired(*(by_seed(own, name, metric="accuracy", severity=severity) for name in (series, NONE)))
    return one - other


def _of_none(table: pd.DataFrame, names: tuple[str, ...]) -> str:
    """The accuracy that there is to lose or win: near chance, a gain says little."""
    own = table[table["corruption"].isin(names)]
    return f"({by_seed(own, NONE, metric='accuracy', severity=BARS_SEVERITY).mean():.2f})"


def published_group_gain(group: str, series: str) -> float | None:
    """The published gain of a frequency group with the set that plays this one's part; None where there is none."""
    names = (f"{group.capitalize()} {one}" for one in (f"reg={PUBLISHED_SETS.get(series)}", "unregularized"))
    one, none = (reference("accuracy", name, ("4ii CIFAR-10-C sev4",))["y"] for name in names)
    return float(one.iloc[-1] - none.iloc[-1]) if len(one) and len(none) else None


def _short(name: str) -> str:
    """'Gaussian' of 'gaussian_noise'."""
    for end in ("_noise", "_blur", "_transform", "_compression"):
        name = name.removesuffix(end)
    return {"gaussian": "Gaussian", "jpeg": "JPEG"}.get(name, name)


def mean_over_corruptions(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by series, severity and seed, mean over corruptions (the clean images as severity 0)."""
    return table.groupby(["series", "severity", "seed"], sort=False)["value"].mean().reset_index()


def _by_severity(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    seeds = mean_over_corruptions(table)
    summary = mean_and_sem(seeds, "series", "severity")
    for series, look in looks.items():
        rows = summary[summary["series"] == series].sort_values("severity")
        label = f"{look.label} (n = {rows['size'].max()})"
        ax.plot(rows["severity"], rows["mean"], color=look.colour, marker=look.marker, label=label, gid=series)
        shade(ax, rows["severity"], rows["mean"], rows["sem"], look.colour)
        own = seeds[seeds["series"] == series]
        seed_dots(ax, own["severity"], own["value"], look.colour)
    scale_of(ax, table)
    ax.set(xlabel="Severity (0: clean)", ylabel="Test accuracy", xticks=range(6), ylim=(0, 1))
    ax.set_title("Mean of 15 corruptions", fontsize="medium")


def _corruption_spectra(ax: Axes, study: Study) -> None:
    radius = study.arrays("radius")[OWN_SPECTRA][0]
    looks = dict(zip(GROUPS, (("#0072b2", "-"), ("#009e73", "--"), ("#d55e00", ":")), strict=True))
    for group, names in GROUPS.items():
        colour, style = looks[group]
        for index, name in enumerate(names):
            cumulative = study.arrays(name)[OWN_SPECTRA][0]
            label = group if index == 0 else None
            ax.plot(radius, cumulative, color=colour, ls=style, lw=1, label=label, gid=OWN_SPECTRA)
    ax.axhline(0.5, color="0.7", lw=0.6)
    ax.set(xlabel="Radial frequency (corner = 1)", ylabel="Cumulative power", xlim=(0, 1), ylim=(0, 1.02))
    ax.set_title("Spectra of the corruptions", fontsize="medium")
    ax.legend(title="group", loc="lower right", fontsize="small")


def numbers(study: Study) -> pd.DataFrame:
    """The numbers behind the corruption figure: accuracies over seeds, and the corruptions' radial profiles."""
    table = study.table()
    own = corrupted(table).fillna({"corruption": "clean"})
    accuracies = mean_and_sem(own, "series", "corruption", "severity").rename(columns={"size": "seeds"})
    accuracies.insert(0, "quantity", "accuracy")
    radius = study.arrays("radius")[OWN_SPECTRA][0]
    profiles = [
        {"quantity": "cumulative_power", "corruption": name, "severity": BARS_SEVERITY, "radius": r, "mean": value}
        for names in GROUPS.values()
        for name in names
        for r, value in zip(radius, study.arrays(name)[OWN_SPECTRA][0], strict=True)
    ]
    return pd.concat([accuracies, pd.DataFrame(profiles)], ignore_index=True)


FIGURE = Figure(
    "05_common_corruptions",
    experiments,
    CLAIMS,
    draw,
    numbers=numbers,
    details=details,
    notes=lambda study: afterwards(study, ASKED),
    protocols=("released",),
    small=small,
)

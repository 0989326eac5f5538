"""Figure 05: accuracy under the 15 common corruptions (paper v2, Figures 6, 7 and 25)."""

from typing import Literal

import pandas as pd

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import (
    PAGE,
    Axes,
    Picture,
    mean_and_sem,
    plt,
    published_legend,
    reference,
    scale_of,
    seed_dots,
    shade,
    use_style,
)
from simreg_core.lab.figures.kit_attacks import PUBLISHED_SETS, set_looks
from simreg_core.lab.gains import by_seed, mean_over, regularized
from simreg_core.lab.image_files import CIFAR10_SIZE, has_cifar10_c
from simreg_core.lab.recipes import headline_seeds, seeds_of, sets_of, under_corruptions
from simreg_core.lab.series import NONE, Look
from simreg_core.lab.specs import CORRUPTIONS, CorruptionEvaluation, CorruptionSpectraEvaluation, Profile
from simreg_core.lab.study import Block, Figure, Study
from simreg_core.names import GROUPS

BARS_SEVERITY = 4  # of the paper's bars by frequency group
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
    own = table[table["corruption"].isin(GROUPS[group])]
    one, other = (by_seed(own, name, metric="accuracy", severity=severity) for name in (series, NONE))
    return one - other


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
        note="Its parts are the leads over the low and the medium group, with each regularization set.",
    ),
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
    """Accuracy by severity, by corruption and by frequency group; spectra of the corruptions themselves."""
    use_style()
    figure, axes = plt.subplot_mosaic(
        [["severity", "groups", "spectra"], ["bars"] * 3], figsize=(PAGE, 4.8), height_ratios=(1, 0.95)
    )
    table = study.table()
    own = corrupted(table)
    looks = set_looks(own)
    _by_severity(axes["severity"], own, looks)
    _by_group(axes["groups"], own, looks)
    _by_corruption(axes["bars"], own, looks)
    _corruption_spectra(axes["spectra"], study)
    return figure


def mean_over_corruptions(table: pd.DataFrame, names: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Accuracy by series, severity and seed, mean over corruptions (all, or those named; the clean images as 0)."""
    rows = table if names is None else table[table["corruption"].isin(names)]
    return rows.groupby(["series", "severity", "seed"], sort=False)["value"].mean().reset_index()


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
    ax.legend(loc="lower left", fontsize="x-small")


def _bars(ax: Axes, groups: list[pd.DataFrame], looks: dict[str, Look]) -> float:
    """Bars of each series side by side in every group.  Returns the width of one."""
    width = 0.8 / len(looks)
    for place, group in enumerate(groups):
        for index, (series, look) in enumerate(looks.items()):
            values = group[group["series"] == series]["value"]
            x = place + (index - (len(looks) - 1) / 2) * width
            ax.bar(x, values.mean(), yerr=values.sem(), width=width, color=look.colour, error_kw={"lw": 0.8})
            seed_dots(ax, [x + width / 4] * len(values), values, "k")
    return width


def _by_group(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    at = table[table["severity"] == BARS_SEVERITY]
    width = _bars(ax, [mean_over_corruptions(at, names) for names in GROUPS.values()], looks)
    for place, group in enumerate(GROUPS):
        for index, series in enumerate(looks):
            known = "unregularized" if series == NONE else f"reg={PUBLISHED_SETS.get(series)}"
            published = reference("accuracy", f"{group.capitalize()} {known}", ("4ii CIFAR-10-C sev4",))["y"]
            x = place + (index - (len(looks) - 1) / 2) * width
            for value in published:
                ax.plot([x - width / 2, x + width / 2], [value] * 2, color="k", lw=1, ls=(0, (2, 1)))
    ax.set_xticks(range(len(GROUPS)), list(GROUPS))
    ax.set(xlabel="Frequency of the corruption", ylim=(0, 1))
    ax.set_title(f"Severity {BARS_SEVERITY}", fontsize="medium")
    published_legend(ax, "published", loc="upper right")


def _by_corruption(ax: Axes, table: pd.DataFrame, looks: dict[str, Look]) -> None:
    at = table[table["severity"] == BARS_SEVERITY]
    ordered = [name for names in GROUPS.values() for name in names]
    _bars(ax, [mean_over_corruptions(at, (name,)) for name in ordered], looks)
    end = 0
    for group, names in GROUPS.items():
        middle = end + (len(names) - 1) / 2
        ax.text(middle, 1.08, f"{group} frequency", ha="center", va="top", fontsize="small", color="0.4")
        end += len(names)
        if end < len(ordered):
            ax.axvline(end - 0.5, color="0.8", lw=0.8)
    short = [name.removesuffix("_noise").removesuffix("_blur").removesuffix("_transform") for name in ordered]
    ax.set_xticks(range(len(ordered)), [name.removesuffix("_compression") for name in short], rotation=35, ha="right")
    ax.set(ylabel=f"Accuracy, severity {BARS_SEVERITY}", ylim=(0, 1.08), xlim=(-0.6, len(ordered) - 0.4))


def _corruption_spectra(ax: Axes, study: Study) -> None:
    radius = study.arrays("radius")[OWN_SPECTRA][0]
    colours = dict(zip(GROUPS, ("#0072b2", "#009e73", "#d55e00"), strict=True))
    for group, names in GROUPS.items():
        for index, name in enumerate(names):
            cumulative = study.arrays(name)[OWN_SPECTRA][0]
            ax.plot(
                radius, cumulative, color=colours[group], lw=0.8, label=group if index == 0 else None, gid=OWN_SPECTRA
            )
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
    "05_common_corruptions", experiments, CLAIMS, draw, numbers=numbers, details=details, protocols=("released",)
)

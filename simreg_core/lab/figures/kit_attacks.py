"""What the figures of attack curves share: curves against epsilon, bars of boundary-attack sizes, and their claims."""

import math
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import (
    Axes,
    of_seeds,
    reference,
    scale_of,
    seed_dots,
    shade,
    summarize,
)
from simreg_core.lab.gains import ATTACKS, GAIN, SIZE, beside_gain, by_seed, gain, regularized
from simreg_core.lab.series import LOOKS, NONE, PIXEL, QUALITATIVE, THRESHOLD, Look, looks_of
from simreg_core.lab.specs import MAIN_SETTING, Profile
from simreg_core.lab.study import Study

ATTACK_NAMES = {
    "gaussian": "Gaussian noise",
    "uniform": "Uniform noise",
    "salt_and_pepper": "Salt and pepper",
    "fgsm": "Transferred FGSM",
    "boundary": "Boundary attack",
}
ATTACK_WORDS = {**ATTACKS, "uniform": "uniform noise", "salt_and_pepper": "salt-and-pepper noise"}  # attacks in words
METRICS = {  # of the digitized values, by attack
    "gaussian": "gaussian_acc",
    "fgsm": "fgsm_acc",
    "boundary": "boundary_sqL2_per_pixel(1e-3)",
}
PUBLISHED_WORDS = {  # what the published values beside the main curves are, by their task
    "CIFAR-10": "published, gray CIFAR-10, ResNet18",
    "MNIST": "published, MNIST, ResNet18",
}
MAIN_LOOKS = {  # gray CIFAR-10, ImageNet as regularization set, ResNet18
    NONE: LOOKS[NONE].beside(dict.fromkeys(METRICS, ("unregularized", "4i"))),
    PIXEL: LOOKS[PIXEL].beside(
        {"gaussian": ("S_pixel", "2b CIFAR10-ImageNet R18"), "fgsm": ("S_pixel", "3a CIFAR10-ImageNet R18")}
    ),
    THRESHOLD: LOOKS[THRESHOLD].beside(
        {
            "gaussian": ("S_Th reg=ImageNet", "4i"),
            "fgsm": ("S_Th reg=ImageNet", "4i"),
            "boundary": ("reg=ImageNet", "4i"),
        }
    ),
}
PUBLISHED_NAMES = {NONE: "unregularized", PIXEL: "S_pixel", THRESHOLD: "S_Th"}  # in the paper's panels of other tasks
MNIST_PANEL, CIFAR100_PANEL = "2a MNIST-MNIST R18", "2c CIFAR100-ImageNet R34"  # Gaussian noise only
# each set, and the published one that plays its part: the task's own images, or natural images of another kind
PUBLISHED_SETS = {
    "cifar10": "CIFAR10",
    "cifar10-jpeg75": "CIFAR10",
    "photos": "CIFAR10",
    "cifar100": "CIFAR100",
    "imagenet": "ImageNet",
    "tiny-imagenet32-jpeg75": "ImageNet",
    "photos-foreign": "ImageNet",
}
SET_NAMES = {  # of regularization sets, in words
    "photos": "photographs",
    "photos-foreign": "photographs",
    "digits": "digits",
    "mnist": "MNIST",
    "mnist-5k": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar10-jpeg75": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
    "tiny-imagenet32-jpeg75": "Tiny ImageNet",
}
SET_COLOURS = ("#56b4e9", "#332288", "#44aa99", "#882255", "#999933")  # none of those that S^pixel and S^Th have


def published_curve(look: Look, attack: str) -> pd.DataFrame:
    """The published values beside one curve, columns x and y; empty where none could be read off."""
    series, panel = (look.published or {}).get(attack, (None, ""))
    return reference(METRICS.get(attack, ""), series, (panel,))


def rows_of(
    summary: pd.DataFrame, series: str, attack: str, metric: str = "accuracy", protocol: str = "released"
) -> pd.DataFrame:
    """One curve of a summary."""
    chosen = (summary["series"] == series) & (summary["attack"] == attack) & (summary["metric"] == metric)
    return summary[chosen & (summary["protocol"] == protocol)]


def accuracy_curves(ax: Axes, table: pd.DataFrame, looks: dict[str, Look], attack: str, protocol="released") -> None:
    """Accuracy against epsilon, mean and SEM, a dot for each seed; published values thin and dashed."""
    own = table[(table["attack"] == attack) & (table["metric"] == "accuracy") & (table["protocol"] == protocol)]
    summary = summarize(own, "epsilon")
    for series, look in looks.items():
        published = published_curve(look, attack)
        ax.plot(published["x"], published["y"], color=look.colour, lw=0.8, ls="--")
        rows, seeds = (
            rows_of(summary, series, attack, protocol=protocol),
            of_seeds(own[own["series"] == series], "epsilon"),
        )
        label = f"{look.label} (n = {rows['seeds'].max()})"
        ax.plot(rows["epsilon"], rows["mean"], color=look.colour, marker=look.marker, label=label, gid=series)
        shade(ax, rows["epsilon"], rows["mean"], rows["sem"], look.colour)
        seed_dots(ax, seeds["epsilon"], seeds["value"], look.colour)
    scale_of(ax, own, below=True)
    ax.set(xlabel="ε (pixels in [0, 1])", ylim=(0, 1))
    ax.set_xlim(0, None)
    ax.set_title(ATTACK_NAMES[attack], fontsize="medium")


def size_bars(ax: Axes, table: pd.DataFrame, looks: dict[str, Look], labels: list[str] | None = None) -> None:
    """Median boundary-attack sizes, mean and SEM, a dot for each seed; published values dashed."""
    own = table[(table["attack"] == "boundary") & (table["metric"] == SIZE) & (table["protocol"] == "released")]
    summary, counts = summarize(own), []
    for place, (series, look) in enumerate(looks.items()):
        rows, seeds = rows_of(summary, series, "boundary", SIZE), of_seeds(own[own["series"] == series])
        counts.append(rows["seeds"].item())
        ax.bar(place, rows["mean"].item() * 1e3, yerr=rows["sem"].item() * 1e3, color=look.colour, capsize=2, width=0.7)
        seed_dots(ax, [place + 0.2] * len(seeds), seeds["value"] * 1e3, "k")
        for value in published_curve(look, "boundary")["y"]:
            ax.plot([place - 0.4, place + 0.4], [value, value], color="0.5", lw=0.8, ls="--")
    ax.set_ylim(0, 1.1 * ax.get_ylim()[1])  # room for the number of images
    scale_of(ax, own, chance=False)
    ax.set_xticks(range(len(looks)), labels or [look.label for look in looks.values()])
    ax.set_ylabel("Median squared L2\nper pixel (× 10⁻³)")
    low, high = min(counts), max(counts)
    said = f"Boundary attack (n = {low})" if low == high else f"Boundary (n = {low} to {high})"
    ax.set_title(said, fontsize="medium")


def published_task(task: str | None) -> str:
    """The task whose published curves stand beside those of a task: the same, or CIFAR-10, the paper's main one."""
    return task if task in PUBLISHED_WORDS else "CIFAR-10"


def main_looks(task: str | None) -> dict[str, Look]:
    """Looks of none, S^pixel and S^Th, beside the published curves of the same task, or of CIFAR-10.

    task: a value of `protocol_of_claims.TASKS`; None: another one.
    """
    return looks_in_panel(MNIST_PANEL) if task == "MNIST" else MAIN_LOOKS


def looks_in_panel(panel: str | None) -> dict[str, Look]:
    """Looks of none, S^pixel and S^Th, beside a panel of the paper under Gaussian noise; None: beside nothing."""
    names = PUBLISHED_NAMES if panel else {}
    return {
        name: look.beside({"gaussian": (names[name], panel)} if name in names else None)
        for name, look in MAIN_LOOKS.items()
    }


def set_label(images: str, of_task: str) -> str:
    """A regularization set in words: the task's own images, or what else its images show.

    images, of_task: names of image sets.
    """
    if images == of_task:
        return "own images"
    words = SET_NAMES.get(images, images)
    return f"other {words}" if SET_NAMES.get(of_task) == words else words


def set_looks(
    table: pd.DataFrame, profile: Profile | None = None, published: str | None = "CIFAR-10"
) -> dict[str, Look]:
    """Looks of none and of the regularization sets of a table.

    profile: that of the task: its main set looks as S^Th does elsewhere, as these are the same networks, and sets are
    called by the part that they play; None: by the names of their images.
    published: the task whose published sets stand beside those that play the same part; None: none.
    """
    names = [NONE, *regularized(table)]
    looks = looks_of(names, QUALITATIVE, "^sDv") if profile is None else _looks_by_part(names, profile)
    own = None if profile is None else profile.task.images
    return {name: look.beside(_published_set(name, own, published)) for name, look in looks.items()}


def _looks_by_part(names: list[str], profile: Profile) -> dict[str, Look]:
    """The main set, or where it is not among them the task's own images, in the colour of S^Th."""
    main, own = profile.regularizer.images, profile.task.images
    if main not in names:
        main = own
    others = looks_of([name for name in names if name not in (NONE, main)], SET_COLOURS, "Dvs<>")
    looks = {NONE: LOOKS[NONE], main: LOOKS[THRESHOLD], **others}
    return {name: looks[name] if name == NONE else replace(looks[name], label=set_label(name, own)) for name in names}


def _published_set(name: str, own: str | None, task: str | None) -> dict[str, tuple[str, str]] | None:
    if task is None:
        return None
    if name == NONE:
        return main_looks(task)[NONE].published
    if task == "MNIST":  # the paper has its own images only
        return main_looks(task)[THRESHOLD].published if name == own else None
    if name not in PUBLISHED_SETS:
        return None
    known = PUBLISHED_SETS[name]
    return {
        "gaussian": (f"S_Th reg={known}", "4i"),
        "fgsm": (f"S_Th reg={known}", "4i"),
        "boundary": (f"reg={known}", "4i"),
    }


def minimal_size(table: pd.DataFrame, series: str, norm: str, method: str = "fast") -> pd.Series:
    """Median size of the smallest perturbations found, by seed."""
    return by_seed(table, series, attack="minimum_norm", metric=f"median_{norm}", condition=method)


def ends(study: Study) -> pd.DataFrame:
    """A row for each curve, mean ± SEM: accuracy without an attack and under the largest, and boundary-attack sizes.

    The CSV has all numbers.
    """
    numbers = study.numbers()
    own = (numbers["protocol"] == study.protocol) & (numbers["metric"] == "accuracy")
    shown = numbers[own | (numbers["metric"] == SIZE)]
    largest = shown.groupby("attack")["epsilon"].transform("max")
    clean = (shown["epsilon"] == 0) & (shown["attack"] == "gaussian")
    shown = shown[clean | (shown["epsilon"] == largest) | shown["epsilon"].isna()]
    columns = [_end(*one) for one in zip(shown["attack"], shown["epsilon"], strict=True)]
    cells = [f"{mean:.3f} ± {sem:.3f}" for mean, sem in zip(shown["mean"], shown["sem"], strict=True)]
    table = shown.assign(column=columns, cell=cells)
    wide = table.pivot_table(index="series", columns="column", values="cell", aggfunc="first")
    return wide.reindex(table["series"].unique())[table["column"].unique()].rename_axis(None, axis=1)


def _end(attack: str, epsilon: float) -> str:
    if epsilon == 0:
        return "no attack"
    return f"{ATTACK_NAMES[attack]}, " + ("squared L2 per pixel" if math.isnan(epsilon) else f"ε = {epsilon:g}")


def helps(
    what: str, series: str, attack: str, source: str, setting: str = MAIN_SETTING, prefix: str = "", **where
) -> Claim:
    """A finer claim: one curve against one attack.

    what: the curve in words.  setting, prefix: as in `Claim`.  where: as in `gains.by_seed`.
    """
    sizes = attack == "boundary"
    effect = "perturbations are larger under" if sizes else "raises accuracy under"
    return Claim(
        key=f"{where.get('group', '')}{series}-{attack}",
        text=f"{what}: {effect} {ATTACK_WORDS[attack]}",
        source=source,
        statistic="median squared L2 per pixel, over none" if sizes else GAIN.replace("S^Th", series),
        threshold=1.0 if sizes else 0.0,
        scale="ratio" if sizes else "accuracy",
        measure=lambda table: gain(table, series, attack, **where),
        also=beside_gain(series, attack, **where),
        main=False,
        protocols=("released",) if sizes else ("released", "strict"),  # 50 steps, failures skipped
        attack=attack,
        images_in=where.get("group"),
        setting=setting,
        prefix=prefix,
    )


def each_curve_helps(source: str, prefix: str = "") -> Callable[[pd.DataFrame], list[Claim]]:
    """The finer claims of a figure of three attacks: each curve against each attack.

    prefix: as in `Claim`.
    """
    return lambda table: [
        helps(one, one, attack, source, one, prefix) for attack in ATTACKS for one in regularized(table)
    ]

"""Figure 12: other tasks, depths and noises (paper, appendix A.2 to A.5 and A.8)."""

import pandas as pd

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import Axes, Picture, mpl, panels, summarize_groups
from simreg_core.lab.figures.kit_attacks import (
    ATTACK_NAMES,
    CIFAR100_PANEL,
    MAIN_LOOKS,
    MNIST_PANEL,
    helps,
    looks_in_panel,
)
from simreg_core.lab.figures.kit_gains import (
    DIAMOND,
    MEAN_GAIN,
    PUBLISHED,
    SIZE_GAIN,
    dot_with_interval,
    no_gain_line,
    published_diamond,
    published_mean_gain,
    same_grids,
    title,
)
from simreg_core.lab.gains import GAIN, at_largest, gain, mean_over, regularized
from simreg_core.lab.protocol_of_claims import TASKS
from simreg_core.lab.recipes import noise, of_variant, targets_of, three_attacks
from simreg_core.lab.series import MAIN_TASK, NONE, PIXEL, THRESHOLD, Look
from simreg_core.lab.specs import Profile
from simreg_core.lab.study import Block, Figure, Study
from simreg_core.names import NOISE_NAMES, PROTOCOLS

ROWS = {  # the attack and epsilon of each row, see `gains.gain`
    "no attack": ("gaussian", "zero"),
    **{ATTACK_NAMES[attack]: (attack, "grid") for attack in (*NOISE_NAMES, "fgsm")},
}


def tasks(profile: Profile) -> dict[str, Profile]:
    """The profile itself, and that of each of its variants, by the names of their rows."""
    return {MAIN_TASK: profile, **{one.name: of_variant(profile, one) for one in profile.studies.variants}}


def experiments(profile: Profile) -> tuple[Block, ...]:
    """None, S^pixel and S^Th on the main task and on others, under all noises, FGSM and the boundary attack."""
    return tuple(
        Block(
            targets_of(one, one.seeds),
            (*(noise(one, kind, protocol) for kind in NOISE_NAMES for protocol in PROTOCOLS), *three_attacks(one)[2:]),
            group,
        )
        for group, one in tasks(profile).items()
    )


def _gains(table: pd.DataFrame, **where) -> dict[str, pd.Series]:
    groups = [group for group in table["group"].unique() if group != MAIN_TASK]
    return {group: gain(table, THRESHOLD, "gaussian", group=group, **where) for group in groups}


CLAIMS = (
    Claim(
        key="other-tasks",
        text="S^Th raises accuracy over other tasks and depths; none loses",
        source="A.2 to A.4, A.8",
        statistic=GAIN + ", mean over tasks and depths",
        measure=mean_over(_gains),
        parts=_gains,
        published={"CIFAR-100": 0.078},
        also=(at_largest(_gains, {"CIFAR-100": 0.079}),),
        attack="gaussian",
        note="The figure shows which tasks and depths a profile has beside its own.",
    ),
)


def details(table: pd.DataFrame) -> list[Claim]:
    """Each target on each task under each attack."""
    sources = dict.fromkeys(("gaussian", "fgsm", "boundary"), "A.2 to A.4, A.8")
    return [
        helps(f"{group}: {one}", one, attack, sources.get(attack, "A.2, A.3"), group, group=group)
        for group in table["group"].unique()
        for one in regularized(table)
        for attack in (*NOISE_NAMES, "fgsm", "boundary")
    ]


def draw(study: Study, protocol: str) -> Picture:
    """The gain of each target over none, a row for each attack in a block for each task; sizes at the right."""
    table = study.table()
    profiles = tasks(study.profile)
    groups = list(table["group"].unique())
    tall = len(groups) * (len(ROWS) + 1)
    figure, axes = panels(1, 2, 0.2 * tall + 1.6, sharey=True, width_ratios=(1, 0.5))
    for place, group in enumerate(groups):
        looks = looks_beside(profiles.get(group))
        _block(axes, table[table["group"] == group], group, looks, protocol, place * (len(ROWS) + 1))
    _finish(axes, len(groups), tall)
    _legend(figure, axes[0])
    title(figure, study, protocol, "other-tasks")
    return figure


def looks_beside(profile: Profile | None) -> dict[str, Look]:
    """Looks of none, S^pixel and S^Th, beside the published curves of the same task and grid, where there are any.

    profile: of the task; None: unknown.
    """
    if profile is None or profile.task.channels != 1:
        return looks_in_panel(None)
    task, own = TASKS.get(profile.task.images), profile.regularizer.images == profile.task.images
    if not same_grids(task, profile.studies.epsilons):  # a mean over another grid is another statistic
        return looks_in_panel(None)
    if task == "CIFAR-10":
        return MAIN_LOOKS
    return looks_in_panel({("MNIST", True): MNIST_PANEL, ("CIFAR-100", False): CIFAR100_PANEL}.get((task, own)))


def _block(axes, table: pd.DataFrame, group: str, looks: dict[str, Look], protocol: str, top: int) -> None:
    """The rows of one task below its name.  top: the row of its name."""
    own, released = (table[table["protocol"] == one] for one in (protocol, "released"))
    for number, name in enumerate((PIXEL, THRESHOLD)):
        look, aside = looks[name], 0.4 * number - 0.2
        for row, (attack, epsilon) in enumerate(ROWS.values(), start=top + 1):
            gains = gain(own, name, attack, epsilon=epsilon)
            dot_with_interval(axes[0], row + aside, gains, look, name, across=True, aside=0.7 * aside)
            value = published_mean_gain(look, looks[NONE], attack) if epsilon == "grid" else None
            if value is not None:
                published_diamond(axes[0], value, row + aside, True)
        middle = top + (len(ROWS) + 1) / 2
        ratios = gain(released, name, "boundary")
        dot_with_interval(axes[1], middle + 2 * aside, ratios, look, name, across=True, aside=0.7 * aside)
        ratio = published_mean_gain(look, looks[NONE], "boundary")
        if ratio is not None:
            published_diamond(axes[1], ratio, middle + 2 * aside, True)
    seeds, images = own["seed"].nunique(), int(own.loc[own["attack"] == "gaussian", "attempted"].min())
    plain = {"facecolor": "white", "lw": 0, "pad": 0.5}  # where the line of no gain would cross the words
    place = {"transform": axes[0].get_yaxis_transform(), "fontsize": "small", "va": "center", "bbox": plain}
    axes[0].text(0.015, top, f"{group} (n = {seeds}, {images} images)", weight="bold", **place)
    images = int(released.loc[released["attack"] == "boundary", "attempted"].min())
    axes[1].text(0.03, top, f"{images} images", **{**place, "transform": axes[1].get_yaxis_transform()})


def _finish(axes, groups: int, tall: int) -> None:
    starts = [group * (len(ROWS) + 1) for group in range(groups)]
    rows = [start + 1 + row for start in starts for row in range(len(ROWS))]
    axes[0].set_yticks(rows, list(ROWS) * groups, fontsize="small")
    axes[0].set_ylim(tall - 0.4, -0.6)
    for ax, at, label in zip(axes, (0, 1), (MEAN_GAIN, SIZE_GAIN), strict=True):
        no_gain_line(ax, at, across=True)
        ax.set_xlabel(label)
        ax.tick_params(axis="y", length=0)
        for start in starts[1:]:
            ax.axhline(start - 0.5, color="0.85", lw=0.8, zorder=0)
    axes[1].set_title(ATTACK_NAMES["boundary"], fontsize="medium")
    axes[0].set_title("Noise and transferred FGSM", fontsize="medium")


def _legend(figure: Picture, ax: Axes) -> None:
    line = mpl.lines.Line2D
    looks = [(MAIN_LOOKS[name].colour, MAIN_LOOKS[name].marker, MAIN_LOOKS[name].label) for name in (PIXEL, THRESHOLD)]
    handles = [line([], [], color=colour, marker=marker, lw=1.6, label=label) for colour, marker, label in looks]
    if any(one.get_gid() == PUBLISHED for one in ax.lines):
        handles.append(line([], [], **DIAMOND, mfc="k", label="published, same task"))
    options = {"title": "paired gain over none: mean, 95 % interval, training seeds", "title_fontsize": "small"}
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small", **options)


def settings(study: Study) -> list[dict]:
    """What each task takes: regularization set, alpha, Th, network, epochs, and what of it is not known."""
    notes = {one.name: one.note for one in study.profile.studies.variants}
    return [
        {
            "task": name,
            "regularization set": one.regularizer.images,
            "alpha": one.regularizer.alpha,
            "Th": one.regularizer.threshold,
            "network": one.network.name,
            "epochs": one.optimization.epochs,
            "note": notes.get(name, ""),
        }
        for name, one in tasks(study.profile).items()
    ]


FIGURE = Figure(
    "12_other_tasks_and_depths",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: summarize_groups(study.table(), "epsilon"),
    details=details,
    notes=lambda study: {"settings": settings(study)},
)

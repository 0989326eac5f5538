"""Figure 12: other tasks, depths and noises (paper, appendix A.2 to A.5 and A.8)."""

import pandas as pd

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures.kit import Picture, mpl, summarize_groups
from simreg_core.lab.figures.kit_attacks import MAIN_LOOKS, helps, rows_of_groups
from simreg_core.lab.gains import GAIN, at_largest, gain, mean_over, regularized
from simreg_core.lab.recipes import noise, of_variant, targets_of, three_attacks
from simreg_core.lab.series import MAIN_TASK, NONE, PIXEL, THRESHOLD, Look
from simreg_core.lab.specs import Profile
from simreg_core.lab.study import Block, Figure, Study
from simreg_core.names import NOISE_NAMES, PROTOCOLS

PUBLISHED_TASKS = {  # the poster's other tasks; digits stand beside MNIST
    "digits, ResNet10": "2a MNIST-MNIST R18",
    "MNIST – MNIST": "2a MNIST-MNIST R18",
    "CIFAR-100, ResNet34": "2c CIFAR100-ImageNet R34",
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
    """A row for each task, a column for each attack."""
    figure = rows_of_groups(study.table(), (*NOISE_NAMES, "fgsm"), _looks, protocol)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    handles.append(mpl.lines.Line2D([], [], color="0.5", lw=0.8, ls="--"))
    figure.legend(handles, [*labels, "published"], loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _looks(group: str) -> dict[str, Look]:
    if group == MAIN_TASK:
        return MAIN_LOOKS
    panel = PUBLISHED_TASKS.get(group)
    names = {NONE: "unregularized", PIXEL: "S_pixel", THRESHOLD: "S_Th"}
    return {
        name: look.beside({"gaussian": (names[name], panel)} if panel else None) for name, look in MAIN_LOOKS.items()
    }


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

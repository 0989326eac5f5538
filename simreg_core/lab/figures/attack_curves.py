"""Figure 02: three attacks on none, S^pixel, S^Th and S^neural (paper v2, Figures 1 and 3)."""

from dataclasses import replace

import pandas as pd

from simreg_core.lab.afterwards import Afterwards, afterwards
from simreg_core.lab.claims import Claim, Statistic
from simreg_core.lab.figures.kit import Picture
from simreg_core.lab.figures.kit_attacks import PUBLISHED_WORDS, main_looks, published_task
from simreg_core.lab.figures.kit_gains import curves_and_gains, title, with_gains
from simreg_core.lab.gains import ATTACKS, GAIN, accuracy, beside_gain, gain, paired, robustness
from simreg_core.lab.protocol_of_claims import CLEAN_RATIO, CONFIDENCE, NOT_INFERIOR
from simreg_core.lab.recipes import headline_seeds, seeds_of, targets_of, three_attacks
from simreg_core.lab.series import LOOKS, NEURAL, NONE, PIXEL, S_NEURAL, S_PIXEL, S_TH, SHUFFLED_NEURAL, THRESHOLD
from simreg_core.lab.specs import NEURAL_SETTING, Profile
from simreg_core.lab.study import Block, Figure, Study

OF_THREE = 1 - (1 - CONFIDENCE) / len(ATTACKS)  # Bonferroni: the attack was chosen for the claim among three


def experiments(profile: Profile) -> tuple[Block, ...]:
    """None, S^pixel, S^Th and S^neural under Gaussian noise, FGSM (both protocols) and the boundary attack."""
    seeds = headline_seeds(profile)
    neural = {target: seeds_of(profile, target, seeds) for target in (NEURAL, SHUFFLED_NEURAL)}
    return (Block({**targets_of(profile, seeds), **neural}, three_attacks(profile)),)


def _clean_ratio(table: pd.DataFrame) -> pd.Series:
    regularized, plain = paired(*(accuracy(table, name, "gaussian", "zero") for name in (THRESHOLD, NONE)))
    return regularized / plain


def _clean_loss(table: pd.DataFrame) -> pd.Series:
    return gain(table, THRESHOLD, "gaussian", epsilon="zero")


def _pixel_shortfall(table: pd.DataFrame) -> pd.Series:
    """1 - S^pixel / none at the attack where S^pixel does worst: the choice favours the claim (see OF_THREE)."""
    both = [paired(robustness(table, PIXEL, attack), robustness(table, NONE, attack)) for attack in ATTACKS]
    ratios = [pixel / none for pixel, none in both]
    return 1 - min(ratios, key=lambda ratio: ratio.mean())


CLAIMS = (
    Claim(
        key="gaussian",
        text="S^Th raises accuracy under Gaussian noise",
        source="v2 Fig. 3",
        statistic=GAIN,
        measure=lambda table: gain(table, THRESHOLD, "gaussian"),
        published={"CIFAR-10": 0.151, "MNIST": 0.284},
        also=beside_gain(THRESHOLD, "gaussian", published={"CIFAR-10": 0.260, "MNIST": 0.456}),
        attack="gaussian",
    ),
    Claim(
        key="fgsm",
        text="S^Th raises accuracy under transferred FGSM",
        source="v2 Fig. 3",
        statistic=GAIN,
        measure=lambda table: gain(table, THRESHOLD, "fgsm"),
        published={"CIFAR-10": 0.125},
        also=beside_gain(THRESHOLD, "fgsm", published={"CIFAR-10": 0.186}),
        attack="fgsm",
        note="The attack is made on an unregularized network with a seed that no curve uses.",
    ),
    Claim(
        key="boundary",
        text="S^Th makes the boundary attack's perturbations larger",
        source="v2 Fig. 3",
        statistic="median squared L2 per pixel, S^Th over none",
        measure=lambda table: gain(table, THRESHOLD, "boundary"),
        threshold=1.0,
        scale="ratio",
        published={"CIFAR-10": 1.867},
        protocols=("released",),
        strict_in=("13_protocol_audit", "converged"),
        attack="boundary",
        note="50 steps, as released. The strict verdict is that of the most steps, which notebook 13 has, with fewer "
        "seeds. A few seeds have large ratios and lift the mean; the geometric mean is asked afterwards.",
    ),
    Claim(
        key="clean",
        text=f"S^Th keeps at least {100 * CLEAN_RATIO:.0f} % of clean accuracy",
        source="v2 Fig. 4 (A_0 = 0.9)",
        statistic="clean accuracy, S^Th over none",
        measure=_clean_ratio,
        threshold=CLEAN_RATIO,
        scale="ratio",
        published={"CIFAR-10": 0.965, "MNIST": 0.994},
        also=(Statistic(key="difference", statistic="clean accuracy, S^Th minus none", measure=_clean_loss),),
        attack="gaussian",
        note="The criterion takes the most robust α with a clean ratio of at least 0.9 on validation images, which is "
        "often the strongest, so the ratio on test images lies near 0.9 by construction: 'above 0.9' would be decided "
        "by chance. What can be decided is whether test images keep what validation images promised, up to the margin "
        "of ratios, 0.05. The ratio itself is shown, so a reader who asks for 0.9 sees it.",
    ),
    Claim(
        key="over-pixel",
        text="S^Th raises accuracy under noise more than S^pixel does",
        source="v2 Fig. 3",
        statistic="mean accuracy over the grid of ε, S^Th minus S^pixel",
        measure=lambda table: gain(table, THRESHOLD, "gaussian", over=PIXEL),
        published={"CIFAR-10": 0.088, "MNIST": 0.199},
        also=beside_gain(THRESHOLD, "gaussian", PIXEL, published={"CIFAR-10": 0.179, "MNIST": 0.411}),
        attack="gaussian",
        note="The α of S^pixel is the profile's `pixel_alpha`. In quick it was chosen as that of S^Th; in cifar-small "
        "it is that of S^Th, and no other was tried.",
    ),
    Claim(
        key="pixel-inconsistent",
        text="Under one attack or more S^pixel does worse than no regularizer",
        source="v2 Figs. 1 and 3",
        statistic="1 − S^pixel / none (mean accuracy over the grid of ε, or size) at the attack where S^pixel does "
        f"worst (interval: {OF_THREE:.1%}, as this attack is chosen among three)",
        measure=_pixel_shortfall,
        scale="ratio",
        confidence=OF_THREE,
        protocols=("released",),
        note="The choice of the attack favours the claim; the wider interval makes up for it.",
    ),
    Claim(
        key="neural-target",
        text="A V1 target raises accuracy under Gaussian noise",
        source="v2 Fig. 1; Li et al. 2019",
        statistic="mean accuracy over the grid of ε, S^neural minus none",
        measure=lambda table: gain(table, NEURAL, "gaussian"),
        also=beside_gain(NEURAL, "gaussian"),
        attack="gaussian",
        setting=NEURAL_SETTING,
        note="V1 is simulated in quick; in the paper profile it is the published predictor of mouse V1.",
    ),
    Claim(
        key="alternative",
        text="S^Th does no worse than a V1 target under Gaussian noise",
        source="title",
        statistic="mean accuracy over the grid of ε, S^Th minus S^neural",
        measure=lambda table: gain(table, THRESHOLD, "gaussian", over=NEURAL),
        threshold=NOT_INFERIOR,
        not_inferior=True,
        also=beside_gain(THRESHOLD, "gaussian", NEURAL),
        attack="gaussian",
        note="The title says 'alternative': non-inferiority, with a loss of at most 0.02 of accuracy.",
    ),
    Claim(
        key="not-shuffled-neural",
        text="A V1 target raises accuracy more than the same, shuffled",
        source="Li et al. 2019",
        statistic="mean accuracy over the grid of Gaussian ε, S^neural minus shuffled S^neural",
        measure=lambda table: gain(table, NEURAL, "gaussian", over=SHUFFLED_NEURAL),
        also=beside_gain(NEURAL, "gaussian", SHUFFLED_NEURAL),
        attack="gaussian",
        setting=NEURAL_SETTING,
    ),
)

ASKED = (
    Afterwards(
        key="fgsm-over-pixel",
        statistic="mean accuracy over the grid of ε under transferred FGSM, S^Th minus S^pixel",
        measure=lambda table: gain(table, THRESHOLD, "fgsm", over=PIXEL),
    ),
    Afterwards(
        key="clean-over-pixel",
        statistic="clean accuracy, S^Th minus S^pixel",
        measure=lambda table: gain(table, THRESHOLD, "gaussian", over=PIXEL, epsilon="zero"),
    ),
    Afterwards(
        key="boundary-geometric",
        statistic="size of the boundary attack, S^Th over none, geometric mean",
        measure=lambda table: gain(table, THRESHOLD, "boundary"),
        geometric=True,
    ),
    Afterwards(
        key="boundary-over-pixel",
        statistic="size of the boundary attack, S^Th over S^pixel, geometric mean",
        measure=lambda table: gain(table, THRESHOLD, "boundary", over=PIXEL),
        geometric=True,
    ),
)


def draw(study: Study, protocol: str) -> Picture:
    """Accuracy against epsilon and boundary-attack sizes; below, the gain over none; published values dashed."""
    source = "simulated V1" if study.profile.neural.target == "simulated" else "V1 predictor"
    task = study.circumstances.task
    looks = {
        **main_looks(task),
        NEURAL: replace(LOOKS[NEURAL], label=f"{S_NEURAL}, {source}"),
        SHUFFLED_NEURAL: replace(LOOKS[SHUFFLED_NEURAL], label="the same, shuffled"),
    }
    ticks = ["none", S_PIXEL, S_TH, S_NEURAL, "shuffled"]
    beside = published_task(task)
    figure = curves_and_gains(study.table(), looks, protocol, ticks, PUBLISHED_WORDS[beside], beside == task)
    title(figure, study, protocol, "gaussian", "fgsm", "boundary")
    return figure


FIGURE = Figure(
    "02_attack_curves",
    experiments,
    CLAIMS,
    draw,
    numbers=lambda study: with_gains(study.table()),
    notes=lambda study: afterwards(study, ASKED),
    named=True,
)

"""Figure 00: the whole idea in one look: pairs of images, the target, two networks' similarity, and what it does."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simreg_core.lab.figures.kit import PAGE, Axes, Picture, in_symbols, mark, plt, sequence, summarize, use_style
from simreg_core.lab.figures.kit_attacks import (
    ATTACK_NAMES,
    PUBLISHED_WORDS,
    accuracy_curves,
    main_looks,
    published_curve,
    published_task,
)
from simreg_core.lab.recipes import experiment, headline_seeds, noise, seeds_of
from simreg_core.lab.running.plan import plan
from simreg_core.lab.select import grid_of
from simreg_core.lab.series import FREE_MARKERS, LOOKS, NONE, S_PIXEL, S_TH, THRESHOLD
from simreg_core.lab.specs import PairSimilarityEvaluation, Profile
from simreg_core.lab.study import Block, Figure, Study

if TYPE_CHECKING:
    from torch import Tensor, nn

SHOWN_SIMILARITIES = (1.0, 0.8, 0.4, 0.0, -0.4, -0.8)
THRESHOLDS = (0.2, 0.4, 0.6, 0.8)
NEAR = 0.05  # similarities that look alike
PAIR_IMAGES = 40  # whose similarities are shown as matrices
PAIRS = "pairs"  # a group
SLIDER_DPI = 120  # of pictures that a notebook holds: with both sliders it has to stay below 1 MB
BUTTONS = {  # of a slider's player, by the names of their icons
    "fa-minus": "−", "fa-fast-backward": "|◀◀", "fa-step-backward": "|◀", "fa-play fa-flip-horizontal": "◀",
    "fa-pause": "II", "fa-play": "▶", "fa-step-forward": "▶|", "fa-fast-forward": "▶▶|", "fa-plus": "+",
}  # fmt: skip
TARGET_WORDS = {1: ("target +1", "#b2182b"), 0: ("target 0", "0.4"), -1: ("target −1", "#2166ac")}
S_CNN = r"$S^{\mathrm{CNN}}$"
IDEA = (
    "The idea: images that are alike as pixels (S above Th) should evoke similar responses in a network (target +1),\n"
    "unlike images (S below −Th) opposite responses (−1), all others unrelated responses (0)"
)


def experiments(profile: Profile) -> tuple[Block, ...]:
    """None and S^Th under Gaussian noise; of the first seed, the similarity of pairs of images."""
    both = {target: seeds_of(profile, target, headline_seeds(profile)) for target in (NONE, THRESHOLD)}
    images = min(PAIR_IMAGES, profile.studies.test_images or PAIR_IMAGES)
    pairs = PairSimilarityEvaluation(images=images, every_pair=True)
    first = {target: own[:1] for target, own in both.items()}
    return Block(both, (noise(profile, "gaussian"),)), Block(first, (pairs,), PAIRS)


@dataclass(frozen=True)
class Shown:
    """Regularization images of a profile, spread over the set, in the order of their classes.

    images: [n, c, h, w] in [0, 1].  labels: [n].  similarity: [n, n], of pixels.  classes: names.
    image_set, checksum: where they come from.
    """

    images: "Tensor"
    labels: "Tensor"
    similarity: "Tensor"
    classes: tuple[str, ...]
    image_set: str
    checksum: str


def shown(study: Study) -> Shown:
    """The study's `count` images.  Raises DataError where the set is missing."""
    import torch  # here, as below: to plan needs none

    from simreg_core.lab.images import load_image_set
    from simreg_core.targets import pixel_similarity

    task, spec = study.profile.task, study.profile.regularizer
    image_set = load_image_set(spec.images, "train", spec.size or task.size, task.channels, spec.count)
    spread = torch.linspace(0, len(image_set) - 1, study.options["count"]).round().long()
    chosen = spread[image_set.labels[spread].argsort(stable=True)]
    images = image_set.pixels[chosen]
    return Shown(
        images,
        image_set.labels[chosen],
        pixel_similarity(images),
        image_set.classes,
        image_set.name,
        image_set.checksum,
    )


def draw(study: Study, protocol: str) -> Picture:
    """Pairs of images; below, the target and the similarity of two networks; right, their accuracy under noise."""
    use_style()
    figure = plt.figure(figsize=(PAGE, 3.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.3, 1))
    top, bottom = left.subfigures(2, 1, height_ratios=(1.2, 1))
    own = shown(study)
    _pairs(top, own.images.mean(dim=1).numpy(), own.similarity.numpy(), study.profile.regularizer.threshold)
    for ax, (title, matrix, series) in zip(bottom.subplots(1, 4), matrices(study), strict=True):
        image = target_image(ax, matrix)
        ax.set_title(title, fontsize="small")
        mark(image, *series)
    words = f"2  Similarities of {len(matrix)} test images, by class: blue −1, white 0, red +1"
    _heading(bottom, words)
    ax = right.subplots()
    noise_panel(ax, study, protocol)
    ax.set_title("")
    _heading(right, "3  Under Gaussian noise")
    right.legend(*ax.get_legend_handles_labels(), loc="outside lower center", fontsize="x-small")
    figure.suptitle(IDEA, fontsize="small", x=0.01, ha="left")
    return figure


def _heading(figure: Any, words: str) -> None:
    figure.suptitle(words, fontsize="small", x=0.02, ha="left")


def noise_panel(ax: Axes, study: Study, protocol: str = "released") -> None:
    """Accuracy of none and S^Th against the strength of Gaussian noise, published curves dashed; without a legend."""
    task = study.circumstances.task
    looks = {series: look for series, look in main_looks(task).items() if series in study.series}
    accuracy_curves(ax, study.table(), looks, "gaussian", protocol)
    ax.set_ylabel("accuracy")
    if any(len(published_curve(look, "gaussian")) for look in looks.values()):
        ax.plot([], [], color="0.5", lw=0.8, ls="--", label=PUBLISHED_WORDS[published_task(task)])


def matrices(study: Study) -> list[tuple[str, np.ndarray, tuple[str, ...]]]:
    """(title, [n, n], series) of S^pixel, S^Th and the S^CNN of both networks, over the same test images.

    The layers of both networks are weighted by gamma of the regularized one: an unregularized network has none.
    """
    threshold = study.profile.regularizer.threshold
    (asked,), (gamma,) = (study.arrays(name, PAIRS)[THRESHOLD] for name in ("pixel_pairs", "layer_weights"))
    pixel = _square(asked)
    found = {series: _square(gamma @ layers) for series, (layers,) in study.arrays("layer_pairs", PAIRS).items()}
    return [
        (f"{S_PIXEL},\nof pixels", pixel, ()),
        (f"{S_TH}, the target\n(Th = {threshold:g})", as_target(pixel, threshold), ()),
        (f"{S_CNN},\nwithout the loss", found[NONE], (NONE,)),
        (f"{S_CNN},\nwith the loss", found[THRESHOLD], (THRESHOLD,)),
    ]


def _square(pairs: np.ndarray) -> np.ndarray:
    """[n, n] of the pairs above its diagonal, row by row; 1 on the diagonal."""
    n = round((1 + np.sqrt(1 + 8 * len(pairs))) / 2)
    square = np.eye(n)
    rows, columns = np.triu_indices(n, k=1)
    square[rows, columns] = square[columns, rows] = pairs
    return square


def clearest_pairs(
    images: np.ndarray, similarity: np.ndarray, wanted: tuple[float, ...] = SHOWN_SIMILARITIES
) -> list[tuple[int, int]]:
    """For each wanted similarity a pair i < j that is about as similar, and in which most can be seen.

    Of the pairs within NEAR of the one that comes nearest, that whose paler image has the most contrast; images that
    are shown already are avoided where others are left.

    images: [n, h, w].  similarity: [n, n].
    """
    rows, cols = np.triu_indices(len(similarity), k=1)
    contrast = images.std(axis=(1, 2))
    visible = np.minimum(contrast[rows], contrast[cols])
    used: set[int] = set()
    pairs = []
    for one in wanted:
        distance = np.abs(similarity[rows, cols] - one)
        near = distance <= distance.min() + NEAR
        fresh = near & ~np.isin(rows, list(used)) & ~np.isin(cols, list(used))
        best = np.where(fresh if fresh.any() else near, visible, -1).argmax()
        pairs.append((int(rows[best]), int(cols[best])))
        used.update(pairs[-1])
    return pairs


def _pairs(figure: Any, images: np.ndarray, similarity: np.ndarray, threshold: float) -> None:
    """Pairs one above the other, as they are compared: the mean image taken off, each scaled to its own contrast.

    images: [n, h, w].  similarity: [n, n].
    """
    compared = images - images.mean(axis=0)
    pairs = clearest_pairs(compared, similarity)
    axes = figure.subplots(2, len(pairs))
    for column, (i, j) in enumerate(pairs):
        for ax, index in zip(axes[:, column], (i, j), strict=True):
            reach = np.abs(compared[index]).max() or 1
            ax.imshow(compared[index] / reach, cmap="PuOr_r", vmin=-1, vmax=1)
            ax.set(xticks=(), yticks=())
            ax.spines[:].set_visible(False)
        sign, target = f"{similarity[i, j]:+.2f}", int(as_target(similarity[i, j], threshold))
        axes[0, column].set_title(f"S = {sign}".replace("-", "−"), fontsize="small")
        words, colour = TARGET_WORDS[target]
        axes[1, column].set_xlabel(words, fontsize="small", color=colour)
    _heading(figure, "1  Pairs of images without the mean image: orange is brighter than it, violet is darker")


def as_target(similarity: np.ndarray, threshold: float) -> np.ndarray:
    """S^Th of a similarity: +1 above the threshold, -1 below its negative, else 0 (Eq. 5)."""
    return (similarity > threshold).astype(float) - (similarity < -threshold)


def target_image(ax: Axes, matrix: np.ndarray):
    """Draw similarities or targets in [-1, 1] as a picture."""
    ax.set(xticks=(), yticks=())
    return ax.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")


def threshold_slider(study: Study) -> str:
    """HTML of a slider over Th that needs no kernel: a picture of the target for each of 18 thresholds."""
    similarity = shown(study).similarity.numpy()
    use_style()
    figure, ax = plt.subplots(figsize=(2.8, 3.1), layout="constrained")
    image = target_image(ax, similarity)

    def frame(threshold: float) -> None:
        image.set_data(as_target(similarity, threshold))
        above, below = shares(similarity, threshold)
        ax.set_title(f"Th = {threshold:.2f}\n{above:.1%} of pairs at +1, {below:.1%} at −1", fontsize="small")

    return _slider(figure, frame, [round(0.05 * step, 2) for step in range(1, 19)], "the target for each threshold")


def alpha_slider(study: Study) -> str:
    """HTML of a slider over alpha that needs no kernel: accuracy without and under attack, for each alpha and Th.

    Drawn from the records of notebook 03's networks, on validation images. Where one of them is missing, the HTML says
    so: nothing is trained for a slider.
    """
    grid = Study("03_hyperparameter_selection", study.profile, grid_of(study.profile))
    if plan(grid.measurements(), study.store):
        return "<p>Notebook 03 trains the networks of this slider, and this profile's are not all there yet.</p>"
    table = grid.table()
    attacks = list(table["attack"].unique())
    use_style()
    figure, axes = plt.subplots(1, len(attacks), figsize=(6, 2.5), layout="constrained", sharey=True)
    lines = [line for ax, attack in zip(axes, attacks, strict=True) for line in _slopes(ax, table, attack)]
    axes[0].set(ylabel="accuracy", ylim=(0, 1))
    figure.legend(handles=axes[0].get_legend_handles_labels()[0], loc="outside lower center", ncols=4)
    images = int(table["attempted"].min())

    def frame(alpha: float) -> None:
        for line, ends in lines:
            line.set_ydata(ends.loc[alpha])
        words = f"α = {alpha:g}: accuracy of S^Th on {images} validation images, without and under attack"
        figure.suptitle(in_symbols(words), fontsize="small", x=0.01, ha="left")

    values = sorted(table["alpha"].dropna().unique())
    return _slider(figure, frame, values, "accuracy without and under attack for each alpha")


def _slopes(ax: Axes, table: pd.DataFrame, attack: str) -> list[tuple[Any, pd.DataFrame]]:
    """A line from the accuracy without an attack to that under the largest, of none and of each Th, means over seeds.

    Returns the line of each Th, still without heights, and those: a row for each alpha, [alphas, 2].
    """
    own = table[table["attack"] == attack]
    thresholds = sorted(own["threshold"].dropna().unique())
    none = own[own["series"] == NONE].groupby("epsilon")["value"].mean()
    ax.plot([0, 1], none, "o-", color=LOOKS[NONE].colour, label="none")
    lines = []
    for threshold, colour, marker in zip(thresholds, sequence(len(thresholds)), FREE_MARKERS, strict=False):
        ends = own[own["threshold"] == threshold].pivot_table(index="alpha", columns="epsilon", values="value")
        (line,) = ax.plot([0, 1], [np.nan] * 2, marker=marker, color=colour, label=f"{S_TH}, Th = {threshold:g}")
        lines.append((line, ends))
    ax.set_xticks([0, 1], ["0", f"{none.index.max():g}"])
    ax.set(xlabel="ε", xlim=(-0.15, 1.15))
    ax.set_title(ATTACK_NAMES[attack], fontsize="small")
    return lines


def _slider(figure: Picture, frame: Callable[[float], None], values: list[float], words: str) -> str:
    """HTML with a picture for each value.  frame: changes the figure to that of a value.  words: for who sees none."""
    from matplotlib.animation import FuncAnimation

    frames = FuncAnimation(figure, frame, frames=values, interval=400, cache_frame_data=False)
    with plt.rc_context({"savefig.dpi": SLIDER_DPI}):
        html = frames.to_jshtml(default_mode="once")
    plt.close(figure)
    random = re.search(r"_anim_img(\w+)", html)[1]  # names what belongs to this player; the same each time in its place
    html = html.replace(random, words.replace(" ", "_"))
    return _without_network(html.replace("<img id=", f'<img alt="{words}" id='))


def _without_network(html: str) -> str:
    """matplotlib's player, whose buttons have signs in place of icons that would come from the network."""
    html = re.sub(r'<link rel="stylesheet"\s+href="https://[^"]*">', "", html)
    return re.sub(r'<i class="fa ([\w -]+)"></i>', lambda found: BUTTONS[found[1]], html)


def under_noise(study: Study, network: "nn.Module") -> pd.DataFrame:
    """Accuracy of a network of yours under the noise of the figure: the same images, the same draws.

    network: pixels [n, c, h, w] in [0, 1] in, logits out.  Returns epsilon and accuracy.
    """
    import torch

    from simreg_core.lab.measuring.registry import kind_of
    from simreg_core.lab.measuring.subject import Attacked, evaluation_images
    from simreg_core.model import in_eval_mode

    none, evaluation = experiment(study.profile, NONE, 0), noise(study.profile, "gaussian")
    images = evaluation_images(none, evaluation)
    with in_eval_mode(network):
        subject = Attacked(none, evaluation, network, images, study.store, torch.device("cpu"))
        values = kind_of(evaluation).measure(subject).values
    return pd.DataFrame({"epsilon": [one.epsilon for one in values], "accuracy": [one.value for one in values]})


def shares(similarity: np.ndarray, threshold: float) -> tuple[float, float]:
    """Of the pairs of different images, the shares that the target puts at +1 and at -1."""
    pairs = similarity[np.triu_indices(len(similarity), k=1)]
    return float((pairs > threshold).mean()), float((pairs < -threshold).mean())


def thresholds(study: Study) -> pd.DataFrame:
    """How many pairs of the images shown are at +1 and at -1 under each threshold."""
    similarity = shown(study).similarity.numpy()
    rows = [(threshold, *shares(similarity, threshold)) for threshold in THRESHOLDS]
    return pd.DataFrame(rows, columns=["threshold", "share_plus_one", "share_minus_one"])


def numbers(study: Study) -> pd.DataFrame:
    """Accuracy under noise, and how S^CNN of both networks correlates with the similarity of pixels."""
    return summarize(study.table(), "epsilon", "condition")


def notes(study: Study) -> dict:
    """Where the images come from."""
    own = shown(study)
    return {"image_set": own.image_set, "checksum": own.checksum, "images": len(own.images)}


FIGURE = Figure(
    "00_start_here",
    experiments,
    (),
    draw,
    numbers=numbers,
    notes=notes,
    protocols=("released",),
    options={"count": 120},
    files=("targets.py",),
)

"""Figure 00: pairs of images with their pixel similarity, and the targets made of it; nothing is trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simreg_core.lab.figures.kit import PAGE, Axes, Picture, plt, use_style
from simreg_core.lab.series import S_PIXEL, S_TH
from simreg_core.lab.study import Figure, Study

if TYPE_CHECKING:
    from torch import Tensor

SHOWN_SIMILARITIES = (1.0, 0.8, 0.4, 0.0, -0.4, -0.8)
THRESHOLDS = (0.2, 0.4, 0.6, 0.8)
NEAR = 0.05  # similarities that look alike
IDEA = (
    "The idea: images that are alike as pixels (S above Th) should evoke similar responses in a network (target +1),\n"
    "images that are nearly each other's negative opposite responses (−1), all others unrelated ones (0)"
)


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


def draw(study: Study, protocol: None) -> Picture:
    """Pairs of images with their pixel similarity; below, the similarity matrix and its targets."""
    own = shown(study)
    return _picture_of(own.images.mean(dim=1).numpy(), own.similarity.numpy(), THRESHOLDS)


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


def _picture_of(images: np.ndarray, similarity: np.ndarray, thresholds: tuple[float, ...]) -> Picture:
    """Pairs of images with their pixel similarity; below, the similarity matrix and its targets.

    images: [n, h, w] in [0, 1].  similarity: [n, n].
    """
    use_style()
    figure = plt.figure(figsize=(PAGE, 5.0), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.4, 1))
    _pairs(top, images, similarity)
    axes = bottom.subplots(1, 1 + len(thresholds))
    for ax, threshold in zip(axes, (None, *thresholds), strict=True):
        image = target_image(ax, similarity, threshold)
        title = (
            S_PIXEL if threshold is None else f"{S_TH}, Th = {threshold:g}\n{_share(similarity, threshold):.1%} at ±1"
        )
        ax.set_title(title, fontsize="small")
    figure.colorbar(image, ax=list(axes), label="similarity", ticks=(-1, 0, 1), shrink=0.9)
    axes[0].set(ylabel=f"{len(similarity)} images")
    bottom.supxlabel("The same images in the same order, in every panel and along both sides", fontsize="small")
    figure.suptitle(IDEA, fontsize="small", x=0.01, ha="left")
    return figure


def _share(similarity: np.ndarray, threshold: float) -> float:
    """Of the pairs of different images, how many a target puts at +1 or -1."""
    return float((np.abs(similarity[np.triu_indices(len(similarity), k=1)]) > threshold).mean())


def _pairs(figure: Any, images: np.ndarray, similarity: np.ndarray) -> None:
    """Pairs one above the other, as they are compared: the mean image taken off, each scaled to its own contrast."""
    compared = images - images.mean(axis=0)
    pairs = clearest_pairs(compared, similarity)
    axes = figure.subplots(2, len(pairs))
    for column, (i, j) in enumerate(pairs):
        for ax, index in zip(axes[:, column], (i, j), strict=True):
            reach = np.abs(compared[index]).max() or 1
            ax.imshow(compared[index] / reach, cmap="PuOr_r", vmin=-1, vmax=1)
            ax.set(xticks=(), yticks=())
            ax.spines[:].set_visible(False)
        sign = f"{similarity[i, j]:+.2f}".replace("-", "−")
        axes[0, column].set_title(f"S = {sign}", fontsize="medium")
    words = "Pairs of images, the mean image taken off: orange is brighter than the mean image, violet is darker"
    figure.supxlabel(words, fontsize="small")


def target_image(ax: Axes, similarity: np.ndarray, threshold: float | None):
    """Draw S^pixel (threshold None) or S^Th as a picture."""
    shown = similarity
    if threshold is not None:
        shown = (similarity > threshold).astype(float) - (similarity < -threshold)
    ax.set(xticks=(), yticks=())
    return ax.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")


def numbers(study: Study) -> pd.DataFrame:
    """How many pairs are at +1 and at -1 under each threshold."""
    import torch

    from simreg_core.targets import threshold_targets

    similarity = shown(study).similarity
    rows, cols = torch.triu_indices(len(similarity), len(similarity), offset=1)
    return pd.DataFrame(
        {
            "threshold": threshold,
            "pairs": len(rows),
            "share_plus_one": (threshold_targets(similarity, threshold)[rows, cols] > 0).float().mean().item(),
            "share_minus_one": (threshold_targets(similarity, threshold)[rows, cols] < 0).float().mean().item(),
        }
        for threshold in THRESHOLDS
    )


def notes(study: Study) -> dict:
    """Where the images come from."""
    own = shown(study)
    return {"image_set": own.image_set, "checksum": own.checksum, "images": len(own.images)}


FIGURE = Figure(
    "00_start_here",
    lambda profile: (),
    (),
    draw,
    numbers=numbers,
    notes=notes,
    protocols=(),
    options={"count": 120},
    files=("targets.py",),
)

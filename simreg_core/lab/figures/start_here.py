"""Figure 00: pairs of images with their pixel similarity, and the targets made of it; nothing is trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from simreg_core.lab.figures.kit import PAGE, Axes, Picture, plt, use_style
from simreg_core.lab.series import S_PIXEL, S_TH
from simreg_core.lab.study import Figure, Study

if TYPE_CHECKING:
    from torch import Tensor

SHOWN_SIMILARITIES = (1.0, 0.8, 0.4, 0.0, -0.4, -0.8)
THRESHOLDS = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Shown:
    """Regularization images of a profile, spread over the set.

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
    chosen = torch.linspace(0, len(image_set) - 1, study.options["count"]).round().long()
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


def closest_pairs(similarity: np.ndarray, wanted: tuple[float, ...] = SHOWN_SIMILARITIES) -> list[tuple[int, int]]:
    """For each wanted similarity the pair i < j that comes nearest.  similarity: [n, n]."""
    rows, cols = np.triu_indices(len(similarity), k=1)
    values = similarity[rows, cols]
    nearest = [int(np.abs(values - one).argmin()) for one in wanted]
    return [(int(rows[index]), int(cols[index])) for index in nearest]


def _picture_of(images: np.ndarray, similarity: np.ndarray, thresholds: tuple[float, ...]) -> Picture:
    """Pairs of images with their pixel similarity; below, the similarity matrix and its targets.

    images: [n, h, w] in [0, 1].  similarity: [n, n].
    """
    use_style()
    pairs = closest_pairs(similarity)
    figure = plt.figure(figsize=(PAGE, 4.3), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    axes = top.subplots(2, len(pairs))
    for column, (i, j) in enumerate(pairs):
        for ax, index in zip(axes[:, column], (i, j), strict=True):
            ax.imshow(images[index], cmap="gray", vmin=0, vmax=1)
            ax.set_axis_off()
        axes[0, column].set_title(f"S = {similarity[i, j]:+.2f}", fontsize="medium")
    axes = bottom.subplots(1, 1 + len(thresholds))
    titles = [S_PIXEL, *(f"{S_TH}, Th = {threshold:g}" for threshold in thresholds)]
    for ax, title, threshold in zip(axes, titles, (None, *thresholds), strict=True):
        image = target_image(ax, similarity, threshold)
        ax.set_title(title, fontsize="medium")
    figure.colorbar(image, ax=list(axes), label="similarity", ticks=(-1, 0, 1), shrink=0.9)
    axes[0].set(ylabel=f"{len(similarity)} images", xlabel="same images")
    return figure


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

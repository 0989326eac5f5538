"""Pictures of what the loss asks: targets as matrices of images in the order of their classes, and one step's pairs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simreg_core.lab.figures.kit import PAGE, Picture, mpl, panels, plt, use_style
from simreg_core.lab.figures.kit_images import or_none, show_image
from simreg_core.lab.recipes import experiment
from simreg_core.lab.series import LOOKS, NO_LOSS, NONE, S_PIXEL, S_TH, THRESHOLD
from simreg_core.lab.specs import Regularizer, stream
from simreg_core.lab.study import Study
from simreg_core.names import TARGET_SIMILARITIES

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 60  # images of a matrix: of more, single pairs can no longer be seen
NEVER_DRAWN = "0.8"
BATCH_SHOWN = 64
COLOURS = {1: "#b2182b", 0: "0.4", -1: "#2166ac"}  # of targets in words, as in the matrices
SAID = {1: "+1", 0: "0", -1: "−1"}
A_ROW = 5  # matrices


@or_none
def thresholds_compared(study: Study) -> Picture:
    """S^pixel of the profile's regularization images, and the S^Th that each threshold of the selection makes of it."""
    from simreg_core.targets import pixel_similarity, threshold_targets  # here, as below: to plan needs no torch

    pixels, _, chosen = _images(study)
    similarity = pixel_similarity(pixels)
    found = {f"{S_PIXEL}\n": similarity}
    for threshold in study.profile.selection.thresholds:
        targets = threshold_targets(similarity, threshold)
        found[f"{S_TH}, Th = {threshold:g}\n{_pairs_at_ends(targets)}"] = targets
    return _matrices({title: _part(matrix, chosen) for title, matrix in found.items()})


@or_none
def counts_compared(study: Study) -> Picture:
    """S^Th of the first N regularization images, for each N of the study; the titles count pairs, of all N images."""
    from simreg_core.targets import pixel_similarity, threshold_targets

    found = {}
    for count in sorted(study.profile.studies.image_counts):
        pixels, spec, chosen = _images(study, count=count)
        targets = threshold_targets(pixel_similarity(pixels), spec.threshold)
        found[f"N = {count}\n{_pairs_at_ends(targets)}"] = _part(targets, chosen)
    return _matrices(found)


@or_none
def parts_compared(study: Study) -> Picture:
    """The targets of each part and control of S^Th, as one epoch of training draws them; gray: never drawn."""
    import torch

    from simreg_core.lab.training import regularization_targets
    from simreg_core.pairs import PairSampler
    from simreg_core.regularizer import target_matrix
    from simreg_core.targets import pixel_similarity

    found = {}
    for series in study.series:
        if series in (NONE, NO_LOSS):  # without a target
            continue
        one: Any = study.experiment(series)
        spec = one.regularizer
        pixels, spec, chosen = _images(study, **spec.model_dump())
        similarity = pixel_similarity(pixels)
        targets = regularization_targets(spec, pixels, one.seed, study.store)
        targets = target_matrix(targets, similarity, spec.threshold)
        own, generator = _part(similarity, chosen), torch.Generator().manual_seed(0)
        sampler = PairSampler(own, _part(targets, chosen), spec.pairs, spec.threshold, spec.low_threshold)
        rows, columns, drawn = sampler.draw(len(sampler), generator)
        matrix = torch.full_like(own, torch.nan)
        matrix[rows, columns] = matrix[columns, rows] = drawn
        found[LOOKS[series].label] = matrix
    return _matrices(found)


def targets_of_similarities(study: Study) -> dict[str, "Tensor"]:
    """S^Th of the regularization images [n, n], and the targets of every other similarity, with as many ±1 pairs."""
    from simreg_core.other_similarities import matched_targets, target_similarity
    from simreg_core.targets import pixel_similarity, threshold_targets

    pixels, spec, _ = _images(study)
    targets = threshold_targets(pixel_similarity(pixels), spec.threshold)
    others = {name: matched_targets(target_similarity(name, pixels), targets) for name in TARGET_SIMILARITIES}
    return {THRESHOLD: targets} | others


@or_none
def similarities_compared(study: Study, targets: Mapping[str, "Tensor"]) -> Picture:
    """The targets that `targets_of_similarities` gives."""
    words = {THRESHOLD: f"{S_TH},\ncosine of pixels", "euclidean": "Euclidean\ndistance", "ssim": "SSIM\n",
             "blurred": "cosine,\nafter blurring", "untrained": "untrained\nfeatures"}  # fmt: skip
    *_, chosen = _images(study)
    return _matrices({words[name]: _part(matrix, chosen) for name, matrix in targets.items()})


@or_none
def means_compared(study: Study) -> Picture:
    """A regularization image with the mean image taken off, and with its own mean; beside each the S^Th it leads to."""
    from simreg_core.targets import pixel_similarity, threshold_targets

    pixels, spec, chosen = _images(study)
    gray = pixels.mean(dim=1)  # [n, h, w]
    one = chosen[len(chosen) // 2]
    figure, axes = panels(1, 5, 1.9)
    show_image(axes[0], pixels[one])
    axes[0].set_title("an image\n", fontsize="small")
    ways = {"mean_image": ("the mean image", gray.mean(dim=0)), "own_mean": ("its own mean", gray[one].mean())}
    for pair, (subtract, (words, mean)) in zip((axes[1:3], axes[3:5]), ways.items(), strict=True):
        difference = gray[one] - mean
        reach = difference.abs().max()
        pair[0].imshow(difference / reach, cmap="PuOr_r", vmin=-1, vmax=1)
        pair[0].set(xticks=(), yticks=())
        pair[0].set_title(f"less {words}\n", fontsize="small")
        targets = threshold_targets(pixel_similarity(pixels, subtract), spec.threshold)
        _matrix(pair[1], _part(targets, chosen))
        pair[1].set_title(f"{S_TH} then\n{_pairs_at_ends(targets)}", fontsize="small")
    return figure


@or_none
def one_step(study: Study, k: int | None = None) -> Picture:
    """What passes through the network in a step: a batch of the task's images, and k pairs with their targets.

    k: None, as many as the profile has.  The pairs are those of the first step of seed 0.
    Raises ValueError for a k that the regularization images cannot give.
    """
    import torch

    from simreg_core.lab.images import load_image_set
    from simreg_core.pairs import PairSampler
    from simreg_core.targets import pixel_similarity, threshold_targets

    pixels, spec, _ = _images(study)
    k = spec.pairs_per_step if k is None else k
    similarity = pixel_similarity(pixels)
    sampler = PairSampler(similarity, threshold_targets(similarity, spec.threshold))
    drawn = sampler.draw(k, torch.Generator().manual_seed(stream(0, "pairs")))
    task, batch = study.profile.task, study.profile.optimization.batch_size
    images = load_image_set(task.images, "train", task.size, task.channels)
    first = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: min(batch, BATCH_SHOWN)]
    use_style()
    columns = min(k, 8)
    rows = -(-k // columns)
    figure = plt.figure(figsize=(PAGE, max(2.6, 0.5 + 1.05 * rows)))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.7))
    ax = left.subplots()
    show_image(ax, _mosaic(images.pixels[first]))
    shown = f", {len(first)} of them shown" if len(first) < batch else ""
    ax.set_title(f"a batch: {batch} images with labels{shown}", fontsize="small")
    right.suptitle(f"k = {k}: {k} pairs, {2 * k} more images without labels", fontsize="small")
    axes = right.subplots(rows, columns, squeeze=False).flatten()
    for ax, i, j, target in zip(axes[:k], *(one.tolist() for one in drawn), strict=True):
        show_image(ax, torch.cat([pixels[i], torch.ones_like(pixels[i][:, :2]), pixels[j]], dim=1))
        ax.set_title(SAID[int(target)], fontsize="small", color=COLOURS[int(target)], pad=2)
    for ax in axes[k:]:
        ax.set_visible(False)
    return figure


def _images(study: Study, **fields: Any) -> tuple["Tensor", Regularizer, "Tensor"]:
    """Regularization images [n, c, h, w] of the study's S^Th, their specification, and the indices that are shown.

    fields: of the regularizer, where they differ from the profile's.
    """
    from simreg_core.lab.images import spread
    from simreg_core.lab.training import regularization_images, regularization_pixels

    one = experiment(study.profile, THRESHOLD, 0, **fields)
    images = regularization_images(one)
    chosen = images.labels.argsort(stable=True)[spread(len(images), min(SHOWN, len(images)))]
    return regularization_pixels(one.regularizer, images, one.seed), one.regularizer, chosen


def _part(matrix: "Tensor", chosen: "Tensor") -> "Tensor":
    return matrix[chosen][:, chosen]


def _pairs_at_ends(targets: "Tensor") -> str:
    """'12 % at +1, 11 % at −1', of the pairs of different images; of few images, counted."""
    import torch

    rows, columns = torch.triu_indices(len(targets), len(targets), offset=1)
    pairs = targets[rows, columns]
    ends = int((pairs == 1).sum()), int((pairs == -1).sum())
    if len(pairs) < 100:
        return f"of {len(pairs)} pairs {ends[0]} at +1, {ends[1]} at −1"
    return f"{ends[0] / len(pairs):.0%} at +1, {ends[1] / len(pairs):.0%} at −1"


def _matrices(found: Mapping[str, "Tensor"]) -> Picture:
    """[n, n] each, by title."""
    columns = min(len(found), A_ROW)
    rows = -(-len(found) // columns)
    figure, axes = panels(rows, columns, 1.75 * rows, squeeze=False)
    for ax, (title, matrix) in zip(axes.flat, found.items(), strict=False):
        _matrix(ax, matrix)
        ax.set_title(title, fontsize="small")
    for ax in axes.flat[len(found) :]:
        ax.set_visible(False)
    return figure


def _matrix(ax: Any, matrix: "Tensor") -> None:
    """Values in [-1, 1], blue to red; what is NaN in gray."""
    colours = mpl.colormaps["RdBu_r"].with_extremes(bad=NEVER_DRAWN)
    ax.imshow(matrix.numpy(), cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
    ax.set(xticks=(), yticks=())


def _mosaic(images: "Tensor") -> "Tensor":
    """[n, c, h, w] as one image, about square; white between them and where the last row ends."""
    import torch

    across = -(-int(len(images) ** 0.5 * 1000) // 1000)
    n, c, h, w = images.shape
    down = -(-n // across)
    sheet = torch.ones(c, down * (h + 1) - 1, across * (w + 1) - 1)
    for index, one in enumerate(images):
        top, left = index // across * (h + 1), index % across * (w + 1)
        sheet[:, top : top + h, left : left + w] = one
    return sheet

"""Pixel similarity, and the targets made from it (paper, Eq. 4 and 5)."""

import torch
from torch import Tensor

from simreg_core.names import SUBTRACTIONS
from simreg_core.numbers import as_numbers, check_number
from simreg_core.pixels import check_images

BLOCK = 1024  # rows of a matrix that are looked at together
SYMMETRY_TOLERANCE = 1e-4  # of similarities that were stored in single precision
TINY_NORM = 1e-8  # an image that equals the mean image has no direction: its similarities are 0


def pixel_similarity(images: Tensor | list[Tensor], subtract: str = "mean_image") -> Tensor:
    """Cosine similarity of mean-subtracted pixels, S^pixel (paper, section 3).

    images: [n, c, h, w] in [0, 1], n >= 2; colour is averaged to gray first.
    subtract: 'mean_image', the mean over the n images at each pixel, as the paper does; or 'own_mean', the
    mean over the pixels of the image itself, which leaves no difference between a dark and a light image.
    Returns [n, n] in [-1, 1]; an image without any difference from what is subtracted has similarity 0 to all.
    Raises ValueError as `check_images` does, and for another `subtract`.
    """
    if subtract not in SUBTRACTIONS:
        raise ValueError(f"unknown subtract '{subtract}'; allowed: {', '.join(SUBTRACTIONS)}")
    pixels = check_images(images).mean(dim=1).flatten(1)  # [n, h*w]
    centred = pixels - (pixels.mean(dim=0) if subtract == "mean_image" else pixels.mean(dim=1, keepdim=True))
    unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(TINY_NORM)
    return (unit @ unit.T).clamp_(-1, 1)


def threshold_targets(similarity: Tensor, threshold: float) -> Tensor:
    """Ternary similarity targets S^Th (paper, Eq. 5).

    similarity: [n, n], cosine similarities in [-1, 1].
    threshold: Th in (0, 1). A pair is +1 above it, -1 below its negative, else 0 (strict inequalities).
    Returns [n, n] in {-1, 0, +1}, same device, float32 or float64.
    Raises ValueError for a threshold that is no number in (0, 1), and a similarity of another shape or with values not
    finite.
    """
    similarity = as_numbers(similarity, "similarity").detach()
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not len(similarity):
        raise ValueError(f"similarity must have shape [n, n], got {list(similarity.shape)}")
    if not all(torch.isfinite(block).all() for block in similarity.split(BLOCK)):
        raise ValueError("similarity holds values that are NaN or infinite; they must lie in [-1, 1]")
    check_number(threshold, "threshold", "in (0, 1)")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie in (0, 1), got {threshold}")
    targets = torch.empty_like(similarity)
    for block, s in zip(targets.split(BLOCK), similarity.split(BLOCK), strict=True):  # no other matrix is needed
        block.copy_(s > threshold).sub_((s < -threshold).to(s))
    return targets

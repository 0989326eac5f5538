"""Similarities of images beside the cosine of pixels, from which targets can be made, and targets of equal shares.

Each takes images [n, c, h, w], float in [0, 1], n >= 2; colour is averaged to gray first. Each returns [n, n],
symmetric, larger for images that are more alike.
"""

import torch
from torch import Tensor

from simreg_core.defences.blur import GaussianBlur
from simreg_core.model import BLOCKS, ResNet
from simreg_core.names import TARGET_SIMILARITIES
from simreg_core.numbers import as_numbers, torchs_defaults
from simreg_core.pixels import check_images
from simreg_core.targets import pixel_similarity

BLUR = 2.0  # sigma in pixels
WINDOW, STRIDE = 7, 4  # of SSIM, in pixels
C1, C2 = 0.01**2, 0.03**2  # of SSIM, for pixels in [0, 1]
WIDTH = 16  # of the untrained network


def target_similarity(name: str, images: Tensor) -> Tensor:
    """The similarity of a name of `names.TARGET_SIMILARITIES`.  Raises ValueError for another name."""
    known = {
        "euclidean": rbf_similarity,
        "ssim": ssim_similarity,
        "blurred": blurred_similarity,
        "untrained": untrained_similarity,
    }
    if name not in known:
        raise ValueError(f"unknown target similarity '{name}'; allowed: {', '.join(TARGET_SIMILARITIES)}")
    return known[name](images)


def rbf_similarity(images: Tensor) -> Tensor:
    """exp(-d^2 / median d^2), with d the Euclidean distance of pixels; the median is over pairs of different images.

    In [0, 1]. Another width of the Gaussian gives the same order of pairs.
    """
    pixels = as_numbers(check_images(images), "images").mean(dim=1).flatten(1)
    squares = torch.cdist(pixels, pixels).square()
    pairs = squares[tuple(torch.triu_indices(len(pixels), len(pixels), offset=1, device=pixels.device))]
    return torch.exp(-squares / pairs.median().clamp_min(1e-12))


def ssim_similarity(images: Tensor, window: int = WINDOW, stride: int = STRIDE) -> Tensor:
    """Structural similarity, SSIM (Wang et al. 2004), mean over square windows of equal weights, in [-1, 1].

    window: pixels a side; of an image that is smaller, its smaller side.  stride: pixels from one window to the next.
    """
    pixels = check_images(images).mean(dim=1)
    side = min(window, *pixels.shape[1:])
    total, count = torch.zeros(len(pixels), len(pixels), dtype=pixels.dtype, device=pixels.device), 0
    for top in range(0, pixels.shape[1] - side + 1, stride):
        for left in range(0, pixels.shape[2] - side + 1, stride):
            patch = pixels[:, top : top + side, left : left + side].flatten(1)
            mean = patch.mean(dim=1)
            centred = patch - mean[:, None]
            covariance = centred @ centred.T / patch.shape[1]
            variance, square = centred.square().mean(dim=1), mean.square()
            light = (2 * mean[:, None] * mean + C1) / (square[:, None] + square + C1)
            total += light * (2 * covariance + C2) / (variance[:, None] + variance + C2)
            count += 1
    return total / count


def blurred_similarity(images: Tensor, sigma: float = BLUR) -> Tensor:
    """`pixel_similarity` of images after a Gaussian blur.  sigma: > 0, in pixels; see `defences.GaussianBlur`."""
    return pixel_similarity(GaussianBlur(sigma)(check_images(images)).clamp(0, 1))


@torch.no_grad()
def untrained_similarity(images: Tensor, seed: int = 0) -> Tensor:
    """Cosine of the feature maps of an untrained ResNet18 of width 16, less their mean, averaged over its layers.

    In [-1, 1].  seed: of its weights; the global random state does not change.
    """
    images = check_images(images)
    # on another device, or of another type, other weights would be drawn
    with torch.random.fork_rng(devices=[]), torchs_defaults(torch.device("cpu")):
        torch.manual_seed(seed)
        network = ResNet(BLOCKS["resnet18"], images.shape[1], 10, WIDTH).to(images.device, images.dtype).eval()
    batches = [network.features(part) for part in images.split(250)]
    similarity = torch.zeros(len(images), len(images), dtype=images.dtype, device=images.device)
    for maps in zip(*batches, strict=True):
        layer = torch.cat(maps).flatten(1)
        centred = layer - layer.mean(dim=0)
        unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-8)
        similarity += unit @ unit.T / len(batches[0])
    return similarity.clamp_(-1, 1)


def matched_targets(similarity: Tensor, targets: Tensor) -> Tensor:
    """Ternary targets with as many +1 and -1 as given ones: +1 for the most similar pairs, -1 for the least.

    similarity: [n, n], symmetric.  targets: [n, n] in {-1, 0, +1}, such as S^Th; its diagonal is kept.
    Of equally similar pairs those of earlier images come first.
    Returns [n, n] in {-1, 0, +1}, symmetric, of the targets' type.
    Raises ValueError for different shapes.
    """
    if similarity.shape != targets.shape:
        raise ValueError(f"similarity {list(similarity.shape)} and targets {list(targets.shape)} differ in shape")
    rows, columns = torch.triu_indices(len(targets), len(targets), offset=1, device=targets.device)
    given = targets[rows, columns]
    order = similarity[rows, columns].argsort(descending=True, stable=True)
    chosen = torch.zeros_like(given)
    chosen[order[: int((given == 1).sum())]] = 1
    chosen[order[len(order) - int((given == -1).sum()) :]] = -1
    matched = torch.zeros_like(targets)
    matched[rows, columns] = chosen
    return matched + matched.T + torch.diag(targets.diagonal())

"""Similarity of neural responses, how reliable it is, and how it compares with another similarity.

Source: Li et al. (2019), whose similarities of mouse V1 the paper's Figure 2 sets beside pixel similarities.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from simreg_core.numbers import as_numbers, finite_numbers
from simreg_core.targets import SYMMETRY_TOLERANCE, TINY_NORM

RANGE_TOLERANCE = 1e-4
RESAMPLES_AT_ONCE = 100


def response_similarity(responses: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cosine similarity of population responses to each pair of images, S^neural.

    responses: [images, neurons], at least two images; trial means or a predictor's rates.
    weights: [neurons], finite and not negative, such as `Reliability.weights`; None: all neurons count alike.
    Returns [images, images] in [-1, 1]: each neuron's mean over the images is subtracted, then rows are scaled to unit
    length. An image to which the population responds as on average has similarity 0 to all.
    Raises ValueError for other shapes, values that are not finite, and weights that are negative or all 0.
    """
    responses = as_numbers(responses, "responses")
    if responses.ndim != 2 or len(responses) < 2 or responses.shape[1] == 0:
        raise ValueError(
            f"responses must have shape [images, neurons] with at least two images and a neuron, got "
            f"{list(responses.shape)}"
        )
    finite_numbers(responses, "responses")
    if weights is not None:
        weights = as_numbers(weights, "weights")
        if weights.shape != responses.shape[1:]:
            raise ValueError(
                f"weights must have shape [{responses.shape[1]}], one per neuron, got {list(weights.shape)}"
            )
        finite_numbers(weights, "weights")
        if weights.min() < 0 or weights.max() == 0:
            raise ValueError(
                f"weights must not be negative, nor all 0, got [{weights.min().item():.4g}, {weights.max().item():.4g}]"
            )
        responses = responses * weights.to(responses)
    centred = responses - responses.mean(dim=0)
    unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(TINY_NORM)
    return (unit @ unit.T).clamp_(-1, 1)


@dataclass(frozen=True)
class Reliability:
    """How much of each neuron's response repeats from trial to trial.

    weights: [neurons], w = sigma / eta: standard deviation over images of the trial mean, over the standard deviation
        between trials of one image (the root of its mean variance over images). 0 for the neurons left out.
    silent: [neurons] bool, the neurons that never fire; they are left out.
    constant: [neurons] bool, neurons that do fire but never vary between trials, so that w has no value; left out too.
    split_half: correlation over image pairs of the similarities of two random halves of the trials, mean over splits.
    """

    weights: Tensor
    silent: Tensor
    constant: Tensor
    split_half: float

    @property
    def ceiling(self) -> float:
        """About the largest correlation that another similarity can have with that of all trials: the root of its
        reliability, by the Spearman-Brown formula from two halves. 0 where halves do not agree."""
        halves = max(self.split_half, 0.0)
        return (2 * halves / (1 + halves)) ** 0.5


def reliability(repeats: Tensor, splits: int = 50, generator: torch.Generator | None = None) -> Reliability:
    """Reliability of a recording with repeated images (Li et al. 2019, the weights w).

    repeats: [trials, images, neurons], at least two trials and three images.  splits: random halvings, >= 1.
    generator: draws the halves; None: seed 0.
    Raises ValueError for other shapes, one trial, values that are not finite, and a recording without a neuron that
    varies.
    """
    repeats = _checked_trials(repeats)
    if len(repeats) < 2:
        raise ValueError(f"reliability needs at least two trials of each image, got {len(repeats)}")
    if repeats.shape[1] < 3:
        raise ValueError(f"reliability needs at least three images, got {repeats.shape[1]}")
    if splits < 1:
        raise ValueError(f"splits must be at least 1, got {splits}")
    repeats = repeats.double()
    signal = repeats.mean(dim=0).var(dim=0)  # [neurons]
    noise = repeats.var(dim=0).mean(dim=0)
    silent = (repeats == 0).flatten(0, 1).all(dim=0)
    constant = (noise == 0) & ~silent
    kept = noise > 0
    if not kept.any():
        raise ValueError(f"none of the {len(kept)} neurons varies from trial to trial: {int(silent.sum())} never fire")
    weights = torch.zeros_like(signal)
    weights[kept] = (signal[kept] / noise[kept]).sqrt()
    return Reliability(weights, silent, constant, _split_half(repeats, splits, generator))


def _split_half(repeats: Tensor, splits: int, generator: torch.Generator | None) -> float:
    generator = generator or torch.Generator().manual_seed(0)
    half = len(repeats) // 2
    found = []
    for _ in range(splits):
        order = torch.randperm(len(repeats), generator=generator, device=generator.device)
        halves = (order[:half], order[half : 2 * half])
        found.append(similarity_correlation(*(response_similarity(repeats[trials].mean(dim=0)) for trials in halves)))
    return sum(found) / splits


def averaged_similarity(similarities: Sequence[Tensor]) -> Tensor:
    """Mean of the similarities of several recordings of the same images, [images, images].

    Raises ValueError for none, or matrices that are not similarities or of different sizes.
    """
    if not len(similarities):
        raise ValueError("averaged_similarity needs at least one similarity, got none")
    similarities = [as_numbers(one, "a similarity matrix") for one in similarities]
    sizes = sorted({len(similarity) if similarity.ndim else 0 for similarity in similarities})
    if len(sizes) > 1:
        raise ValueError(f"similarities of {sizes[0]} and of {sizes[1]} images cannot be averaged")
    return torch.stack([check_similarity(similarity) for similarity in similarities]).mean(dim=0)


def check_similarity(similarity: Tensor, images: int | None = None) -> Tensor:
    """A similarity matrix from anywhere, such as `torch.from_numpy(numpy.load(path))`, checked.

    similarity: [n, n] floating point, symmetric, in [-1, 1].  images: n that it must have.
    Returns it as float, clamped to [-1, 1] where rounding left the range.
    Raises ValueError for anything else, saying what it is.
    """
    if isinstance(similarity, Tensor) and not (similarity.is_floating_point() or similarity.is_complex()):
        raise ValueError(f"a similarity matrix must hold floating-point numbers, got {similarity.dtype}")
    similarity = as_numbers(similarity, "a similarity matrix")
    if similarity.ndim != 2 or not len(similarity) or similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"a similarity matrix must be square, got shape {list(similarity.shape)}")
    if images is not None and len(similarity) != images:
        raise ValueError(f"the similarity matrix is of {len(similarity)} images, but there are {images}")
    finite_numbers(similarity, "the similarity matrix")
    apart = (similarity - similarity.T).abs().max().item()
    if apart > SYMMETRY_TOLERANCE:
        raise ValueError(
            f"a similarity matrix must be symmetric; entries across the diagonal differ by up to {apart:.4g}"
        )
    low, high = similarity.min().item(), similarity.max().item()
    if low < -1 - RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise ValueError(f"similarities must lie in [-1, 1], got [{low:.6g}, {high:.6g}]")
    return similarity.clamp(-1, 1)


# Comparing two similarities of the same images


def similarity_correlation(first: Tensor, second: Tensor, ranks: bool = False) -> float:
    """Pearson correlation of two similarity matrices over the pairs i < j (Spearman's with `ranks`).

    first, second: [images, images], at least three images.
    Returns a number in [-1, 1]; NaN where either does not vary.
    Raises ValueError for other or different shapes.
    """
    first, second = _comparable(first, second)
    rows, cols = torch.triu_indices(len(first), len(first), offset=1, device=first.device)
    pair = torch.stack([first[rows, cols].double(), second[rows, cols].double()])
    if ranks:
        pair = _ranks(pair)
    return torch.corrcoef(pair)[0, 1].item()


def _ranks(values: Tensor) -> Tensor:
    """Ranks along the last axis, ties sharing their mean.  values: [rows, n]."""
    ranked = torch.empty_like(values)
    for index, row in enumerate(values):
        _, place, counts = row.unique(return_inverse=True, return_counts=True)
        ranked[index] = (counts.cumsum(0) - (counts - 1) / 2)[place]
    return ranked


def correlation_interval(
    first: Tensor,
    second: Tensor,
    resamples: int = 1000,
    confidence: float = 0.95,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """Bootstrap interval of `similarity_correlation`, resampling IMAGES: pairs that share one are not independent.

    A resample draws as many images with replacement; pairs of an image with a copy of it are left out.
    first, second: [images, images].  resamples: >= 10.  confidence: in (0, 1).  generator: None: seed 0.
    Returns the interval's ends (percentiles). With few images it is rough.
    Raises ValueError for arguments outside these bounds.
    """
    first, second = _comparable(first, second)
    if resamples < 10:
        raise ValueError(f"resamples must be at least 10, got {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    generator = generator or torch.Generator().manual_seed(0)
    apart = 1 - torch.eye(len(first), dtype=torch.float64, device="cpu")
    x, y = (matrix.detach().cpu().double() * apart for matrix in (first, second))
    sums_of = [apart, x, y, x * x, y * y, x * y]
    found = []
    for start in range(0, resamples, RESAMPLES_AT_ONCE):
        many = (min(RESAMPLES_AT_ONCE, resamples - start), len(x))
        chosen = torch.randint(len(x), many, generator=generator, device=generator.device).cpu()
        # how often each image was drawn: a sum over resampled pairs is then a quadratic form
        counts = torch.zeros(many, dtype=torch.float64, device="cpu")
        counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float64))
        n, sx, sy, sxx, syy, sxy = (((counts @ matrix) * counts).sum(dim=1) for matrix in sums_of)
        found.append((sxy - sx * sy / n) / ((sxx - sx**2 / n) * (syy - sy**2 / n)).sqrt())
    tail = (1 - confidence) / 2
    low, high = torch.cat(found).nanquantile(torch.tensor([tail, 1 - tail], dtype=torch.float64, device="cpu"))
    return low.item(), high.item()


def mantel_test(
    first: Tensor, second: Tensor, permutations: int = 999, generator: torch.Generator | None = None
) -> float:
    """One-sided permutation p of `similarity_correlation` (Mantel 1967): the images of one matrix are shuffled.

    Returns (1 + shuffles that correlate at least as much) / (1 + permutations), so never 0.
    first, second: [images, images].  permutations: >= 1.  generator: None: seed 0.
    Raises ValueError for arguments outside these bounds.
    """
    first, second = _comparable(first, second)
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    generator = generator or torch.Generator().manual_seed(0)
    n = len(first)
    apart = 1 - torch.eye(n, dtype=torch.float32, device="cpu")
    # means and spreads stay as they are under a shuffle: only the sum of products decides
    x, y = (matrix.detach().cpu().float() * apart for matrix in (first, second))
    x = (x - x.sum() / apart.sum()) * apart
    measured = (x * y).sum()
    as_large = 0
    for _ in range(permutations):
        order = torch.randperm(n, generator=generator, device=generator.device).cpu()
        as_large += int((x * y[order][:, order]).sum() >= measured)
    return (1 + as_large) / (1 + permutations)


def _checked_trials(repeats: Tensor) -> Tensor:
    repeats = as_numbers(repeats, "responses")
    if repeats.ndim != 3 or 0 in repeats.shape:
        raise ValueError(f"responses must have shape [trials, images, neurons], got {list(repeats.shape)}")
    return finite_numbers(repeats, "responses")


def _comparable(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    first, second = (finite_numbers(one, "a similarity matrix") for one in (first, second))
    if first.ndim != 2 or first.shape[0] != first.shape[1] or first.shape != second.shape:
        raise ValueError(
            f"two similarity matrices of the same images are needed, got {list(first.shape)} and {list(second.shape)}"
        )
    if len(first) < 3:
        raise ValueError(f"a correlation over pairs needs at least three images, got {len(first)}")
    return first, second.to(first.device)

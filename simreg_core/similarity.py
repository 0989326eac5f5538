"""How a network's feature maps of the images of a step are compared with their targets.

A new measure is a class with the three parts of `Similarity`, in a new file. `SimilarityRegularizer` takes an
object of it; a row in `names.SIMILARITIES` gives it the name by which experiments choose it.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from simreg_core.names import LOSS_EPS
from simreg_core.numbers import check_number

ROUNDINGS = 8  # of a cosine of 1, with room
NO_LENGTH = 1e-8  # a map that is shorter counts as this long, as in torch's cosine
NOTHING = 1e-12  # share of a layer's squared values; less is the rounding of images that a layer does not tell apart


class Similarity(ABC):
    """A measure of similarity, and the loss that pulls it towards its targets.

    The regularizer passes the 2k images of a step through the network, gives each layer's maps to `of_layer`, adds up
    what that gives with the layers' weights gamma, and gives the sum to `loss`.

    whole: False: first images are compared with second images, pair by pair, and targets are [k]. True: all 2k images
        with each other, and targets are [2k, 2k]; the images of a step are then all different.
    """

    whole: ClassVar[bool]

    @abstractmethod
    def of_layer(self, maps: Tensor) -> Tensor:
        """Similarities of a layer: [k], or [2k, 2k] where `whole`.

        maps: [2k, values] float32, the k first images' and then the k second images'; from each channel its running
            mean is subtracted.
        """

    @abstractmethod
    def loss(self, similarity: Tensor, targets: Tensor) -> Tensor:
        """A scalar.  similarity: weighted mean over layers of `of_layer`.  targets: of its shape."""


class Cosine(Similarity):
    """The paper's: cosine of the maps of each pair, and `similarity_loss`.  eps: of that loss.

    Raises ValueError for an eps that is no positive number.
    """

    whole = False

    def __init__(self, eps: float = LOSS_EPS):
        _check_eps(eps)
        self.eps = eps

    def of_layer(self, maps: Tensor) -> Tensor:
        return _CosineOfHalves.apply(maps)[0]

    def loss(self, similarity: Tensor, targets: Tensor) -> Tensor:
        return similarity_loss(similarity, targets, self.eps)


class _CosineOfHalves(torch.autograd.Function):
    """`F.cosine_similarity` of the first and the second half of [2k, values]; also units [2k, values], norms [2k, 1].

    The same numbers, also of the gradient, in half as many operations: both halves at once, and the units that forward
    has made are not made again. (A row shorter than NO_LENGTH has a gradient of another size.)
    """

    @staticmethod
    def forward(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        norms = torch.linalg.vector_norm(maps, dim=1, keepdim=True).clamp_min_(NO_LENGTH)
        units = maps / norms
        first, second = units.chunk(2)
        return (first * second).sum(dim=1), units, norms

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, units, norms = output
        ctx.mark_non_differentiable(units, norms)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, units, norms)

    @staticmethod
    def backward(ctx, gradient: Tensor | None, *_: None) -> Tensor | None:
        maps, units, norms = ctx.saved_tensors
        if gradient is None:
            return None
        if torch.is_grad_enabled():  # it is differentiated again: torch's formula can be
            similarity = F.cosine_similarity(*maps.chunk(2), dim=1)
            return torch.autograd.grad(similarity, maps, gradient, create_graph=True)[0]
        halves = units.unflatten(0, (2, -1))
        of_units = (gradient[:, None] * halves.flip(0)).flatten(0, 1)  # of each half: the other one's
        of_norms = (of_units * (units / norms)).sum(dim=1, keepdim=True)
        return of_units.div_(norms).sub_(of_norms * units)


class LinearCKA(Similarity):
    """Debiased linear CKA of a group of images and their target matrix; the loss is 1 - CKA, in [0, 2].

    A layer's similarity is its Gram matrix, U-centred and scaled to length 1. As for the cosine, the weighted mean over
    layers is compared with the targets once: CKA(sum_l gamma_l K_l / |K_l|, T). A weighted mean of the layers' CKAs
    would be linear in gamma, and the softmax would end on the layer that is nearest to the targets already.
    With one layer both are the CKA of that layer.

    A layer that gives all images the same maps has similarity 0 and gets no gradient. Where every layer does, or where
    the targets of a group do not vary, CKA has no value: the loss is then 1, without a gradient. Sparse targets want a
    k at which most groups hold some pair that is not 0.
    Source: Kornblith et al. (2019); unbiased estimator of HSIC: Song et al. (2012), as an inner product of U-centred
    matrices: Szekely & Rizzo (2014).
    """

    whole = True

    def of_layer(self, maps: Tensor) -> Tensor:
        squares = maps.detach().square().sum()
        # CKA does not depend on the mean; without it less is lost to rounding
        maps = maps - maps.detach().mean(dim=0)
        return _to_length_one(u_centred(maps @ maps.T), NOTHING * squares)

    def loss(self, similarity: Tensor, targets: Tensor) -> Tensor:
        targets = u_centred(targets.to(similarity))
        tiny = _rounding(targets)
        return 1 - (_to_length_one(similarity, tiny) * _to_length_one(targets, tiny)).sum()


def similarity_loss(predicted: Tensor, target: Tensor, eps: float = LOSS_EPS) -> Tensor:
    """Mean squared difference of transformed similarities, L_sim as released.

    predicted, target: [k], similarities in [-1, 1].
    eps: keeps the logarithms finite, so it must exceed what rounding adds to a cosine of 1; at least 9.5e-7 for
        float32. A target of 1 becomes 12.206 with the default.
    Returns a scalar: mean over pairs of (phi(s) - phi(t))^2, phi(x) = ln(1+x+eps) - ln(1-x+eps).
    phi is 2 arctanh as eps -> 0, so this is FOUR times the paper's printed formula taken as a mean.
    Raises ValueError for different shapes, no pairs, or a smaller eps.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"predicted {list(predicted.shape)} and target {list(target.shape)} differ in shape")
    if predicted.numel() == 0:
        raise ValueError("similarity_loss needs at least one pair, got none")
    _check_eps(eps)
    precision = torch.float64 if predicted.dtype == torch.float64 else torch.float32
    if eps < (smallest := ROUNDINGS * torch.finfo(precision).eps):
        raise ValueError(f"eps must be at least {smallest:.1e} for {predicted.dtype}, or rounding hides it; got {eps}")
    return (_phi(predicted, eps) - _phi(target.to(predicted), eps)).square().mean()


def _check_eps(eps: float) -> None:
    check_number(eps, "eps", "above 0")
    if not eps > 0:
        raise ValueError(f"eps must be positive, got {eps}")


def _phi(x: Tensor, eps: float) -> Tensor:
    return torch.log(1 + x + eps) - torch.log(1 - x + eps)


def linear_cka(first: Tensor, second: Tensor) -> Tensor:
    """Debiased linear CKA of two similarity matrices of the same images, a scalar in [-1, 1].

    first, second: [n, n], symmetric, n >= 4; such as Gram matrices x @ x.T of features. Their diagonals have no part.
    Where either is the same for all pairs, CKA has no value: 0, without a gradient.
    Raises ValueError for other shapes.
    """
    if first.ndim != 2 or first.shape[0] != first.shape[1] or first.shape != second.shape or len(first) < 4:
        raise ValueError(
            f"two similarity matrices [n, n] with n >= 4 are needed, got {list(first.shape)} and {list(second.shape)}"
        )
    units = [_to_length_one(u_centred(each), _rounding(each) * each.detach().norm()) for each in (first, second)]
    return (units[0] * units[1]).sum()


def u_centred(matrix: Tensor) -> Tensor:
    """U-centred: diagonal 0, every row and column sums to 0.  matrix: [n, n], symmetric, n >= 3.

    The inner product of two such matrices, over n (n - 3), is the unbiased estimator of HSIC.
    """
    n = len(matrix)
    off = 1 - torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    matrix = matrix * off
    rows = matrix.sum(dim=0) / (n - 2)
    return (matrix - rows[:, None] - rows + rows.sum() / (n - 1)) * off


def _rounding(matrix: Tensor) -> float:
    """About the norm that rounding leaves of a constant matrix of ones, with room."""
    return 16 * torch.finfo(matrix.dtype).eps * len(matrix)


def _to_length_one(matrix: Tensor, nothing: Tensor | float) -> Tensor:
    """A matrix over its Frobenius norm; 0, with gradient 0, where that is at most `nothing`."""
    square = matrix.square().sum()
    something = square.detach() > nothing**2
    # chosen before the root: its gradient at 0 is not finite
    return matrix * torch.where(something, torch.where(something, square, 1.0).rsqrt(), 0.0)

"""A polarizing front end (Bakiskan 2022, section 4.1; arXiv 2002.09580).

Filters with L1 norm 1 see the image, and a quantizer with thresholds ±c sees them. A loss drives the filters'
outputs away from the thresholds; an image all of whose outputs lie at least epsilon from ±c is *certified*: no
perturbation with an L-infinity size below epsilon changes what the classifier sees, since |wᵀe| <= epsilon ||w||_1.

    z = (w * x) / ||w||_1                            in [-1, 1] for pixels in [0, 1]
    f(z) = sgn(z - c) / 2 + sgn(z + c) / 2           in {-1, 0, 1}, ±1/2 exactly at a threshold
    B1(z) = exp(-z² / 2 σ1²)                         keeps z away from 0, stage one
    B2(z) = exp(-(z - c)² / 2 σ2²) + exp(-(z + c)² / 2 σ2²)      keeps z away from ±c, stage two

This file needs torch; settings that do not are in `polarized_training.py`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.defences.front_end import FrontEnd, replace_gradient
from simreg_core.pixels import check_pixels

NORM_EPS = 1e-12  # released code: a filter of zeros gives zeros
STAGES = 3  # of the training
STEEPNESS = {"tanh2": 2.0, "tanh4": 4.0, "tanh8": 8.0, "tanh32": 32.0}  # 8 in the released code's comments


def quantized(z: Tensor, threshold: float) -> Tensor:
    """Three levels: f(z) = sgn(z - c) / 2 + sgn(z + c) / 2.  threshold: c > 0.  Same shape; its gradient is zero."""
    _check_threshold(threshold)
    return (torch.sign(z - threshold) + torch.sign(z + threshold)) / 2


def smooth_quantizer(z: Tensor, threshold: float, steepness: float) -> Tensor:
    """f with tanh(s ·) in place of sgn, which an attacker can differentiate.  steepness: s > 0."""
    _check_threshold(threshold)
    if not steepness > 0:
        raise ValueError(f"steepness must be positive, got {steepness:g}")
    return (torch.tanh(steepness * (z - threshold)) + torch.tanh(steepness * (z + threshold))) / 2


def bump_at_zero(z: Tensor, sigma: float) -> Tensor:
    """B1, elementwise: 1 at 0.  sigma: σ1 > 0."""
    return torch.exp(-z.square() / (2 * _checked_sigma(sigma) ** 2))


def bumps_at_thresholds(z: Tensor, threshold: float, sigma: float) -> Tensor:
    """B2, elementwise: at least 1 at ±c.  threshold: c > 0.  sigma: σ2 > 0."""
    _check_threshold(threshold)
    return bump_at_zero(z - threshold, sigma) + bump_at_zero(z + threshold, sigma)


def distance_to_thresholds(z: Tensor, threshold: float) -> Tensor:
    """How far each image's closest activation is from ±c, [n].  z: [n, ...].

    The image is certified for every epsilon up to that distance, see `certified`.
    """
    _check_threshold(threshold)
    return (z.abs() - threshold).abs().flatten(1).amin(dim=1)


def certified(z: Tensor, threshold: float, epsilon: float) -> Tensor:
    """Which images no perturbation with an L-infinity size below epsilon changes for the classifier, [n] bool.

    z: [n, ...], of clean images, from filters with L1 norm 1.  epsilon: at least 0.
    Sufficient, not necessary. Rounding is not counted: of float32, about 1e-6.
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon must be at least 0, got {epsilon:g}")
    return distance_to_thresholds(z, threshold) >= epsilon


def normalized_responses(x: Tensor, weight: Tensor) -> Tensor:
    """z, the filters' responses over their L1 norms, [b, filters, h, w].

    x: [b, 1, h, w].  weight: [filters, 1, side, side], side odd; its scale does not matter.
    """
    norms = weight.abs().sum(dim=(1, 2, 3), keepdim=True) + NORM_EPS
    return F.conv2d(x, weight / norms, padding=weight.shape[-1] // 2)


class Certifying:
    """What a front end has that quantizes, and so certifies images; beside `FrontEnd`.

    quantizing: whether it does so yet.
    """

    draws_random_numbers = False
    quantizing: bool

    def clearance(self, x: Tensor) -> Tensor:
        """How far each number that is quantized is from the closest threshold.  x: [b, c, h, w] in [0, 1]."""
        raise NotImplementedError

    def levels(self, x: Tensor) -> Tensor:
        """What the classifier sees once the front end is quantizing; without a gradient."""
        raise NotImplementedError

    def distances(self, x: Tensor) -> Tensor:
        """The least clearance of each image, [b]: no perturbation with an L-infinity size below it changes a level.

        x: [b, c, h, w] in [0, 1].  Raises ValueError for other pixels.
        """
        check_pixels(x)
        return self.clearance(x).flatten(1).amin(dim=1)


def towards_a_threshold(front_end: Certifying, x: Tensor, epsilon: float) -> Tensor:
    """Images whose number closest to a threshold is moved towards it, by up to epsilon: same shape as x, in [0, 1].

    No perturbation of that L-infinity size moves it further, e = -epsilon * sign(dz/dx). By less than epsilon it is
    moved where pixels are clipped, and where a filter reaches over the border.
    x: [b, c, h, w] in [0, 1].  epsilon: in [0, 1].
    Raises ValueError for other pixels.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(front_end.distances(x).sum(), x)
    return (x.detach() - epsilon * gradient.sign()).clamp(0, 1)


class PolarizingFrontEnd(Certifying, FrontEnd):
    """Filters with L1 norm 1 and, once `quantizing`, a three-level quantizer.

    threshold: c, in (0, 1): outputs reach no further than 1.  filters: how many.  side: of a filter, odd.
    [b, 1, h, w] -> [b, filters, h, w]: the activations z, or their levels.
    An attacker may differentiate the quantizer as the identity (the author's attack), or as a tanh of several
    steepnesses; the convolution exactly; or the whole front end, filters too, as the identity, where the gradient of
    each pixel is the sum over the filters' outputs there.
    filters_before: [3, filters, side * side], the filters as each stage of training began, see `remember`; else 0.
    Raises ValueError for settings out of bounds.
    """

    ways = {  # noqa: RUF012
        "quantizer": ("identity", *STEEPNESS),
        "polarizer": ("exact", "identity"),
    }

    def __init__(self, threshold: float, filters: int = 25, side: int = 5):
        super().__init__()
        check_settings(threshold, filters, side)
        self.threshold, self.quantizing = threshold, False
        self.weight = nn.Parameter(torch.empty(filters, 1, side, side))
        bound = math.sqrt(6 / side**2)  # He-uniform
        nn.init.uniform_(self.weight, -bound, bound)
        self.register_buffer("filters_before", torch.zeros(STAGES, filters, side**2))

    def activations(self, x: Tensor) -> Tensor:
        """z, [b, filters, h, w].  x: [b, 1, h, w]."""
        return normalized_responses(x, self.weight)

    def clearance(self, x: Tensor) -> Tensor:
        return (self.activations(x).abs() - self.threshold).abs()

    @torch.no_grad()
    def levels(self, x: Tensor) -> Tensor:
        return quantized(self.activations(x), self.threshold)

    @torch.no_grad()
    def remember(self, stage: int) -> None:
        """Keep the filters as a stage, counted from 0, begins."""
        self.filters_before[stage] = self.weight.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.activations(x)
        out = z
        if self.quantizing:
            steepness = STEEPNESS.get(self.way["quantizer"])
            surrogate = z if steepness is None else smooth_quantizer(z, self.threshold, steepness)
            out = replace_gradient(quantized(z, self.threshold), surrogate)
        if self.way["polarizer"] == "identity":
            return replace_gradient(out.detach(), x.expand_as(out))
        return out

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, quantizing={self.quantizing}"


class PixelQuantizer(Certifying, FrontEnd):
    """The baseline that the source lacks: the pixels themselves quantized to 0 and 1, once `quantizing`.

    threshold: in (0, 1).  [b, c, h, w] -> the same shape.
    """

    ways = {"quantizer": ("identity", *STEEPNESS)}  # noqa: RUF012

    def __init__(self, threshold: float = 0.5):
        super().__init__()
        check_settings(threshold)
        self.threshold, self.quantizing = threshold, False

    def clearance(self, x: Tensor) -> Tensor:
        return (x - self.threshold).abs()

    @torch.no_grad()
    def levels(self, x: Tensor) -> Tensor:
        return (x > self.threshold).to(x)

    def forward(self, x: Tensor) -> Tensor:
        if not self.quantizing:
            return x
        steepness = STEEPNESS.get(self.way["quantizer"])
        surrogate = x if steepness is None else (1 + torch.tanh(steepness * (x - self.threshold))) / 2
        return replace_gradient(self.levels(x), surrogate)


class Polarized(nn.Module):
    """A front end and a classifier of its outputs: pixels [b, 1, h, w] in [0, 1] in, logits out.

    stage: of its training, from 0, see `polarized_training`.
    """

    def __init__(self, front_end: FrontEnd, classifier: nn.Module):
        super().__init__()
        self.front_end, self.classifier, self.stage = front_end, classifier, 0

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.front_end(x))


def classifier(channels: int, num_classes: int, width: int = 32) -> nn.Sequential:
    """The released code's classifier: two 5x5 convolutions without padding, pooled, and two linear layers.

    width: channels of the first convolution, 32 in the source; the second has twice as many.
    [b, channels, h, w] -> [b, num_classes], h and w at least 16. Before the linear layers maps are averaged to 4x4, the
    size that those of 28x28 images have.
    """
    return nn.Sequential(
        *(nn.Conv2d(channels, width, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(width, 2 * width, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * width, 100), nn.ReLU(), nn.Linear(100, num_classes)),
    )


def polarized_network(base: nn.Module, threshold: float, pixels: bool = False, width: int = 32) -> Polarized:
    """A `Polarized` with as many classes as the last linear layer of `base` has.

    pixels: with a `PixelQuantizer`.  width: of its `classifier`.

    Raises ValueError for a network without linear layers.
    """
    heads = [module for module in base.modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise ValueError(f"a {type(base).__name__} has no linear layer that tells the number of classes")
    if pixels:
        return Polarized(PixelQuantizer(threshold), classifier(1, heads[-1].out_features, width))
    front_end = PolarizingFrontEnd(threshold)
    return Polarized(front_end, classifier(len(front_end.weight), heads[-1].out_features, width))


def check_settings(threshold: float, filters: int = 25, side: int = 5) -> None:
    """Raises ValueError for a front end that cannot be."""
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie in (0, 1), since no activation is larger than 1; got {threshold:g}")
    if filters < 1:
        raise ValueError(f"filters must be at least 1, got {filters}")
    if side < 1 or side % 2 == 0:
        raise ValueError(f"side must be odd and positive, got {side}")


def _check_threshold(threshold: float) -> None:
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, got {threshold:g}")


def _checked_sigma(sigma: float) -> float:
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma:g}")
    return sigma

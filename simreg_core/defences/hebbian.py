"""Hebbian / anti-Hebbian (HaH) networks (Bakiskan 2022, chapter 5; arXiv 2202.13074).

Early convolutions get a cost of their own, layer by layer, which makes few filters answer strongly at each place;
divisive normalization and a threshold make what they say sparse.  With x a patch, N filters w_k, at each place

    y_k = ReLU(w_kᵀx / ||w_k||_2)                              responses, invariant to the scale of filters
    L_b = mean(top K of y) - λ * mean(the other N - K)         HaH cost, to be *maximized*, mean over images and places
    z_k = y_k / (σ M_max + (1 - σ) M)                          divisive normalization (Eq. 5.2)
    o_k = z_k where it is among the largest share of its channel's places, else 0

M is the mean over channels of y at the place, M_max its largest value in the image. The released code takes that mean
of 3x3 max-pooled y ('pooled'), the text of y itself ('mean').  The cost of a block moves the filters of that block
only. For a filter among the top K its gradient is (I - ŵŵᵀ)x / (K ||w||), Hebbian; for another one that answers it is
-λ / (N - K) times the same, anti-Hebbian; always orthogonal to w.

In a training loop of your own:

    network = nn.Sequential(HebbianBlock(3, 64), HebbianBlock(64, 64), nn.MaxPool2d(2), ...)
    logits, costs = logits_and_costs(network, x, active=0.1, anti=0.1)
    loss = F.cross_entropy(logits, y) - sum(alpha * cost for alpha, cost in zip(alphas, costs))

This file needs torch; settings that do not are in `hebbian_training.py`.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.defences.front_end import FrontEnd, replace_gradient
from simreg_core.defences.hebbian_training import NORMALIZATIONS, check_block, check_cost

WEIGHT_EPS, DIVISOR_EPS = 1e-6, 1e-7  # released code: of the norm of a filter, and of the divisor
POOLING = 3  # side of the max-pooling before M
GATE = 20.0  # steepness of the attacker's soft threshold, times the threshold


def active_count(channels: int, active: float) -> int:
    """K, how many filters win at a place: ⌈active * N⌉ of N channels.

    active: share in (0, 1).  Raises ValueError for another share, and where no filter would lose (N = 1).
    """
    check_cost(active, 0.0)
    count = math.ceil(round(active * channels, 9))
    if count >= channels:
        raise ValueError(f"active={active:g} of {channels} channels leaves no filter that loses")
    return count


def hebbian_cost(y: Tensor, count: int, anti: float) -> Tensor:
    """L_b, the HaH cost, a scalar that grows where few filters answer strongly.

    y: [b, N, h, w], responses, at least 0.  count: K, 1 <= K < N.  anti: λ, at least 0; 0.1 in the source's text; 1 in
        the released code, whose trainer lost the setting.
    It is linear in the scale of y: L_b(c y) = c L_b(y) for c > 0.
    Raises ValueError for K or λ that cannot be.
    """
    channels = y.shape[1]
    if not 1 <= count < channels:
        raise ValueError(f"K must lie in [1, {channels - 1}], the block has {channels} channels; got {count}")
    if not anti >= 0:
        raise ValueError(f"anti must be at least 0, got {anti:g}")
    top = y.amax(dim=1) if count == 1 else y.topk(count, dim=1, sorted=False).values.sum(dim=1)
    rest = y.sum(dim=1) - top
    return (top / count - anti * rest / (channels - count)).mean()


def fixed_channels(y: Tensor, count: int) -> float:
    """How much the same channels win everywhere: the share of wins that the `count` most frequent winners take.

    y: [b, N, h, w], responses; places where nothing answers are left out.  count: K, winners at each place.
    In [K / N, 1]: K / N where all win equally often, 1 where a fixed choice is always on (the source's Fig. 5.3).
    """
    places = y.movedim(1, -1).flatten(0, -2)
    winners = places[(places > 0).any(dim=1)].topk(count, dim=1).indices
    wins = winners.flatten().bincount(minlength=y.shape[1]).sort(descending=True).values
    return float(wins[:count].sum() / wins.sum()) if len(winners) else math.nan


def divisive_normalization(y: Tensor, sigma: float = 0.1, pooled: bool = True, through_mean: bool = True) -> Tensor:
    """z = y / (σ M_max + (1 - σ) M + 1e-7) (Eq. 5.2), which does not depend on the scale of y.

    y: [b, N, h, w], at least 0.  sigma: σ in [0, 1]; 0 divides by each place's own mean, 1 by one number an image.
    pooled: M of 3x3 max-pooled y, as released; else of y itself, as in the text.
    through_mean: whether M has a gradient, as in training.
    Returns the same shape.  Raises ValueError for another sigma.
    """
    if not 0 <= sigma <= 1:
        raise ValueError(f"sigma must lie in [0, 1], got {sigma:g}")
    around = F.max_pool2d(y, POOLING, stride=1, padding=POOLING // 2) if pooled else y
    mean = around.mean(dim=1, keepdim=True)
    divisor = sigma * mean.amax(dim=(2, 3), keepdim=True) + (1 - sigma) * mean + DIVISOR_EPS
    return y * (1 / (divisor if through_mean else divisor.detach()))  # one division a place, not one a channel


def kept_from(z: Tensor, keep: float) -> Tensor:
    """The threshold of each channel: the k-th smallest value of an image's channel, k = ⌊(1 - keep) h w⌋.

    z: [b, N, h, w], at least 0.  keep: share in (0, 1).  Returns [b, N, 1, 1]; -1, below all, where k is 0.
    """
    check_block(keep=keep)
    places = z.shape[2] * z.shape[3]
    k = math.floor(round((1 - keep) * places, 9))
    if k == 0:
        return z.new_full((*z.shape[:2], 1, 1), -1.0)
    largest = z.detach().flatten(2).topk(places - k + 1, dim=2, sorted=False).values  # kthvalue takes longer
    return largest.amin(dim=2)[:, :, None, None]


def strongest(z: Tensor, keep: float) -> Tensor:
    """Values strictly above `kept_from`, the others 0: at most ⌈keep h w⌉ of each channel, fewer where values tie.

    Gradients flow through what is kept.  Same shape.
    """
    return z * (z > kept_from(z, keep))


class UnitConv2d(nn.Conv2d):
    """A convolution without bias whose filters are used with L2 norm 1: their scale does not matter."""

    def forward(self, x: Tensor) -> Tensor:
        norms = self.weight.flatten(1).norm(dim=1) + WEIGHT_EPS
        return self._conv_forward(x, self.weight / norms[:, None, None, None], None)


class HebbianBlock(FrontEnd):
    """Convolution with filters of L2 norm 1, ReLU, a normalization, and a threshold; see the top of this file.

    [b, inputs, h, w] -> [b, outputs, h, w]: 3x3, stride 1, padding 1, no bias.
    normalization: 'pooled' or 'mean', see `divisive_normalization`; 'batch', as the source's other blocks have;
        'instance' or 'local' (local response normalization): of what divisive normalization is a relative.
    sigma: see there.  keep: share of each channel's places that is kept, in (0, 1); None: no threshold.
    learns: whether `logits_and_costs` gives its cost.
    An attacker may differentiate the threshold exactly, as the identity (every value gets a gradient), or as a soft
    gate, sigmoid(GATE (z / threshold - 1)); and the normalization exactly, or as a division by a constant.
    Raises ValueError for settings out of bounds.
    """

    draws_random_numbers = False
    ways = {"threshold": ("exact", "identity", "soft"), "normalization": ("exact", "constant")}  # noqa: RUF012

    def __init__(
        self,
        inputs: int,
        outputs: int,
        normalization: str = "pooled",
        sigma: float = 0.1,
        keep: float | None = 0.2,
        learns: bool = True,
    ):
        super().__init__()
        check_block(normalization, sigma, keep)
        self.conv = UnitConv2d(inputs, outputs, 3, padding=1, bias=False)
        self.normalization, self.sigma, self.keep, self.learns = normalization, sigma, keep, learns
        made = {
            "batch": nn.BatchNorm2d,
            "instance": nn.InstanceNorm2d,
            "local": lambda channels: nn.LocalResponseNorm(min(5, channels)),
        }
        self.norm: nn.Module | None = made[normalization](outputs) if normalization in made else None

    def responses(self, x: Tensor) -> Tensor:
        """y, [b, outputs, h, w], at least 0.  x: [b, inputs, h, w]."""
        return F.relu(self.conv(x))

    def normalized(self, y: Tensor) -> Tensor:
        """z of y."""
        if self.norm is not None:
            return self.norm(y)
        exact = self.way["normalization"] == "exact"
        return divisive_normalization(y, self.sigma, self.normalization == "pooled", exact)

    def forward(self, x: Tensor) -> Tensor:
        z = self.normalized(self.responses(x))
        if self.keep is None:
            return z
        way = self.way["threshold"]
        if way == "exact":
            return strongest(z, self.keep)
        threshold = kept_from(z, self.keep)
        gate = 1.0 if way == "identity" else torch.sigmoid(GATE * (z / (threshold.clamp_min(0) + DIVISOR_EPS) - 1))
        return replace_gradient(z * (z > threshold), z * gate)

    def extra_repr(self) -> str:
        return f"normalization={self.normalization}, sigma={self.sigma}, keep={self.keep}, learns={self.learns}"


def hebbian_blocks(network: nn.Module) -> list[HebbianBlock]:
    """The blocks of a network, in the order of their definition."""
    return [module for module in network.modules() if isinstance(module, HebbianBlock)]


def logits_and_costs(
    network: nn.Module, x: Tensor, active: float = 0.1, anti: float = 0.1, stopped: bool = True
) -> tuple[Tensor, list[Tensor]]:
    """Logits of a batch, and L_b of each block that learns, in the order in which they run.

    active: see `active_count`.  anti: λ, see `hebbian_cost`.
    stopped: the gradient of a cost stops at its block's input, so that it moves the filters of this block only. False:
        it reaches earlier blocks too, which then learn to feed a fixed choice of channels (the source's Fig. 5.3).
    """
    costs: list[Tensor] = []

    def note(block: HebbianBlock, inputs: tuple[Tensor, ...]) -> None:
        y = block.responses(inputs[0].detach() if stopped else inputs[0])
        costs.append(hebbian_cost(y, active_count(y.shape[1], active), anti))

    hooks = [block.register_forward_pre_hook(note) for block in hebbian_blocks(network) if block.learns]
    try:
        logits = network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, costs


def with_hebbian_blocks(network: nn.Module, count: int, **settings: Any) -> nn.Module:
    """The network with its first `count` blocks replaced, in place, by blocks with these settings and the same filters.

    network: has blocks that do not learn, as the architectures 'unit-vgg' have.  settings: of `HebbianBlock`.
    Raises ValueError for a network without blocks, and for more than it has.
    """
    places = [(name, module) for name, module in network.named_modules() if isinstance(module, HebbianBlock)]
    if not places:
        raise ValueError(f"a {type(network).__name__} has no blocks; take the architecture 'unit-vgg'")
    if not 0 <= count <= len(places):
        raise ValueError(f"blocks must lie in [0, {len(places)}], the network has {len(places)} of them; got {count}")
    for name, old in places[:count]:
        new = HebbianBlock(old.conv.in_channels, old.conv.out_channels, learns=True, **settings)
        new.conv = old.conv
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, new)
    return network


def unit_vgg(plan: Sequence[int | str], inputs: int, num_classes: int) -> nn.Sequential:
    """The source's standard network: blocks of convolution with filters of L2 norm 1, ReLU and batch norm.

    plan: channels of each block, and 'M' for 2x2 max-pooling, as torchvision writes a VGG.
    [b, inputs, h, w] -> [b, num_classes], of images of any size: an odd side is pooled to the larger half.
    """
    features = nn.Sequential()
    for one in plan:
        if isinstance(one, str):
            features.append(nn.MaxPool2d(2, ceil_mode=True))
        else:
            features.append(HebbianBlock(inputs, one, normalization="batch", keep=None, learns=False))
            inputs = one
    body = nn.Sequential()
    body.add_module("features", features)
    body.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    body.add_module("flatten", nn.Flatten())
    body.add_module("classifier", nn.Linear(inputs, num_classes))
    return body


__all__ = [
    "NORMALIZATIONS",
    "HebbianBlock",
    "active_count",
    "divisive_normalization",
    "fixed_channels",
    "hebbian_blocks",
    "hebbian_cost",
    "kept_from",
    "logits_and_costs",
    "strongest",
    "unit_vgg",
    "with_hebbian_blocks",
]

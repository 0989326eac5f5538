"""What is measured of logits beside accuracy.  logits: [n, classes], classes >= 2.  labels: [n], int64."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURES = (1e-3, 1e3)  # between which one is looked for
GOLDEN = (math.sqrt(5) - 1) / 2
HALVINGS = 60  # of the interval, about: to the precision of the loss


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """z_y minus the largest other logit, [n]: positive where the label is found."""
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -math.inf)
    return own - others.max(dim=1).values


def matched_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T with the least mean cross-entropy of logits / T (Guo et al. 2017).

    Cross-entropy depends on the scale of logits: two networks with the same decisions and margins in the same
    proportions have other losses where one has larger logits. Divided by T, both have the same.
    Cross-entropy is convex in 1 / T, so the best T is found by golden section on a logarithmic scale.
    Returns T in [0.001, 1000]; an end where every image is right (T towards 0) or the logits tell nothing.
    """
    logits = logits.detach().double()

    def loss(log_inverse: float) -> float:
        return F.cross_entropy(logits * math.exp(log_inverse), labels).item()

    low, high = (-math.log(one) for one in reversed(TEMPERATURES))
    for _ in range(HALVINGS):
        first, second = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        low, high = (low, second) if loss(first) < loss(second) else (first, high)
    return math.exp(-(low + high) / 2)


def matched_cross_entropy(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each image at a temperature, [n]; `matched_temperature` of other images gives it.

    Raises ValueError for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature:g}")
    return F.cross_entropy(logits / torch.as_tensor(temperature, dtype=logits.dtype), labels, reduction="none")

"""What an attack returns, and the checks that several attacks share."""

import math
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor, nn

from simreg_core.attacks import door
from simreg_core.names import PROTOCOLS
from simreg_core.pixels import check_pixels

NORMS = ("linf", "l2")


@dataclass(frozen=True)
class AttackResult:
    """What an attack made of n images.

    originals, adversarial: [n, c, h, w] in [0, 1]; a failed image is its original.
    failed: [n] bool; images that the attack could not handle (noise and FGSM never fail).
    failed_distance: the size counted for a failed image: NaN (skipped, `released`) or infinity (`strict`).
    """

    originals: Tensor
    adversarial: Tensor
    failed: Tensor
    failed_distance: float

    @property
    def attempted(self) -> int:
        """Number of images tried, the failed ones included."""
        return len(self.failed)

    @property
    def perturbations(self) -> Tensor:
        """adversarial - originals, [n, c, h, w]."""
        return self.adversarial - self.originals

    @property
    def squared_l2_per_pixel(self) -> Tensor:
        """Mean over pixels and channels of the squared perturbation, [n]."""
        return self._sized(self.perturbations.flatten(1).square().mean(dim=1))

    @property
    def l2(self) -> Tensor:
        """L2 norm of the perturbation, [n]."""
        return self._sized(self.perturbations.flatten(1).norm(dim=1))

    @property
    def linf(self) -> Tensor:
        """Largest absolute change of a pixel, [n]."""
        return self._sized(self.perturbations.flatten(1).abs().amax(dim=1))

    @property
    def l0(self) -> Tensor:
        """Number of values changed (a colour pixel has three), [n]."""
        return self._sized((self.perturbations.flatten(1) != 0).sum(dim=1).to(self.originals))

    def _sized(self, sizes: Tensor) -> Tensor:
        return sizes.masked_fill(self.failed, self.failed_distance)


def never_fails(originals: Tensor, adversarial: Tensor) -> AttackResult:
    """The result of an attack that perturbs every image, whether or not that fools the network."""
    failed = torch.zeros(len(originals), dtype=torch.bool, device=originals.device)
    return AttackResult(originals, adversarial, failed, float("nan"))


def checked(images: Tensor, epsilon: float, protocol: str) -> Tensor:
    """The images without a graph.  Raises ValueError for pixels, an epsilon or a protocol out of bounds."""
    check_protocol(protocol)
    check_epsilon(epsilon)
    check_pixels(images)
    return images.detach()


def check_epsilon(epsilon: float, largest: float = 1.0) -> None:
    """Raises ValueError for an epsilon outside [0, largest]; adds a hint where it looks like a number of 0..255."""
    if not isinstance(epsilon, Real | Tensor):
        raise ValueError(f"epsilon must be a number in [0, {largest:g}], got {epsilon!r}")
    if not 0 <= epsilon <= largest:
        hint = f"; did you mean {epsilon:g}/255?" if epsilon > largest else ""
        raise ValueError(f"epsilon must lie in [0, {largest:g}] (pixels are in [0, 1]), got {epsilon:g}{hint}")


def check_size(images: Tensor, epsilon: float, norm: str) -> None:
    """Raises ValueError for an epsilon outside the bounds of its norm: 1, or under 'l2' the root of the pixels."""
    # an L2 ball of the root of the number of pixels holds every image
    check_epsilon(epsilon, 1.0 if norm == "linf" else math.sqrt(images[0].numel()))


def check_protocol(protocol: str) -> None:
    """Raises ValueError for an unknown protocol."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'; allowed: {', '.join(PROTOCOLS)}")


def check_norm(norm: str) -> None:
    """Raises ValueError for an unknown norm."""
    if norm not in NORMS:
        raise ValueError(f"unknown norm '{norm}'; allowed: {', '.join(NORMS)}")


def check_counts(**counts: int) -> None:
    """Raises ValueError for a count below 1, by its name."""
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def attackable(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """Indices of the images that the network classifies correctly.  Raises ValueError where there is none."""
    with torch.no_grad():
        predicted = torch.cat([model(x).argmax(dim=1) for x in images.split(batch_size)])
    attackable = (predicted == labels).nonzero().flatten()
    if len(attackable) == 0:
        raise ValueError(
            f"no image to attack: the network misclassifies all {len(images)} of them; are the labels of its task?"
        )
    return attackable


def check_gradients(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> None:
    """Raises ValueError for gradients that are missing or not finite, before a search that would not notice."""
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        door.finite_gradient(model, x, y)

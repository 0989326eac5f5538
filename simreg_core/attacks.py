"""Random noise, transferred FGSM and the boundary attack, in the two protocols.

`released` computes what the authors' released code computes, quirks included; `strict` what a careful
evaluator would do. Every epsilon is in pixel units: images lie in [0, 1].
"""

import warnings
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from simreg_core import door
from simreg_core.names import NOISE_NAMES, PROTOCOLS

if TYPE_CHECKING:
    from foolbox import PyTorchModel

FIRST_DIRECTIONS = 10  # enough for most images; the few others then search on without them


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


def gaussian_noise(images: Tensor, epsilon: float, *, protocol: str, generator: torch.Generator) -> AttackResult:
    """Adds epsilon * N(0, 1) to every pixel.

    images: [n, c, h, w] in [0, 1].  epsilon: standard deviation, in [0, 1].
    protocol: 'released' scales by the range of all images and clamps to each image's own range;
        'strict' clamps to [0, 1].
    generator: on the device of the images.
    Raises ValueError for an epsilon, protocol or pixels outside their bounds.
    """
    images = _checked(images, epsilon, protocol)
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return _add_noise(images, noise, epsilon, protocol)


def uniform_noise(images: Tensor, epsilon: float, *, protocol: str, generator: torch.Generator) -> AttackResult:
    """Adds U(-epsilon, epsilon) to every pixel. Arguments and errors as `gaussian_noise`."""
    images = _checked(images, epsilon, protocol)
    noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype) * 2 - 1
    return _add_noise(images, noise, epsilon, protocol)


def salt_and_pepper_noise(images: Tensor, epsilon: float, *, protocol: str, generator: torch.Generator) -> AttackResult:
    """With probability epsilon, adds +1 or -1 to a pixel before the clamp.

    Under 'strict' a hit pixel becomes 1 or 0; under 'released' its image's largest or smallest value.
    Arguments and errors as `gaussian_noise`.
    """
    images = _checked(images, epsilon, protocol)
    chance = torch.rand(images.shape, generator=generator, device=images.device)
    sign = torch.randint(0, 2, images.shape, generator=generator, device=images.device) * 2 - 1
    return _add_noise(images, (chance < epsilon) * sign.to(images), 1.0, protocol)


NOISES = dict(zip(NOISE_NAMES, (gaussian_noise, uniform_noise, salt_and_pepper_noise), strict=True))


def _add_noise(images: Tensor, noise: Tensor, epsilon: float, protocol: str) -> AttackResult:
    if protocol == "released":
        per_image = images.flatten(1)
        low, high = (v[:, None, None, None] for v in (per_image.amin(dim=1), per_image.amax(dim=1)))
        span = images.max() - images.min()
    else:
        low, high, span = images.new_tensor(0.0), images.new_tensor(1.0), 1.0
    return never_fails(images, (images + epsilon * span * noise).clamp(low, high))


def fgsm_direction(surrogate: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256) -> Tensor:
    """Sign of the gradient of the surrogate's cross-entropy at the true labels.

    surrogate, images, labels: see `door.opened`.
    Returns [n, c, h, w] in {-1, 0, +1}; one gradient serves every epsilon.
    Raises ValueError as `door.opened`, and for gradients that are missing or not finite.
    """
    with door.opened(surrogate, images, labels, seed=0, batch_size=batch_size) as (model, images, labels):
        parts = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        return torch.cat([door.finite_gradient(model, x, y).sign() for x, y in parts])


def transferred_fgsm(images: Tensor, direction: Tensor, epsilon: float, *, protocol: str) -> AttackResult:
    """One step of size epsilon along `fgsm_direction`, to be shown to another network.

    images: [n, c, h, w] in [0, 1].  direction: same shape, in {-1, 0, +1}.  epsilon: L-infinity size, in [0, 1].
    protocol: 'released' scales the step by the range of all images and clamps to it (the released code does so
        batch by batch); 'strict' clamps to [0, 1].
    Raises ValueError for an epsilon, protocol or pixels outside their bounds, or shapes that differ.
    """
    images = _checked(images, epsilon, protocol)
    if direction.shape != images.shape:
        raise ValueError(f"direction {list(direction.shape)} and images {list(images.shape)} differ in shape")
    low, high = (images.min(), images.max()) if protocol == "released" else (0.0, 1.0)
    return never_fails(images, (images + epsilon * (high - low) * direction.detach()).clamp(low, high))


def boundary_attack(
    model: nn.Module,
    images: Tensor,
    *,
    steps: int,
    protocol: str,
    seed: int,
    directions: int = 1000,
    batch_size: int = 256,
) -> AttackResult:
    """foolbox's boundary attack (Brendel et al. 2018), away from the model's own prediction.

    model, images: see `door.opened`; a model that draws random numbers is refused, as it would undo the search.
    steps: at least 1; 50 in the released code. foolbox first adapts its step sizes after about 300.
    protocol: failures are skipped (NaN) under 'released' and infinitely far under 'strict'.
    seed: of the starting noise and the walk; the global random state is left alone.
    directions: uniform-noise images tried as a start, each blended in on a 50-point line; an image for
        which none changes the prediction has failed.
    batch_size: images that walk together; foolbox gives them one random direction a step.
    Raises ValueError as `door.opened`, and for steps, directions, batch_size or protocol out of bounds.
    """
    from foolbox import PyTorchModel  # here, as below: one attack in many needs it, and it takes a second
    from foolbox.attacks import BoundaryAttack

    _check_protocol(protocol)
    for name, value in (("steps", steps), ("directions", directions), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    opened = door.opened(model, images, seed=seed, batch_size=batch_size, same_twice=True)
    with opened as (model, images):  # seeded: foolbox draws from the global generator
        wrapped = PyTorchModel(model, bounds=(0, 1), device=images.device)
        adversarial, failed = images.clone(), torch.ones(len(images), dtype=torch.bool, device=images.device)
        for part in torch.arange(len(images), device=images.device).split(batch_size):
            x = images[part]
            prediction = wrapped(x).argmax(dim=1)
            starts, found = starting_points(wrapped, x, prediction, directions)
            if found.any():
                adversarial[part[found]] = BoundaryAttack(steps=steps).run(
                    wrapped, x[found], prediction[found], starting_points=starts[found]
                )
            failed[part] = ~found
    return AttackResult(images, adversarial, failed, float("nan" if protocol == "released" else "inf"))


def starting_points(model: "PyTorchModel", x: Tensor, prediction: Tensor, directions: int) -> tuple[Tensor, Tensor]:
    """Blends with uniform noise that change the prediction, [b, c, h, w], and which were found, [b].

    Draws from the global random state; call it within `door.opened`.
    """
    from foolbox.attacks import LinearSearchBlendedUniformNoiseAttack

    starts = x.clone()
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    first = min(directions, FIRST_DIRECTIONS)
    for tries in (first, directions - first):
        rest = (~found).nonzero().flatten()
        if tries == 0 or len(rest) == 0:
            continue
        blend = LinearSearchBlendedUniformNoiseAttack(directions=tries, steps=50)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # foolbox warns of failures; they are counted here
            blended = blend.run(model, x[rest], prediction[rest])
        changed = model(blended).argmax(dim=1) != prediction[rest]
        starts[rest[changed]] = blended[changed]
        found[rest[changed]] = True
    # rounding depends on the batch: foolbox refuses the whole batch where one start no longer changes the prediction
    while found.any() and not (changed := model(starts[found]).argmax(dim=1) != prediction[found]).all():
        found[found.clone()] = changed
    return starts, found


def never_fails(originals: Tensor, adversarial: Tensor) -> AttackResult:
    """The result of an attack that perturbs every image, whether or not that fools the network."""
    failed = torch.zeros(len(originals), dtype=torch.bool, device=originals.device)
    return AttackResult(originals, adversarial, failed, float("nan"))


def check_epsilon(epsilon: float, largest: float = 1.0) -> None:
    """Raises ValueError for an epsilon outside [0, largest]; says so where it looks like one of 0..255."""
    if not isinstance(epsilon, Real | Tensor):
        raise ValueError(f"epsilon must be a number in [0, {largest:g}], got {epsilon!r}")
    if not 0 <= epsilon <= largest:
        hint = f"; did you mean {epsilon:g}/255?" if epsilon > largest else ""
        raise ValueError(f"epsilon must lie in [0, {largest:g}] (pixels are in [0, 1]), got {epsilon:g}{hint}")


def _checked(images: Tensor, epsilon: float, protocol: str) -> Tensor:
    """The images, without a graph."""
    _check_protocol(protocol)
    check_epsilon(epsilon)
    door.check_pixels(images)
    return images.detach()


def _check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'; allowed: {', '.join(PROTOCOLS)}")

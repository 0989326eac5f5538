"""Random noise: Gaussian, uniform, salt and pepper, in the two protocols."""

import torch
from torch import Tensor

from simreg_core.attacks.result import AttackResult, checked, never_fails
from simreg_core.names import NOISE_NAMES


def gaussian_noise(images: Tensor, epsilon: float, *, protocol: str, generator: torch.Generator) -> AttackResult:
    """Adds epsilon * N(0, 1) to every pixel.

    images: [n, c, h, w] in [0, 1].  epsilon: standard deviation, in [0, 1].
    protocol: 'released' scales by the range of all images and clamps to the range of each image;
        'strict' clamps to [0, 1].
    generator: on the device of the images.
    Raises ValueError for an epsilon, protocol or pixels outside their bounds, and a generator of another device.
    """
    images = _checked(images, epsilon, protocol, generator)
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return _add_noise(images, noise, epsilon, protocol)


def uniform_noise(images: Tensor, epsilon: float, *, protocol: str, generator: torch.Generator) -> AttackResult:
    """Adds U(-epsilon, epsilon) to every pixel. Arguments and errors as `gaussian_noise`."""
    images = _checked(images, epsilon, protocol, generator)
    noise = torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype) * 2 - 1
    return _add_noise(images, noise, epsilon, protocol)


def salt_and_pepper_noise(images: Tensor, epsilon: float, *, protocol: str, generator: torch.Generator) -> AttackResult:
    """With probability epsilon, adds +1 or -1 to a pixel before the clamp.

    Under 'strict' a hit pixel becomes 1 or 0; under 'released' its image's largest or smallest value.
    Arguments and errors as `gaussian_noise`.
    """
    images = _checked(images, epsilon, protocol, generator)
    chance = torch.rand(images.shape, generator=generator, device=images.device, dtype=torch.float32)
    sign = torch.randint(0, 2, images.shape, generator=generator, device=images.device) * 2 - 1
    return _add_noise(images, (chance < epsilon) * sign.to(images), 1.0, protocol)


NOISES = dict(zip(NOISE_NAMES, (gaussian_noise, uniform_noise, salt_and_pepper_noise), strict=True))


def _checked(images: Tensor, epsilon: float, protocol: str, generator: torch.Generator) -> Tensor:
    images = checked(images, epsilon, protocol)
    if generator.device.type != images.device.type:
        raise ValueError(
            f"generator must be on the images' device, {images.device}, got one on {generator.device}; "
            f"torch.Generator('{images.device}') makes one"
        )
    return images


def _add_noise(images: Tensor, noise: Tensor, epsilon: float, protocol: str) -> AttackResult:
    if protocol == "released":
        per_image = images.flatten(1)
        low, high = (v[:, None, None, None] for v in (per_image.amin(dim=1), per_image.amax(dim=1)))
        span = images.max() - images.min()
    else:
        low, high, span = images.new_tensor(0.0), images.new_tensor(1.0), 1.0
    return never_fails(images, (images + epsilon * span * noise).clamp(low, high))

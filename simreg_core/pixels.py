"""Checks of images that the method is given: float in [0, 1]."""

import torch
from torch import Tensor


def check_pixels(images: Tensor) -> None:
    """Raises ValueError unless the images are a tensor [n, c, h, w], n >= 1, float in [0, 1]."""
    if not isinstance(images, Tensor):
        raise ValueError(
            f"images must be a torch tensor [n, c, h, w], got {type(images).__name__}; torch.as_tensor makes one of "
            "an array"
        )
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images must have shape [n, c, h, w] with n >= 1, got {list(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"images must be float in [0, 1], got {images.dtype}; divide uint8 by 255")
    low, high = images.min().item(), images.max().item()
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(f"pixels must lie in [0, 1], got [{low:.6g}, {high:.6g}]")


def check_images(images: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Images that are to be compared, as one checked tensor; a list of equal-sized images is stacked.

    images: [n, c, h, w], n >= 2, float in [0, 1].
    Returns the tensor, of the type that was given.
    Raises ValueError as `check_pixels`, and for fewer than two images, mixed sizes and channels in the last axis.
    """
    if isinstance(images, list | tuple):
        for image in images:
            if not isinstance(image, Tensor):
                raise ValueError(f"images must be torch tensors, got {type(image).__name__}; torch.as_tensor makes one")
        sizes = sorted({tuple(image.shape) for image in images})
        if len(sizes) > 1:
            raise ValueError(f"images must all have one size, got {sizes[0]} and {sizes[1]}")
        images = torch.stack(list(images)) if images else torch.empty(0, 1, 1, 1)
    if isinstance(images, Tensor) and images.ndim == 4:
        if _channels_last(*images.shape[1:]):
            raise ValueError(
                f"images must have shape [n, c, h, w], got {list(images.shape)}, whose last axis looks like the "
                "channels; images.permute(0, 3, 1, 2) puts them in their place"
            )
        if len(images) < 2:
            raise ValueError(f"at least two images are needed to compare, got {len(images)}")
    check_pixels(images)
    return images


def _channels_last(first: int, second: int, last: int) -> bool:
    """Whether the axes of an image are [h, w, c]: the last is 1 (gray), 3 (RGB) or 4 (RGBA), the first cannot be c."""
    return (last in (1, 3) and first not in (1, 3)) or (last == 4 and first > 4)

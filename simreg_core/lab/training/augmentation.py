"""Random flips and crops of training images."""

import torch
from torch import Tensor
from torch.nn import functional as F

CROP_PADDING = 4  # released code, CIFAR


def augment(pixels: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """'none', 'flip' (left-right, half of the images) or 'crop-flip' (reflect-pad 4, random crop, flip).

    pixels: [b, c, h, w].  generator: CPU generator.  Returns the same shape.
    """
    return augmented(pixels, *(one.to(pixels.device) for one in draw_augmentation(len(pixels), how, generator)))


def draw_augmentation(b: int, how: str, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The random choices of `augmented` for b images: none, flips [b], or flips and the crops' corners [2, b]."""
    if how == "none":
        return ()
    corners = (torch.randint(0, 2 * CROP_PADDING + 1, (2, b), generator=generator),) if how == "crop-flip" else ()
    return (torch.rand(b, generator=generator) < 0.5, *corners)


def augmented(pixels: Tensor, flips: Tensor | None = None, corners: Tensor | None = None) -> Tensor:
    """Images cropped and flipped as drawn.  pixels: [b, c, h, w].  Returns the same shape."""
    if flips is None:
        return pixels
    if corners is not None:
        b, _, h, w = pixels.shape
        padded = F.pad(pixels, [CROP_PADDING] * 4, mode="reflect")
        rows = corners[0][:, None] + torch.arange(h, device=pixels.device)  # [b, h]
        cols = corners[1][:, None] + torch.arange(w, device=pixels.device)  # [b, w]
        batch = torch.arange(b, device=pixels.device)[:, None, None]
        pixels = padded[batch, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
    return torch.where(flips[:, None, None, None], pixels.flip(3), pixels)

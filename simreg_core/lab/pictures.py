"""How one image file becomes pixels: the only place where files are decoded.

- It is turned upright as its EXIF orientation says, put on white where it is transparent, and converted to RGB by
  Pillow (CMYK and YCbCr too). Colour profiles are not applied. Gray is Pillow's 'L' of the resized RGB picture.
- Of 16 bits the upper 8 are kept, in gray as in colour.
- Refused, with the file's name: levels without a known white (32-bit integers, floats, 12 bits), a transparent colour
  at another depth than 8 bits, several pictures in one file (animations, pages), and what Pillow cannot read.
"""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from simreg_core.lab.image_files import DataError

ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BACKGROUND = "white"  # of transparent pictures, as on a page


def read_picture(path: Path, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """One image file as [c, h, w] uint8.  Raises DataError, naming the file, where it cannot be read."""
    try:
        # an open file, not its name: Pillow maps a named TIFF into memory, and scrambles one that lies on its side
        with path.open("rb") as file, Image.open(file) as picture:
            # RGB before gray, as torchvision's loaders do
            return as_channels(resized(_as_rgb(picture), size), channels)
    except Exception as error:  # Pillow raises whatever it meets in a broken file
        raise DataError(f"image file {path} cannot be read: {_why(error)}") from error


def _why(error: Exception) -> str:
    """An error in words, without the file's name, which Pillow and the system say again."""
    if isinstance(error, UnidentifiedImageError):
        return "it is empty, broken or no picture; remove it, or save it again as PNG or JPEG"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    reason = str(error) or type(error).__name__
    # a ValueError says what to do where it is ours; of a truncated file Pillow says what is wrong only
    return reason if isinstance(error, ValueError) else f"{reason}; remove it, or save it again"


def _as_rgb(picture: Image.Image) -> Image.Image:
    """A file's picture as it is meant to be seen, in mode RGB.  Raises ValueError where that is not known."""
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # a camera's MPO holds the photograph first, then aids to show it
        raise ValueError(f"it holds {frames} pictures; save each as a file of its own")
    stored = picture.tile[0][3] if picture.tile else None
    if picture.format == "PNG" and "transparency" in picture.info and picture.mode != "P" and stored != picture.mode:
        raise ValueError("it has a transparent colour, but not 8 bits; save it with an alpha channel, or opaque")
    picture.load()  # turns a TIFF upright, and takes its tag away
    rgb = _eight_bits(picture) if picture.mode[0] in "IF" else _on_background(picture)
    return rgb.transpose(UPRIGHT[turn]) if (turn := _orientation(picture)) in UPRIGHT else rgb


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Gray of more than 8 bits, in mode RGB: the upper 8 of 16 bits, which Pillow would clip at 255."""
    is_16_bit = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
    if picture.format == "TIFF":
        bits, meaning = picture.tag_v2.get(258), picture.tag_v2.get(262)
        is_16_bit = is_16_bit and bits == (16,) and meaning == 1  # 1: 0 is black
    if not is_16_bit:
        raise ValueError(f"it holds levels without a known white (Pillow's mode {picture.mode}); save it with 8 bits")
    return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")


def _on_background(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, BACKGROUND), picture).convert("RGB")


def _orientation(picture: Image.Image) -> int | None:
    """The EXIF orientation, 1 to 8; None where there is none, or none that can be read."""
    try:
        return picture.getexif().get(ORIENTATION)
    except Exception:  # Pillow raises whatever it meets; broken EXIF does not make the pixels unreadable
        return None


def resized(picture: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """Centre crop to the wanted proportions, then an antialiased resize."""
    if size is None or picture.size == size[::-1]:
        return picture
    height, width = size
    scale = min(picture.width / width, picture.height / height)
    crop = (round(width * scale), round(height * scale))
    left, top = (picture.width - crop[0]) // 2, (picture.height - crop[1]) // 2
    return picture.crop((left, top, left + crop[0], top + crop[1])).resize(
        (width, height), Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BICUBIC
    )


def as_channels(picture: Image.Image, channels: int) -> np.ndarray:
    """[c, h, w] uint8."""
    if channels == 1:
        return np.asarray(picture.convert("L"))[None]
    return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)

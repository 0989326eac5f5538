"""The 15 common corruptions of CIFAR-10-C at five severities (Hendrycks & Dietterich 2019).

The constants are those of the script behind CIFAR-10-C (make_cifar_c.py in hendrycks/robustness), not the larger
ones of ImageNet-C; the code is this project's. Three things differ from the published files:

* motion blur, also inside snow, follows ImageMagick's rule in numpy instead of calling ImageMagick;
* frost lays procedurally made ice over the image instead of photographs of frost;
* the random numbers are numpy's, from the generator that is passed.

CIFAR-10-C is 32x32. On other sizes its lengths in pixels stay what they are (blur radii, the length of motion,
the reach of glass blur), so a smaller image is hit harder; zoom factors and pixelation are relative already, and
only the elastic transform scales, with the shorter side.

A higher severity is not always farther from the clean image in pixels: the constants trade one thing for another
(more blur against fewer moved pixels in glass blur, less affine shift against more displacement in the elastic
transform, a darker image under more ice in frost), and motion blur is the same at severities 3 and 4.
"""

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from numbers import Integral
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from simreg_core.names import CORRUPTIONS
from simreg_core.pixels import check_pixels

SEVERITIES = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation
    "shot_noise": (500, 250, 100, 75, 50),  # photons of a white pixel
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),  # share of values hit
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),  # radius, blur of the disk
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),  # sigma, reach, rounds
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),  # radius, sigma
    "zoom_blur": (1.06, 1.11, 1.16, 1.21, 1.26),  # end of the zoom factors
    "snow": (  # mean, s.d., zoom and least value of a flake, radius and sigma of its fall, weight of the image
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),  # weights of the image and of the ice
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),  # amount, decay of the detail
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),  # added to HSV's value
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # factor about the mean
    "elastic_transform": (  # strength, smoothing, affine shift; in units of the image's size
        (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03),
    ),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),  # factor of the size
    "jpeg_compression": (80, 65, 58, 50, 40),  # quality
}  # fmt: skip
LEAST_SIDE = 16
VALUES_AT_ONCE = 2**22  # bounds the memory that a large set takes
SLACK = 1e-3  # of a gray level, so that 99.9999999 counts as 100 where levels are cut off
LUMINANCE = (0.299, 0.587, 0.114)  # weights of red, green and blue
ICE_SHEETS = 5
ICE_DARK, ICE_BRIGHT = (0.10, 0.16, 0.26), (0.90, 0.96, 1.00)


def corrupt(images: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """The images under one common corruption.

    images: [n, c, h, w] float in [0, 1], n >= 1, c of 1 or 3, h and w at least 16; rounded to 256 levels first.
    name: one of `CORRUPTIONS`.  severity: 1 (weak) to 5, indexes `SEVERITIES`.
    generator: a number drawn from it seeds the corruption; the global random states stay as they are.
    Returns [n, c, h, w] float32 in [0, 1] on the images' device, cut to 256 levels as CIFAR-10-C's uint8 files are.
    Gray images are treated as colour images with three equal channels would be, but for the noises and frost.
    Raises ValueError for an unknown corruption, another severity, and images of another shape, type or range.
    """
    check_corruption(name, severity)
    _check_images(images)
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device).item()
    rng = np.random.default_rng(seed)
    constants = SEVERITIES[name][severity - 1]
    corrupted = []
    for part in images.detach().split(max(1, VALUES_AT_ONCE // images[0].numel())):
        levels = (part.cpu().double() * 255).round().numpy()
        changed = _FUNCTIONS[name](levels / 255, constants, rng).clip(0, 1)
        corrupted.append(np.floor(changed * 255 + SLACK).astype(np.uint8))
    return (torch.from_numpy(np.concatenate(corrupted)).float() / 255).to(images.device)


def check_corruption(name: str, severity: int) -> None:
    """Raises ValueError for a name that is not in `CORRUPTIONS`, or a severity that is no whole number from 1 to 5."""
    if name not in SEVERITIES:
        raise ValueError(f"unknown corruption '{name}'; allowed: {', '.join(CORRUPTIONS)}")
    if not isinstance(severity, Integral) or isinstance(severity, bool) or not 1 <= severity <= 5:
        raise ValueError(f"severity must be a whole number from 1 to 5, got {severity!r}")


def _gaussian_noise(x: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return x + deviation * rng.standard_normal(x.shape)


def _shot_noise(x: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(x * photons) / photons


def _impulse_noise(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    hit, white = rng.random(x.shape) < share, rng.random(x.shape) < 0.5
    return np.where(hit, white, x)


def _defocus_blur(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    radius, blur = constants
    reach = int(radius) + 1  # the disk and the one pixel by which its blur widens it
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(float)
    disk = ndimage.gaussian_filter(disk / disk.sum(), blur, radius=1, mode="constant")
    return ndimage.correlate(x, disk[None, None], mode="mirror")


def _glass_blur(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    """Blurred, each pixel replaced by itself or a neighbour above or to the left, and blurred again.

    The script means to swap the two pixels, but swaps views of one array, which copies the neighbour. It walks
    from the last pixel to the first and so reads none that it has written: all can be replaced at once.
    """
    sigma, reach, rounds = constants
    x = _smoothed(x, sigma)
    count, _, height, width = x.shape
    rows, columns = np.arange(reach + 1, height - reach + 1), np.arange(reach + 1, width - reach + 1)
    for _ in range(rounds):
        down, right = rng.integers(-reach, reach, (2, count, len(rows), len(columns)))
        x[:, :, rows[0] :, columns[0] :] = _gathered(x, rows[:, None] + down, columns + right)
    return _smoothed(x, sigma)


def _smoothed(x: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(x, (0, 0, sigma, sigma), mode="nearest")


def _gathered(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """x[i, :, rows[i], columns[i]] of every image i; [n, c, h, w] of indices that broadcast to [n, h, w]."""
    return np.moveaxis(x[np.arange(len(x))[:, None, None], :, rows, columns], -1, 1)


def _motion_blur(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    radius, sigma = constants
    return _streaked(x, radius, sigma, rng.uniform(-45, 45, len(x)))


def _streaked(x: np.ndarray, radius: int, sigma: float, degrees: np.ndarray) -> np.ndarray:
    """Every image drawn out along an angle of its own, by ImageMagick's rule.

    The weights are half a Gaussian over 2 * radius + 1 whole pixels that start at the pixel itself; the image's
    edge continues outside it.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    height, width = x.shape[2:]
    angles = np.radians(degrees)[:, None]
    blurred = np.zeros_like(x)
    for step, weight in zip(steps, weights, strict=True):
        rows = np.arange(height) + np.ceil(step * np.sin(angles) - 0.5).astype(int)
        columns = np.arange(width) + np.ceil(step * np.cos(angles) - 0.5).astype(int)
        rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
        blurred += weight * _gathered(x, rows[:, :, None], columns[:, None, :])
    return blurred


def _zoom_blur(x: np.ndarray, end: float, rng: np.random.Generator) -> np.ndarray:
    factors = np.arange(1, end, 0.01)  # as in the script; rounding keeps 1.06 and 1.11, not the other ends
    return (x + sum(_zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def _zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """The middle of the images enlarged to their size, linearly interpolated."""
    rows, columns = (_zoom_matrix(size, factor) for size in x.shape[2:])
    return rows @ x @ columns.T


def _zoom_matrix(size: int, factor: float) -> np.ndarray:
    """[size, size]; what makes a zoomed line of a line of pixels."""
    kept = int(np.ceil(size / factor))
    first = (size - kept) // 2
    enlarged = ndimage.zoom(np.eye(kept), (factor, 1), order=1, mode="nearest")
    trimmed = (len(enlarged) - size) // 2
    matrix = np.zeros((size, size))
    matrix[:, first : first + kept] = enlarged[trimmed : trimmed + size]
    return matrix


def _snow(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    """Flakes that fall within 45 degrees of the vertical, over an image that the snow light has whitened."""
    mean, deviation, zoom, least, radius, sigma, weight = constants
    flakes = _zoomed(rng.normal(mean, deviation, (len(x), 1, *x.shape[2:])), zoom)
    flakes = np.where(flakes < least, 0, flakes.clip(0, 1))
    flakes = _streaked(flakes, radius, sigma, rng.uniform(-135, -45, len(x)))
    whitened = weight * x + (1 - weight) * np.maximum(x, 1.5 * _gray(x) + 0.5)
    return whitened + flakes + flakes[:, :, ::-1, ::-1]


def _gray(x: np.ndarray) -> np.ndarray:
    """Luminance, [n, 1, h, w]."""
    return x if x.shape[1] == 1 else np.tensordot(LUMINANCE, x, (0, 1))[:, None]


def _frost(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    """Random cuts of sheets of ice (made, not photographed) laid over the images."""
    of_image, of_ice = constants
    count, channels, height, width = x.shape
    sheets = _ice(max(256, 2 * max(height, width)))
    which = rng.integers(0, len(sheets), count)
    rows = rng.integers(0, sheets.shape[2] - height, (count, 1)) + np.arange(height)
    columns = rng.integers(0, sheets.shape[3] - width, (count, 1)) + np.arange(width)
    ice = np.moveaxis(sheets[which[:, None, None], :, rows[:, :, None], columns[:, None, :]], -1, 1)
    return of_image * x + of_ice * (_gray(ice) if channels == 1 else ice)


@lru_cache(maxsize=4)
def _ice(side: int) -> np.ndarray:
    """Sheets of bluish ice, [ICE_SHEETS, 3, side, side] in [0, 1]: crystal needles over cloudy patches."""
    sheets = []
    for seed in range(ICE_SHEETS):  # fixed: like the photographs, the sheets are part of the corruption
        rng = np.random.default_rng(seed)
        clouds = sum(scale * _grain(side, scale, scale, 0, rng) for scale in (1, 2, 4, 8)) / 9
        directions = rng.uniform(0, np.pi) + np.arange(3) * np.pi / 3  # ice has six-fold symmetry
        needles = [np.exp(-((2 * _grain(side, 12, 1.5, angle, rng)) ** 2)) for angle in directions]
        ice = (0.4 + 0.15 * clouds + 0.5 * (np.max(needles, axis=0) - 0.6)).clip(0, 1)
        dark, bright = (np.array(colour)[:, None, None] for colour in (ICE_DARK, ICE_BRIGHT))
        sheets.append(dark + (bright - dark) * ice)
    return np.stack(sheets)


def _grain(side: int, length: float, width: float, angle: float, rng: np.random.Generator) -> np.ndarray:
    """Periodic Gaussian noise of s.d. 1, smoothed over `length` pixels along the angle and `width` across it."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)
    along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    smoothing = np.exp(-2 * np.pi**2 * ((length * along) ** 2 + (width * across) ** 2))
    smoothing[0, 0] = 0  # no mean
    grain = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * smoothing).real
    return grain / grain.std()


def _fog(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    amount, decay = constants
    height, width = x.shape[2:]
    plasma = _plasma(len(x), 2 ** int(np.ceil(np.log2(max(height, width)))), decay, rng)[:, None, :height, :width]
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return (x + amount * plasma) * brightest / (brightest + amount)


def _plasma(count: int, side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """Diamond-square plasma fractals, periodic, [count, side, side] from 0 to 1; `side` is a power of two.

    Each halving of the grid divides the random part by decay squared, as in the script.
    """
    field, step, height = np.zeros((count, side, side)), side, 1.0
    while step > 1:
        half = step // 2
        corners = field[:, ::step, ::step]
        lower, right = np.roll(corners, -1, 1), np.roll(corners, -1, 2)
        wobble = height * rng.uniform(-1, 1, (3, *corners.shape))
        middles = (corners + lower + right + np.roll(lower, -1, 2)) / 4 + wobble[0]
        field[:, half::step, half::step] = middles
        field[:, ::step, half::step] = (corners + right + middles + np.roll(middles, 1, 1)) / 4 + wobble[1]
        field[:, half::step, ::step] = (corners + lower + middles + np.roll(middles, 1, 2)) / 4 + wobble[2]
        step, height = half, height / decay**2
    field -= field.min(axis=(1, 2), keepdims=True)
    return field / field.max(axis=(1, 2), keepdims=True)


def _brightness(x: np.ndarray, added: float, rng: np.random.Generator) -> np.ndarray:
    value = x.max(axis=1, keepdims=True)  # HSV's; hue and saturation kept, the channels scale with it
    brighter = (value + added).clip(0, 1)
    return np.where(value > 0, x * brighter / np.where(value > 0, value, 1), brighter)


def _contrast(x: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    mean = x.mean(axis=(2, 3), keepdims=True)
    return mean + factor * (x - mean)


def _elastic_transform(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    """A random affine map, then smooth random displacements."""
    height, width = x.shape[2:]
    strength, smoothing, shift = (min(height, width) * constant for constant in constants)
    rows, columns = np.mgrid[:height, :width].astype(float)
    middle, arm = np.array([height // 2, width // 2]), min(height, width) // 3
    anchors = middle + arm * np.array([[1, 1], [-1, 1], [-1, -1]])
    moved = anchors + rng.uniform(-shift, shift, (len(x), 3, 2))
    back = np.linalg.solve(_with_ones(moved), anchors)  # [n, 3, 2], from the moved anchors to the first ones
    sources = np.moveaxis(_with_ones(np.stack([rows, columns], -1).reshape(-1, 2)) @ back, -1, 0)
    down, right = sources.reshape(2, len(x), height, width)
    x = _interpolated(x, down, right, mode="mirror")
    offsets = rng.uniform(-1, 1, (2, len(x), height, width))
    offsets = strength * ndimage.gaussian_filter(offsets, (0, 0, smoothing, smoothing), mode="reflect", truncate=3)
    return _interpolated(x, rows + offsets[0], columns + offsets[1], mode="reflect")


def _with_ones(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1)


def _interpolated(x: np.ndarray, rows: np.ndarray, columns: np.ndarray, mode: str) -> np.ndarray:
    """The images at fractional places, rows and columns [n, h, w]."""
    places = np.stack(np.broadcast_arrays(np.arange(len(x))[:, None, None], rows, columns))
    channels = [ndimage.map_coordinates(x[:, c], places, order=1, mode=mode) for c in range(x.shape[1])]
    return np.stack(channels, axis=1)


def _pixelate(x: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    height, width = x.shape[2:]
    small = (int(width * factor), int(height * factor))
    box = Image.Resampling.BOX
    return _through_pillow(x, lambda picture: picture.resize(small, box).resize((width, height), box))


def _jpeg_compression(x: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    def compressed(picture: Image.Image) -> Image.Image:
        file = BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _through_pillow(x, compressed)


def _through_pillow(x: np.ndarray, change) -> np.ndarray:
    pictures = np.moveaxis((x * 255).round().astype(np.uint8), 1, -1)
    if pictures.shape[-1] == 1:
        pictures = pictures[..., 0]
    changed = np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures])
    return np.moveaxis(changed.reshape(len(x), *x.shape[2:], -1), -1, 1) / 255


_FUNCTIONS: dict[str, Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "glass_blur": _glass_blur,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "frost": _frost,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "elastic_transform": _elastic_transform,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}


def _check_images(images: Tensor) -> None:
    check_pixels(images)
    if images.shape[1] not in (1, 3):
        raise ValueError(f"images must have 1 (gray) or 3 (colour) channels, got {images.shape[1]}")
    if min(images.shape[2:]) < LEAST_SIDE:
        raise ValueError(f"images must be at least {LEAST_SIDE} pixels a side, got {images.shape[2]}x{images.shape[3]}")

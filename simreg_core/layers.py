"""What is measured of a network layer by layer: how a perturbation travels through it, and what its weights are like.

PSR_l = ||f_l(x) - f_l(x + e)||_p / ||f_l(x)||_p, the perturbation-to-signal ratio of layer l (Bakiskan 2022, 3.2).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.features import FeatureTaps
from simreg_core.model import in_eval_mode

NORMS = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
LARGEST_MATRIX = 4096  # rows and columns of a convolution written as a matrix


def convolutions(network: nn.Module) -> tuple[str, ...]:
    """Names, as in `named_modules()`, of a network's two-dimensional convolutions, in the order of their definition."""
    return tuple(name for name, module in network.named_modules() if isinstance(module, nn.Conv2d))


@torch.no_grad()
def perturbation_norms(
    model: nn.Module, layers: Sequence[str], clean: Tensor, perturbed: Tensor, *, batch_size: int = 256
) -> dict[str, tuple[Tensor, Tensor]]:
    """Norms of what a perturbation does to each layer's output, and of that output.

    model: runs in eval mode.  layers: names as in `named_modules()`, see `FeatureTaps`.
    clean, perturbed: [n, c, h, w], the same images in the same order.  batch_size: images in a pass.
    Returns by the names of NORMS (difference, signal), each [layers, n], in double precision: of a layer's output as a
    vector, ||f(x) - f(x + e)||_p and ||f(x)||_p.
    Raises ValueError for shapes that differ, no images, or as `FeatureTaps`.
    """
    if clean.shape != perturbed.shape or clean.ndim != 4 or not len(clean):
        shapes = f"{list(clean.shape)} and {list(perturbed.shape)}"
        raise ValueError(f"clean and perturbed must both be [n, c, h, w] with n >= 1, got {shapes}")
    taps = FeatureTaps(model, layers)
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {norm: [] for norm in NORMS}
    with in_eval_mode(model):
        for one, other in zip(clean.split(batch_size), perturbed.split(batch_size), strict=True):
            before = [layer.flatten(1).double() for layer in taps(one)]
            after = [layer.flatten(1).double() for layer in taps(other)]
            for norm, p in NORMS.items():
                difference = [(b - a).norm(p, dim=1) for b, a in zip(before, after, strict=True)]
                parts[norm].append((torch.stack(difference), torch.stack([b.norm(p, dim=1) for b in before])))
    return {
        norm: (torch.cat([one for one, _ in found], dim=1), torch.cat([other for _, other in found], dim=1))
        for norm, found in parts.items()
    }


def decibels(ratio: Tensor) -> Tensor:
    """20 log10 of a ratio of amplitudes; -inf of 0."""
    return 20 * torch.log10(ratio)


def mean_of_ratios_db(difference: Tensor, signal: Tensor) -> Tensor:
    """PSR in dB as the released code computes it: 20 log10 of the mean over images of difference / signal.

    difference, signal: [..., n], see `perturbation_norms`; signal must be positive.  Returns [...].
    Raises ValueError for a signal that is zero.
    """
    _check_signal(signal)
    return decibels((difference / signal).mean(dim=-1))


def ratio_of_means_db(difference: Tensor, signal: Tensor) -> Tensor:
    """PSR in dB as the title of the published plot says: 20 log10 of mean difference / mean signal.

    Arguments and errors as `mean_of_ratios_db`.
    """
    _check_signal(signal)
    return decibels(difference.mean(dim=-1) / signal.mean(dim=-1))


def _check_signal(signal: Tensor) -> None:
    if not (signal > 0).all():
        raise ValueError(f"{int((signal <= 0).sum())} signals are zero: a layer without output has no ratio")


@torch.no_grad()
def inputs_of(model: nn.Module, layers: Sequence[nn.Module], images: Tensor, *, batch_size: int = 256) -> list[Tensor]:
    """What each layer is given, of all images, [n, ...] each.  model: runs in eval mode.  layers: modules that run.

    Raises ValueError for a layer that does not run.
    """
    found: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}
    hooks = [layer.register_forward_pre_hook(lambda own, inputs: found[own].append(inputs[0])) for layer in found]
    try:
        with in_eval_mode(model):
            for batch in images.split(batch_size):
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, parts in found.items():
        if not parts:
            raise ValueError(f"a {type(layer).__name__} did not run in this pass")
    return [torch.cat(found[layer]) for layer in layers]


def snr_db(signal: Tensor, noisy: Tensor) -> float:
    """SNR = 10 log10 of the mean over images of ||f(x)||² / ||f(x + w) - f(x)||² (Bakiskan 2022, section 5.3), in dB.

    signal, noisy: [n, ...], f(x) and f(x + w); of the inputs of layer n in the source.
    inf where noise leaves an image's f as it is.  Raises ValueError for shapes that differ.
    """
    if signal.shape != noisy.shape:
        raise ValueError(f"signal and noisy must have the same shape, got {list(signal.shape)}, {list(noisy.shape)}")
    power, change = (one.flatten(1).double().square().sum(dim=1) for one in (signal, noisy - signal))
    return float(10 * torch.log10((power / change).mean()))


def activation_sparsity(maps: Tensor) -> float:
    """h over the channels at each place, see `filter_sparsity`, averaged over images and places (source's Fig. 5.4).

    maps: [b, c, h, w], c >= 2. Places where every channel is 0 are left out; NaN where there is no other.
    """
    channels = maps.movedim(1, -1).flatten(0, -2).double()
    some = channels[(channels != 0).any(dim=1)]
    return float((((some.norm(1, dim=1) / some.norm(2, dim=1)).square() - 1) / (maps.shape[1] - 1)).mean())


def filter_sparsity(weight: Tensor) -> Tensor:
    """h(w) = ((||w||_1 / ||w||_2)^2 - 1) / (d - 1) of each filter: 0 for a single nonzero weight, 1 where all have one
    magnitude (Bakiskan 2022, section 3.2).

    weight: [out, ...], a filter of d >= 2 weights for each output.  Returns [out] in [0, 1]; NaN of a filter of zeros.
    Raises ValueError for filters of one weight.
    """
    filters = weight.detach().flatten(1).double()
    d = filters.shape[1]
    if d < 2:
        raise ValueError(f"a filter needs at least 2 weights to be sparse or not, got {d}")
    return ((filters.norm(1, dim=1) / filters.norm(2, dim=1)).square() - 1) / (d - 1)


def circular_singular_values(weight: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Singular values of a convolution with circular padding, exactly, the largest first.

    Such a convolution is block diagonal in the Fourier basis: with stride 1 they are those of the [out, in] matrices
    FFT2(w) of all h * w frequencies (Sedghi et al. 2019); with stride s the s^2 frequencies that fall on one another
    share a block [out, in * s^2], divided by s.
    weight: [out, in, kh, kw].  size: (h, w) of the input, multiples of the stride.
    Returns [min(out, in * s^2) * h * w / s^2], double.  sum of squares = h * w / s^2 * ||weight||_F^2 where the kernel
    fits into the image.  Raises ValueError for another shape or size.
    """
    if weight.ndim != 4:
        raise ValueError(f"weight must have shape [out, in, kh, kw], got {list(weight.shape)}")
    h, w = size
    if stride < 1 or h < 1 or w < 1 or h % stride or w % stride:
        raise ValueError(f"size must be positive multiples of the stride {stride}, got {h}x{w}")
    rows, columns = h // stride, w // stride
    spectrum = torch.fft.fft2(_wrapped(weight.detach().double(), size))  # [out, in, h, w]
    outputs, inputs = weight.shape[:2]
    aliases = spectrum.reshape(outputs, inputs, stride, rows, stride, columns)
    blocks = aliases.permute(3, 5, 0, 1, 2, 4).reshape(rows * columns, outputs, inputs * stride**2)
    return torch.linalg.svdvals(blocks / stride).flatten().sort(descending=True).values


def _wrapped(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """A kernel on a plane of this size; taps beyond its edge come in again at the other side."""
    plane = weight.new_zeros(*weight.shape[:2], *size)
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            plane[:, :, row % size[0], column % size[1]] += weight[:, :, row, column]
    return plane


def zero_padded_singular_values(
    weight: Tensor, size: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)
) -> Tensor:
    """Singular values of a convolution with zero padding, the largest first: of its whole matrix, for small sizes.

    weight: [out, in, kh, kw].  size: (h, w) of the input.  padding: rows above and below, columns left and right.
    Returns [min(rows, columns)] of the matrix, double.
    Raises ValueError for another shape, or a matrix of more than LARGEST_MATRIX rows or columns.
    """
    return torch.linalg.svdvals(convolution_matrix(weight, size, stride, padding))


def convolution_matrix(
    weight: Tensor, size: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)
) -> Tensor:
    """The matrix of a zero-padded convolution, [out * h' * w', in * h * w], double.

    Arguments and errors as `zero_padded_singular_values`.
    """
    if weight.ndim != 4:
        raise ValueError(f"weight must have shape [out, in, kh, kw], got {list(weight.shape)}")
    columns = weight.shape[1] * size[0] * size[1]
    rows = weight.shape[0] * math.prod(_outputs(weight, size, stride, padding))
    if max(rows, columns) > LARGEST_MATRIX:
        raise ValueError(f"a matrix of {rows}x{columns} is too large; at most {LARGEST_MATRIX} rows and columns")
    each = torch.eye(columns, dtype=torch.float64, device=weight.device).reshape(columns, weight.shape[1], *size)
    return F.conv2d(each, weight.detach().double(), stride=stride, padding=padding).flatten(1).T


def _outputs(weight: Tensor, size: tuple[int, int], stride: int, padding: tuple[int, int]) -> list[int]:
    return [
        (side + 2 * pad - kernel) // stride + 1
        for side, pad, kernel in zip(size, padding, weight.shape[2:], strict=True)
    ]

"""Where in frequency a network looks: its first filters, and the gradient of its loss with respect to the pixels."""

import torch
from torch import Tensor, nn

from simreg_core import spectra
from simreg_core.attacks.door import input_gradient
from simreg_core.lab.measuring.subject import BATCH, Attacked, Measured
from simreg_core.lab.records import Value
from simreg_core.lab.specs import FrequencyBiasEvaluation


def frequency_bias(subject: Attacked) -> Measured:
    """Share of power above 0.25 cycles/pixel, of the first convolution's filters and of the input gradients.

    Each filter, and each image's gradient, is scaled to unit norm first, so that all count alike; filters and gradients
    that are all zero count as failed. Of the gradients also the half-power frequency, in units of the spectrum's
    corner. Arrays: both mean spectra, 'filter_power' and 'gradient_power', [h, w].
    Raises ValueError for a network without a convolution that has more than one tap.
    """
    weight = first_filters(subject.network)
    power = spectra.filter_power(weight.cpu(), subject.images.images.shape[-2:])
    values = [_share("filter", power, len(weight), int((weight.flatten(1).norm(dim=1) == 0).sum()))]
    arrays = {"filter_power": power.tolist()}
    gradients = torch.cat([_scaled(subject, part) for part in _batches(subject)])
    if len(gradients):
        power = spectra.mean_power_spectrum(gradients)
        count = len(subject.labels)
        values.append(_share("gradient", power, count, count - len(gradients)))
        half = spectra.half_power_frequency(*spectra.cumulative_radial_profile(power))
        values.append(
            Value(metric="gradient_half_power_frequency", value=half, attempted=count, failed=count - len(gradients))
        )
        arrays["gradient_power"] = power.tolist()
    return Measured(values, arrays)


def first_filters(network: nn.Module) -> Tensor:
    """Weights of the first convolution with more than one tap, [out, in, kh, kw].

    Raises ValueError where there is none.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
            return module.weight.detach()
    raise ValueError("'frequency_bias' needs a network with a convolution of more than one tap")


def _batches(subject: Attacked) -> list[slice]:
    size = BATCH[subject.device.type]
    return [slice(start, start + size) for start in range(0, len(subject.labels), size)]


def _scaled(subject: Attacked, part: slice) -> Tensor:
    """Input gradients of some images, each of unit norm, on the CPU; those that are zero or not finite left out."""
    _, _, gradient = input_gradient(subject.network, subject.pixels[part], subject.labels[part])
    gradient = gradient.cpu().double()
    norms = gradient.flatten(1).norm(dim=1)
    usable = (norms > 0) & norms.isfinite()
    return gradient[usable] / norms[usable].reshape(-1, 1, 1, 1)


def _share(of: str, power: Tensor, attempted: int, failed: int) -> Value:
    share = spectra.high_frequency_share(power)
    return Value(metric=f"{of}_high_frequency_share", value=share, attempted=attempted, failed=failed)


def frequency_bias_passes(evaluation: FrequencyBiasEvaluation, images: int) -> float:
    """One forwards and one backwards, which costs about two."""
    return 3 * images


def frequency_bias_words(evaluation: FrequencyBiasEvaluation) -> str:
    """'frequency bias'."""
    return "frequency bias"

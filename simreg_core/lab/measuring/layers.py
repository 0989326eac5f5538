"""A network layer by layer: perturbations on their way through it, batch norm, filters, singular values."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from simreg_core import attacks, layers as measure
from simreg_core.defences.partial import in_order
from simreg_core.lab.measuring.subject import Attacked, Look, Measured
from simreg_core.lab.records import Value
from simreg_core.lab.specs import Experiment, LayersEvaluation, stream
from simreg_core.lab.training import build_network

OWN, COMMON, NOISE = "own attack", "common perturbation", "noise"  # conditions: what is added to the images
RANKS = 33  # singular values that are kept of each convolution, equally far apart in rank
DENSE = 1024  # rows and columns of the largest convolution whose zero-padded singular values are computed
DIGITS = 4  # of arrays


def layers(subject: Attacked) -> Measured:
    """PSR in dB (L2, mean of ratios) of each convolution under each perturbation, and mean sparsity h of its filters.

    Layers are counted in the order in which they run. Arrays: 'modules', the names of all modules with parameters in
    that order, and 'convolutions', of the layers; 'psr', by perturbation, norm and way ('mean_of_ratios',
    'ratio_of_means'), [layers] in dB; 'batch_norm', by name, running mean and variance, weight and bias; 'sparsity',
    by name, h of each filter; 'singular_values', by name, of 'circular' and 'zero' padding: RANKS of them, divided by
    the largest, from the largest to the smallest; None where a layer's shape or size allows none.
    """
    network = _as_trained(subject)
    modules = dict(network.named_modules())
    order = [*in_order(network, subject.pixels[:1])]
    names = [name for name in order if isinstance(modules[name], nn.Conv2d)]
    if not names:
        raise ValueError("'layers' needs a network with convolutions")
    psr = {condition: _psr(network, names, subject, shown) for condition, shown in _perturbed(subject).items()}
    sparsity = {name: _sparsity(modules[name]) for name in names}
    count, epsilon = len(subject.labels), subject.evaluation.epsilon
    values = [
        Value(metric="psr_db", value=value, attempted=count, epsilon=epsilon, condition=condition, layer=layer)
        for condition, own in psr.items()
        for layer, value in enumerate(own["l2"]["mean_of_ratios"])
    ]
    values += [
        Value(metric="filter_sparsity", value=float(np.mean(own)), attempted=len(own), layer=layer)
        for layer, own in enumerate(sparsity.values())
        if own
    ]
    arrays = {
        "modules": order,
        "convolutions": names,
        "psr": psr,
        "batch_norm": {name: _batch_norm(modules[name]) for name in order if hasattr(modules[name], "running_mean")},
        "sparsity": sparsity,
        "singular_values": _singular_values(network, names, subject.pixels[:1]),
    }
    return Measured(values, arrays)


def _as_trained(subject: Attacked) -> nn.Module:
    """The network with its batch norms, which are folded into the convolutions where it is only attacked."""
    network = build_network(subject.experiment, len(subject.images.classes))
    return subject.store.load_weights(subject.experiment, network).eval().to(subject.device)


def _perturbed(subject: Attacked) -> dict[str, Tensor]:
    """The images with each perturbation, all of the same L-infinity size."""
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    seed, epsilon = stream(evaluation.seed, "layers"), evaluation.epsilon
    sizes = {"steps": evaluation.steps, "early_leave": False, "seed": seed}
    signs = torch.randint(0, 2, pixels.shape, generator=torch.Generator().manual_seed(seed)).to(pixels) * 2 - 1
    return {
        OWN: attacks.pgd(subject.network, pixels, labels, epsilon, **sizes).adversarial,
        COMMON: attacks.pgd(subject.trained(evaluation.surrogate), pixels, labels, epsilon, **sizes).adversarial,
        NOISE: (pixels + epsilon * signs).clamp(0, 1),
    }


def _psr(network: nn.Module, names: list[str], subject: Attacked, shown: Tensor) -> dict[str, dict[str, list[float]]]:
    norms = measure.perturbation_norms(network, names, subject.pixels, shown)
    return {
        norm: {
            "mean_of_ratios": _rounded(measure.mean_of_ratios_db(*own)),
            "ratio_of_means": _rounded(measure.ratio_of_means_db(*own)),
        }
        for norm, own in norms.items()
    }


def _sparsity(conv: nn.Module) -> list[float] | None:
    """None of filters of one weight."""
    return _rounded(measure.filter_sparsity(conv.weight)) if conv.weight[0].numel() > 1 else None


def _batch_norm(norm: nn.Module) -> dict[str, list[float]]:
    own = {"mean": norm.running_mean, "variance": norm.running_var, "weight": norm.weight, "bias": norm.bias}
    return {name: _rounded(value) for name, value in own.items()}


def _singular_values(network: nn.Module, names: list[str], image: Tensor) -> dict[str, dict[str, list[float] | None]]:
    sizes: dict[str, tuple[int, int]] = {}
    modules = dict(network.named_modules())
    hooks = [
        modules[name].register_forward_pre_hook(
            lambda module, inputs, name=name: sizes.update({name: tuple(inputs[0].shape[2:])})
        )
        for name in names
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _of_convolution(modules[name], sizes[name]) for name in names}


def _of_convolution(conv: Any, size: tuple[int, int]) -> dict[str, list[float] | None]:
    """Singular values with both paddings; None of grouped or dilated filters, uneven strides, or too large a matrix."""
    weight, stride, found = conv.weight, conv.stride[0], dict.fromkeys(("circular", "zero"))
    if conv.groups != 1 or conv.dilation != (1, 1) or conv.stride[1] != stride or isinstance(conv.padding, str):
        return found
    if size[0] % stride == 0 and size[1] % stride == 0:
        found["circular"] = _kept(measure.circular_singular_values(weight, size, stride))
    if max(weight.shape[0], weight.shape[1]) * size[0] * size[1] <= DENSE:
        found["zero"] = _kept(measure.zero_padded_singular_values(weight, size, stride, conv.padding))
    return found


def _kept(values: Tensor) -> list[float]:
    ranks = torch.linspace(0, len(values) - 1, RANKS, device=values.device).round().long()
    return _rounded((values / values[0])[ranks])


def _rounded(values: Tensor) -> list[float]:
    return np.round(values.detach().double().cpu().numpy(), DIGITS).tolist()


def layers_lacks(experiment: Experiment, evaluation: LayersEvaluation, look: Look) -> Iterator[str]:
    """Convolutions."""
    if experiment.network.name in ("vit", "mlp"):
        yield f"'layers' needs a network of convolutions, not '{experiment.network.name}'"


def layers_passes(evaluation: LayersEvaluation, images: int) -> float:
    """Gradients of PGD on two networks, and four looks at every layer."""
    return images * (2 * 3 * evaluation.steps + 6)


def layers_words(evaluation: LayersEvaluation) -> str:
    """'layer by layer, epsilon 0.02'."""
    return f"layer by layer, epsilon {evaluation.epsilon:g}"

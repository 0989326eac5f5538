"""Ratios, sparsity and singular values against their definitions."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simreg_core import layers, resnet18

DOUBLE = torch.float64


def ratios(model, name, clean, perturbed):
    """PSR by norm, [n], of one layer."""
    norms = layers.perturbation_norms(model, [name], clean, perturbed)
    return {norm: (difference / signal)[0] for norm, (difference, signal) in norms.items()}


def test_a_linear_map_keeps_the_ratio_of_a_scaled_image(generator):
    """e = c x gives |c| through every linear map without bias; no perturbation gives 0, whatever the norm."""
    model = nn.Sequential(nn.Conv2d(1, 5, 3, bias=False), nn.Conv2d(5, 3, 3, bias=False))
    x = torch.rand(7, 1, 9, 9, generator=generator)
    for name in ("0", "1"):
        for found in ratios(model, name, x, x - 0.25 * x).values():
            torch.testing.assert_close(found, torch.full((7,), 0.25, dtype=DOUBLE), rtol=1e-4, atol=0)
        assert all((found == 0).all() for found in ratios(model, name, x, x).values())


def test_ratios_are_those_of_the_definition_and_batches_do_not_matter(generator):
    model = resnet18(width=2)
    x = torch.rand(5, 1, 16, 16, generator=generator)
    other = (x + 0.1 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    names = ["stem.0", "stage2.0.conv1"]
    whole = layers.perturbation_norms(model, names, x, other)
    parts = layers.perturbation_norms(model, names, x, other, batch_size=2)
    assert model.training  # in eval mode while it ran only
    model.eval()
    before, after = (model.stem[0](5 * (image - 0.5)).flatten(1) for image in (x, other))
    for norm, p in (("l1", 1), ("l2", 2), ("linf", math.inf)):
        difference, signal = whole[norm]
        assert difference.shape == signal.shape == (2, 5)
        expected = (before - after).norm(p, dim=1).double(), before.norm(p, dim=1).double()
        torch.testing.assert_close((difference[0], signal[0]), expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(parts[norm], whole[norm], rtol=1e-4, atol=1e-6)


def test_ratios_do_not_depend_on_the_scale_of_a_layer_and_an_orthogonal_map_keeps_them(generator):
    x, other = torch.rand(2, 6, 1, 4, 4, generator=generator)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q
    for scale in (1.0, -30.0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16, bias=False))
        with torch.no_grad():
            model[1].weight.copy_(scale * rotation)
        expected = (x - other).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
        torch.testing.assert_close(ratios(model, "1", x, other)["l2"], expected.double(), rtol=1e-4, atol=0)


def test_decibels_both_ways():
    difference, signal = torch.tensor([[1.0, 4.0], [3.0, 3.0]]), torch.tensor([[1.0, 40.0], [0.3, 0.3]])
    both = layers.mean_of_ratios_db(difference, signal), layers.ratio_of_means_db(difference, signal)
    mean_of_ratios, ratio_of_means = (20 * math.log10(0.55), 20.0), (20 * math.log10(5 / 41), 20.0)
    torch.testing.assert_close(both, (torch.tensor(mean_of_ratios), torch.tensor(ratio_of_means)))
    assert layers.decibels(torch.zeros(1)) == -math.inf
    with pytest.raises(ValueError, match="1 signals are zero"):
        layers.mean_of_ratios_db(torch.ones(2), torch.tensor([0.0, 1.0]))


def test_images_that_are_not_alike_are_refused(generator):
    model = nn.Conv2d(1, 2, 3)
    with pytest.raises(ValueError, match=r"\[2, 1, 8, 8\] and \[3, 1, 8, 8\]"):
        layers.perturbation_norms(nn.Sequential(model), ["0"], torch.rand(2, 1, 8, 8), torch.rand(3, 1, 8, 8))


def test_sparsity_of_known_filters(generator):
    one_hot, constant = torch.zeros(1, 25), torch.full((1, 25), -0.3)
    one_hot[0, 7] = -2.0
    constant[0, ::2] = 0.3
    assert layers.filter_sparsity(one_hot).item() == pytest.approx(0, abs=1e-12)
    assert layers.filter_sparsity(constant).item() == pytest.approx(1, abs=1e-6)
    large = torch.randn(1, 400_000, generator=generator)
    assert layers.filter_sparsity(large).item() == pytest.approx(2 / math.pi, abs=0.003)
    assert layers.filter_sparsity(2 * torch.rand(1, 400_000, generator=generator) - 1).item() == pytest.approx(
        3 / 4, abs=0.003
    )
    weight = torch.randn(6, 3, 3, 3, generator=generator)
    moved = -7 * weight.flatten(1)[:, torch.randperm(27, generator=generator)]
    torch.testing.assert_close(layers.filter_sparsity(weight), layers.filter_sparsity(moved))
    assert layers.filter_sparsity(torch.zeros(1, 4)).isnan().all()
    with pytest.raises(ValueError, match="at least 2 weights"):
        layers.filter_sparsity(torch.ones(3, 1, 1, 1))


def circular_matrix(weight, size, stride):
    """The matrix of a circular convolution, from torch's own padding."""
    inputs = weight.shape[1] * size[0] * size[1]
    each = torch.eye(inputs, dtype=DOUBLE).reshape(inputs, weight.shape[1], *size)
    pad = (0, weight.shape[3] - 1, 0, weight.shape[2] - 1)
    return F.conv2d(F.pad(each, pad, mode="circular"), weight.double(), stride=stride).flatten(1).T


@pytest.mark.parametrize(("stride", "size", "kernel"), [(1, (6, 6), 3), (2, (6, 8), 3), (3, (6, 9), 5), (1, (2, 3), 3)])
def test_singular_values_with_circular_padding_are_exact(stride, size, kernel, generator):
    weight = torch.randn(4, 3, kernel, kernel, generator=generator)
    found = layers.circular_singular_values(weight, size, stride)
    expected = torch.linalg.svdvals(circular_matrix(weight, size, stride))
    torch.testing.assert_close(found, expected[: len(found)])
    assert (found[1:] <= found[:-1]).all()
    assert expected[len(found) :].numel() == 0 or expected[len(found) :].max() < 1e-9
    if kernel <= min(size):
        places = size[0] * size[1] / stride**2
        assert found.square().sum().item() == pytest.approx(places * weight.double().square().sum().item())


def test_singular_values_with_zero_padding_are_those_of_the_matrix(generator):
    weight, x = torch.randn(4, 3, 3, 3, generator=generator), torch.randn(2, 3, 6, 6, generator=generator).double()
    matrix = layers.convolution_matrix(weight, (6, 6), 2, (1, 1))
    expected = F.conv2d(x, weight.double(), stride=2, padding=1).flatten(1)
    torch.testing.assert_close(x.flatten(1) @ matrix.T, expected)
    zero = layers.zero_padded_singular_values(weight, (6, 6), 1, (1, 1))
    circular = layers.circular_singular_values(weight, (6, 6))
    assert len(zero) == len(circular) == 3 * 36
    assert zero[0] < circular[0]  # what goes over the edge is lost
    assert (zero - circular).abs().max() > 0.01


def test_what_singular_values_cannot_be_of():
    weight = torch.ones(2, 1, 3, 3)
    with pytest.raises(ValueError, match="multiples of the stride 2, got 6x7"):
        layers.circular_singular_values(weight, (6, 7), 2)
    with pytest.raises(ValueError, match=r"\[out, in, kh, kw\], got \[2, 9\]"):
        layers.circular_singular_values(weight.reshape(2, 9), (6, 6))
    with pytest.raises(ValueError, match="a matrix of 8192x4096 is too large"):
        layers.zero_padded_singular_values(weight, (64, 64), 1, (1, 1))


def test_convolutions_of_a_network():
    names = layers.convolutions(resnet18(width=2))
    assert names[0] == "stem.0"
    assert "stage2.0.shortcut.0" in names
    assert len(names) == 1 + 2 * 8 + 3


def test_snr_of_a_linear_map(generator):
    """w = c x through a linear map gives -20 log10 |c|."""
    x = torch.rand(5, 3, 4, generator=generator)
    matrix = torch.randn(4, 6, generator=generator)
    for c in (0.1, -2.0):
        assert layers.snr_db(x @ matrix, (1 + c) * x @ matrix) == pytest.approx(-20 * math.log10(abs(c)), abs=1e-4)
    assert layers.snr_db(x, x) == math.inf
    with pytest.raises(ValueError, match=r"same shape, got \[5, 3, 4\], \[5, 3\]"):
        layers.snr_db(x, x[..., 0])


def test_sparsity_of_activations_is_over_channels_at_each_place():
    maps = torch.zeros(2, 5, 3, 3)
    assert math.isnan(layers.activation_sparsity(maps))
    maps[0, 2] = 7  # one channel
    assert layers.activation_sparsity(maps) == 0
    maps[1] = 0.3  # all alike
    assert layers.activation_sparsity(maps) == pytest.approx(0.5)
    assert layers.activation_sparsity(-10 * maps) == pytest.approx(0.5)


def test_inputs_of_layers(generator):
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.Linear(2, 2))
    images, mean = torch.rand(5, 1, 6, 6, generator=generator), network[1].running_mean.clone()
    found = layers.inputs_of(network[:4], [network[0], network[3]], images, batch_size=2)
    assert torch.equal(found[0], images)
    torch.testing.assert_close(found[1], network[:3].eval()(images))
    assert torch.equal(network[1].running_mean, mean)
    with pytest.raises(ValueError, match="a Linear did not run"):
        layers.inputs_of(network[:4], [network[4]], images)

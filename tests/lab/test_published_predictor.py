"""The published predictor's file: what is computed with it, and what is refused."""

import pytest
import torch
from torch.nn import functional as F

from simreg_core.lab import published_predictor


@pytest.fixture
def published(generator):
    """Random tensors with the names and shapes of the published file, fewer neurons."""
    bias = {"readout.mouse.bias": torch.zeros(7)}
    shapes = published_predictor._published_shapes(bias, "readout.mouse.")
    tensors = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: one.abs() if "running_var" in name else one for name, one in tensors.items()}


def test_the_published_tensors_give_the_published_computation(published):
    """Against the computation written out with functions alone."""
    images = torch.rand(3, 1, 36, 64, generator=torch.Generator().manual_seed(0))
    x = (images * 255 - 113.5) / 59.6
    for layer in range(4):
        at = f"core.features.layer{layer}."
        if layer == 0:
            x = F.conv2d(x, published[f"{at}conv.weight"])
        else:
            x = F.conv2d(x, published[f"{at}ds_conv.in_depth_conv.weight"])
            x = F.conv2d(x, published[f"{at}ds_conv.spatial_conv.weight"], padding=3, groups=64)
            x = F.conv2d(x, published[f"{at}ds_conv.out_depth_conv.weight"])
        norm = [published[f"{at}norm.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        x = F.elu(F.batch_norm(x, *norm))
    r = "readout.mouse."
    first, second = ([published[f"{r}mu_transform.{i}.{part}"] for part in ("weight", "bias")] for i in (0, 2))
    hidden = F.elu(published[f"{r}source_grid"] @ first[0].T + first[1])
    mu = torch.tanh(hidden @ second[0].T + second[1])
    expected = []
    for neuron in range(7):
        at = F.grid_sample(x, mu[neuron].expand(3, 1, 1, 2), align_corners=True)[:, :, 0, 0]
        expected.append(F.elu(at @ published[f"{r}_features"][0, :, 0, neuron] + published[f"{r}bias"][neuron]) + 1)
    found = published_predictor.from_published(published).rates(images)
    assert torch.allclose(found, torch.stack(expected, dim=1), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("core.features.layer2.norm.bias"), "'core.features.layer2.norm.bias' is missing"),
        (lambda t: t.update({"core.extra": torch.zeros(1)}), "'core.extra' is unknown"),
        (
            lambda t: t.update({"core.features.layer0.conv.weight": torch.zeros(64, 1, 7, 7)}),
            r"'core.features.layer0.conv.weight' is \[64, 1, 7, 7\], expected \[64, 1, 9, 9\]",
        ),
        (lambda t: t["readout.mouse._features"].fill_(torch.nan), "'readout.mouse._features' holds NaN"),
        (lambda t: t.update({"readout.other.bias": torch.zeros(7)}), r"one mouse, got \['mouse', 'other'\]"),
        (lambda t: t.clear(), "one mouse, got none"),
    ],
)
def test_tensors_that_do_not_fit_are_named(published, change, message):
    change(published)
    with pytest.raises(ValueError, match=message):
        published_predictor.from_published(published)


def test_something_else_than_tensors_is_refused():
    with pytest.raises(ValueError, match="mapping from names to tensors"):
        published_predictor.from_published([1, 2])

"""The paper's networks: sizes and maps; no fault of the CPU's kernels is reached."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from simreg_core import resnet18, resnet34
from simreg_core.architectures import architecture
from simreg_core.model import (
    BLOCKS,
    PointwiseConv2d,
    ResNet,
    onednn_corrupts,
)
from simreg_core.names import LAYERS


@pytest.mark.parametrize(
    ("network", "weights"),
    [(resnet18, 11_175_370), (resnet34, 21_283_530), (lambda: resnet18(in_channels=3), 11_181_642)],
)
def test_number_of_weights(network, weights):
    assert sum(p.numel() for p in network().parameters()) == weights


def test_five_maps(generator):
    model = resnet18(in_channels=3, num_classes=7, width=4)
    x = torch.rand(2, 3, 32, 32, generator=generator)
    shapes = [tuple(m.shape[1:]) for m in model.features(x)]
    assert shapes == [(4, 32, 32), (4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]
    assert model(x).shape == (2, 7)


def test_pixels_are_normalized_inside(generator):
    torch.manual_seed(0)
    model = resnet18(width=2, shift=0.5, gain=5.0).eval()
    plain = resnet18(width=2, shift=0.0, gain=1.0).eval()
    plain.load_state_dict(model.state_dict())
    x = torch.rand(2, 1, 16, 16, generator=generator)
    torch.testing.assert_close(model(x), plain(5 * (x - 0.5)))


@pytest.mark.parametrize("name", ["in_channels", "num_classes", "width"])
def test_sizes_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        ResNet((1, 1, 1, 1), **{name: 0})


@pytest.mark.parametrize("blocks", ["resnet10", "resnet18"])
def test_a_folded_network_gives_the_same_logits(blocks, generator):
    network = ResNet(BLOCKS[blocks], width=4)
    network(torch.rand(64, 1, 16, 16, generator=generator))
    network.eval()
    images = torch.rand(20, 1, 16, 16, generator=generator)
    folded = network.folded()
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert not [module for module in folded.modules() if module.training]
    torch.testing.assert_close(folded(images), network(images), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="call eval"):
        network.train().folded()


def strided_weight_gradient(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Of the sum of squares of a convolution's outputs."""
    (gradient,) = torch.autograd.grad(conv(x).square().sum(), conv.weight)
    return gradient


@pytest.mark.parametrize("inputs", [1, 2, 3, 7, 8, 12, 15, 16, 24])
@pytest.mark.parametrize(("stride", "size"), [(2, 16), (2, 7), (1, 5), ((1, 2), 9)])
def test_pointwise_convolution_is_a_1x1_convolution(inputs, stride, size, generator):
    own = PointwiseConv2d(inputs, 2 * inputs, stride, bias=True)
    x = torch.rand(4, inputs, size, size, generator=generator).to(memory_format=torch.channels_last)
    reference = nn.Conv2d(inputs, 2 * inputs, 1, stride, dtype=torch.double)  # double does not go through oneDNN
    reference.load_state_dict(own.state_dict())
    assert torch.allclose(own(x).double(), reference(x.double()), atol=1e-5)
    wanted = strided_weight_gradient(reference, x.double())
    assert torch.allclose(strided_weight_gradient(own, x).double(), wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max())


def test_unsound_convolutions_are_named():
    unsound = [nn.Conv2d(8, 16, 1, 2), nn.Conv2d(15, 4, 1, (1, 2))]
    sound = [nn.Conv2d(16, 32, 1, 2), nn.Conv2d(8, 16, 1), nn.Conv2d(8, 16, 3, 2), nn.Linear(4, 4)]
    assert all(map(onednn_corrupts, unsound))
    assert not any(map(onednn_corrupts, sound))
    assert not onednn_corrupts(nn.Conv2d(8, 16, 1, 2, device="meta"))  # a fault of the CPU's kernels


def test_no_network_of_ours_holds_a_plain_unsound_convolution():
    networks = [resnet18(width=2), *(architecture(name, (16, 16), width=2) for name in LAYERS)]
    for network in (*networks, resnet18(width=2).eval().folded()):
        plain = [one for one in network.modules() if onednn_corrupts(one) and not isinstance(one, PointwiseConv2d)]
        assert plain == []


NARROW_TRAININGS = """
import torch
from simreg_core.architectures import architecture
from simreg_core.model import BLOCKS, ResNet

torch.set_num_threads(1)
networks = [ResNet(BLOCKS["resnet10"], 1, 10, width) for width in (1, 2, 3, 4, 6, 8)]
networks += [architecture("torchvision-resnet18", (16, 16), width=width) for width in (2, 8)]
for network in networks:
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(network(torch.rand(16, 1, 16, 16)), torch.randint(0, 10, (16,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="checks the heap with glibc's malloc")
def test_training_narrow_networks_leaves_the_heap_sound():
    checked = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
    child = subprocess.run(
        [sys.executable, "-c", NARROW_TRAININGS], env={**os.environ, **checked}, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr

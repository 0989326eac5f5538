"""The paper's networks: sizes, maps, taps."""

import pytest
import torch
from torch import nn

from simreg_core import resnet18, resnet34
from simreg_core.model import BLOCKS, FeatureTaps, ResNet


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


def test_taps_give_the_named_maps(generator):
    model = resnet18(width=2).eval()
    x = torch.rand(2, 1, 16, 16, generator=generator)
    for tapped, direct in zip(FeatureTaps(model, ["stem", "stage3"])(x), model.features(x)[::3], strict=False):
        assert torch.equal(tapped, direct)


def test_taps_refuse_what_is_no_tensor():
    class Tuples(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.LSTM(4, 4, batch_first=True)

        def forward(self, x):
            return self.inner(x)[0]

    with pytest.raises(ValueError, match="layer 'inner' gave tuple, not a tensor"):
        FeatureTaps(Tuples(), ["inner"])(torch.rand(1, 3, 4))


@pytest.mark.parametrize("blocks", ["resnet10", "resnet18"])
def test_a_folded_network_gives_the_same_logits(blocks, generator):
    network = ResNet(BLOCKS[blocks], width=4)
    network(torch.rand(64, 1, 16, 16, generator=generator))
    network.eval()
    images = torch.rand(20, 1, 16, 16, generator=generator)
    folded = network.folded()
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(folded(images), network(images), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="call eval"):
        network.train().folded()

"""Feature taps of any network, and what is refused."""

from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn
from torchvision import models

from simreg_core import resnet18
from simreg_core.features import FeatureTaps, as_maps, check_channel_axis, probe_features


def test_taps_give_the_named_maps(generator):
    model = resnet18(width=2).eval()
    x = torch.rand(2, 1, 16, 16, generator=generator)
    for tapped, direct in zip(FeatureTaps(model, ["stem", "stage3"])(x), model.features(x)[::3], strict=False):
        assert torch.equal(tapped, direct)


class Wrapping(nn.Module):
    """Its layer gives what `wrap` makes of a tensor."""

    def __init__(self, wrap):
        super().__init__()
        self.inner = nn.Identity()
        self.inner.forward = wrap

    def forward(self, x):
        return self.inner(x)


def test_taps_give_the_first_tensor_of_a_layers_output():
    x = torch.rand(2, 3, 4)
    for wrap in (
        lambda x: (x, x + 1),
        lambda x: [None, x, x + 1],
        lambda x: {"states": x, "attention": x + 1},
        lambda x: OrderedDict(loss=None, states=x),
    ):
        assert FeatureTaps(Wrapping(wrap), ["inner"])(x)[0] is x


def test_taps_refuse_what_is_no_tensor():
    for wrap, name in ((lambda x: (None, [x]), "tuple"), (lambda x: {}, "dict"), (lambda x: "x", "str")):
        with pytest.raises(ValueError, match=f"layer 'inner' gave {name}, not a tensor"):
            FeatureTaps(Wrapping(wrap), ["inner"])(torch.rand(1, 3, 4))
    with pytest.raises(ValueError, match=r"layers must be names, as in named_modules\(\), got a LSTM"):
        FeatureTaps(nn.Sequential(nn.LSTM(4, 4)), [nn.LSTM(4, 4)])


def test_each_layer_is_named_once(generator):
    model = resnet18(width=2)
    for layers in (["stem", "stage1", "stem"], ["stem", "module.stem"]):
        with pytest.raises(ValueError, match=f"layer '{layers[-1]}' is named twice; each layer may be named once"):
            FeatureTaps(model, layers)
    with pytest.raises(ValueError, match="layers must be a list of names, got 5"):
        FeatureTaps(model, 5)
    images = torch.rand(2, 1, 16, 16, generator=generator)
    assert len(FeatureTaps(model, (name for name in ["stem", "stage1"]))(images)) == 2


class Unused(nn.Module):
    """A layer that never runs, and one that runs in training mode only."""

    def __init__(self):
        super().__init__()
        self.used, self.aux, self.never = (nn.Conv2d(1, 2, 3) for _ in range(3))

    def forward(self, x):
        return self.used(x) + (self.aux(x) if self.training else 0)


def test_a_layer_that_does_not_run_is_said():
    network, images = Unused(), torch.rand(2, 1, 8, 8)
    assert len(FeatureTaps(network.train(), ["used", "aux"])(images)) == 2
    network.eval()
    traced = torch.jit.trace(network, images)
    for model, layer in ((network, "aux"), (network, "never"), (traced, "used")):
        with pytest.raises(ValueError, match=f"layer '{layer}' did not run in this pass: .*traced") as error:
            FeatureTaps(model, [layer])(images)
        assert "training mode only" in str(error.value)


class Refusing(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (AssertionError("of another\nsize"), "AssertionError: of another"),
        (AssertionError(), "AssertionError: without a message"),
        (TypeError("x"), "TypeError: x"),
        (IndexError("y"), "IndexError: y"),
        (KeyError("z"), "KeyError: 'z'"),
        (NotImplementedError("w"), "NotImplementedError: w"),
    ],
)
def test_whatever_a_network_raises_is_a_value_error(error, words):
    network = Refusing(error).train()
    with pytest.raises(ValueError, match=r"the network refuses images of shape \[2, 8, 8\]: ") as raised:
        probe_features(network, network, torch.zeros(1, 2, 8, 8))
    assert str(raised.value).endswith(words)
    assert network.training


def test_feature_maps_are_a_list_whatever_holds_them():
    one, other = torch.zeros(2, 3), torch.ones(2, 3)
    assert as_maps(one)[0] is one
    for given in ([one, other], (one, other), {"a": one, "b": other}, (each for each in (one, other))):
        assert [each.sum().item() for each in as_maps(given)] == [0, 6]
    with pytest.raises(ValueError, match="gave no feature map"):
        as_maps([])
    for given, name in ((None, "NoneType"), ({"a": None}, "NoneType"), ([one, (one,)], "tuple")):
        with pytest.raises(ValueError, match=f"feature maps must be tensors, but layers gave {name}"):
            as_maps(given)


def looks_channels_last(shape, size):
    try:
        check_channel_axis("layer 'a'", torch.empty(2, *shape, device="meta"), (2, 3, *size), None)
    except ValueError as error:
        assert "looks like [b, h, w, channels]: give channel_axis=-1" in str(error)  # noqa: PT017
        return True
    return False


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 2, 768), (48, 40)),  # 1.5 and 1.25 rounded up
        ((4, 3, 768), (100, 75)),
        ((3, 2, 768), (100, 75)),  # rounded down
        ((13, 10, 96), (50, 40)),
        ((1, 1, 768), (28, 28)),
        ((1, 2, 768), (31, 62)),
        ((7, 7, 8), (28, 28)),  # of square images both sides are alike
        ((12, 10, 8), (48, 40)),  # exactly in proportion, the other reading but for rounding
        ((56, 56, 96), (32, 32)),  # enlarged by the network
        ((96, 80, 96), (384, 320)),
    ],
)
def test_maps_that_look_like_channels_last(shape, size):
    assert looks_channels_last(shape, size)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 14, 14), (28, 28)),
        ((7, 7, 7), (28, 28)),
        ((96, 96, 96), (384, 384)),
        ((2, 1, 1), (64, 32)),
        ((768, 1, 1), (48, 40)),
        ((8, 4, 4), (64, 32)),  # pooled to a square
        ((14, 7, 7), (64, 32)),
        ((64, 32, 16), (64, 32)),  # in proportion in both ways
        ((16, 12, 10), (48, 40)),
        ((4, 3, 2), (48, 40)),
        ((60, 58, 26), (64, 32)),  # without padding
        ((256, 4, 33), (32, 128)),  # strides of one axis only
    ],
)
def test_maps_that_do_not_look_like_channels_last(shape, size):
    assert not looks_channels_last(shape, size)


SIZES = [(32, 32), (28, 28), (30, 30), (64, 48), (48, 40), (50, 40), (75, 100), (96, 32), (97, 131), (224, 224)]


def shapes_of(network, size):
    """Shapes of what the layers of a network give, by their names."""
    shapes = {}

    def note(name, module, inputs, output):
        shapes[name] = list(output.shape)

    for name, module in network.named_modules():
        module.register_forward_hook(partial(note, name))
    network(torch.empty(2, 3, *size, device="meta"))
    return shapes


def alarms(name, size):
    """Names of the layers whose maps look like [b, h, w, channels], and of those that do not."""
    with torch.device("meta"):  # shapes only
        network = models.get_model(name, num_classes=10).eval()
    shapes = {layer: shape for layer, shape in shapes_of(network, size).items() if len(shape) == 4}
    found = [layer for layer, (_, *shape) in shapes.items() if looks_channels_last(shape, size)]
    return found, [layer for layer in shapes if layer not in found]


@pytest.mark.parametrize("size", SIZES)
def test_swins_maps_are_told_from_usual_ones(size):
    found, usual = alarms("swin_t", size)
    assert usual == ["features.0.0", "permute", "avgpool"]  # these are [b, channels, h, w]
    assert {"features.0", "features.1", "features.3", "features.5", "features", "norm"} <= set(found)


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("resnet18", 28), ("resnet50", 28), ("mobilenet_v3_small", 28), ("efficientnet_b0", 28), ("vgg11_bn", 32),
        ("densenet121", 32), ("alexnet", 64),
    ],
)  # fmt: skip
def test_usual_networks_give_no_alarm(name, smallest):
    for size in SIZES:
        if min(size) >= smallest:
            assert alarms(name, size)[0] == []


@pytest.mark.parametrize("size", [size for size in SIZES if min(size) >= 32])
def test_only_the_inner_layers_of_convnext_are_channels_last(size):
    found, usual = alarms("convnext_tiny", size)
    assert all(".block." in layer for layer in found)
    assert {"features.0", "features.1", "features.3", "features.5", "features"} <= set(usual)

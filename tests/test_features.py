"""Feature taps of any network, and what is refused."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from simreg_core import resnet18
from simreg_core.features import FeatureTaps, as_maps, probe_features


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

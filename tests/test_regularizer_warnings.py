"""What the regularizer warns of: targets that are all 0, layers without a gradient, a fault of oneDNN."""

import warnings

import pytest
import torch
from regularized_parts import Parts, regularized, warnings_of
from torch import nn

from simreg_core import SimilarityRegularizer, resnet18


@pytest.fixture
def images(generator):
    return torch.rand(20, 1, 16, 16, generator=generator)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return resnet18(width=4)


@pytest.mark.parametrize(
    ("how", "layers", "named"),
    [
        ("reentrant", ["body.0"], "layer 'body.0',"),
        ("reentrant", ["body.1"], "layer 'body.1',"),
        ("reentrant", ["stem", "body.0", "body.1"], "layer 'body.0', layer 'body.1',"),
        ("no_grad", ["stem", "body", "head"], "layer 'body',"),
        ("detach", ["body"], None),  # the layer itself has a gradient, it is cut after it
        ("not reentrant", ["stem", "body.0", "body.1"], None),
    ],
)
def test_a_layer_that_loses_the_gradient_is_said_once(images, how, layers, named):
    said = warnings_of(regularized(Parts(how), layers, images))
    if named is None:
        assert said == []
    else:
        assert len(said) == 1
        assert said[0].startswith(f"no gradient reaches the network from {named} although")
        assert "use_reentrant=True" in said[0]


def test_a_callable_whose_maps_carry_no_gradient_is_said(images):
    network = Parts("detach")
    said = warnings_of(regularized(network, lambda x: [network.stem(x).detach()], images))
    assert len(said) == 1
    assert "from feature map 0, although" in said[0]
    assert warnings_of(regularized(network, lambda x: [network.stem(x).detach(), network.stem(x)], images)) == []


def test_frozen_layers_and_passes_without_a_gradient_are_not_complained_of(images):
    network = Parts("not reentrant")
    network.stem.requires_grad_(False)
    assert warnings_of(regularized(network, ["stem", "stem.1", "body"], images)) == []
    assert "'stem'" in warnings_of(regularized(network, ["stem"], images))[0]  # the loss as a whole moves nothing
    network.requires_grad_(False)
    assert warnings_of(regularized(network, ["stem", "body"], images)) == []
    regularizer = regularized(Parts("reentrant"), ["body"], images)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no gradient reaches")
        with torch.set_grad_enabled(False):  # how pairs pass without a loss
            regularizer()


def test_a_fault_of_onednn_is_said(images):
    last, fault = torch.channels_last, "layer '2' is a strided 1x1 convolution of few input channels: in channels_last"

    def network(channels=8):
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, channels, 3), nn.Conv2d(channels, 16, 1, stride=2))

    with pytest.warns(UserWarning, match=fault):
        regularized(network().to(memory_format=last), ["1"], images)
    pixels = images.repeat(1, 8, 1, 1).to(memory_format=last)
    with pytest.warns(UserWarning, match=fault):
        regularized(nn.Sequential(nn.Identity(), *network()[1:]), ["1"], pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        later = network()
        regularizer = regularized(later, ["1"], images)
        for sound in (network(16), resnet18(width=4)):
            regularized(sound.to(memory_format=last), [next(iter(dict(sound.named_children())))], images)()
    later.to(memory_format=last)
    with pytest.warns(UserWarning, match=fault):
        regularizer()  # without backward, which is what goes wrong
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regularizer()


def test_a_threshold_that_no_pair_passes_is_said(model, images):
    with pytest.warns(UserWarning, match=r"every target is 0: no pair of the images has .S. above the threshold 0\.99"):
        SimilarityRegularizer(model, ["stem"], images, threshold=0.99)

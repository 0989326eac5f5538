"""Other architectures: logits for what fits, layers that the regularizer finds, errors that say what would fit."""

import pytest
import torch

from simreg_core import SimilarityRegularizer
from simreg_core.architectures import architecture
from simreg_core.features import FeatureTaps, probe_features
from simreg_core.names import LAYERS, OF_ONE_SIZE, UNIT_PLANS


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_logits_and_layers(name, in_channels, generator):
    network = architecture(name, (16, 16), in_channels, num_classes=7, width=4)
    images = torch.rand(2, in_channels, 16, 16, generator=generator)
    assert network.eval()(images).shape == (2, 7)
    maps = FeatureTaps(network, LAYERS[name])(images)
    assert 4 <= len(maps) <= 5
    assert all(one.shape[0] == 2 and one.isfinite().all() for one in maps)
    assert len({one.data_ptr() for one in maps}) == len(maps)  # each its own, none changed in place by the next


@pytest.mark.parametrize("name", LAYERS)
def test_the_loss_moves_every_weight_up_to_the_last_layer(name, generator):
    images = torch.rand(6, 1, 16, 16, generator=generator)
    torch.manual_seed(0)
    network = architecture(name, (16, 16), width=4)
    regularizer = SimilarityRegularizer(network, network.layers, images, targets=torch.zeros(6, 6), pairs_per_step=4)
    regularizer().backward()
    still = {name.split(".")[1] for name, one in network.named_parameters() if one.grad is None}
    last = {"torchvision-resnet18": {"fc"}, "vgg": {"classifier"}, "convnext": {"classifier"}, "mlp": {"13"}}
    last |= {"lenet": {"10"}, "vgg16": {"classifier"}}
    last |= {name: {"classifier"} for name in UNIT_PLANS}
    # a transformer's class token is a layer's output too; its last norm and head come after
    assert still <= last.get(name, {"encoder", "heads"})
    assert regularizer.layer_logits.grad.count_nonzero() > 0


def test_a_gray_image_and_its_three_copies_are_alike(generator):
    gray = torch.rand(2, 1, 16, 16, generator=generator)
    for name in LAYERS:
        if name != "mlp":  # it has a weight for every number
            of_gray, of_colour = architecture(name, (16, 16), 1, width=4), architecture(name, (16, 16), 3, width=4)
            of_colour.load_state_dict(of_gray.state_dict())
            assert torch.equal(of_gray.eval()(gray), of_colour.eval()(gray.repeat(1, 3, 1, 1)))


def test_pixels_are_normalized_inside(generator):
    images = torch.rand(2, 1, 16, 16, generator=generator)
    torch.manual_seed(0)
    network = architecture("mlp", (16, 16), width=8, shift=0.4, gain=3.0).eval()
    assert torch.equal(network(images), network.body(3.0 * (images - 0.4)))


def test_the_width_of_torchvision_is_torchvisions_own_network():
    from torchvision.models import resnet18

    ours = architecture("torchvision-resnet18", (32, 32), width=64).body.state_dict()
    theirs = resnet18(num_classes=10).state_dict()
    assert {name: one.shape for name, one in ours.items()} == {name: one.shape for name, one in theirs.items()}


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in OF_ONE_SIZE])
def test_convolutional_ones_take_other_sizes_too(name, generator):
    network = architecture(name, (16, 16), width=4).eval()
    assert network(torch.rand(2, 1, 24, 36, generator=generator)).shape == (2, 10)


@pytest.mark.parametrize("name", OF_ONE_SIZE)
def test_the_others_say_which_they_take(name):
    network = architecture(name, (16, 16), width=4)
    with pytest.raises(ValueError, match="takes only images of 16x16, got 24x36"):
        probe_features(network, FeatureTaps(network, network.layers), torch.zeros(1, 1, 24, 36))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("resnet50", (16, 16)),
            "unknown architecture 'resnet50'; allowed: torchvision-resnet18, vgg, vgg16, convnext",
        ),
        (("vit", (18, 18)), "'vit' takes square images whose side is a multiple of its patch, 4; got 18x18"),
        (("vit", (16, 32)), "'vit' takes square images .* got 16x32"),
        (("vgg", (8, 8)), "'vgg' takes images of at least 16x16, got 8x8"),
        (("vit", (16, 16), 1, 10, 5), "width of 'vit' must be a positive multiple of 2, got 5"),
        (("mlp", (16, 16), 1, 10, 0), "width of 'mlp' must be a positive multiple of 1, got 0"),
        (("mlp", (16, 16), 2), "in_channels must be 1 or 3, got 2"),
        (("mlp", (16, 16), 1, 0), "num_classes must be at least 1, got 0"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        architecture(*arguments)

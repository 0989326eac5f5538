"""The regularizer on networks that it was not made for."""

import copy
import inspect

import numpy as np
import pytest
import torch
from regularized_parts import Parts, regularized, warnings_of
from torch import nn
from torchvision.models import resnet18 as torchvision_resnet18, swin_t
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.swin_transformer import SwinTransformer

import simreg_core
from simreg_core import SimilarityRegularizer, pixel_similarity, resnet18


@pytest.fixture
def images(generator):
    return torch.rand(20, 1, 16, 16, generator=generator)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return resnet18(width=4)


def test_network_similarity_equals_a_double_loop(model, images):
    regularizer = SimilarityRegularizer(model.eval(), model.features, images)
    with torch.no_grad():
        regularizer.layer_logits.copy_(torch.tensor([0.3, -1.0, 0.0, 2.0, 0.5]))
    rows, cols = torch.tensor([0, 3, 5]), torch.tensor([1, 4, 19])
    measured = regularizer.similarity(rows, cols)
    gamma = np.exp([0.3, -1.0, 0.0, 2.0, 0.5])
    gamma /= gamma.sum()
    for k, (i, j) in enumerate(zip(rows, cols, strict=True)):
        total = 0.0
        maps = [model.features(images[[index]]) for index in (i.item(), j.item())]
        for layer in range(5):
            a, b = (m[layer][0].detach().double().numpy() for m in maps)
            # the running mean starts at 0 and moves a tenth of the way to the mean of this batch before use
            both = [model.features(images[which])[layer].detach().double().numpy() for which in (rows, cols)]
            mean = 0.1 * 0.5 * sum(half.mean(axis=(0, 2, 3)) for half in both)[:, None, None]
            a, b = (a - mean).ravel(), (b - mean).ravel()
            total += gamma[layer] * (a @ b) / np.sqrt((a @ a) * (b @ b))
        assert measured[k].item() == pytest.approx(total, abs=1e-5)


def test_running_means_follow_in_training_mode_only(model, images):
    regularizer = SimilarityRegularizer(model, model.features, images)
    regularizer.eval()
    regularizer()
    assert regularizer.mean0.abs().sum() == 0
    regularizer.train()
    regularizer()
    assert regularizer.mean0.abs().sum() > 0


def test_a_later_call_does_not_change_the_gradient_of_an_earlier_one(model, images):
    """Although it moves the running means, which the earlier one has subtracted."""
    gradients = []
    for calls in (1, 2):
        own = copy.deepcopy(model)
        regularizer = SimilarityRegularizer(own, own.features, images, targets="pixel", pairs_per_step=8)
        first, *_ = [regularizer() for _ in range(calls)]
        first.backward()
        gradients.append([each.grad for each in own.parameters() if each.grad is not None])
    assert len(gradients[0]) > 10
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_pixel_and_given_targets(model, images):
    similarity = pixel_similarity(images)
    pixel = SimilarityRegularizer(model, model.features, images, targets="pixel")
    torch.testing.assert_close(pixel.sampler.targets, similarity)
    given = SimilarityRegularizer(model, model.features, images, targets=similarity.sign() * 0.5)
    assert given.sampler.targets.abs().max() == 0.5


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_three_lines_regularize_torchvision_resnet18(optimizer, generator):
    """What the docstring promises, on a network that knows nothing of simreg."""
    torch.manual_seed(0)
    model = torchvision_resnet18(num_classes=10)
    reg_images = torch.rand(30, 3, 32, 32, generator=generator)
    x, y = torch.rand(8, 3, 32, 32, generator=generator), torch.randint(0, 10, (8,), generator=generator)

    regularizer = SimilarityRegularizer(model, layers=["relu", "layer1", "layer2"], images=reg_images, threshold=0.8)
    optimizer = optimizer([*model.parameters(), *regularizer.parameters()], lr=1e-3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    values = []
    for _ in range(6):
        similarity = regularizer()
        loss = nn.functional.cross_entropy(model(x), y) + 10 * similarity
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(similarity.item())

    assert values[-1] < values[0]
    assert all(not torch.equal(before[name], p) for name, p in model.layer1.named_parameters(prefix="layer1"))
    assert regularizer.layer_weights.sum().item() == pytest.approx(1)
    assert len(list(regularizer.parameters())) == 1  # the logits of gamma; the weights stay the model's


class TokenNetwork(nn.Module):
    """Maps with three axes [b, tokens, channels], and with two [b, units]."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 4, 4)
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        tokens = self.mix(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(tokens.mean(dim=1))


def test_any_network_by_layer_names(images):
    regularizer = SimilarityRegularizer(TokenNetwork(), ["patches", "mix", "head"], images)
    assert [len(getattr(regularizer, f"mean{i}")) for i in range(3)] == [6, 6, 3]
    regularizer().backward()


def test_a_module_as_layers_is_not_registered(images):
    class Features(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model.features(x)[:2]

    model = resnet18(width=2)
    regularizer = SimilarityRegularizer(model, Features(model), images)
    assert [name for name, _ in regularizer.named_parameters()] == ["layer_logits"]


def test_moves_with_to(model, images):
    regularizer = SimilarityRegularizer(model, model.features, images).to(torch.float64)
    assert regularizer.images.dtype == regularizer.mean0.dtype == regularizer.layer_logits.dtype == torch.float64
    meta = SimilarityRegularizer(model, model.features, images).to("meta")
    assert meta.images.device.type == meta.layer_logits.device.type == "meta"


def test_making_one_leaves_the_network_alone(model, images):
    model.stage1.eval()
    before = copy.deepcopy(model.state_dict())
    SimilarityRegularizer(model, ["stem", "stage4"], images)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert not model.stage1.training
    assert not any(module._forward_hooks for module in model.modules())


def test_similarities_stay_in_full_precision_under_autocast(model, images):
    regularizer = SimilarityRegularizer(model, model.features, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows, cols = torch.arange(4), torch.arange(4, 8)
        assert regularizer.similarity(rows, cols).dtype == torch.float32
        assert regularizer().dtype == torch.float32


def test_images_take_the_precision_of_the_network(model, images):
    regularizer = SimilarityRegularizer(model, model.features, images.double())
    assert regularizer.images.dtype == torch.float32
    regularizer().backward()


def test_preprocess_is_applied(images):
    seen = []
    model = resnet18(width=2)
    regularizer = SimilarityRegularizer(
        model, model.features, images, preprocess=lambda x: seen.append(x.shape) or 2 * x
    )
    seen.clear()
    regularizer()
    assert seen == [torch.Size([32, 1, 16, 16])]


def test_images_take_the_first_floating_point_type(images):
    class Packed(nn.Module):
        def __init__(self, dtype):
            super().__init__()
            self.packed = nn.Parameter(torch.zeros(9).to(dtype), requires_grad=False)
            self.conv = nn.Conv2d(1, 4, 3, dtype=torch.float64)

        def forward(self, x):
            return self.conv(x)

    for dtype in (torch.uint8, torch.int8, torch.bool, torch.float8_e4m3fn):
        regularizer = regularized(Packed(dtype), ["conv"], images)
        assert torch.equal(regularizer.images, images.double())
        regularizer().backward()


def test_images_that_require_a_gradient_leave_none(images):
    images.requires_grad_()
    warnings_of(regularized(Parts("not reentrant"), ["stem"], images))
    assert images.grad is None


def test_the_default_device_does_not_matter(images):
    network = Parts("not reentrant")
    expected = regularized(network, ["stem", "body"], images)().item()
    with torch.device("meta"):  # as "cuda" where there is a GPU
        regularizer = regularized(network, ["stem", "body"], images)
        loss = regularizer()
        regularizer.load_state_dict(regularizer.state_dict())
    assert loss.item() == expected


class TokensFirst(nn.Module):
    """Maps [tokens, b, channels]."""

    def __init__(self, patch=4):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, patch, patch)
        self.block = nn.TransformerEncoderLayer(8, 2, 16)

    def forward(self, x):
        return self.block(self.patches(x).flatten(2).permute(2, 0, 1)).mean(0)


def test_maps_whose_first_axis_is_not_the_images_are_refused(images):
    with pytest.raises(
        ValueError, match=r"layer 'block' gave a map \[16, 2, 8\] for 2 images, .*axis 1 seems to be: give a callable"
    ):
        regularized(TokensFirst(), ["patches", "block"], images)
    two_tokens = regularized(TokensFirst(8), ["block"], images[..., :8])  # as many as probed images: seen at once after
    with pytest.raises(ValueError, match=r"gave a map \[2, 8, 8\] for 8 images"):
        two_tokens()
    network = TokensFirst()
    with pytest.raises(ValueError, match=r"feature map 0 gave a map \[32, 8\] for 2 images, .*images: give"):
        regularized(network, lambda x: network.patches(x).flatten(2).transpose(1, 2).flatten(0, 1), images)
    with pytest.raises(ValueError, match=r"must have shape \[b, channels, ...\], got \[2\] from feature map 0"):
        regularized(network, lambda x: x.mean((1, 2, 3)), images)


def test_channels_of_a_swin_transformer(generator):
    torch.manual_seed(0)
    network = SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=5)
    images = torch.rand(8, 3, 32, 48, generator=generator)
    with pytest.raises(
        ValueError, match=r"'features.1' gave a map \[2, 16, 24, 8\] that looks like \[b, h, w, channels\]"
    ):
        regularized(network, ["features.1"], images)
    regularizer = regularized(network, ["features.1", "permute", "head"][::2], images, channel_axis=-1)
    assert [regularizer.mean0.numel(), regularizer.mean1.numel()] == [8, 5]
    # the same numbers as of the same maps with the channels in their usual place
    taps = regularized(network.eval(), ["features.1"], images, channel_axis=-1)
    usual = regularized(network, lambda x: network.features[:2](x).permute(0, 3, 1, 2), images)
    assert taps().item() == pytest.approx(usual().item(), rel=1e-5)


@pytest.mark.parametrize("size", [(48, 40), (50, 40), (100, 75)])
def test_rounded_sides_do_not_hide_the_channels_of_a_swin_transformer(size, generator):
    network = swin_t(num_classes=3).eval()
    images = torch.rand(8, 3, *size, generator=generator)
    for layer in ("features", "norm", "features.3"):
        with pytest.raises(ValueError, match=rf"'{layer}' gave a map .* looks like \[b, h, w, channels\]"):
            regularized(network, [layer], images)
    regularizer = regularized(network, ["features", "norm"], images, channel_axis=-1)
    assert [regularizer.mean0.numel(), regularizer.mean1.numel()] == [768, 768]


@pytest.mark.parametrize("axis", [0, 4, -4, -5])
def test_a_channel_axis_that_a_map_has_not_is_refused(axis, images):
    with pytest.raises(ValueError, match=rf"channel_axis must be an axis of the map \[2, 4, 14, 14\] .*got {axis}"):
        regularized(Parts("detach"), ["stem"], images, channel_axis=axis)


def test_a_channel_axis_of_one_dimensional_maps(generator):
    network = nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 6, 3))
    images = torch.rand(8, 1, 4, 4, generator=generator)
    lengths = [regularized(network, ["1"], images, channel_axis=axis).mean0.numel() for axis in (None, 1)]
    assert lengths == [14, 6]  # [b, tokens, channels] unless it is said


@pytest.mark.parametrize("kind", ["tensor", "dict", "generator", "extractor"])
def test_a_callable_may_hold_its_maps_as_it_likes(kind, images):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    layers = {
        "tensor": network,
        "dict": lambda x: {"relu": network(x)},
        "generator": lambda x: (one for one in [network(x)]),
        "extractor": create_feature_extractor(network, ["1"]),
    }[kind]
    assert regularized(network, layers, images)().item() == regularized(network, ["1"], images)().item()


def test_a_number_of_maps_that_changes_is_refused(images):
    network, calls = nn.Conv2d(1, 4, 3), []
    regularizer = regularized(network, lambda x: [network(x)] * (1 + len(calls)), images)
    calls.append(1)
    with pytest.raises(ValueError, match="layers gave 2 feature maps, but 1 at first"):
        regularizer()


def test_preprocessing_is_probed_with_one_image(images):
    """A preprocessing that draws random numbers draws as many as before the probe took two."""
    seen = []
    regularized(
        nn.Conv2d(1, 4, 3), lambda x: seen.append(len(x)) or x, images, preprocess=lambda x: seen.append(len(x)) or x
    )
    assert seen == [1, 2]


def test_batch_norm_sees_each_half_of_the_pairs(model, images):
    regularizer = SimilarityRegularizer(model.train(), model.features, images)
    regularizer()
    assert model.stem[1].num_batches_tracked == 2


def test_whole_numbers_of_numpy_are_accepted(model, images):
    regularizer = SimilarityRegularizer(model, ["stem"], images, pairs_per_step=np.int64(4), seed=np.int64(3))
    plain = SimilarityRegularizer(model, ["stem"], images, pairs_per_step=4, seed=3)
    assert torch.equal(regularizer.draw()[0], plain.draw()[0])


@pytest.mark.parametrize("statistics", ["shared", "separate"])
def test_a_single_pair_that_batch_norm_cannot_normalize_is_said(statistics, images):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    single = {"targets": "pixel", "pairs_per_step": 1, "pair_statistics": statistics}
    with pytest.raises(
        ValueError, match=r"single value per channel of a single image, .* pairs_per_step of at least 2"
    ):
        SimilarityRegularizer(network, ["3"], images, **single)()
    SimilarityRegularizer(network[:2], ["1"], images, **single)()  # more values per channel
    SimilarityRegularizer(network, ["3"], images, **{**single, "pairs_per_step": 2})()
    SimilarityRegularizer(network, ["3"], images, **{**single, "pair_statistics": "frozen"})()
    SimilarityRegularizer(network.eval(), ["3"], images, **single)()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["layer9"]}, "unknown layer 'layer9'; layers of this network: stem, stage1"),
        ({"layers": []}, "at least one layer"),
        ({"layers": "stem"}, "list of names"),
        ({"threshold": 1.0}, "threshold must lie"),
        ({"threshold": float("nan")}, "threshold must lie"),
        ({"targets": "neural"}, "unknown targets 'neural'; allowed: 'threshold', 'pixel'"),
        ({"pairs_per_step": 191}, r"pairs_per_step must lie in \[1, 190\].*got 191"),
        ({"pairs_per_step": 0}, "pairs_per_step must lie"),
        ({"pairs_per_step": "16"}, r"pairs_per_step must be a whole number in \[1, 190\], got '16'"),
        ({"pairs_per_step": 2.5}, r"pairs_per_step must be a whole number in \[1, 190\], got 2.5"),
        ({"pairs_per_step": None, "similarity": "linear_cka", "targets": "pixel"}, r"in \[2, 10\], got None"),
        ({"threshold": "0.6"}, r"threshold must be a number in \(0, 1\), got '0.6'"),
        ({"threshold": None}, r"threshold must be a number in \(0, 1\), got None"),
        ({"eps": "a"}, "eps must be a number above 0, got 'a'"),
        ({"eps": 0}, "eps must be positive, got 0"),
        ({"momentum": "0.9"}, r"momentum must be a number in \[0, 1\), got '0.9'"),
        ({"seed": None}, "seed must be a whole number, got None"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"seed": 2**64}, r"seed must lie in \[-2\^63, 2\^64\), got 18446744073709551616"),
        ({"preprocess": 0.5}, "preprocess must be a function of a batch of pixels or None, got 0.5"),
        ({"layers": ["stem", "stem"]}, "layer 'stem' is named twice"),
        ({"layers": 5}, "layers must be a list of names, got 5"),
        ({"momentum": 1.0}, "momentum must lie"),
        ({"channel_axis": "last"}, "channel_axis must be a whole number or None, got 'last'"),
        ({"images": torch.rand(20, 16, 16, 3)}, "whose last axis looks like the channels"),
        ({"images": torch.rand(20, 3, 16, 16)}, r"the network refuses images of shape \[3, 16, 16\]"),
        ({"images": torch.rand(1, 1, 16, 16)}, "at least two images"),
        ({"pairs": "high", "threshold": 0.99}, "a threshold below that would give pairs"),
    ],
)
def test_bad_arguments_are_named(model, images, arguments, message):
    given = {"layers": ["stem"], "images": images, **arguments}
    with pytest.raises(ValueError, match=message) as error:
        SimilarityRegularizer(model, **given)
    assert "\n" not in str(error.value)


def test_every_public_name_has_a_docstring():
    """The functions of its modules and the methods of its classes too."""
    for name in simreg_core.__all__:
        thing = getattr(simreg_core, name)
        assert thing.__doc__, name
        for part, own in vars(thing).items():
            ours = getattr(own, "__module__", "").startswith("simreg_core")
            if ours and not part.startswith("_") and (inspect.isfunction(own) or inspect.isclass(own)):
                assert inspect.getdoc(getattr(thing, part)), f"{name}.{part}"

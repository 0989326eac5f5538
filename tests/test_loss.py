"""The loss against a double loop and gradcheck; the regularizer on networks it was not made for."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torchvision.models import resnet18 as torchvision_resnet18
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.swin_transformer import SwinTransformer

import simreg_core
from simreg_core import SimilarityRegularizer, pixel_similarity, resnet18, similarity_loss


@pytest.fixture
def images(generator):
    return torch.rand(20, 1, 16, 16, generator=generator)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return resnet18(width=4)


def test_loss_equals_a_plain_loop(generator):
    predicted = torch.rand(40, generator=generator, dtype=torch.float64) * 1.9 - 0.95
    target = torch.randint(-1, 2, (40,), generator=generator).double()
    total = 0.0
    for s, t in zip(predicted.tolist(), target.tolist(), strict=True):
        phi_s = math.log(1 + s + 1e-5) - math.log(1 - s + 1e-5)
        phi_t = math.log(1 + t + 1e-5) - math.log(1 - t + 1e-5)
        total += (phi_s - phi_t) ** 2
    np.testing.assert_allclose(similarity_loss(predicted, target).item(), total / 40, rtol=1e-12)


def test_loss_is_four_times_the_printed_formula():
    predicted, target = torch.tensor([0.5, -0.2], dtype=torch.float64), torch.tensor([0.1, 0.3], dtype=torch.float64)
    printed = (predicted.atanh() - target.atanh()).square().mean()
    torch.testing.assert_close(similarity_loss(predicted, target, eps=1e-12), 4 * printed)


def test_known_values():
    assert similarity_loss(torch.zeros(1), torch.ones(1)).item() == pytest.approx(12.206**2, rel=1e-4)
    assert similarity_loss(torch.ones(3), torch.ones(3)).item() == 0


def test_loss_gradient(generator):
    predicted = (torch.rand(10, generator=generator, dtype=torch.float64) * 1.8 - 0.9).requires_grad_()
    target = torch.randint(-1, 2, (10,), generator=generator).double()
    assert torch.autograd.gradcheck(lambda s: similarity_loss(s, target), predicted)


def test_loss_errors():
    with pytest.raises(ValueError, match="differ in shape"):
        similarity_loss(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="at least one pair"):
        similarity_loss(torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match="eps must be positive, got 0"):
        similarity_loss(torch.zeros(2), torch.zeros(2), eps=0)


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


def test_state_dict_goes_on_with_the_same_losses(model, images):
    first = SimilarityRegularizer(model, model.features, images, seed=1)
    for _ in range(3):
        first()
    twin_model = copy.deepcopy(model)
    second = SimilarityRegularizer(twin_model, twin_model.features, images, seed=2)
    second.load_state_dict(first.state_dict())
    for _ in range(20):  # past the end of an epoch: the generator's state counts too
        assert first().item() == second().item()


def small_task(images, seed=0):
    """What a user saves as a whole: a network and its regularizer."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    regularizer = SimilarityRegularizer(network, ["0", "1"], images, targets="pixel", batch_pairs=7, seed=seed)
    return nn.ModuleDict({"network": network, "regularizer": regularizer})


def drawn(task, steps=60):
    """Rows of many draws, past the end of an epoch: the generator counts too."""
    return task["regularizer"].draw_many(steps)[0].tolist()


def test_a_state_dict_is_tensors_that_safetensors_takes(images, tmp_path):
    first, second = small_task(images, seed=1), small_task(images, seed=2)
    for steps in (0, 3):  # before the first epoch, and inside it
        for _ in range(steps):
            first["regularizer"]()
        assert all(isinstance(one, torch.Tensor) for one in first.state_dict().values())
        save_file(first.state_dict(), tmp_path / "task.safetensors")
        second.load_state_dict(load_file(tmp_path / "task.safetensors"))
        assert second["regularizer"]().item() == first["regularizer"]().item()
        assert drawn(second) == drawn(first)


@pytest.mark.parametrize("change", ["half", "double", "bfloat16", "float"])
def test_precision_does_not_touch_the_order_of_pairs(images, change):
    task, expected = small_task(images), small_task(images)
    task["regularizer"]()
    expected["regularizer"]()
    getattr(task, change)()
    task["regularizer"]().backward()
    expected["regularizer"]()
    # a user's tool may change every tensor, that of the bytes too
    task.load_state_dict({name: getattr(one, change)() for name, one in task.state_dict().items()})
    assert drawn(task) == drawn(expected)


def test_copies_and_pickles_draw_the_same_pairs(images):
    task = small_task(images)
    task["regularizer"]()
    copies = [copy.deepcopy(task), pickle.loads(pickle.dumps(task))]
    expected = drawn(task)
    assert all(drawn(one) == expected for one in copies)


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_averaged_model_keeps_its_own_order_of_pairs(images, use_buffers):
    task = small_task(images)
    averaged = AveragedModel(task, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    expected = drawn(copy.deepcopy(task))
    for _ in range(3):
        task["regularizer"]()
        averaged.update_parameters(task)
    assert drawn(averaged.module) == expected
    other = small_task(images, seed=5)
    other.load_state_dict(averaged.module.state_dict())
    assert drawn(other) == drawn(averaged.module)


def test_states_that_cannot_be_taken_up_are_refused(images):
    task = small_task(images)
    before = task.state_dict()
    task["regularizer"]()
    after = task.state_dict()
    bytes_of = "regularizer.pair_state"
    mean = {name: 0.9 * before[name] + 0.1 * after[name] for name in before}
    cut = {**after, bytes_of: ((before[bytes_of].int() + after[bytes_of].int()) // 2).byte()}
    short = {**after, bytes_of: after[bytes_of][:-1]}
    for state in (mean, cut, short, {**after, bytes_of: torch.full((5116,), float("nan"))}):
        with pytest.raises(RuntimeError, match=r"'pair_state', .* is not what a regularizer wrote; an average of"):
            task.load_state_dict(state)
    old = {name: one for name, one in after.items() if name != bytes_of}
    with pytest.raises(RuntimeError, match=r"'regularizer\._extra_state' is of an earlier version of simreg"):
        task.load_state_dict({**old, "regularizer._extra_state": {"position": torch.tensor(3)}})
    with pytest.raises(RuntimeError, match=r'Missing key.*"regularizer\.pair_state"'):
        task.load_state_dict(old)
    expected = drawn(copy.deepcopy(task))
    task.load_state_dict(old, strict=False)
    assert drawn(task) == expected


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


def test_a_threshold_that_no_pair_passes_is_said(model, images):
    with pytest.warns(UserWarning, match=r"every target is 0: no pair of the images has .S. above the threshold 0\.99"):
        SimilarityRegularizer(model, ["stem"], images, threshold=0.99)


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


class Parts(nn.Module):
    """A stem, and a body that runs as `how` says."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = self.stem(x)
        if self.how == "no_grad":
            with torch.no_grad():
                x = self.body(x)
        elif self.how == "detach":
            x = self.body(x.detach()).detach()
        else:
            x = checkpoint(self.body, x, use_reentrant=self.how == "reentrant")
        return self.head(x).mean((2, 3))


def warnings_of(regularizer, calls=2):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(calls):
            regularizer().backward()
    return [str(one.message) for one in caught]


def regularized(network, layers, images, **options):
    return SimilarityRegularizer(network, layers, images, targets="pixel", batch_pairs=4, **options)


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


@pytest.mark.parametrize("used_before", [False, True])
def test_a_compiled_network_gives_the_same_loss_or_says_why_not(images, used_before):
    """Whether hooks run in a compiled network depends on what was compiled before it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    expected = regularized(copy.deepcopy(network), ["0", "2"], images)().item()
    compiled = torch.compile(network, backend="eager")
    if used_before:
        compiled(images)
    try:
        found = regularized(compiled, ["_orig_mod.0", "_orig_mod.2"], images)().item()
    except ValueError as error:
        if "layer '_orig_mod.0' did not run in this pass: the network is compiled" not in str(error):
            raise
        found = regularized(compiled._orig_mod, ["0", "2"], images)().item()  # what the message advises
    assert found == pytest.approx(expected, rel=1e-4)


def test_preprocessing_is_probed_with_one_image(images):
    """A preprocessing that draws random numbers draws as many as before the probe took two."""
    seen = []
    regularized(
        nn.Conv2d(1, 4, 3), lambda x: seen.append(len(x)) or x, images, preprocess=lambda x: seen.append(len(x)) or x
    )
    assert seen == [1, 2]


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


def test_batch_norm_sees_each_half_of_the_pairs(model, images):
    regularizer = SimilarityRegularizer(model.train(), model.features, images)
    regularizer()
    assert model.stem[1].num_batches_tracked == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["layer9"]}, "unknown layer 'layer9'; layers of this network: stem, stage1"),
        ({"layers": []}, "at least one layer"),
        ({"layers": "stem"}, "list of names"),
        ({"threshold": 1.0}, "threshold must lie"),
        ({"threshold": float("nan")}, "threshold must lie"),
        ({"targets": "neural"}, "unknown targets 'neural'; allowed: 'threshold', 'pixel'"),
        ({"batch_pairs": 191}, r"batch_pairs must lie in \[1, 190\].*got 191"),
        ({"batch_pairs": 0}, "batch_pairs must lie"),
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
    for name in simreg_core.__all__:
        assert getattr(simreg_core, name).__doc__, name

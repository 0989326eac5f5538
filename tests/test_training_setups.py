"""The regularizer in the training set-ups and on the networks that users have."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from simreg_core import SimilarityRegularizer

CLASSES = 3


@pytest.fixture
def images(generator):
    """Images and their negatives: targets of all three kinds."""
    half = torch.rand(10, 1, 8, 8, generator=generator)
    return torch.cat([half, 1 - half])


@pytest.fixture
def batch(generator):
    return torch.rand(8, 1, 8, 8, generator=generator), torch.randint(0, CLASSES, (8,), generator=generator)


def convolutional(norm=nn.BatchNorm2d, channels=1):
    """Layers '0' to '4': two convolutions, each with a norm; the first ReLU changes its input in place."""
    torch.manual_seed(0)
    body = [nn.Conv2d(channels, 8, 3), norm(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), norm(8), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))


def group_norm(channels):
    return nn.GroupNorm(2, channels)


class LayerNormFirst(nn.Module):
    """Layer norm over the channels of maps [b, channels, h, w], as in ConvNeXt."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def regularized(network, images, layers=("2", "5"), **options):
    return SimilarityRegularizer(network, list(layers), images, threshold=0.5, pairs_per_step=4, **options)


def optimizer_of(network, regularizer, lr=0.05):
    return torch.optim.SGD([*network.parameters(), *regularizer.parameters()], lr=lr)


def steps(network, regularizer, batch, count=3, task=None):
    """Train, through `task` where the network is wrapped; the losses."""
    optimizer, losses = optimizer_of(network, regularizer), []
    for _ in range(count):
        loss = cross_entropy((task or network)(batch[0]), batch[1]) + 0.1 * regularizer()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_equal_weights(first, second, **tolerance):
    torch.testing.assert_close(first.state_dict(), second.state_dict(), **tolerance)


# precision


def test_autocast_gives_nearly_the_loss_and_the_gradient_of_full_precision(images, batch):
    found = []
    for enabled in (False, True):
        network = convolutional()
        regularizer = regularized(network, images)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            assert network[0](batch[0]).dtype == (torch.bfloat16 if enabled else torch.float32)
            loss = cross_entropy(network(batch[0]), batch[1]) + 0.1 * regularizer()
        loss.backward()
        gradient = torch.cat([each.grad.flatten() for each in (*network.parameters(), *regularizer.parameters())])
        found.append((loss.item(), gradient))
    assert found[1][0] == pytest.approx(found[0][0], rel=0.05)
    assert nn.functional.cosine_similarity(found[0][1], found[1][1], dim=0) > 0.98
    assert not torch.equal(found[0][1], found[1][1])


def test_a_gradient_scaler_changes_nothing_and_skips_steps_that_overflow(images, batch):
    network, plain = convolutional(), convolutional()
    regularizer, other = regularized(network, images), regularized(plain, images)
    optimizer, scaler = optimizer_of(network, regularizer), torch.amp.GradScaler("cpu", init_scale=1024.0)
    for _ in range(3):
        loss = cross_entropy(network(batch[0]), batch[1]) + 0.1 * regularizer()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    steps(plain, other, batch)
    assert_equal_weights(network, plain)
    assert torch.allclose(regularizer.layer_logits, other.layer_logits)
    assert regularizer.layer_logits.abs().sum() > 0
    before = copy.deepcopy(network.state_dict())
    scaler.scale(regularizer() * float("inf")).backward()
    scaler.step(optimizer)
    assert all(torch.equal(before[name], each) for name, each in network.named_parameters())


# what comes between the loss and the optimizer


def test_accumulated_gradients_are_those_of_the_sum(images, batch):
    gradients = []
    for at_once in (True, False):
        network = convolutional(group_norm)
        regularizer = regularized(network, images)
        parts = zip(batch[0].chunk(2), batch[1].chunk(2), strict=True)
        losses = []
        for x, y in parts:
            losses.append((cross_entropy(network(x), y) + 0.1 * regularizer()) / 2)
            if not at_once:
                losses[-1].backward()
        if at_once:
            sum(losses).backward()
        gradients.append([each.grad for each in (*network.parameters(), *regularizer.parameters())])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_an_average_of_weights_is_that_of_the_trained_network(images, batch):
    network = convolutional()
    regularizer = regularized(network, images)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    expected = {name: each.detach().clone() for name, each in network.named_parameters()}
    for _ in range(3):
        steps(network, regularizer, batch, 1)
        average.update_parameters(network)
        for name, each in network.named_parameters():
            expected[name] = each.detach() if average.n_averaged == 1 else 0.5 * expected[name] + 0.5 * each.detach()
            expected[name] = expected[name].clone()
    torch.testing.assert_close(dict(average.module.named_parameters()), expected)
    # the average can be regularized on, by names as they are in the network
    again = regularized(average.module, images)
    assert steps(average.module, again, batch, 1)[0] > 0
    assert not torch.equal(average.module[0].weight, network[0].weight)


class Checkpointed(nn.Module):
    def __init__(self, network, use_checkpoint=True):
        super().__init__()
        self.first, self.rest, self.use_checkpoint = network[:6], network[6:], use_checkpoint

    def forward(self, x):
        return self.rest(checkpoint(self.first, x, use_reentrant=False) if self.use_checkpoint else self.first(x))


@pytest.mark.parametrize("norm", [group_norm, "frozen"])
def test_checkpointing_gives_the_same_training(norm, images, batch):
    trained = []
    for use_checkpoint in (True, False):
        network = convolutional() if norm == "frozen" else convolutional(norm)
        for each in network.modules():
            if norm == "frozen" and isinstance(each, nn.BatchNorm2d):
                each.eval()
        whole = Checkpointed(network, use_checkpoint)
        regularizer = regularized(whole, images, ["first.2", "first.5", "first"])
        losses = steps(whole, regularizer, batch)
        trained.append((losses, whole, regularizer.layer_logits.detach()))
    assert trained[0][0] == trained[1][0]
    assert_equal_weights(trained[0][1], trained[1][1], rtol=0, atol=0)
    assert torch.equal(trained[0][2], trained[1][2])


@pytest.mark.parametrize("statistics", ["shared", "separate", "frozen"])
def test_checkpointed_batch_norm_in_training_mode_is_refused(statistics, images):
    network = Checkpointed(convolutional())
    regularizer = regularized(network, images, ["first.2"], pair_statistics=statistics)
    with pytest.raises(ValueError, match="batch norm in training mode inside activation checkpointing"):
        regularizer()
    with torch.autograd.graph.save_on_cpu():  # other hooks on saved tensors run nothing again
        regularized(convolutional(), images)().backward()


# norms


@pytest.mark.parametrize("statistics", ["shared", "separate", "frozen"])
def test_frozen_batch_norm_stays_as_it_is(statistics, images, batch):
    network = convolutional()
    for each in network.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.eval().requires_grad_(False)
    frozen = {name: each.clone() for name, each in network.state_dict().items() if name[0] in "14"}
    expected = steps(network, regularized(network, images), batch)
    assert all(torch.equal(network.state_dict()[name], each) for name, each in frozen.items())
    again = convolutional()
    for each in again.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.eval().requires_grad_(False)
    assert steps(again, regularized(again, images, pair_statistics=statistics), batch) == expected


@pytest.mark.parametrize("norm", [group_norm, LayerNormFirst, nn.InstanceNorm2d])
@pytest.mark.parametrize("statistics", ["separate", "frozen"])
def test_norms_of_single_images_know_no_statistics_of_pairs(norm, statistics, images, batch):
    found = []
    for how in ("shared", statistics):
        network = convolutional(norm)
        found.append((steps(network, regularized(network, images, pair_statistics=how), batch), network))
    assert found[0][0] == found[1][0]
    assert_equal_weights(found[0][1], found[1][1], rtol=0, atol=0)


# what a network or a layer returns


class Output(OrderedDict):
    """As ModelOutput of Hugging Face: a dict by name, with attributes, that leaves out what is None."""

    def __init__(self, **values):
        super().__init__((name, value) for name, value in values.items() if value is not None)

    def __getattr__(self, name):
        return self[name]


class Returning(nn.Module):
    """A network and a layer that return their tensor in something."""

    def __init__(self, wrap, unwrap):
        super().__init__()
        self.network, self.wrap = convolutional(), wrap
        self.layer = Wrapped(self.network[:3], wrap, unwrap)

    def forward(self, x):
        return self.wrap(self.network[3:](self.layer(x, unwrapped=True)))


class Wrapped(nn.Module):
    def __init__(self, body, wrap, unwrap):
        super().__init__()
        self.body, self.inner, self.unwrap = body, Giving(wrap), unwrap

    def forward(self, x, unwrapped):
        return self.unwrap(self.inner(self.body(x)))


class Giving(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda x: (x, None), lambda y: y[0]),
        (lambda x: [x, x + 1], lambda y: y[0]),
        (lambda x: {"logits": x, "other": "a word"}, lambda y: y["logits"]),
        (lambda x: Output(loss=None, logits=x, hidden_states=(x, x)), lambda y: y.logits),
    ],
    ids=["tuple", "list", "dict", "ModelOutput"],
)
def test_networks_and_layers_may_return_more_than_a_tensor(wrap, unwrap, images, batch):
    plain, network = convolutional(), Returning(wrap, unwrap)
    expected = steps(plain, regularized(plain, images, ["2", "4"]), batch)
    regularizer = regularized(network, images, ["layer.inner", "network.4"])
    assert steps(network, regularizer, batch, task=lambda x: unwrap(network(x))) == expected


class Block(nn.Module):
    """A transformer's block: a tensor, as in timm, or a tuple of it, as in Hugging Face."""

    def __init__(self, as_tuple):
        super().__init__()
        self.norm, self.mlp, self.as_tuple = nn.LayerNorm(8), nn.Linear(8, 8), as_tuple

    def forward(self, tokens):
        tokens = tokens + self.mlp(self.norm(tokens))
        return (tokens,) if self.as_tuple else tokens


class Tokens(nn.Module):
    """Patches and a class token, as in timm and Hugging Face."""

    def __init__(self, as_tuple=False):
        super().__init__()
        torch.manual_seed(0)
        self.patch_embed, self.as_tuple = nn.Conv2d(3, 8, 4, 4), as_tuple
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList(Block(as_tuple) for _ in range(3))
        self.head = nn.Linear(8, CLASSES)

    def hidden(self, pixel_values):
        tokens = self.patch_embed(pixel_values).flatten(2).transpose(1, 2)
        states = [torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)]
        for block in self.blocks:
            given = block(states[-1])
            states.append(given[0] if self.as_tuple else given)
        return tuple(states)

    def forward_features(self, x):
        return self.hidden(x)[-1]

    def forward(self, pixel_values, output_hidden_states=False):
        states = self.hidden(pixel_values)
        logits = self.head(states[-1][:, 0])
        return Output(logits=logits, hidden_states=states) if self.as_tuple else logits


def three_channels(x):
    return x.expand(-1, 3, -1, -1)


def test_token_features_in_the_styles_of_timm_and_hugging_face(images, batch):
    timm, hugging_face = Tokens(), Tokens(as_tuple=True)
    x = three_channels(batch[0])
    found = {
        "names, timm": (timm, ["blocks.0", "blocks.2"]),
        "names, Hugging Face": (hugging_face, ["blocks.0", "blocks.2"]),
        "hidden states": (hugging_face, lambda x: hugging_face(x, output_hidden_states=True).hidden_states[1::2]),
        "forward_features": (timm, lambda x: [timm.blocks[0](timm.hidden(x)[0]), timm.forward_features(x)]),
    }
    losses = {}
    tasks = {timm: timm, hugging_face: lambda x: hugging_face(x).logits}
    for name, (network, layers) in found.items():
        start = copy.deepcopy(network.state_dict())
        regularizer = SimilarityRegularizer(
            network, layers, images, threshold=0.5, pairs_per_step=4, preprocess=three_channels
        )
        assert regularizer.mean0.shape == (8,)  # the channels, not the 5 tokens
        losses[name] = steps(network, regularizer, (x, batch[1]), task=tasks[network])
        network.load_state_dict(start)
    assert losses["names, timm"] == losses["names, Hugging Face"] == losses["hidden states"]
    assert losses["forward_features"] == pytest.approx(losses["names, timm"], rel=1e-6)
    assert losses["names, timm"][0] != losses["names, timm"][-1]


def test_gray_images_for_a_network_of_three_channels(images, batch):
    with pytest.raises(ValueError, match=r"refuses images of shape \[1, 8, 8\] \(of a gray image, preprocess=lambda x"):
        regularized(convolutional(channels=3), images)
    trained = []
    for pixels, preprocess in ((images, three_channels), (three_channels(images), None)):
        network = convolutional(channels=3)
        regularizer = regularized(network, pixels, preprocess=preprocess)
        trained.append(steps(network, regularizer, (three_channels(batch[0]), batch[1])))
        assert len(set(trained[-1])) == 3
    assert trained[0] == trained[1]

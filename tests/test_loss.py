"""The loss against a double loop and gradcheck; the regularizer on networks it was not made for."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18 as torchvision_resnet18

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

"""Measures of similarity against their definitions: the paper's cosine and loss, and linear CKA."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simreg_core import (
    SimilarityRegularizer,
    linear_cka,
    pixel_similarity,
    resnet18,
    similarity_loss,
    threshold_targets,
)
from simreg_core.pairs import GroupSampler
from simreg_core.similarity import LinearCKA, Similarity, u_centred


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
    with pytest.raises(ValueError, match="eps must be a number above 0, got None"):
        similarity_loss(torch.zeros(2), torch.zeros(2), eps=None)
    with pytest.raises(ValueError, match=r"eps must be at least 9.5e-07 for torch.float32, or rounding.*got 1e-07"):
        similarity_loss(torch.tensor([1.0000002]), torch.ones(1), eps=1e-7)
    assert similarity_loss(torch.tensor([1.0000004]), torch.ones(1), eps=1e-6).isfinite()


# linear CKA


def unbiased_hsic(k, m):
    """Song et al. (2012), Eq. 5, by loops over two matrices of plain numbers."""
    n = len(k)
    indices = range(n)
    trace = sum(k[i][j] * m[j][i] for i in indices for j in indices if i != j)
    sums = [sum(each[i][j] for i in indices for j in indices if i != j) for each in (k, m)]
    mixed = sum(k[i][j] * m[j][q] for i in indices for j in indices for q in indices if i != j and j != q)
    return (trace + sums[0] * sums[1] / ((n - 1) * (n - 2)) - 2 / (n - 2) * mixed) / (n * (n - 3))


def cka_by_loops(k, m):
    k, m = k.tolist(), m.tolist()
    return unbiased_hsic(k, m) / math.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))


@pytest.fixture
def features(generator):
    return torch.randn(8, 5, generator=generator, dtype=torch.float64)


@pytest.fixture
def target(generator):
    half = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    return (half @ half.T / 10).clamp(-1, 1)


def test_cka_equals_its_definition_by_loops(features, target):
    gram = features @ features.T
    assert linear_cka(gram, target).item() == pytest.approx(cka_by_loops(gram, target), rel=1e-10)
    measure = LinearCKA()
    loss = measure.loss(measure.of_layer(features), target)
    assert loss.item() == pytest.approx(1 - cka_by_loops(gram, target), rel=1e-10)


@pytest.mark.parametrize(("second", "expected"), [("y", -0.06195109949206), ("part of x", 0.64514640871078)])
def test_cka_equals_that_of_a_library(second, expected):
    """Numbers by ckatorch 1.0.3, `cka_base(x, y, "linear", unbiased=True)`; its `hsic1` gives the same."""
    x = torch.sin(torch.arange(30, dtype=torch.float64) ** 2).reshape(6, 5)
    y = torch.cos(torch.arange(18, dtype=torch.float64) ** 2 + 1).reshape(6, 3) if second == "y" else x[:, :2]
    assert linear_cka(x @ x.T, y @ y.T).item() == pytest.approx(expected, abs=1e-12)


def test_cka_does_not_depend_on_rotation_scale_shift_or_the_diagonals(features, target, generator):
    expected = linear_cka(features @ features.T, target)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    for changed in (features @ rotation, 1e3 * features, features + 7):
        torch.testing.assert_close(linear_cka(changed @ changed.T, 0.5 * target), expected)
    torch.testing.assert_close(linear_cka(features @ features.T, target.clone().fill_diagonal_(100)), expected)
    stretched = features * torch.arange(1, 6)
    assert not torch.isclose(linear_cka(stretched @ stretched.T, target), expected)
    torch.testing.assert_close(linear_cka(target, 3 * target).item(), 1.0)


def test_cka_of_unrelated_features_is_zero_on_average(generator):
    """Debiased: the biased estimator gives about 0.9 where there are more features than images."""
    pairs = torch.randn(300, 2, 10, 60, generator=generator, dtype=torch.float64)
    values = torch.stack([linear_cka(x @ x.T, y @ y.T) for x, y in pairs])
    assert values.mean().abs() < 4 * values.std() / len(values) ** 0.5
    assert values.std() < 0.3


def test_gradients_of_cka(features, target):
    measure = LinearCKA()
    x = features[:6].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda maps: measure.loss(measure.of_layer(maps), target[:6, :6]), x)
    assert torch.autograd.gradcheck(lambda maps: linear_cka(maps @ maps.T, target[:6, :6]), x)


def test_u_centred_rows_sum_to_zero(target):
    centred = u_centred(target)
    torch.testing.assert_close(centred.sum(dim=0), torch.zeros(8, dtype=torch.float64))
    assert centred.diagonal().count_nonzero() == 0


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("what", ["maps", "targets", "one layer of two"])
def test_what_does_not_vary_gives_a_loss_and_no_gradient(what, offset, features, target):
    measure = LinearCKA()
    constant = torch.full((8, 5), offset).requires_grad_()
    maps = features.float().requires_grad_()
    if what == "one layer of two":
        gammas = torch.tensor([0.5, 0.5])
        layers = torch.stack([measure.of_layer(constant), measure.of_layer(maps)])
        loss = measure.loss((gammas[:, None, None] * layers).sum(dim=0), target.float())
        torch.testing.assert_close(loss, measure.loss(measure.of_layer(maps), target.float()))
    elif what == "maps":
        loss = measure.loss(measure.of_layer(constant), target.float())
        assert loss == 1
    else:
        loss = measure.loss(measure.of_layer(maps), torch.full((8, 8), min(offset, 1.0)))
        assert loss == 1
    loss.backward()
    for given in (constant, maps):
        assert given.grad is None or given.grad.isfinite().all()
    assert constant.grad is None or constant.grad.count_nonzero() == 0


def test_cka_refuses_other_shapes(target):
    for first, second in ((target, target[:7, :7]), (target[:3, :3], target[:3, :3]), (target[:, :4], target[:, :4])):
        with pytest.raises(ValueError, match=r"two similarity matrices \[n, n\] with n >= 4 are needed"):
            linear_cka(first, second)


# through the regularizer


@pytest.fixture
def images(generator):
    return torch.rand(40, 1, 16, 16, generator=generator)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return resnet18(width=4).eval()


def test_the_regularizer_compares_all_images_of_a_step(model, images):
    regularizer = SimilarityRegularizer(
        model, model.features, images, targets="pixel", similarity="linear_cka", pairs_per_step=5
    ).eval()
    rows, cols, targets = regularizer.draw()
    index = torch.cat([rows, cols])
    assert len(index.unique()) == 10
    torch.testing.assert_close(targets, pixel_similarity(images)[index][:, index])
    grams = []
    for maps in model.features(images[index]):
        gram = u_centred(maps.detach().double().flatten(1) @ maps.detach().double().flatten(1).T)
        grams.append(gram / gram.norm())
    with torch.no_grad():
        expected = 1 - linear_cka(sum(grams) / len(grams), targets.double())
        assert regularizer((rows, cols, targets)).item() == pytest.approx(expected.item(), abs=1e-5)
        regularizer.layer_logits.copy_(torch.tensor([50.0, 0, 0, 0, 0]))
        expected = 1 - linear_cka(grams[0], targets.double())
        assert regularizer((rows, cols, targets)).item() == pytest.approx(expected.item(), abs=1e-5)


def test_batch_norm_sees_the_images_of_a_group_as_one_batch(model, images):
    regularizer = SimilarityRegularizer(model.train(), model.features, images, targets="pixel", similarity="linear_cka")
    before = model.stem[1].num_batches_tracked.item()
    regularizer()
    assert model.stem[1].num_batches_tracked.item() == before + 1


def test_an_epoch_of_groups_holds_each_image_once(images):
    matrix = threshold_targets(pixel_similarity(images), 0.1)
    sampler = GroupSampler(matrix)
    assert sampler.targets.dtype == torch.int8
    generator = torch.Generator().manual_seed(1)
    one_by_one = [sampler.draw(5, generator) for _ in range(8)]
    seen = torch.cat([torch.cat([rows, cols]) for rows, cols, _ in one_by_one])
    assert [sorted(half.tolist()) for half in seen.split(40)] == [list(range(40))] * 2
    again = GroupSampler(matrix).draw_many(8, 5, torch.Generator().manual_seed(1))
    for place, drawn in enumerate(zip(*one_by_one, strict=True)):
        assert torch.equal(torch.stack(drawn), again[place])


def test_training_raises_cka_with_the_targets_on_images_that_were_held_out():
    """A small network and smooth images, whose similarity generalizes; no task."""
    torch.manual_seed(0)
    pixels = F.interpolate(torch.rand(120, 1, 3, 3), (12, 12), mode="bicubic").clamp(0, 1)
    network = nn.Sequential(nn.Conv2d(1, 8, 5, 2), nn.Tanh(), nn.Flatten(), nn.Linear(128, 32), nn.Tanh())
    regularizer = SimilarityRegularizer(
        network, ["4"], pixels[:80], targets="pixel", similarity="linear_cka", pairs_per_step=16
    )
    held_out, target = pixels[80:], pixel_similarity(pixels)[80:, 80:]

    def cka():
        with torch.no_grad():
            maps = network(held_out)
            return linear_cka(maps @ maps.T, target).item()

    before, optimizer = cka(), torch.optim.Adam([*network.parameters(), *regularizer.parameters()], 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        regularizer().backward()
        optimizer.step()
    assert before < 0.9
    assert cka() > before + 0.5 * (1 - before)


class NegativeDistance(Similarity):
    """A user's measure: minus the mean squared difference of the maps, in one small class."""

    whole = False

    def of_layer(self, maps):
        first, second = maps.chunk(2)
        return -(first - second).square().mean(dim=1)

    def loss(self, similarity, targets):
        return (similarity - targets).square().mean()


def test_a_measure_of_the_users(model, images):
    regularizer = SimilarityRegularizer(
        model, model.features, images, targets="pixel", similarity=NegativeDistance(), pairs_per_step=6
    ).eval()
    rows, cols, targets = regularizer.draw()
    maps = [each.detach() for each in model.features(images[torch.cat([rows, cols])])]
    layers = [-(each[:6] - each[6:]).square().mean(dim=(1, 2, 3)) for each in maps]
    expected = (sum(layers) / len(layers) - targets).square().mean()
    torch.testing.assert_close(regularizer((rows, cols, targets)).detach(), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"similarity": "cka"}, "unknown similarity 'cka'; allowed: cosine, linear_cka, or an object"),
        ({"similarity": LinearCKA}, "unknown similarity <class"),
        ({"pairs": "low"}, "similarity 'linear_cka' compares all images .* pairs must be 'all', got 'low'"),
        ({"pairs_per_step": 1}, r"pairs_per_step must lie in \[2, 20\] .* of 40 images; got 1"),
        ({"pairs_per_step": 21}, r"pairs_per_step must lie in \[2, 20\] .* got 21"),
        ({"targets": torch.zeros(40, 40)}, "targets must differ from pair to pair .* they are all 0"),
        ({"targets": torch.eye(40)}, "targets must differ from pair to pair .* they are all 0"),
        ({"targets": torch.eye(30)}, r"targets must have shape \[40, 40\], got \[30, 30\]"),
    ],
)
def test_what_cka_does_not_take_is_refused(model, images, arguments, message):
    given = {"similarity": "linear_cka", "targets": "pixel", **arguments}
    with pytest.raises(ValueError, match=message) as error:
        SimilarityRegularizer(model, ["stem"], images, **given)
    assert "\n" not in str(error.value)

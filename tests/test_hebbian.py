"""Hebbian blocks against their formulas: cost, its gradient, divisive normalization, threshold, attackers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simreg_core import attacks
from simreg_core.architectures import architecture
from simreg_core.attacks import suspicion
from simreg_core.defences import HebbianBlock, HebbianTraining, differentiated, logits_and_costs
from simreg_core.defences.hebbian import (
    UnitConv2d,
    active_count,
    divisive_normalization,
    fixed_channels,
    hebbian_blocks,
    hebbian_cost,
    kept_from,
    strongest,
    with_hebbian_blocks,
)
from simreg_core.defences.hebbian_training import NORMALIZATIONS
from simreg_core.names import UNIT_BLOCKS, UNIT_PLANS


@pytest.fixture
def block():
    torch.manual_seed(0)
    return HebbianBlock(3, 10)


@pytest.fixture
def images(generator):
    return torch.rand(4, 3, 8, 8, generator=generator)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return with_hebbian_blocks(architecture("unit-vgg", (8, 8), 1, 5, width=8, shift=0.0, gain=1.0), 3)


def test_responses_do_not_depend_on_the_scale_of_filters(block, images):
    y = block.responses(images)
    w = block.conv.weight[4]
    middle = (images[1, :, 2:5, 3:6] * w).sum() / w.norm()
    torch.testing.assert_close(y[1, 4, 3, 4], middle.relu(), atol=1e-4, rtol=1e-4)
    assert (y > 0).any()
    assert (y >= 0).all()
    with torch.no_grad():
        block.conv.weight.mul_(9 * torch.rand(10, 1, 1, 1) + 0.5)
    torch.testing.assert_close(block.responses(images), y, atol=1e-4, rtol=1e-4)


def test_the_cost_is_its_formula(generator):
    y = torch.rand(2, 20, 3, 3, generator=generator)
    ordered = y.sort(dim=1, descending=True).values
    for count, anti in ((2, 0.1), (1, 1.0), (7, 0.0)):
        expected = (ordered[:, :count].mean(dim=1) - anti * ordered[:, count:].mean(dim=1)).mean()
        torch.testing.assert_close(hebbian_cost(y, count, anti), expected)
        torch.testing.assert_close(hebbian_cost(3 * y, count, anti), 3 * expected)
    same = torch.full((2, 20, 3, 3), 0.7)
    torch.testing.assert_close(hebbian_cost(same, 2, 0.1), torch.tensor(0.9 * 0.7))
    assert hebbian_cost(same, 2, 1.0).abs() < 1e-6


@pytest.mark.parametrize(
    ("channels", "active", "expected"), [(64, 0.1, 7), (128, 0.1, 13), (256, 0.1, 26), (8, 0.1, 1), (10, 0.3, 3)]
)
def test_how_many_filters_win(channels, active, expected):
    assert active_count(channels, active) == expected


def test_the_gradient_is_hebbian_for_winners_and_anti_hebbian_for_others():
    """Orthogonal to every filter; of a patch (I - ŵŵᵀ)x / K for winners, -λ / (N - K) of it for others that answer."""
    torch.manual_seed(1)
    conv = UnitConv2d(1, 8, 3, bias=False).double()
    x, anti, count = torch.rand(1, 1, 3, 3).double(), 0.3, 2
    y = conv(x).relu()
    (gradient,) = torch.autograd.grad(hebbian_cost(y, count, anti), conv.weight)
    w, g, patch = conv.weight.detach().flatten(1), gradient.flatten(1), x.flatten()
    assert (w * g).sum(dim=1).abs().max() < 1e-6
    order = y.flatten().argsort(descending=True)
    active = (y.flatten() > 0).tolist()
    assert 0 < sum(active[one] for one in order[count:].tolist()) < 6  # some answer and lose, some do not answer
    for place, one in enumerate(order.tolist()):
        unit, norm = w[one] / w[one].norm(), w[one].norm()
        across = (patch - (patch @ unit) * unit) / norm
        scale = 1 / count if place < count else -anti / (8 - count)
        torch.testing.assert_close(g[one], scale * active[one] * across, atol=1e-5, rtol=1e-4)
    for place, one in enumerate(order.tolist()):  # a step up the cost turns winners towards the patch
        cosines = [F.cosine_similarity(at, patch, dim=0) for at in (w[one], w[one] + 0.01 * g[one])]
        change = (cosines[1] - cosines[0]).item()
        assert change > 0 if place < count else change < 0 if active[one] else change == 0


def test_a_cost_moves_only_its_own_block(network, generator):
    x = torch.rand(4, 1, 8, 8, generator=generator)
    blocks = hebbian_blocks(network)
    weights = [block.conv.weight for block in blocks]
    for stopped in (True, False):
        logits, costs = logits_and_costs(network, x, stopped=stopped)
        assert len(costs) == 3
        torch.testing.assert_close(logits, network(x))
        for own, cost in enumerate(costs):
            found = torch.autograd.grad(cost, weights, retain_graph=True, allow_unused=True)
            moved = [one is not None and bool(one.abs().max() > 0) for one in found]
            assert moved == [place == own or (place < own and not stopped) for place in range(len(blocks))]
    assert not any(block._forward_pre_hooks for block in blocks)


def test_divisive_normalization(generator):
    y = F.relu(torch.randn(3, 6, 5, 5, generator=generator))
    for pooled in (True, False):
        z = divisive_normalization(y, 0.1, pooled)
        torch.testing.assert_close(divisive_normalization(50 * y, 0.1, pooled), z, atol=1e-4, rtol=1e-4)
        by_one = divisive_normalization(y, 1.0, pooled)
        ratios = (by_one / y)[y > 0].view(-1)
        of_image = [(by_one[i] / y[i])[y[i] > 0] for i in range(3)]
        assert all(torch.allclose(one, one[0]) for one in of_image)
        assert len(ratios) > 50
    z, mean = divisive_normalization(y, 0.1, pooled=False), y.mean(dim=1)
    at_most = z.mean(dim=1)
    largest = mean.flatten(1).argmax(dim=1)
    torch.testing.assert_close(at_most.flatten(1)[range(3), largest], torch.ones(3), atol=1e-4, rtol=0)
    assert (at_most <= 1 + 1e-4).all()
    everywhere = divisive_normalization(y, 0.0, pooled=False).mean(dim=1)
    torch.testing.assert_close(everywhere[mean > 0], torch.ones_like(everywhere[mean > 0]), atol=1e-4, rtol=0)
    around = F.max_pool2d(y, 3, 1, 1).mean(dim=1, keepdim=True)
    expected = y / (0.1 * around.amax(dim=(2, 3), keepdim=True) + 0.9 * around + 1e-7)
    torch.testing.assert_close(divisive_normalization(y, 0.1), expected)
    assert not torch.allclose(expected, z)


@pytest.mark.parametrize(("side", "most"), [(32, 205), (16, 52), (8, 13)])
def test_a_threshold_keeps_the_largest_share(side, most, generator):
    z = torch.rand(2, 3, side, side, generator=generator)
    kept = strongest(z, 0.2)
    assert ((kept > 0).flatten(2).sum(dim=2) == most).all()
    assert torch.equal(kept[kept > 0], z[kept > 0])
    least = torch.where(kept > 0, kept, 9.0).amin(dim=(2, 3), keepdim=True)
    assert (z[(kept == 0)] < least.expand_as(z)[kept == 0]).all()
    assert torch.equal(kept_from(z, 0.2).flatten(), z.flatten(2).sort(dim=2).values[..., side**2 - most - 1].flatten())
    tied = torch.ones(1, 1, side, side)
    assert not strongest(tied, 0.2).any()  # strictly above
    assert torch.equal(strongest(z[:, :, :1, :1], 0.2), z[:, :, :1, :1])  # of one place none must go


def test_a_fixed_choice_of_channels_is_known():
    fixed = torch.rand(2, 10, 6, 6)
    fixed[:, :2] += 5
    assert fixed_channels(fixed, 2) == 1
    turns = torch.zeros(1, 10, 10, 10)
    for place in range(10):
        turns[:, place, place] = 1
    assert fixed_channels(turns, 1) == pytest.approx(0.1)
    assert fixed_channels(torch.zeros(1, 4, 3, 3), 1) != fixed_channels(torch.zeros(1, 4, 3, 3), 1)  # NaN


def test_every_way_gives_the_same_output_and_another_gradient(block, images):
    def gradient(**ways):
        x = images.clone().requires_grad_()
        with differentiated(block, **ways):
            out = block(x)
        return out.detach(), torch.autograd.grad((out * weights).sum(), x)[0]

    weights = torch.linspace(-1, 1, 10).reshape(1, 10, 1, 1)
    out, exact = gradient()
    found = [
        gradient(threshold="identity"), gradient(threshold="soft"), gradient(normalization="constant"),
    ]  # fmt: skip
    assert all(torch.equal(own, out) for own, _ in found)
    assert all(not torch.allclose(own, exact) for _, own in found)
    x = images.clone().requires_grad_()
    z = block.normalized(block.responses(x))
    torch.testing.assert_close(found[0][1], torch.autograd.grad((z * weights).sum(), x)[0])
    assert (block.way["threshold"], block.way["normalization"]) == ("exact", "exact")


def test_a_gate_without_gradient_is_flagged_and_the_defence_is_not(network, generator):
    """A block that passes only which values are kept masks its gradient; the defence's own threshold does not."""
    x = torch.rand(40, 1, 8, 8, generator=generator)

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            first, *others = self.network.body.features
            out = (first(x.expand(-1, 3, -1, -1)) > 0).float()
            for module in (*others, self.network.body.avgpool, self.network.body.flatten):
                out = module(out)
            return self.network.body.classifier(out) + 0 * x.sum()

    network.eval()
    for own, flagged in ((Masked().eval(), True), (network, False)):
        labels = own(x).argmax(dim=1)
        walked = attacks.pgd(own, x, labels, 0.2, steps=3, seed=0)
        assert bool(suspicion.suspicions(gradients=(walked.zero_gradients, walked.nan_gradients))) == flagged


def test_the_architecture_is_the_standard_network_and_becomes_a_hebbian_one():
    for name, plan in UNIT_PLANS.items():
        network = architecture(name, (16, 16), width=4)
        assert len(hebbian_blocks(network)) == UNIT_BLOCKS[name] == sum(one != "M" for one in plan)
        assert not any(block.learns or block.keep for block in hebbian_blocks(network))
        before = [block.conv.weight for block in hebbian_blocks(network)]
        assert with_hebbian_blocks(network, 2, keep=0.3) is network
        assert [block.learns for block in hebbian_blocks(network)][:3] == [True, True, False]
        assert all(one is block.conv.weight for one, block in zip(before, hebbian_blocks(network), strict=True))
    wide = [one.shape[0] for one in architecture("unit-vgg16", (32, 32), 3).parameters() if one.ndim == 4]
    assert wide == [64, 64, 128, 128, 256, 256, 256, *[512] * 6]  # the source's VGG16


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_normalization_trains(normalization, generator):
    rule = HebbianTraining(blocks=2, normalization=normalization, anti=1.0)
    network = rule.network(architecture("unit-vgg", (8, 8), width=8))
    x, y = torch.rand(4, 1, 8, 8, generator=generator), torch.arange(4)
    found = rule.losses(network, x, y, 0.0, generator)
    logits, costs = logits_and_costs(network, x, 0.1, 1.0)
    torch.testing.assert_close(found["task"], F.cross_entropy(logits, y))
    torch.testing.assert_close(found["hebbian"], -(4.5e-3 * costs[0] + 2.5e-3 * costs[1]))
    sum(found.values()).backward()
    assert all(one.grad is not None for one in network.parameters())


@pytest.mark.parametrize("fields", [{"images": "noisy"}, {"images": "blurred"}, {"images": "adversarial", "steps": 1}])
def test_the_classifier_may_see_other_images(fields, generator):
    rule = HebbianTraining(blocks=1, strength=0.3, **fields)
    network = rule.network(architecture("unit-vgg", (16, 16), width=8)).eval()
    x, y = torch.rand(4, 1, 16, 16, generator=generator), torch.arange(4)
    found, clean = (
        rule.losses(network, x, y, 0.0, generator),
        HebbianTraining(blocks=1).losses(network, x, y, 0.0, generator),
    )
    assert found["task"] != clean["task"]
    assert torch.equal(found["hebbian"], clean["hebbian"])  # costs are of clean images
    plain = HebbianTraining(blocks=0, strength=0.3, **fields)
    assert set(plain.losses(network, x, y, 0.0, generator)) == {"task"}


def test_the_schedule_is_the_source_s():
    (stage,) = HebbianTraining().stages(10)
    assert (stage.optimizer, stage.ends_with) == ("adam", "last")
    assert stage.rates == pytest.approx((1e-3,) * 6 + (1e-4,) * 2 + (1e-5,) * 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hebbian_cost(torch.ones(1, 8, 2, 2), 0, 0.1), r"K must lie in \[1, 7\].*8 channels; got 0"),
        (lambda: hebbian_cost(torch.ones(1, 8, 2, 2), 8, 0.1), r"K must lie in \[1, 7\].*got 8"),
        (lambda: hebbian_cost(torch.ones(1, 8, 2, 2), 1, -1), "anti must be at least 0, got -1"),
        (lambda: active_count(8, 0), r"active must lie in \(0, 1\), so that K.*got 0"),
        (lambda: active_count(1, 0.1), "active=0.1 of 1 channels leaves no filter that loses"),
        (lambda: divisive_normalization(torch.ones(1, 2, 2, 2), 2), r"sigma must lie in \[0, 1\], got 2"),
        (lambda: HebbianBlock(1, 2, keep=0), r"keep.* must lie in \(0, 1\), got 0"),
        (lambda: HebbianBlock(1, 2, keep=1), r"keep.* must lie in \(0, 1\), got 1"),
        (lambda: HebbianBlock(1, 2, "layer"), "unknown normalization 'layer'; allowed: pooled, mean, batch"),
        (lambda: with_hebbian_blocks(nn.Linear(2, 2), 1), "a Linear has no blocks; take the architecture 'unit-vgg'"),
        (
            lambda: with_hebbian_blocks(architecture("unit-vgg", (8, 8)), 8),
            r"blocks must lie in \[0, 7\], the network has 7 of them; got 8",
        ),
        (lambda: HebbianTraining(active=0), r"active must lie in \(0, 1\)"),
        (lambda: HebbianTraining(keep=1.5), r"keep.* must lie in \(0, 1\), got 1.5"),
        (lambda: HebbianTraining(blocks=7), "alphas must have one for each of the 7 blocks, got 6"),
        (lambda: HebbianTraining(blocks=-1), "blocks must be at least 0"),
        (lambda: HebbianTraining(anti=-0.1), "λ of filters that lose, must be at least 0, got -0.1"),
        (lambda: HebbianTraining(threshold="soft"), "unknown threshold 'soft'; allowed: strongest, none"),
        (lambda: HebbianTraining(strength=0.1), "strength goes with images other than 'clean', got 0.1"),
        (lambda: HebbianTraining(images="noisy"), r"epsilon must lie in \(0, 1\]"),
        (lambda: HebbianTraining(images="blurred"), "sigma must be positive, got 0"),
        (lambda: HebbianTraining(images="noisy", strength=2), r"epsilon must lie in \(0, 1\]"),
        (lambda: HebbianTraining(learning_rate=0), "learning_rate must be positive, got 0"),
        (lambda: HebbianTraining(cost=-1), "cost and alphas must be at least 0"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_in_words():
    assert HebbianTraining(blocks=4, threshold="none").words() == "4 Hebbian blocks, λ 0.1, no threshold"
    assert HebbianTraining(blocks=0, images="noisy", strength=0.2).words() == "unit-norm filters, noisy images, 0.2"

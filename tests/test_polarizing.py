"""The polarizing front end against its formulas: quantizer, losses, certificate, gradients."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from simreg_core import attacks
from simreg_core.attacks import suspicion
from simreg_core.defences import PolarizedTraining, differentiated
from simreg_core.defences.polarized_training import farthest
from simreg_core.defences.polarizing import (
    STEEPNESS,
    PixelQuantizer,
    PolarizingFrontEnd,
    bump_at_zero,
    bumps_at_thresholds,
    certified,
    distance_to_thresholds,
    polarized_network,
    quantized,
    smooth_quantizer,
    towards_a_threshold,
)


@pytest.fixture
def front_end():
    torch.manual_seed(0)
    return PolarizingFrontEnd(0.3)


@pytest.fixture
def images(generator):
    return torch.rand(6, 1, 28, 28, generator=generator)


def test_activations_are_bounded_and_do_not_depend_on_the_scale_of_filters(front_end, images):
    z = front_end.activations(images)
    assert z.shape == (6, 25, 28, 28)
    assert z.abs().max() <= images.max()
    w = front_end.weight[3, 0]
    middle = (images[2, 0, 8:13, 10:15] * w).sum() / w.abs().sum()
    torch.testing.assert_close(z[2, 3, 10, 12], middle)
    with torch.no_grad():
        front_end.weight.mul_(torch.rand(25, 1, 1, 1) * 9 + 0.1)
    torch.testing.assert_close(front_end.activations(images), z)
    assert front_end.weight.abs().max() > 1
    bound = PolarizingFrontEnd(0.3).weight.abs().max()
    assert 0.9 * math.sqrt(6 / 25) < bound <= math.sqrt(6 / 25)  # He-uniform


def test_three_levels_are_odd_and_zero_between_the_thresholds():
    z = torch.tensor([-1.0, -0.31, -0.3, -0.2, 0.0, 0.29, 0.3, 0.4, 1.0])
    expected = torch.tensor([-1.0, -1.0, -0.5, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0])
    assert torch.equal(quantized(z, 0.3), expected)
    assert torch.equal(quantized(-z, 0.3), -expected)
    steep = smooth_quantizer(z, 0.3, 2000.0)
    torch.testing.assert_close(steep, expected, atol=1e-4, rtol=0)


def test_bumps_and_their_slope(generator):
    z = torch.linspace(-1, 1, 41, dtype=torch.float64, requires_grad=True)
    b = bump_at_zero(z, 0.35)
    (slope,) = torch.autograd.grad(b.sum(), z)
    torch.testing.assert_close(slope, -z / 0.35**2 * b)
    assert bump_at_zero(torch.zeros(1), 0.35) == 1
    for side in (-0.5, 0.5):
        assert bumps_at_thresholds(torch.tensor([side]), 0.5, 0.15) >= 1
        assert bumps_at_thresholds(torch.tensor([0.0]), 0.5, 0.15) < 0.01


def test_no_perturbation_changes_the_code_of_a_certified_image(front_end, images, generator):
    z = front_end.activations(images)
    distance = distance_to_thresholds(z, 0.3)
    expected = ((z.abs() - 0.3).abs()).flatten(1).min(dim=1).values
    torch.testing.assert_close(distance, expected)
    torch.testing.assert_close(front_end.distances(images), distance)
    assert torch.equal(certified(z, 0.3, distance.median().item()), distance >= distance.median())
    codes = quantized(z, 0.3)
    for image, own, code in zip(images, distance, codes, strict=True):
        epsilon = 0.99 * own.item() - 1e-6  # float32 rounds
        if epsilon <= 0:
            continue
        for _ in range(5):
            e = epsilon * (2 * torch.randint(0, 2, image.shape, generator=generator) - 1)
            assert torch.equal(quantized(front_end.activations(image[None] + e), 0.3)[0], code)


def test_the_worst_perturbation_moves_an_activation_by_epsilon(front_end, generator):
    """So the certificate is exact for a single activation: at its distance, a little more changes the level."""
    x = 0.3 + 0.4 * torch.rand(1, 1, 5, 5, generator=generator)
    k = 7
    z = front_end.activations(x)[0, k, 2, 2]
    for side in (-1, 1):
        e = side * 0.05 * front_end.weight[k].sign()
        moved = front_end.activations(x + e)[0, k, 2, 2]
        torch.testing.assert_close(moved - z, torch.tensor(side * 0.05))
    away = (z.abs() - 0.3).abs().item()
    towards = 1 if (z.abs() < 0.3) == (z > 0) else -1
    other = front_end.activations(x + towards * 1.01 * away * front_end.weight[k].sign())[0, k, 2, 2]
    same = front_end.activations(x + towards * 0.99 * away * front_end.weight[k].sign())[0, k, 2, 2]
    assert quantized(other, 0.3) != quantized(z, 0.3) == quantized(same, 0.3)


@pytest.mark.parametrize(
    ("make", "least"),
    [(lambda: PixelQuantizer(0.4), 1.0), (lambda: PolarizingFrontEnd(0.3, filters=3), 0.5)],
)
def test_the_certificate_is_tight(make, least, generator):
    """Within an image's distance no level changes, just beyond it one does, but for filters over the image's border."""
    torch.manual_seed(0)
    own, x = make(), 0.3 + 0.4 * torch.rand(30, 1, 8, 8, generator=generator)  # nothing is clipped
    levels, changed = own.levels(x), {0.99: [], 1.01: []}
    for image, distance, level in zip(x, own.distances(x).tolist(), levels, strict=True):
        for factor, found in changed.items():
            moved = towards_a_threshold(own, image[None], factor * distance)
            assert (moved - image).abs().max() <= factor * distance + 1e-6
            if distance > 1e-4:  # else float32 rounds
                found.append(bool((own.levels(moved)[0] != level).any()))
    assert len(changed[0.99]) > 15
    assert not any(changed[0.99])
    assert sum(changed[1.01]) >= least * len(changed[1.01])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        towards_a_threshold(own, 2 * x, 0.1)


def test_no_activation_is_farther_than_it_can_be(front_end, images):
    """So beyond that epsilon every activation of every image is unsafe."""
    for threshold in (0.3, 0.5, 0.9):
        z = torch.linspace(-1, 1, 2001)
        assert (z.abs() - threshold).abs().max().item() == pytest.approx(farthest(threshold))
        assert not certified(front_end.activations(images), threshold, farthest(threshold) + 0.01).any()


def test_filters_are_remembered_as_stages_begin(front_end):
    front_end.remember(0)
    first = front_end.weight.detach().clone()
    with torch.no_grad():
        front_end.weight.mul_(2)
    front_end.remember(1)
    assert torch.equal(front_end.filters_before[0].view_as(first), first)
    assert torch.equal(front_end.filters_before[1].view_as(first), 2 * first)
    assert not front_end.filters_before[2].any()


@pytest.fixture
def pixels_and_network(generator):
    """Nearly binary images behind filters of one pixel each: polarized ideally, 100 of 120 images."""
    torch.manual_seed(0)
    front_end = PolarizingFrontEnd(0.5, filters=2, side=3)
    with torch.no_grad():
        front_end.weight.zero_()
        front_end.weight[0, 0, 1, 1], front_end.weight[1, 0, 0, 0] = 2.0, -3.0
    front_end.quantizing = True
    network = nn.Sequential(front_end, nn.Sequential(nn.Flatten(), nn.Linear(512, 3))).eval()
    binary = (torch.rand(120, 1, 16, 16, generator=generator) > 0.5).float()
    noise = 0.1 * torch.rand(binary.shape, generator=generator)
    x = (binary - noise).abs()
    x[100:, 0, 4:12, 4:12] = 0.5 + 0.01 * torch.randn(20, 8, 8, generator=generator)  # near the threshold
    return x.clamp(0, 1), network


def test_attacks_fail_on_certified_images(pixels_and_network):
    x, network = pixels_and_network
    safe = certified(network[0].activations(x), 0.5, 0.3)
    assert safe[:100].all()
    assert safe.sum() > 50
    assert not safe[100:].any()
    labels = network(x).argmax(dim=1)
    fooled = {}
    for way in ("identity", *STEEPNESS):
        with differentiated(network, quantizer=way):
            fooled[way] = attacks.pgd(network, x, labels, 0.3 - 1e-5, steps=10, restarts=2, seed=0).fooled
    with differentiated(network, polarizer="identity"):
        fooled["whole"] = attacks.pgd(network, x, labels, 0.3 - 1e-5, steps=10, seed=0).fooled
    fooled["Square"] = (
        network(attacks.square(network, x, labels, 0.3 - 1e-5, queries=50, seed=0).adversarial).argmax(dim=1) != labels
    )
    for own in fooled.values():
        assert not own[safe].any()
    assert any(own[~safe].any() for own in fooled.values())  # attacks that can find something


def test_every_way_has_its_gradient_and_the_same_levels(front_end, images):
    front_end.quantizing = True
    z = front_end.activations(images)

    def gradient(**ways):
        x = images.clone().requires_grad_()
        with differentiated(front_end, **ways):
            out = front_end(x)
        assert torch.equal(out, quantized(z, 0.3))
        (found,) = torch.autograd.grad((out * weights).sum(), x)
        return found

    weights = torch.linspace(-1, 1, 25).reshape(1, 25, 1, 1)
    x = images.clone().requires_grad_()
    (straight,) = torch.autograd.grad((front_end.activations(x) * weights).sum(), x)
    torch.testing.assert_close(gradient(), straight)  # identity through the quantizer
    for name, steepness in STEEPNESS.items():
        x = images.clone().requires_grad_()
        smooth = smooth_quantizer(front_end.activations(x), 0.3, steepness)
        torch.testing.assert_close(gradient(quantizer=name), torch.autograd.grad((smooth * weights).sum(), x)[0])
    whole = gradient(polarizer="identity")
    torch.testing.assert_close(whole, weights.sum().expand_as(whole), atol=1e-5, rtol=0)


def test_the_raw_quantizer_masks_its_gradient_and_is_flagged(pixels_and_network):
    x, network = pixels_and_network

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return self.network[1](quantized(self.network[0].activations(x), 0.5))

    masked, labels = Masked().eval(), network(x).argmax(dim=1)
    for own, flagged in ((masked, True), (network, False)):
        walked = attacks.pgd(own, x, labels, 0.3, steps=5, seed=0)
        warnings = suspicion.suspicions(gradients=(walked.zero_gradients, walked.nan_gradients))
        assert bool(warnings) == flagged


def test_the_pixel_quantizer(images):
    own = PixelQuantizer(0.5)
    assert torch.equal(own(images), images)
    own.quantizing = True
    x = images.clone().requires_grad_()
    assert torch.equal(own(x), (images > 0.5).float())
    (found,) = torch.autograd.grad(own(x).sum(), x)
    assert torch.equal(found, torch.ones_like(x))


def test_a_polarized_network_has_the_source_s_classifier(images):
    network = polarized_network(nn.Linear(3, 7), 0.5)
    assert network(images).shape == (6, 7)
    parts = [tuple(one.shape) for one in network.parameters() if one.ndim > 1]
    assert parts == [(25, 1, 5, 5), (32, 25, 5, 5), (64, 32, 5, 5), (100, 1024), (7, 100)]
    maps = network.classifier[:6](network.front_end(images))
    assert torch.equal(network.classifier[6](maps), maps)  # 4x4 already
    narrow = [tuple(one.shape) for one in polarized_network(nn.Linear(3, 7), 0.5, width=8).parameters() if one.ndim > 1]
    assert narrow == [(25, 1, 5, 5), (8, 25, 5, 5), (16, 8, 5, 5), (100, 256), (7, 100)]
    with pytest.raises(ValueError, match="a ReLU has no linear layer"):
        polarized_network(nn.ReLU(), 0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PolarizingFrontEnd(0.0), r"threshold must lie in \(0, 1\).*got 0"),
        (lambda: PolarizingFrontEnd(1.5), r"threshold must lie in \(0, 1\).*got 1.5"),
        (lambda: PolarizingFrontEnd(0.3, side=4), "side must be odd and positive, got 4"),
        (lambda: PolarizingFrontEnd(0.3, filters=0), "filters must be at least 1, got 0"),
        (lambda: quantized(torch.zeros(1), -0.1), "threshold must be positive, got -0.1"),
        (lambda: bump_at_zero(torch.zeros(1), 0), "sigma must be positive, got 0"),
        (lambda: certified(torch.zeros(1, 1), 0.3, -1), "epsilon must be at least 0, got -1"),
        (lambda: smooth_quantizer(torch.zeros(1), 0.3, 0), "steepness must be positive, got 0"),
        (lambda: PolarizingFrontEnd(0.3).distances(torch.full((1, 1, 8, 8), 2.0)), r"\[0, 1\]"),
        (lambda: PolarizedTraining(threshold=1), r"threshold must lie in \(0, 1\)"),
        (lambda: PolarizedTraining(sigma_two=0), "sigma_two must be positive, got 0"),
        (lambda: PolarizedTraining(width=0), "width must be at least 1, got 0"),
        (lambda: PolarizedTraining(threshold=0), r"threshold must lie in \(0, 1\).*got 0"),
        (lambda: PixelQuantizer(0), r"threshold must lie in \(0, 1\).*got 0"),
        (lambda: PolarizedTraining(weight=-1), "weight must be at least 0, got -1"),
        (lambda: PolarizedTraining(filters="none"), "unknown filters 'none'; allowed: trained, frozen, pixels"),
        (lambda: PolarizedTraining().stages(0), "a stage needs at least 1 epoch, got 0"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_losses_of_each_stage(images, generator):
    rule, y = PolarizedTraining(weight=0.8), torch.arange(6)
    network = rule.network(nn.Linear(2, 10))
    for stage, bump in ((0, lambda z: bump_at_zero(z, 0.35)), (1, lambda z: bumps_at_thresholds(z, 0.5, 0.15))):
        rule.begin(stage, network)
        found = rule.losses(network, images, y, 0.25, generator)
        z = network.front_end.activations(images)
        torch.testing.assert_close(found["polarization"], 0.8 * 0.25 * bump(z).mean())
        torch.testing.assert_close(found["task"], F.cross_entropy(network(images), y))
    rule.begin(2, network)
    found = rule.losses(network, images, y, 0.25, generator)
    assert set(found) == {"task"}
    found["task"].backward()
    assert network.front_end.weight.grad is None
    PolarizedTraining(freezing="drift").losses(network, images, y, 0.25, generator)["task"].backward()
    assert (network.front_end.weight.grad == 0).all()


def test_a_random_polarizer_at_the_source_s_epsilon_certifies_nothing(front_end, images):
    """Said, not hidden: with thousands of activations an image, some are always near a threshold."""
    assert not certified(front_end.activations(images), 0.3, 0.1).any()

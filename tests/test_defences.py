"""Adversarial examples and losses for training, and the blur."""

import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from simreg_core import defences, resnet18


@pytest.fixture
def images(generator):
    return 0.2 + 0.6 * torch.rand(12, 1, 8, 8, generator=generator)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network():
    torch.manual_seed(0)
    return resnet18(width=2)


def test_adversarial_examples_meet_the_analytic_optimum(linear_classifier, images):
    """On w.x = b the loss is largest at epsilon * sign(w) away from the label."""
    y = linear_classifier(images).argmax(dim=1)
    made = defences.pgd_adversarial_examples(linear_classifier, images, y, 0.1, 0.05, 5, seeded())
    expected = -0.1 * linear_classifier.w.sign().reshape(1, 1, 8, 8) * (2 * y - 1)[:, None, None, None]
    torch.testing.assert_close(made - images, expected)


def test_adversarial_examples_are_bounded_and_leave_the_network_alone(generator):
    x, y = torch.rand(6, 1, 16, 16, generator=generator), torch.arange(6)
    model = network().train()
    model.stem[1].eval()  # frozen on its own
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    made = defences.pgd_adversarial_examples(model, x, y, 0.05, 0.02, 3, seeded())
    assert torch.equal(torch.get_rng_state(), state)
    assert (made - x).abs().max() <= 0.05 + 1e-6
    assert made.min() >= 0
    assert made.max() <= 1
    assert not made.requires_grad
    assert model.training
    assert model.stage1.training
    assert not model.stem[1].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    model.eval()
    assert F.cross_entropy(model(made), y) > F.cross_entropy(model(x), y)
    again = defences.pgd_adversarial_examples(model.train(), x, y, 0.05, 0.02, 3, seeded())
    other = defences.pgd_adversarial_examples(model, x, y, 0.05, 0.02, 3, seeded(1))
    assert torch.equal(made, again)
    assert not torch.equal(made, other)


def test_trades_on_a_linear_network(linear_classifier, images):
    """The KL of each image is largest at one end of the ball and has a local maximum at the other."""
    y = linear_classifier(images).argmax(dim=1)
    plain = F.cross_entropy(linear_classifier(images), y)
    step = 0.1 * linear_classifier.w.sign().reshape(1, 1, 8, 8)
    clean = linear_classifier(images).softmax(dim=1)
    ends = [linear_classifier(images + side * step).log_softmax(dim=1) for side in (1, -1)]
    maxima = torch.stack([(clean * (clean.log() - end)).sum(dim=1) for end in ends])  # [2, b]
    for i in range(len(images)):
        arguments = linear_classifier, images[[i]], y[[i]], 0.1, 0.05, 8
        at_image = F.cross_entropy(linear_classifier(images[[i]]), y[[i]])
        torch.testing.assert_close(defences.trades_loss(*arguments, 0.0, seeded(i)), at_image)
        term = (defences.trades_loss(*arguments, 6.0, seeded(i)) - at_image) / 6
        assert (term - maxima[:, i]).abs().min() < 1e-3 * maxima[:, i].max()
    whole = defences.trades_loss(linear_classifier, images, y, 0.1, 0.05, 8, 6.0, seeded())
    assert maxima.amin(dim=0).mean() - 1e-3 <= (whole - plain) / 6 <= maxima.amax(dim=0).mean() + 1e-3


def test_trades_trains(generator):
    x, y = torch.rand(6, 1, 16, 16, generator=generator), torch.arange(6)
    model = network().train()
    statistics = model.stem[1].running_mean.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        losses.append(defences.trades_loss(model, x, y, 0.02, 0.01, 2, 6.0, seeded()))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert model.training
    assert model.stem[1].num_batches_tracked == 2 * 8  # the images' pass and the perturbed ones', not the attack's
    assert not torch.equal(model.stem[1].running_mean, statistics)


class Centred(nn.Linear):
    def forward(self, x):
        return super().forward(x.flatten(1) - 0.5)


def test_adversarial_training_makes_a_network_robust(generator):
    """Of two robust pixels that are sometimes gray and 62 brittle ones, plain training uses all, Madry's the two."""
    y = torch.randint(0, 2, (512,), generator=generator)
    sign = (2 * y - 1).float()[:, None]
    robust = 0.5 + 0.3 * sign.expand(-1, 2) * (torch.rand(512, 2, generator=generator) > 0.1)
    brittle = 0.5 + 0.02 * sign + 0.02 * torch.randn(512, 62, generator=generator)
    x = torch.cat([robust, brittle], dim=1).reshape(512, 1, 8, 8)
    accuracy = {}
    for epsilon in (0.0, 0.1):
        torch.manual_seed(0)
        model = Centred(64, 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(150):
            made = defences.pgd_adversarial_examples(model, x, y, epsilon, 0.05, 3, seeded(step))
            optimizer.zero_grad()
            F.cross_entropy(model(made), y).backward()
            optimizer.step()
        attacked = defences.pgd_adversarial_examples(model, x, y, 0.1, 0.05, 5, seeded())
        accuracy[epsilon] = (model(attacked).argmax(dim=1) == y).float().mean().item()
    assert accuracy[0.0] < 0.2
    assert accuracy[0.1] > 0.9


def test_a_warm_up_lets_epsilon_grow(linear_classifier, images, generator):
    """At the beginning the images themselves, half way through it half of epsilon, then all of it."""
    y = linear_classifier(images).argmax(dim=1)
    losses = [
        defences.PGDTraining(0.1, 5, warm_up=0.5)
        .losses(linear_classifier, images, y, progress, generator)["task"]
        .item()
        for progress in (0.0, 0.25, 0.5, 0.9)
    ]
    plain, half, whole = (
        defences.PGDTraining(epsilon, 20).losses(linear_classifier, images, y, 0.0, generator)["task"].item()
        for epsilon in (1e-6, 0.05, 0.1)
    )
    assert losses == pytest.approx([plain, half, whole, whole], rel=0.02)
    assert plain < half < whole
    ends = [defences.PGDTraining(0.1, warm_up=one).stages(3)[0].ends_with for one in (None, 0.5)]
    assert ends == ["best", "last"]
    for warm_up in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"warm_up must lie in \(0, 1\), got"):
            defences.PGDTraining(0.1, warm_up=warm_up)


def test_noise_augmentation(generator):
    gray = torch.full((20, 1, 16, 16), 0.5)
    changed = defences.noisy(gray, 0.1, generator)
    assert (changed - gray).std().item() == pytest.approx(0.1, rel=0.05)
    assert defences.noisy(torch.ones(2, 1, 8, 8), 0.1, generator).max() == 1


@pytest.mark.parametrize(("channels", "sigma"), [(1, 1.5), (3, 0.8)])
def test_the_blur_is_scipys_circular_gaussian(channels, sigma, generator):
    images = torch.rand(2, channels, 9, 12, generator=generator)
    blur = defences.GaussianBlur(sigma)
    assert blur.reach == {1.5: 4, 0.8: 2}[sigma]
    expected = ndimage.gaussian_filter(
        images.numpy(), (0, 0, sigma, sigma), mode="wrap", radius=(0, 0, *[blur.reach] * 2)
    )
    torch.testing.assert_close(blur(images), torch.from_numpy(expected))
    torch.testing.assert_close(blur(torch.full_like(images, 0.7)), torch.full_like(images, 0.7))
    assert len(blur.state_dict()) == 0
    torch.testing.assert_close(blur(images.double()), blur(images).double())


def test_errors(linear_classifier, images):
    y = torch.zeros(12, dtype=torch.long)
    for make in (
        lambda x, *sizes: defences.pgd_adversarial_examples(linear_classifier, x, y, *sizes, seeded()),
        lambda x, *sizes: defences.trades_loss(linear_classifier, x, y, *sizes, 6.0, seeded()),
    ):
        with pytest.raises(ValueError, match="did you mean 8/255"):
            make(images, 8, 0.1, 1)
        with pytest.raises(ValueError, match=r"got -0\.1"):
            make(images, -0.1, 0.1, 1)
        with pytest.raises(ValueError, match="step_size must be positive, got 0"):
            make(images, 0.1, 0.0, 1)
        with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
            make(images, 0.1, 0.1, 0)
        with pytest.raises(ValueError, match=r"pixels must lie in \[0, 1\]"):
            make(images - 1, 0.1, 0.1, 1)
    with pytest.raises(ValueError, match="beta must be at least 0, got -1"):
        defences.trades_loss(linear_classifier, images, y, 0.1, 0.1, 1, -1.0, seeded())
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        defences.GaussianBlur(0)
    with pytest.raises(ValueError, match="needs 4 pixels a side, got 3x8"):
        defences.GaussianBlur()(images[:, :, :3])
    with pytest.raises(ValueError, match="did you mean 25/255"):
        defences.noisy(images, 25, seeded())


def test_bad_networks_and_labels(linear_classifier, images):
    y = torch.zeros(12, dtype=torch.long)

    class Pair(nn.Module):
        def forward(self, x):
            return linear_classifier(x), None

    class OneLogit(nn.Module):
        def forward(self, x):
            return linear_classifier(x)[:, :1]

    for make in (
        lambda model, labels: defences.pgd_adversarial_examples(model, images, labels, 0.1, 0.1, 1, seeded()),
        lambda model, labels: defences.trades_loss(model, images, labels, 0.1, 0.1, 1, 6.0, seeded()),
    ):
        assert torch.equal(make(linear_classifier, y.int()), make(linear_classifier, y))
        for model, labels, message in (
            (Pair(), y, "must return logits, one float tensor .* got tuple"),
            (OneLogit(), y, r"at least 2 classes\], got \[12, 1\]"),
            (linear_classifier.forward, y, "must be a torch.nn.Module .* got method"),
            (linear_classifier, y.float(), "labels must be integers"),
            (linear_classifier, y[:3], r"labels must have shape \[12\]"),
        ):
            with pytest.raises(ValueError, match=message):
                make(model, labels)


def test_examples_have_no_graph(linear_classifier, images):
    pixels, y = images.clone().requires_grad_(), torch.zeros(12, dtype=torch.long)
    with torch.no_grad():
        made = defences.pgd_adversarial_examples(linear_classifier, pixels, y, 0.1, 0.1, 2, seeded())
    assert not made.requires_grad
    assert not defences.pgd_adversarial_examples(linear_classifier, pixels, y, 0.1, 0.1, 2, seeded()).requires_grad

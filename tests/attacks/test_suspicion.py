"""The checks on made-up measurements, on networks that mask their gradients, and on honest ones."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from simreg_core import attacks
from simreg_core.attacks import door, suspicion

EPSILON = 0.08


def some(fooled, n=200):
    """[n] the first `fooled` are."""
    return torch.arange(n) < fooled


def test_images_that_only_a_black_box_attack_fools():
    assert suspicion.black_box_beats_white_box(some(100), some(90)) is None
    assert suspicion.black_box_beats_white_box(some(100), some(103)) is None  # three of 200 may happen
    warning = suspicion.black_box_beats_white_box(some(100), some(120))
    assert warning == "a black-box attack fools 20 of 200 images that the white-box attack does not"
    # paired: the same number of images, but others
    assert suspicion.black_box_beats_white_box(some(100), ~some(100)) is not None


def test_a_single_step_that_fools_more_than_many():
    assert suspicion.single_step_beats_iterative(some(80), some(100)) is None
    assert suspicion.single_step_beats_iterative(some(105), some(100)) is None  # 5 of 5: chance of 1/32
    assert "one step fools 110 of 200 images, the iterative attack 100" in suspicion.single_step_beats_iterative(
        some(110), some(100)
    )
    # where they differ often, a small excess is noise
    first, second = np.zeros(200, bool), np.zeros(200, bool)
    first[:30] = second[30:58] = True
    assert suspicion.single_step_beats_iterative(first, second) is None


def test_more_steps_that_help_the_defence():
    assert suspicion.more_steps_help_defence({10: some(90), 100: some(92), 50: some(91)}) is None
    warning = suspicion.more_steps_help_defence({100: some(70), 10: some(90), 50: some(91)})
    assert warning == "100 steps fool 70 of 200 images, only 10 fool 90"
    assert suspicion.more_steps_help_defence({10: some(93), 100: some(90)}) is None


def test_accuracy_above_chance_at_a_large_epsilon():
    assert suspicion.large_epsilon_above_chance(some(200), 0.5, 0.1) is None
    assert suspicion.large_epsilon_above_chance(some(175), 0.5, 0.1) is None
    warning = suspicion.large_epsilon_above_chance(some(150), 1.0, 0.1)
    assert warning == "at epsilon 1 the accuracy is 0.250, above the 0.100 of a constant answer"
    assert suspicion.large_epsilon_above_chance(some(150), 1.0, 0.25) is None


def test_gradients_and_loss():
    assert suspicion.masked_gradients(0.005, 0.0) is None
    assert suspicion.masked_gradients(0.05, 0.0) == "5.00% of the attack's gradients are zero in every pixel"
    assert suspicion.masked_gradients(0.0, 0.001) == "0.10% of the attack's gradients are not finite"
    assert suspicion.loss_does_not_increase([0.1, 0.3, 0.25], some(5, 10)) is None
    assert "0.3 at its start, 0.2 at its end" in suspicion.loss_does_not_increase([0.3, 0.4, 0.2], some(5, 10))
    assert suspicion.loss_does_not_increase([0.3, float("nan")], some(5, 10)) is not None
    assert suspicion.loss_does_not_increase([0.3, 0.3], some(10, 10)) is None


def test_logits_that_differ():
    logits = torch.randn(5, 3)
    assert suspicion.random_logits(logits, logits * (1 + 1e-6)) is None
    assert "other logits the second time" in suspicion.random_logits(logits, logits + 0.1)
    assert suspicion.random_logits(torch.zeros(5, 3), torch.zeros(5, 3)) is None
    broken = torch.full((5, 3), float("nan"))
    assert suspicion.random_logits(broken, broken) is not None


@pytest.mark.parametrize("seed", range(3))
def test_false_alarms_are_rare(seed):
    """Two equally strong attacks that differ on a tenth of the images at random: at most LEVEL of 2,000 pairs."""
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(2000):
        first = rng.random(100) < 0.5
        second = first ^ (rng.random(100) < 0.1)
        alarms += suspicion.single_step_beats_iterative(first, second) is not None
    assert alarms <= 2000 * suspicion.LEVEL * 1.5


def test_all_checks_run_on_what_there_is():
    assert suspicion.suspicions(white_box=some(100), black_box=some(90), gradients=(0.0, 0.0)) == ()
    found = suspicion.suspicions(
        white_box=some(50).tolist(),
        black_box=some(90).numpy(),
        single_step=some(90),
        by_steps={1: some(90), 20: some(50)},
        large_epsilon=(some(100), 0.5, 0.1),
        gradients=(0.9, 0.0),
        logits=(torch.zeros(2, 3), torch.ones(2, 3)),
        loss=torch.tensor([1.0, 1.0]),
    )
    assert len(found) == 7
    assert all("\n" not in warning for warning in found)


def test_errors():
    with pytest.raises(ValueError, match="same images, got 200 and 3"):
        suspicion.black_box_beats_white_box(some(1), some(1, 3))
    with pytest.raises(ValueError, match=r"fooled must be \[n\] true or false"):
        suspicion.black_box_beats_white_box(torch.rand(3), some(1, 3))
    with pytest.raises(ValueError, match="at least two numbers of steps, got 1"):
        suspicion.more_steps_help_defence({10: some(1)})
    with pytest.raises(ValueError, match=r"epsilon must lie in \[0.5, 1\].*got 0.1"):
        suspicion.large_epsilon_above_chance(some(1), 0.1, 0.1)
    with pytest.raises(ValueError, match=r"chance must lie in \(0, 1\), got 10"):
        suspicion.large_epsilon_above_chance(some(1), 0.5, 10)
    with pytest.raises(ValueError, match=r"zero must be a share in \[0, 1\], got 5"):
        suspicion.masked_gradients(5, 0)
    with pytest.raises(ValueError, match="differ in shape"):
        suspicion.random_logits(torch.zeros(2, 3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="loss must have shape"):
        suspicion.loss_does_not_increase([1.0], some(1))
    with pytest.raises(ValueError, match="nothing to check"):
        suspicion.suspicions()
    with pytest.raises(ValueError, match="black_box, loss can only be judged beside white_box"):
        suspicion.suspicions(black_box=some(1), loss=[0.0, 1.0])


def trained(seed, noise=0.0):
    """A small network trained on 1,500 digits, perhaps under noise, and 150 others with their labels."""
    data = load_digits()
    pixels, labels = torch.tensor(data.images).float()[:, None] / 16, torch.tensor(data.target)
    with door.seeded(seed, pixels.device):
        network = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 16, 3, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)),
        )
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(150):
            batch = torch.randint(0, 1500, (64,))
            x = (pixels[batch] + noise * torch.randn(64, 1, 8, 8)).clamp(0, 1)
            optimizer.zero_grad()
            F.cross_entropy(network(x), labels[batch]).backward()
            optimizer.step()
    return network.eval(), pixels[1500:1650], labels[1500:1650]


@pytest.fixture(scope="module")
def honest():
    return trained(0)


def measured(network, x, y):
    """What the checks want to know of a network, as a study would measure it."""

    def fooled(result):
        with door.seeded(9, x.device), torch.no_grad():
            return network(result.adversarial).argmax(dim=1) != y

    def pgd(epsilon=EPSILON, **options):
        return attacks.pgd(network, x, y, epsilon, seed=0, **options)

    white = pgd(steps=20)
    with door.seeded(0, x.device), torch.no_grad():
        logits = network(x), network(x)
    return {
        "white_box": fooled(white),
        "black_box": fooled(attacks.square(network, x, y, EPSILON, queries=150, seed=0)),
        "single_step": fooled(pgd(steps=1, step_size=EPSILON, random_start=False)),
        "by_steps": {steps: fooled(pgd(steps=steps)) for steps in (5, 20, 40)},
        "large_epsilon": (fooled(pgd(0.5, steps=20)), 0.5, y.bincount().max().item() / len(y)),
        "gradients": (white.zero_gradients, white.nan_gradients),
        "logits": logits,
        "loss": white.loss,
    }


@pytest.mark.parametrize(("seed", "noise"), [(0, 0.0), (1, 0.0), (2, 0.3)])
def test_an_honest_network_is_not_flagged(seed, noise):
    data = measured(*trained(seed, noise))
    assert 0.1 < data["white_box"].float().mean() < 0.9
    assert suspicion.suspicions(**data) == ()


class Front(nn.Module):
    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x):
        return self.network(self.change(x))


class NoisyFront(Front):
    """A defence that draws random numbers, and says so: the attacks would refuse it otherwise."""

    draws_random_numbers = True

    def __init__(self, network):
        super().__init__(network, lambda x: x + 0.2 * torch.randn_like(x))


class Opposed(torch.autograd.Function):
    """Tells an attack to go the wrong way."""

    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, gradient):
        return -gradient


MASKS = {
    "saturated logits": (
        lambda network: nn.Sequential(network, Front(nn.Identity(), lambda logits: 1e4 * logits)),
        ("zero in every pixel", "black-box", "above the"),
    ),
    "rounding layer": (
        lambda network: Front(network, lambda x: (4 * x).round() / 4),
        ("zero in every pixel", "black-box", "loss does not increase"),
    ),
    "random layer": (
        NoisyFront,
        ("other logits the second time",),
    ),
    "opposed gradient": (
        lambda network: Front(network, Opposed.apply),
        ("loss does not increase", "black-box", "above the"),
    ),
    "not a number": (
        lambda network: Front(network, lambda x: x + 0 * (x - x.detach()).sqrt()),
        ("not finite", "black-box"),
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_network_that_masks_its_gradients_is_flagged(name, honest):
    mask, expected = MASKS[name]
    network, x, y = honest
    masked = mask(network).eval()
    found = suspicion.suspicions(**measured(masked, x, y))
    for words in expected:
        assert any(words in warning for warning in found), (words, found)

"""What holds for every attack: it breaks an undefended network, depends on its seed only, and refuses bad input."""

import math

import pytest
import torch
from attacked import fooled
from torch import nn
from torch.nn import functional as F

from simreg_core import attacks


@pytest.fixture
def images(middle_images):
    return middle_images


@pytest.fixture
def labels(middle_labels):
    return middle_labels


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.4), ("l2", 3.0)])
def test_perturbations_stay_within_epsilon_and_the_pixels_bounds(norm, epsilon, digits):
    network, x, y = digits
    pushed = attacks.pgd(network, x, y, epsilon, norm=norm, steps=5, early_leave=False, seed=0)
    for result in (
        pushed,
        attacks.square(network, x, y, epsilon, norm=norm, queries=20, seed=0),
        attacks.autoattack(network, x, y, epsilon, norm=norm, steps=5, targets=1, queries=5, seed=0),
    ):
        assert getattr(result, norm).max() <= epsilon * (1 + 1e-5)
        assert result.adversarial.min() >= 0
        assert result.adversarial.max() <= 1
    assert getattr(pushed, norm).max() > 0.9 * epsilon


WHITE_BOX = {
    "pgd": lambda *a, **k: attacks.pgd(*a, 0.3, steps=20, **k),
    "pgd l2": lambda *a, **k: attacks.pgd(*a, 2.0, norm="l2", steps=20, **k),
    "momentum": lambda model, *a, **k: attacks.momentum_transfer([model], *a, 0.3, 10, **k),
    "autoattack": lambda *a, **k: attacks.autoattack(*a, 0.3, norm="linf", steps=10, targets=2, queries=10, **k),
    "minimum_norm": attacks.minimum_norm,
    "minimum_norm l2": lambda *a, **k: attacks.minimum_norm(*a, norm="l2", **k),
    "minimum_norm l0": lambda *a, **k: attacks.minimum_norm(*a, norm="l0", **k),
    "deep_fool": attacks.deep_fool,
    "carlini_wagner": lambda *a, **k: attacks.carlini_wagner(*a, steps=100, binary_search_steps=4, **k),
}


QUERY = {
    "square": lambda *a, **k: attacks.square(*a, 0.3, queries=200, **k),
    "square l2": lambda *a, **k: attacks.square(*a, 2.5, norm="l2", queries=200, **k),
    "hop_skip_jump": lambda *a, **k: attacks.hop_skip_jump(*a, steps=2, **k),
}


ALL = WHITE_BOX | QUERY


@pytest.mark.parametrize("name", ALL)
def test_every_attack_breaks_a_network_without_defence(name, digits):
    network, x, y = digits
    assert fooled(network, ALL[name](network, x[:60], y[:60], seed=0), y[:60]).float().mean() >= 0.95


@pytest.mark.parametrize("name", ALL)
def test_an_attack_depends_on_its_seed_alone_and_leaves_nothing_behind(name, digits):
    network, x, y = digits
    weights = [weight.clone() for weight in network.state_dict().values()]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = ALL[name](network, x[:8], y[:8], seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    with torch.no_grad():
        second = ALL[name](network, x[:8], y[:8], seed=3)
    assert torch.equal(first.adversarial, second.adversarial)
    assert not first.adversarial.requires_grad
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())
    assert all(torch.equal(old, new) for old, new in zip(weights, network.state_dict().values(), strict=True))
    assert not network.training


@pytest.mark.parametrize("name", ["pgd", "pgd l2", "square", "square l2", "hop_skip_jump"])
def test_another_seed_gives_another_perturbation(name, digits):
    network, x, y = digits
    results = [ALL[name](network, x[:8], y[:8], seed=seed).adversarial for seed in (0, 1)]
    assert not torch.equal(*results)


def test_without_epsilon_nothing_changes(digits):
    network, x, y = digits
    for result in (
        attacks.pgd(network, x, y, 0.0, steps=2, seed=0),
        attacks.pgd(network, x, y, 0.0, norm="l2", steps=2, seed=0),
        attacks.square(network, x, y, 0.0, queries=2, seed=0),
        attacks.autoattack(network, x, y, 0.0, norm="l2", seed=0),
        attacks.momentum_transfer([network], x, y, 0.0, 2),
    ):
        assert torch.equal(result.adversarial, x)


BOUNDED = {
    "pgd": lambda m, x, y, e: attacks.pgd(m, x, y, e, steps=1, seed=0),
    "momentum": lambda m, x, y, e: attacks.momentum_transfer([m], x, y, e, 1),
    "autoattack": lambda m, x, y, e: attacks.autoattack(m, x, y, e, norm="linf", seed=0),
    "square": lambda m, x, y, e: attacks.square(m, x, y, e, seed=0),
}


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize(
    ("epsilon", "message"),
    [
        ("8/255", "epsilon must be a number in .*, got '8/255'"),
        (-0.1, "got -0.1"),
        (8, r"pixels are in \[0, 1\]\), got 8; did you mean 8/255"),
        (math.nan, "got nan"),
    ],
)
def test_epsilon_out_of_bounds(name, epsilon, message, linear, images, labels):
    with pytest.raises(ValueError, match=message):
        BOUNDED[name](linear, images, labels, epsilon)


class Decision(nn.Module):
    """One-hot answers of another network: no gradient."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return F.one_hot(self.network(x).argmax(dim=1), 10).float()


@pytest.mark.parametrize("name", WHITE_BOX)
def test_a_network_without_gradients_is_refused(name, digits):
    network, x, y = digits
    with pytest.raises(ValueError, match="an attack that needs gradients on a model without"):
        WHITE_BOX[name](Decision(network).eval(), x[:8], y[:8], seed=0)


@pytest.mark.parametrize("name", QUERY)
def test_queries_need_no_gradients(name, digits):
    network, x, y = digits
    result = QUERY[name](Decision(network).eval(), x[:8], y[:8], seed=0)
    assert result.attempted == 8


@pytest.mark.parametrize("name", [name for name in ALL if name != "momentum"])
def test_an_attack_needs_an_image_that_is_classified_correctly(name, digits):
    network, x, _ = digits
    wrong = (network(x).argmax(dim=1) + 1) % 10
    with pytest.raises(ValueError, match="misclassifies all 200"):
        ALL[name](network, x, wrong, seed=0)


def test_other_errors(linear, images, labels, digits):
    arguments = linear, images, labels
    with pytest.raises(ValueError, match="unknown norm 'l1'; allowed: linf, l2"):
        attacks.pgd(*arguments, 0.1, norm="l1", steps=1, seed=0)
    with pytest.raises(ValueError, match="unknown norm 'l1'; allowed: linf, l2, l0"):
        attacks.minimum_norm(*arguments, norm="l1", seed=0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        attacks.pgd(*arguments, 0.1, steps=0, seed=0)
    with pytest.raises(ValueError, match="restarts must be at least 1, got 0"):
        attacks.pgd(*arguments, 0.1, steps=1, restarts=0, seed=0)
    with pytest.raises(ValueError, match="step_size must be positive, got -1"):
        attacks.pgd(*arguments, 0.1, steps=1, step_size=-1, seed=0)
    with pytest.raises(ValueError, match="unknown version 'custom'; allowed: standard, plus, rand"):
        attacks.autoattack(*arguments, 0.1, norm="linf", version="custom", seed=0)
    with pytest.raises(ValueError, match="surrogates must be at least 1, got 0"):
        attacks.momentum_transfer([], images, labels, 0.1, 1)
    with pytest.raises(ValueError, match="of one task, got 5, 10 classes"):
        attacks.momentum_transfer([linear, digits[0]], images, labels, 0.1, 1)
    with pytest.raises(ValueError, match="decay must be at least 0, got -1"):
        attacks.momentum_transfer([linear], images, labels, 0.1, 1, -1)
    small = nn.Sequential(nn.Flatten(), nn.Linear(32, 5)).eval()
    with pytest.raises(ValueError, match="needs 5 pixels a side, got 4x8"):
        attacks.square(small, images[:, :, :4], labels, 0.1, norm="l2", seed=0)

"""White-box and query attacks against exact answers on linear networks, and on a small trained one."""

import math
import warnings

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from simreg_core import attacks, door, whitebox

NORMS = whitebox.NORMS
DUAL = {"linf": 1, "l2": 2}


class Linear(nn.Module):
    """Five classes on 1x8x8 images, with what is known about them exactly."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weight = nn.Parameter(torch.randn(5, 64, generator=generator))
        self.bias = -self.weight.detach().sum(dim=1) / 2  # a tie in the middle of the cube

    def forward(self, x):
        return x.flatten(1) @ self.weight.T + self.bias

    def distance(self, x, labels, norm):
        """Exact size of the smallest perturbation that fools, without the pixels' bounds, [n]; 0 if misclassified."""
        logits = self(x).detach()
        margin = logits.gather(1, labels[:, None]) - logits
        apart = (self.weight[labels][:, None] - self.weight).detach().norm(p=DUAL[norm], dim=2)
        other = F.one_hot(labels, 5) == 0
        return (margin / apart)[other].reshape(len(x), 4).amin(dim=1).clamp_min(0)


@pytest.fixture
def linear():
    return Linear().eval()


@pytest.fixture
def images(generator):
    """Far enough from 0 and 1 that no optimal perturbation below meets the bounds."""
    return 0.3 + 0.4 * torch.rand(200, 1, 8, 8, generator=generator)


@pytest.fixture
def labels(linear, images):
    labels = linear(images).argmax(dim=1)
    labels[:10] = (labels[:10] + 1) % 5  # a clean accuracy of 95 %
    return labels


@pytest.fixture(scope="module")
def digits():
    """A small network trained on 1,500 digits without any defence, and 200 others that it mostly knows."""
    data = load_digits()
    pixels, labels = torch.tensor(data.images).float()[:, None] / 16, torch.tensor(data.target)
    with door.seeded(0, pixels.device):
        network = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 16, 3, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)),
        )
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(200):
            batch = torch.randint(0, 1500, (64,))
            optimizer.zero_grad()
            F.cross_entropy(network(pixels[batch]), labels[batch]).backward()
            optimizer.step()
    optimizer.zero_grad()
    network.eval()
    assert (network(pixels[1500:1700]).argmax(dim=1) == labels[1500:1700]).float().mean() > 0.85
    return network, pixels[1500:1700], labels[1500:1700]


def fooled(model, result, labels):
    with torch.no_grad():
        return model(result.adversarial).argmax(dim=1) != labels


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_meets_the_analytic_distance(norm, linear_classifier, images):
    """Between two classes: fools every image just outside its exact distance |w.x - b| / |w|, none just inside."""
    y = linear_classifier(images).argmax(dim=1)
    exact = linear_classifier.score(images).abs() / linear_classifier.w.norm(p=DUAL[norm])
    for i in range(10):
        for factor, expected in ((1.01, True), (0.99, False)):
            x, epsilon = images[[i]], factor * exact[i].item()
            result = whitebox.pgd(
                linear_classifier, x, y[[i]], epsilon, norm=norm, steps=40, step_size=epsilon / 4, seed=0
            )
            assert result.fooled.item() is expected
            assert fooled(linear_classifier, result, y[[i]]).item() is expected


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_without_leaving_early_ends_at_the_analytic_optimum(norm, linear_classifier, images):
    """On w.x = b the loss is largest at epsilon * sign(w), or epsilon * w / |w|, away from the label."""
    y = linear_classifier(images).argmax(dim=1)
    epsilon = 0.05
    result = whitebox.pgd(
        linear_classifier, images, y, epsilon, norm=norm, steps=20, step_size=epsilon, early_leave=False, seed=0
    )
    w = linear_classifier.w.reshape(1, 1, 8, 8)
    direction = w.sign() if norm == "linf" else w / w.norm()
    expected = -epsilon * direction * (2 * y - 1)[:, None, None, None]
    torch.testing.assert_close(result.perturbations, expected, atol=3e-3 * epsilon, rtol=0)


def test_one_step_without_random_start_is_fgsm(linear, images, labels):
    one = whitebox.pgd(
        linear, images, labels, 0.02, steps=1, step_size=0.02, random_start=False, early_leave=False, seed=0
    )
    direction = attacks.fgsm_direction(linear, images, labels)
    expected = attacks.transferred_fgsm(images, direction, 0.02, protocol="strict").adversarial
    torch.testing.assert_close(one.adversarial, expected)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.4), ("l2", 3.0)])
def test_perturbations_stay_within_epsilon_and_the_pixels_bounds(norm, epsilon, digits):
    network, x, y = digits
    pushed = whitebox.pgd(network, x, y, epsilon, norm=norm, steps=5, early_leave=False, seed=0)
    for result in (
        pushed,
        whitebox.square(network, x, y, epsilon, norm=norm, queries=20, seed=0),
        whitebox.autoattack(network, x, y, epsilon, norm=norm, steps=5, targets=1, queries=5, seed=0),
    ):
        assert getattr(result, norm).max() <= epsilon * (1 + 1e-5)
        assert result.adversarial.min() >= 0
        assert result.adversarial.max() <= 1
    assert getattr(pushed, norm).max() > 0.9 * epsilon


def test_pgd_reports_its_loss_and_gradients(digits):
    network, x, y = digits
    result = whitebox.pgd(network, x, y, 0.1, steps=10, seed=0)
    assert result.loss.shape == (11,)
    assert result.loss[-1] > 2 * result.loss[0]
    assert (result.zero_gradients, result.nan_gradients) == (0, 0)
    assert torch.equal(result.fooled, fooled(network, result, y))
    right = network(x).argmax(dim=1) == y
    assert (result.linf[~right] == 0).all()  # fooled already, not attacked
    assert not result.failed.any()
    start = whitebox.pgd(network, x, y, 0.1, steps=1, random_start=False, seed=0).loss[0]
    torch.testing.assert_close(start, F.cross_entropy(network(x[right]), y[right]).detach())


def test_restarts_fool_more_images_and_lose_none(digits):
    network, x, y = digits
    once, often = (whitebox.pgd(network, x, y, 0.09, steps=3, restarts=n, seed=0).fooled for n in (1, 8))
    assert (often | ~once).all()
    assert often.sum() > once.sum()


def test_the_batch_size_does_not_matter_to_pgd(digits):
    network, x, y = digits
    whole, parts = (whitebox.pgd(network, x, y, 0.1, steps=5, restarts=2, seed=0, batch_size=b) for b in (200, 64))
    torch.testing.assert_close(whole.adversarial, parts.adversarial, atol=1e-4, rtol=0)
    torch.testing.assert_close(whole.loss, parts.loss)


class Masked(nn.Module):
    """The first image's gradient is zero, the second's not finite; the others' are a linear network's."""

    def forward(self, x):
        score = x.mean(dim=(1, 2, 3)) - 0.2
        factor = torch.ones_like(score)
        factor[0] = 0
        bent = score * factor + (1 - factor) * 0.3
        if len(x) > 1:
            bent = torch.cat([bent[:1], bent[1:2] + (score[1:2] * 0).sqrt(), bent[2:]])
        return torch.stack([-bent, bent], dim=1)


def test_zero_and_infinite_gradients_are_counted_and_do_not_spoil_the_rest(images):
    y = torch.ones(10, dtype=torch.long)
    result = whitebox.pgd(Masked().eval(), images[:10], y, 0.05, steps=4, early_leave=False, seed=0)
    assert result.zero_gradients == pytest.approx(0.1)
    assert result.nan_gradients == pytest.approx(0.1)
    assert result.adversarial.isfinite().all()
    torch.testing.assert_close(result.linf[2:], torch.full((8,), 0.05))


def test_tiny_gradients_are_followed(linear, images, labels):
    """Their squares underflow in float32."""
    small = 1e-18 * Linear().weight.detach()

    class Small(Linear):
        def forward(self, x):
            return x.flatten(1) @ small.T - small.sum(dim=1) / 2

    epsilon = 1.5 * linear.distance(images, labels, "l2").median().item()
    results = [whitebox.pgd(m, images, labels, epsilon, norm="l2", steps=20, seed=0) for m in (linear, Small().eval())]
    right = linear(images).argmax(dim=1) == labels
    assert results[0].fooled[right].float().mean() > 0.5
    assert results[1].fooled[right].float().mean() > 0.5


@pytest.mark.parametrize("norm", NORMS)
def test_autoattack_equals_the_exact_robust_accuracy(norm, linear, images, labels):
    """Within half a point (one of 200 images) of what the weights say, at 95 % clean accuracy."""
    exact = linear.distance(images, labels, norm)
    epsilon = exact.median().item()
    assert epsilon < 0.3  # else a pixel might meet its bounds
    result = whitebox.autoattack(linear, images, labels, epsilon, norm=norm, queries=200, seed=0)
    robust = 1 - fooled(linear, result, labels).float().mean()
    assert abs(robust - (exact > epsilon).float().mean()) <= 0.005 + 1e-6


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.5)])
def test_autoattack_agrees_with_other_attacks_on_a_network(norm, epsilon, digits):
    network, x, y = (each[:100] if isinstance(each, torch.Tensor) else each for each in digits)
    result = whitebox.autoattack(network, x, y, epsilon, norm=norm, steps=40, targets=3, queries=20, seed=0)
    others = whitebox.pgd(network, x, y, epsilon, norm=norm, steps=40, restarts=5, seed=0).fooled
    for smallest in (
        whitebox.deep_fool(network, x, y, norm=norm),
        whitebox.minimum_norm(network, x, y, norm=norm, seed=0),
    ):
        others = others | (getattr(smallest, norm) <= epsilon)
    assert abs(fooled(network, result, y).float().mean() - others.float().mean()) <= 0.01
    assert 0.3 < others.float().mean() < 0.7


@pytest.mark.parametrize("norm", NORMS)
def test_smallest_perturbations_meet_the_analytic_distance(norm, linear, images, labels):
    exact = linear.distance(images, labels, norm)
    right = exact > 0
    for attack, worst in (
        (whitebox.minimum_norm(linear, images, labels, norm=norm, seed=0), 1.05),
        (whitebox.deep_fool(linear, images, labels, norm=norm), 1.05),
        (whitebox.hop_skip_jump(linear, images, labels, norm=norm, steps=12, seed=0), 1.6),
    ):
        assert not attack.failed.any()
        assert fooled(linear, attack, labels).all()
        size = getattr(attack, norm)
        assert (size[~right] == 0).all()
        ratio = size[right] / exact[right]
        assert ratio.min() >= 1 - 1e-3
        assert ratio.median() <= worst


def test_carlini_wagner_meets_the_analytic_distance(linear, images, labels):
    result = whitebox.carlini_wagner(linear, images[10:30], labels[10:30], steps=300, binary_search_steps=5, seed=0)
    assert not result.failed.any()
    ratio = result.l2 / linear.distance(images[10:30], labels[10:30], "l2")
    assert ratio.min() >= 1 - 1e-3
    assert ratio.median() <= 1.1


def test_few_values_suffice_under_l0(digits):
    network, x, y = digits
    result = whitebox.minimum_norm(network, x, y, norm="l0", seed=0)
    assert torch.equal(fooled(network, result, y), ~result.failed)
    assert not result.failed.any()
    assert result.l0.median() <= 5
    assert result.l0.max() <= 20


def test_images_that_nothing_fools_have_failed(images):
    class Certain(nn.Module):
        def forward(self, x):
            score = x.mean(dim=(1, 2, 3)) + 0.1
            return torch.stack([-score, score], dim=1)

    y = torch.ones(4, dtype=torch.long)
    arguments = Certain().eval(), images[:4], y
    for result in (
        *(whitebox.minimum_norm(*arguments, norm=norm, seed=0) for norm in ("linf", "l2", "l0")),
        whitebox.deep_fool(*arguments),
        whitebox.hop_skip_jump(*arguments, steps=2, directions=5, seed=0),
        whitebox.carlini_wagner(*arguments, steps=5, binary_search_steps=2, seed=0),
    ):
        assert result.failed.all()
        assert result.l2.isinf().all()
        assert torch.equal(result.adversarial, images[:4])


WHITE_BOX = {
    "pgd": lambda *a, **k: whitebox.pgd(*a, 0.3, steps=20, **k),
    "pgd l2": lambda *a, **k: whitebox.pgd(*a, 2.0, norm="l2", steps=20, **k),
    "momentum": lambda model, *a, **k: whitebox.momentum_transfer([model], *a, 0.3, 10, **k),
    "autoattack": lambda *a, **k: whitebox.autoattack(*a, 0.3, norm="linf", steps=10, targets=2, queries=10, **k),
    "minimum_norm": whitebox.minimum_norm,
    "minimum_norm l2": lambda *a, **k: whitebox.minimum_norm(*a, norm="l2", **k),
    "minimum_norm l0": lambda *a, **k: whitebox.minimum_norm(*a, norm="l0", **k),
    "deep_fool": whitebox.deep_fool,
    "carlini_wagner": lambda *a, **k: whitebox.carlini_wagner(*a, steps=100, binary_search_steps=4, **k),
}
QUERY = {
    "square": lambda *a, **k: whitebox.square(*a, 0.3, queries=200, **k),
    "square l2": lambda *a, **k: whitebox.square(*a, 2.5, norm="l2", queries=200, **k),
    "hop_skip_jump": lambda *a, **k: whitebox.hop_skip_jump(*a, steps=2, **k),
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


def test_momentum_follows_the_mean_logits_of_the_surrogates(images, labels):
    """The sign of the gradient of the summed loss, on linear networks; a network alone and twice are the same."""
    first, second = Linear().eval(), Linear().eval()
    second.weight.data = second.weight.data.roll(1, dims=1)
    once, twice = (whitebox.momentum_transfer([first] * n, images, labels, 0.02, 4) for n in (1, 2))
    torch.testing.assert_close(once.adversarial, twice.adversarial)
    one_step = whitebox.momentum_transfer([first, second], images, labels, 0.02, 1)
    x = images.clone().requires_grad_()
    F.cross_entropy((first(x) + second(x)) / 2, labels).backward()
    torch.testing.assert_close(one_step.perturbations, 0.02 * x.grad.sign(), atol=1e-6, rtol=0)
    assert (once.linf <= 0.02 + 1e-6).all()


def test_autoattack_passes_its_warnings_on(digits):
    network, x, y = digits

    class Probabilities(nn.Module):
        def forward(self, pixels):
            return network(pixels).softmax(dim=1)

    with pytest.warns(UserWarning, match="AutoAttack says: it seems that the output is a probability distribution"):
        whitebox.autoattack(Probabilities().eval(), x[:20], y[:20], 0.1, norm="linf", steps=2, queries=2, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whitebox.autoattack(network, x[:20], y[:20], 0.1, norm="linf", steps=5, queries=2, seed=0)


def test_without_epsilon_nothing_changes(digits):
    network, x, y = digits
    for result in (
        whitebox.pgd(network, x, y, 0.0, steps=2, seed=0),
        whitebox.pgd(network, x, y, 0.0, norm="l2", steps=2, seed=0),
        whitebox.square(network, x, y, 0.0, queries=2, seed=0),
        whitebox.autoattack(network, x, y, 0.0, norm="l2", seed=0),
        whitebox.momentum_transfer([network], x, y, 0.0, 2),
    ):
        assert torch.equal(result.adversarial, x)


BOUNDED = {
    "pgd": lambda m, x, y, e: whitebox.pgd(m, x, y, e, steps=1, seed=0),
    "momentum": lambda m, x, y, e: whitebox.momentum_transfer([m], x, y, e, 1),
    "autoattack": lambda m, x, y, e: whitebox.autoattack(m, x, y, e, norm="linf", seed=0),
    "square": lambda m, x, y, e: whitebox.square(m, x, y, e, seed=0),
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


def test_epsilon_under_l2_may_exceed_one_but_not_the_cube(linear, images, labels):
    whitebox.pgd(linear, images, labels, 8.0, norm="l2", steps=1, seed=0)
    with pytest.raises(ValueError, match=r"epsilon must lie in \[0, 8\].*did you mean 128/255"):
        whitebox.pgd(linear, images, labels, 128, norm="l2", steps=1, seed=0)


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
        whitebox.pgd(*arguments, 0.1, norm="l1", steps=1, seed=0)
    with pytest.raises(ValueError, match="unknown norm 'l1'; allowed: linf, l2, l0"):
        whitebox.minimum_norm(*arguments, norm="l1", seed=0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        whitebox.pgd(*arguments, 0.1, steps=0, seed=0)
    with pytest.raises(ValueError, match="restarts must be at least 1, got 0"):
        whitebox.pgd(*arguments, 0.1, steps=1, restarts=0, seed=0)
    with pytest.raises(ValueError, match="step_size must be positive, got -1"):
        whitebox.pgd(*arguments, 0.1, steps=1, step_size=-1, seed=0)
    with pytest.raises(ValueError, match="unknown version 'custom'; allowed: standard, plus, rand"):
        whitebox.autoattack(*arguments, 0.1, norm="linf", version="custom", seed=0)
    with pytest.raises(ValueError, match="surrogates must be at least 1, got 0"):
        whitebox.momentum_transfer([], images, labels, 0.1, 1)
    with pytest.raises(ValueError, match="of one task, got 5, 10 classes"):
        whitebox.momentum_transfer([linear, digits[0]], images, labels, 0.1, 1)
    with pytest.raises(ValueError, match="decay must be at least 0, got -1"):
        whitebox.momentum_transfer([linear], images, labels, 0.1, 1, -1)
    small = nn.Sequential(nn.Flatten(), nn.Linear(32, 5)).eval()
    with pytest.raises(ValueError, match="needs 5 pixels a side, got 4x8"):
        whitebox.square(small, images[:, :, :4], labels, 0.1, norm="l2", seed=0)


def test_autoattack_needs_four_classes(linear_classifier, images):
    y = linear_classifier(images).argmax(dim=1)
    with pytest.raises(ValueError, match="needs at least 4 classes, got 2"):
        whitebox.autoattack(linear_classifier, images, y, 0.1, norm="linf", seed=0)

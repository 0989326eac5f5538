"""PGD against exact answers on linear networks, and on a small trained network."""

import pytest
import torch
from attacked import DUAL, Linear, fooled
from torch import nn
from torch.nn import functional as F

from simreg_core import attacks
from simreg_core.attacks import NORMS


@pytest.fixture
def images(middle_images):
    return middle_images


@pytest.fixture
def labels(middle_labels):
    return middle_labels


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_meets_the_analytic_distance(norm, linear_classifier, images):
    """Between two classes: fools every image just outside its exact distance |w.x - b| / |w|, none just inside."""
    y = linear_classifier(images).argmax(dim=1)
    exact = linear_classifier.score(images).abs() / linear_classifier.w.norm(p=DUAL[norm])
    for i in range(10):
        for factor, expected in ((1.01, True), (0.99, False)):
            x, epsilon = images[[i]], factor * exact[i].item()
            result = attacks.pgd(
                linear_classifier, x, y[[i]], epsilon, norm=norm, steps=40, step_size=epsilon / 4, seed=0
            )
            assert result.fooled.item() is expected
            assert fooled(linear_classifier, result, y[[i]]).item() is expected


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_without_leaving_early_ends_at_the_analytic_optimum(norm, linear_classifier, images):
    """On w.x = b the loss is largest at epsilon * sign(w), or epsilon * w / |w|, away from the label."""
    y = linear_classifier(images).argmax(dim=1)
    epsilon = 0.05
    result = attacks.pgd(
        linear_classifier, images, y, epsilon, norm=norm, steps=20, step_size=epsilon, early_leave=False, seed=0
    )
    w = linear_classifier.w.reshape(1, 1, 8, 8)
    direction = w.sign() if norm == "linf" else w / w.norm()
    expected = -epsilon * direction * (2 * y - 1)[:, None, None, None]
    torch.testing.assert_close(result.perturbations, expected, atol=3e-3 * epsilon, rtol=0)


def test_one_step_without_random_start_is_fgsm(linear, images, labels):
    one = attacks.pgd(
        linear, images, labels, 0.02, steps=1, step_size=0.02, random_start=False, early_leave=False, seed=0
    )
    direction = attacks.fgsm_direction(linear, images, labels)
    expected = attacks.transferred_fgsm(images, direction, 0.02, protocol="strict").adversarial
    torch.testing.assert_close(one.adversarial, expected)


def test_pgd_reports_its_loss_and_gradients(digits):
    network, x, y = digits
    result = attacks.pgd(network, x, y, 0.1, steps=10, seed=0)
    assert result.loss.shape == (11,)
    assert result.loss[-1] > 2 * result.loss[0]
    assert (result.zero_gradients, result.nan_gradients) == (0, 0)
    assert torch.equal(result.fooled, fooled(network, result, y))
    right = network(x).argmax(dim=1) == y
    assert (result.linf[~right] == 0).all()  # fooled already, not attacked
    assert not result.failed.any()
    start = attacks.pgd(network, x, y, 0.1, steps=1, random_start=False, seed=0).loss[0]
    torch.testing.assert_close(start, F.cross_entropy(network(x[right]), y[right]).detach())


def test_restarts_fool_more_images_and_lose_none(digits):
    network, x, y = digits
    once, often = (attacks.pgd(network, x, y, 0.09, steps=3, restarts=n, seed=0).fooled for n in (1, 8))
    assert (often | ~once).all()
    assert often.sum() > once.sum()


def test_the_batch_size_does_not_matter_to_pgd(digits):
    network, x, y = digits
    whole, parts = (attacks.pgd(network, x, y, 0.1, steps=5, restarts=2, seed=0, batch_size=b) for b in (200, 64))
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
    result = attacks.pgd(Masked().eval(), images[:10], y, 0.05, steps=4, early_leave=False, seed=0)
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
    results = [attacks.pgd(m, images, labels, epsilon, norm="l2", steps=20, seed=0) for m in (linear, Small().eval())]
    right = linear(images).argmax(dim=1) == labels
    assert results[0].fooled[right].float().mean() > 0.5
    assert results[1].fooled[right].float().mean() > 0.5


def test_epsilon_under_l2_may_exceed_one_but_not_the_cube(linear, images, labels):
    attacks.pgd(linear, images, labels, 8.0, norm="l2", steps=1, seed=0)
    with pytest.raises(ValueError, match=r"epsilon must lie in \[0, 8\].*did you mean 128/255"):
        attacks.pgd(linear, images, labels, 128, norm="l2", steps=1, seed=0)


def test_a_walk_may_begin_where_another_ended(linear_classifier, images):
    """In the ball, and with the first restart only."""
    y = linear_classifier(images).argmax(dim=1)
    far = (images + 0.3).clamp(0, 1)
    still = {"steps": 1, "step_size": 1e-9, "early_leave": False, "seed": 0}
    found = attacks.pgd(linear_classifier, images, y, 0.05, start=far, **still)
    at_start = F.cross_entropy(linear_classifier((images + 0.05).clamp(0, 1)), y).item()
    assert found.loss[0].item() == pytest.approx(at_start, rel=1e-5)
    torch.testing.assert_close(found.perturbations, (images + 0.05).clamp(0, 1) - images, atol=1e-6, rtol=0)
    more = attacks.pgd(linear_classifier, images, y, 0.05, start=far, restarts=3, **still)
    assert not torch.equal(more.adversarial, found.adversarial)
    with pytest.raises(ValueError, match="start must have the images' shape"):
        attacks.pgd(linear_classifier, images, y, 0.05, start=far[:1], **still)

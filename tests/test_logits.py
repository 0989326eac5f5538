"""Margins and the temperature that matches the scale of logits."""

import pytest
import torch
from torch.nn import functional as F

from simreg_core.logits import margins, matched_cross_entropy, matched_temperature


@pytest.fixture
def answers(generator):
    """Logits of 300 images in 4 classes, some of them wrong."""
    labels = torch.randint(0, 4, (300,), generator=generator)
    return F.one_hot(labels, 4) + torch.randn(300, 4, generator=generator), labels


def test_a_margin_is_positive_where_the_label_is_found(answers):
    logits, labels = answers
    found = margins(logits, labels)
    assert torch.equal(found > 0, logits.argmax(dim=1) == labels)
    torch.testing.assert_close(margins(torch.tensor([[3.0, 1.0, 2.5]]), torch.tensor([1])), torch.tensor([-2.0]))


def test_the_matched_temperature_has_the_least_loss(answers):
    logits, labels = answers
    best = matched_temperature(logits, labels)
    losses = {t: matched_cross_entropy(logits, labels, t).mean() for t in (0.97 * best, best, 1.03 * best)}
    assert min(losses, key=losses.get) == best


@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_the_matched_loss_does_not_depend_on_the_scale(scale, answers):
    logits, labels = answers
    temperature = matched_temperature(scale * logits, labels)
    assert temperature == pytest.approx(scale * matched_temperature(logits, labels), rel=1e-5)
    expected = matched_cross_entropy(logits, labels, matched_temperature(logits, labels))
    torch.testing.assert_close(matched_cross_entropy(scale * logits, labels, temperature), expected)


def test_a_temperature_at_the_end():
    right = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    assert matched_temperature(right, torch.tensor([0, 1])) < 0.1
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        matched_cross_entropy(right, torch.tensor([0, 1]), 0.0)

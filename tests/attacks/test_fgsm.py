"""Transferred FGSM against analytic answers on a linear classifier, and against foolbox."""

import foolbox
import pytest
import torch

from simreg_core import attacks, resnet18


@pytest.fixture
def images(generator):
    return 0.2 + 0.6 * torch.rand(20, 1, 8, 8, generator=generator)


def labels_of(model, images):
    return model(images).argmax(dim=1)


def test_fgsm_meets_the_analytic_distance(linear_classifier, images):
    """On w.x = b the smallest L-infinity step that crosses is |w.x - b| / |w|_1."""
    labels = labels_of(linear_classifier, images)
    direction = attacks.fgsm_direction(linear_classifier, images, labels)
    needed = linear_classifier.score(images).abs() / linear_classifier.w.abs().sum()
    expected = -linear_classifier.w.sign().reshape(1, 1, 8, 8) * (2 * labels - 1)[:, None, None, None]
    assert torch.equal(direction, expected.float())
    for i in range(len(images)):
        for factor, crossed in ((1.01, True), (0.99, False)):
            result = attacks.transferred_fgsm(images[[i]], direction[[i]], factor * needed[i].item(), protocol="strict")
            assert (labels_of(linear_classifier, result.adversarial) != labels[i]).item() is crossed


def test_fgsm_equals_foolbox(generator):
    torch.manual_seed(0)
    model = resnet18(width=2).eval()
    images, labels = torch.rand(9, 1, 16, 16, generator=generator), torch.arange(9)
    direction = attacks.fgsm_direction(model, images, labels, batch_size=4)
    ours = attacks.transferred_fgsm(images, direction, 0.05, protocol="strict")
    reference = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    torch.testing.assert_close(ours.adversarial, reference.run(wrapped, images, labels, epsilon=0.05))


def test_released_fgsm_scales_and_clamps_to_the_batch(images):
    direction = torch.ones_like(images)
    result = attacks.transferred_fgsm(images, direction, 0.1, protocol="released")
    span = images.max() - images.min()
    torch.testing.assert_close(result.linf.max(), 0.1 * span)
    assert result.adversarial.max() <= images.max()
    assert attacks.transferred_fgsm(images, direction, 0.1, protocol="strict").adversarial.max() > images.max()

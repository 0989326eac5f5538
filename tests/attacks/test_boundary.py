"""The boundary attack against analytic answers on a linear classifier; images that it cannot handle."""

import pytest
import torch

from simreg_core import attacks


@pytest.fixture
def images(generator):
    return 0.2 + 0.6 * torch.rand(20, 1, 8, 8, generator=generator)


def labels_of(model, images):
    return model(images).argmax(dim=1)


def test_long_boundary_attack_meets_the_analytic_distance(linear_classifier, images):
    result = attacks.boundary_attack(linear_classifier, images, steps=3000, protocol="strict", seed=0)
    assert not result.failed.any()
    changed = labels_of(linear_classifier, result.adversarial) != labels_of(linear_classifier, images)
    assert changed.all()
    ratio = result.l2 / linear_classifier.distance(images)
    assert ratio.min() >= 1 - 1e-4
    assert ratio.max() <= 1.25


def test_boundary_attack_depends_on_its_seed_alone(linear_classifier, images):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = attacks.boundary_attack(linear_classifier, images, steps=20, protocol="released", seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = attacks.boundary_attack(linear_classifier, images, steps=20, protocol="released", seed=3)
    assert torch.equal(first.adversarial, second.adversarial)
    other = attacks.boundary_attack(linear_classifier, images, steps=20, protocol="released", seed=4)
    assert not torch.equal(first.adversarial, other.adversarial)


class OneClassOfNoise(torch.nn.Module):
    """Bright images are class 1, all else (uniform noise too) class 0: dark images find no start."""

    def forward(self, x):
        bright = x.mean(dim=(1, 2, 3)) - 0.8
        return torch.stack([-bright, bright], dim=1)


@pytest.mark.parametrize(("protocol", "distance"), [("released", float("nan")), ("strict", float("inf"))])
def test_images_without_a_start_are_counted_and_do_not_stop_the_others(protocol, distance):
    images = torch.cat([torch.full((3, 1, 8, 8), 0.1), torch.full((2, 1, 8, 8), 0.95)])
    result = attacks.boundary_attack(
        OneClassOfNoise().eval(), images, steps=30, protocol=protocol, seed=0, directions=20
    )
    assert result.failed.tolist() == [True, True, True, False, False]
    assert result.attempted == 5
    assert torch.equal(result.adversarial[:3], images[:3])
    for sizes in (result.l2, result.linf, result.squared_l2_per_pixel):
        torch.testing.assert_close(sizes[:3], torch.full((3,), distance), equal_nan=True)
        assert sizes[3:].isfinite().all()


def test_a_start_that_a_smaller_batch_undoes_is_a_failure():
    class DependsOnTheBatch(OneClassOfNoise):
        def forward(self, x):
            # bright images are fooled in a batch of five or more, not in a smaller one
            return super().forward(x) if len(x) >= 5 else super().forward(torch.ones_like(x))

    images = torch.cat([torch.full((3, 1, 8, 8), 0.1), torch.full((2, 1, 8, 8), 0.95)])
    result = attacks.boundary_attack(
        DependsOnTheBatch().eval(), images, steps=5, protocol="strict", seed=0, directions=5
    )
    assert result.failed.all()


def test_boundary_attack_when_every_image_fails():
    images = torch.full((2, 1, 8, 8), 0.1)
    result = attacks.boundary_attack(OneClassOfNoise().eval(), images, steps=5, protocol="strict", seed=0, directions=3)
    assert result.failed.all()

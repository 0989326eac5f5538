"""Random noise in both protocols: its sizes, and what is refused."""

import pytest
import torch

from simreg_core import attacks
from simreg_core.names import PROTOCOLS


@pytest.fixture
def images(generator):
    return 0.2 + 0.6 * torch.rand(20, 1, 8, 8, generator=generator)


@pytest.mark.parametrize("noise", attacks.NOISES.values())
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_noise_changes_nothing(noise, protocol, images, generator):
    result = noise(images, 0.0, protocol=protocol, generator=generator)
    if noise is not attacks.salt_and_pepper_noise:
        assert torch.equal(result.adversarial, images)
    torch.testing.assert_close(result.linf, torch.zeros(20))
    assert result.attempted == 20
    assert not result.failed.any()


def test_noise_sizes(generator):
    gray = torch.full((50, 1, 16, 16), 0.5)
    gaussian = attacks.gaussian_noise(gray, 0.1, protocol="strict", generator=generator)
    assert gaussian.squared_l2_per_pixel.mean().item() == pytest.approx(0.01, rel=0.03)
    uniform = attacks.uniform_noise(gray, 0.1, protocol="strict", generator=generator)
    assert uniform.squared_l2_per_pixel.mean().item() == pytest.approx(0.01 / 3, rel=0.03)
    assert uniform.linf.max() <= 0.1 + 1e-6
    salt = attacks.salt_and_pepper_noise(gray, 0.2, protocol="strict", generator=generator)
    assert (salt.adversarial != 0.5).float().mean().item() == pytest.approx(0.2, rel=0.05)
    assert set(salt.adversarial.unique().tolist()) == {0, 0.5, 1}
    torch.testing.assert_close(salt.l2.square() / 256, salt.squared_l2_per_pixel)


def test_released_noise_is_clamped_to_each_image_and_scaled_by_all(generator):
    images = torch.stack([torch.linspace(0.4, 0.6, 64), torch.linspace(0.0, 0.5, 64)]).reshape(2, 1, 8, 8)
    result = attacks.gaussian_noise(images, 1.0, protocol="released", generator=generator)
    assert result.adversarial[0].min() >= 0.4
    assert result.adversarial[0].max() <= 0.6
    strict = attacks.gaussian_noise(images, 1.0, protocol="strict", generator=generator)
    assert strict.adversarial[0].min() == 0
    # images within a span of 0.6: the released noise is 0.6 times as large
    wide = torch.full((1, 1, 40, 40), 0.3)
    wide[0, 0, 0, :2] = torch.tensor([0.0, 0.6])
    small = attacks.gaussian_noise(wide, 0.05, protocol="released", generator=generator)
    assert small.squared_l2_per_pixel.sqrt().item() == pytest.approx(0.03, rel=0.06)


def test_noise_depends_on_the_generator_alone(images):
    first, second, other = (
        attacks.gaussian_noise(images, 0.1, protocol="strict", generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.adversarial, second.adversarial)
    assert not torch.equal(first.adversarial, other.adversarial)


def test_results_have_no_graph(images, generator):
    pixels = images.clone().requires_grad_()
    for protocol in PROTOCOLS:
        for noise in attacks.NOISES.values():
            assert not noise(pixels, 0.1, protocol=protocol, generator=generator).l2.requires_grad
        direction = torch.ones_like(pixels, requires_grad=True)
        assert not attacks.transferred_fgsm(pixels, direction, 0.1, protocol=protocol).l2.requires_grad


@pytest.mark.parametrize(
    ("epsilon", "message"),
    [("8/255", "must be a number"), (-0.1, "got -0.1"), (8, "did you mean 8/255"), (float("nan"), "got nan")],
)
def test_epsilon_out_of_bounds(images, generator, epsilon, message):
    with pytest.raises(ValueError, match=message):
        attacks.gaussian_noise(images, epsilon, protocol="strict", generator=generator)
    with pytest.raises(ValueError, match=message):
        attacks.salt_and_pepper_noise(images, epsilon, protocol="strict", generator=generator)


def test_other_errors(linear_classifier, images, generator):
    with pytest.raises(ValueError, match="unknown protocol 'careful'; allowed: released, strict"):
        attacks.uniform_noise(images, 0.1, protocol="careful", generator=generator)
    with pytest.raises(ValueError, match=r"pixels must lie in \[0, 1\]"):
        attacks.uniform_noise(images + 1, 0.1, protocol="strict", generator=generator)
    with pytest.raises(ValueError, match=r"pixels must lie in \[0, 1\]"):
        attacks.uniform_noise(images * float("nan"), 0.1, protocol="strict", generator=generator)
    for noise in attacks.NOISES.values():
        with pytest.raises(ValueError, match="divide uint8 by 255"):
            noise(images.byte(), 0.1, protocol="strict", generator=generator)
        with pytest.raises(ValueError, match=r"images must be a torch tensor .* got ndarray"):
            noise(images.numpy(), 0.1, protocol="strict", generator=generator)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        attacks.boundary_attack(linear_classifier, images, steps=0, protocol="strict", seed=0)
    with pytest.raises(ValueError, match="differ in shape"):
        attacks.transferred_fgsm(images, torch.ones(2, 1, 8, 8), 0.1, protocol="strict")

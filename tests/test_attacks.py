"""Attacks against analytic answers on a linear classifier; both protocols; what is refused."""

import foolbox
import pytest
import torch

from simreg_core import attacks, resnet18


@pytest.fixture
def images(generator):
    return 0.2 + 0.6 * torch.rand(20, 1, 8, 8, generator=generator)


def labels_of(model, images):
    return model(images).argmax(dim=1)


@pytest.mark.parametrize("noise", attacks.NOISES.values())
@pytest.mark.parametrize("protocol", attacks.PROTOCOLS)
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
    for protocol in attacks.PROTOCOLS:
        for noise in attacks.NOISES.values():
            assert not noise(pixels, 0.1, protocol=protocol, generator=generator).l2.requires_grad
        direction = torch.ones_like(pixels, requires_grad=True)
        assert not attacks.transferred_fgsm(pixels, direction, 0.1, protocol=protocol).l2.requires_grad


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

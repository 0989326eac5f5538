"""Common corruptions against CIFAR-10-C's constants and hand-computed answers; sizes; what is refused."""

import numpy as np
import pytest
import torch

from simreg_core import corruptions
from simreg_core.corruptions import SEVERITIES, corrupt
from simreg_core.lab.images import load_image_set
from simreg_core.names import CORRUPTIONS, GROUPS

EVERY_SEVERITY = range(1, 6)
NOT_RANDOM = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
# severities s of which s + 1 is not farther from the clean image, by CIFAR-10-C's own constants
NOT_FARTHER_NEXT = {
    "glass_blur": (1, 2, 4),  # as many moves and more blur, which evens out what they changed
    "motion_blur": (3,),  # radius 6 or 8 at sigma 2: what lies beyond 12 pixels weighs exp(-18)
    "frost": (3, 4),  # the image is darkened more than ice is added: back towards the clean brightness
    "elastic_transform": (1, 2, 3, 4),  # the affine shift falls from 8% to 3% of the size and outweighs the rest
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def constant(value, channels=1, count=50, size=(16, 16)):
    """[count, channels, *size] of one gray level of 256."""
    return torch.full((count, channels, *size), value / 255)


def levels(images):
    return (images * 255).round()


@pytest.fixture(scope="module")
def patches():
    """200 real patches, [200, 1, 32, 32]: CIFAR-10-C's size, for which its constants are made."""
    return load_image_set("photos", "test", (32, 32)).pixels[::5]


def test_constants_are_those_of_cifar10_c():
    assert SEVERITIES["gaussian_noise"] == (0.04, 0.06, 0.08, 0.09, 0.10)
    assert SEVERITIES["shot_noise"] == (500, 250, 100, 75, 50)
    assert SEVERITIES["impulse_noise"] == (0.01, 0.02, 0.03, 0.05, 0.07)
    assert SEVERITIES["contrast"] == (0.75, 0.5, 0.4, 0.3, 0.15)
    assert SEVERITIES["brightness"] == (0.05, 0.1, 0.15, 0.2, 0.3)
    assert SEVERITIES["jpeg_compression"] == (80, 65, 58, 50, 40)
    assert SEVERITIES["pixelate"] == (0.95, 0.9, 0.85, 0.75, 0.65)
    assert all(len(constants) == 5 for constants in SEVERITIES.values())


def test_groups_partition_the_corruptions():
    assert tuple(SEVERITIES) == CORRUPTIONS
    assert len(set(CORRUPTIONS)) == 15
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(CORRUPTIONS)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_depends_on_the_generator_alone(name, patches):
    images = patches[:5]
    np.random.seed(0)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    first, second, other = (corrupt(images, name, 3, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert torch.equal(first, other) == (name in NOT_RANDOM)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_two_calls_with_one_generator_differ(name, patches):
    generator = seeded()
    first, second = (corrupt(patches[:5], name, 3, generator) for _ in range(2))
    assert torch.equal(first, second) == (name in NOT_RANDOM)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_distance_grows_with_severity(name, patches):
    distance = [
        (corrupt(patches, name, severity, seeded()) - patches).flatten(1).norm(dim=1).mean().item()
        for severity in EVERY_SEVERITY
    ]
    assert distance[0] > 0
    not_farther = [s for s in range(1, 5) if distance[s] <= 1.002 * distance[s - 1]]
    assert tuple(not_farther) == NOT_FARTHER_NEXT.get(name, ())


def test_motion_blur_is_the_same_at_severities_3_and_4(patches):
    third, fourth = (corrupt(patches, "motion_blur", severity, seeded()) for severity in (3, 4))
    assert (levels(third) - levels(fourth)).abs().max() <= 1


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(6, 1, 16, 16), (6, 1, 36, 64), (6, 3, 64, 36), (6, 3, 32, 32)])
def test_shape_range_and_levels(name, shape):
    images = torch.rand(shape, generator=seeded())
    original = images.clone()
    for severity in EVERY_SEVERITY:
        corrupted = corrupt(images, name, severity, seeded())
        assert corrupted.shape == shape
        assert corrupted.dtype == torch.float32
        assert 0 <= corrupted.min() < corrupted.max() <= 1
        assert torch.equal(levels(corrupted) / 255, corrupted)
        assert not torch.equal(corrupted, levels(images) / 255)
    assert torch.equal(images, original)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_images_of_a_large_set_are_corrupted_in_parts(name, patches, monkeypatch):
    whole = corrupt(patches[:7], name, 2, seeded())
    monkeypatch.setattr(corruptions, "VALUES_AT_ONCE", 3 * 32 * 32)
    in_parts = corrupt(patches[:7], name, 2, seeded())
    assert in_parts.shape == whole.shape
    if name in NOT_RANDOM:
        assert torch.equal(in_parts, whole)
    else:  # the parts draw one after the other
        assert not torch.equal(in_parts[:3], in_parts[3:6])


@pytest.mark.parametrize("severity", EVERY_SEVERITY)
def test_noise_sizes(severity):
    gray = constant(128, count=200)
    deviation = SEVERITIES["gaussian_noise"][severity - 1]
    gaussian = corrupt(gray, "gaussian_noise", severity, seeded()) - gray
    assert gaussian.std().item() == pytest.approx(deviation, rel=0.02)
    assert gaussian.mean().item() == pytest.approx(-0.5 / 255, abs=0.002)  # levels are cut off, not rounded
    photons = SEVERITIES["shot_noise"][severity - 1]
    shot = corrupt(gray, "shot_noise", severity, seeded()) - gray
    assert shot.std().item() == pytest.approx((128 / 255 / photons) ** 0.5, rel=0.03)
    share = SEVERITIES["impulse_noise"][severity - 1]
    impulse = corrupt(gray, "impulse_noise", severity, seeded())
    assert (impulse != gray).float().mean().item() == pytest.approx(share, rel=0.1)
    assert (impulse == 1).float().mean().item() == pytest.approx(share / 2, rel=0.15)
    assert levels(impulse).unique().tolist() == [0, 128, 255]


def test_shot_noise_leaves_black_alone():
    black = constant(0)
    assert torch.equal(corrupt(black, "shot_noise", 5, seeded()), black)


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_is_a_factor_about_the_mean(channels):
    image = constant(100, channels, count=2)
    image[1, :, :8] = 0
    image[1, :, 8:] = 200 / 255
    flat, halves = levels(corrupt(image, "contrast", 2, seeded()))
    assert flat.unique().tolist() == [100]
    assert halves[:, :8].unique().tolist() == [50]
    assert halves[:, 8:].unique().tolist() == [150]


@pytest.mark.parametrize("severity", EVERY_SEVERITY)
def test_brightness_adds_to_gray(severity):
    added = SEVERITIES["brightness"][severity - 1]
    for channels in (1, 3):
        brighter = corrupt(constant(128, channels), "brightness", severity, seeded())
        assert levels(brighter).unique().tolist() == [int(128 + 255 * added + 1e-6)]
    assert corrupt(constant(250), "brightness", severity, seeded()).unique().tolist() == [1]


def test_brightness_keeps_hue_and_saturation():
    image = torch.tensor([102.0, 51.0, 0.0])[None, :, None, None].expand(1, 3, 16, 16) / 255
    # the value rises from 0.4 to 0.6, the other channels in proportion
    brighter = levels(corrupt(image, "brightness", 4, seeded()))
    assert brighter[0, :, 0, 0].tolist() == [153, 76, 0]


@pytest.mark.parametrize(
    "name", ["pixelate", "defocus_blur", "zoom_blur", "glass_blur", "motion_blur", "elastic_transform"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_constant_image_stays_itself(name, channels):
    image = constant(77, channels, count=20, size=(20, 33))
    for severity in EVERY_SEVERITY:
        assert torch.equal(corrupt(image, name, severity, seeded()), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_a_constant_image_constant(channels):
    for severity in EVERY_SEVERITY:
        # JPEG's zero is 128: kept exactly; another mean is rounded to a step of the quality's table
        gray, dark = (constant(value, channels, count=3, size=(20, 33)) for value in (128, 77))
        assert torch.equal(corrupt(gray, "jpeg_compression", severity, seeded()), gray)
        compressed = levels(corrupt(dark, "jpeg_compression", severity, seeded())).unique()
        assert len(compressed) == 1
        assert abs(compressed.item() - 77) <= 2


def test_pixelate_averages_boxes():
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, :, 1::2] = 1
    # int(16 * 0.65) = 10 boxes of 1.6 pixels: seen in both directions, constant down the columns
    blocks = corrupt(image, "pixelate", 5, seeded())[0, 0]
    assert torch.equal(blocks, blocks[:1].expand(16, 16))
    assert len(blocks[0].unique_consecutive()) <= 10


def test_defocus_blur_spreads_a_point_over_its_disk():
    point = torch.zeros(1, 1, 17, 17)
    point[0, 0, 8, 8] = 1
    fourth, fifth = (levels(corrupt(point, "defocus_blur", severity, seeded()))[0, 0] for severity in (4, 5))
    assert (fourth > 0).sum() == 5  # radius 1: a plus
    assert fourth[8, 7:10].tolist() == fourth[7:10, 8].tolist() == [51, 51, 51]  # a fifth each
    assert (fifth > 0).sum() == 9  # radius 1.5: a square
    assert fifth[7:10, 7:10].unique().tolist() == [28]  # a ninth each


def test_glass_blur_takes_pixels_from_above_and_from_the_left():
    image = torch.rand(20, 3, 16, 16, generator=seeded()).mul(255).round() / 255
    glass = corrupt(image, "glass_blur", 1, seeded())  # a sigma of 0.05 blurs nothing
    assert torch.equal(glass[:, :, :2], image[:, :, :2])
    assert torch.equal(glass[:, :, :, :2], image[:, :, :, :2])
    moves = [image[:, :, 2 - down : 16 - down, 2 - right : 16 - right] for down in (0, 1) for right in (0, 1)]
    taken = torch.stack([(move == glass[:, :, 2:, 2:]).all(dim=1) for move in moves])
    assert taken.any(dim=0).all()
    for share in taken.float().mean(dim=(1, 2, 3)).tolist():
        assert share == pytest.approx(0.25, abs=0.03)


def test_streaks_follow_their_angles():
    point = np.zeros((3, 1, 17, 17))
    point[:, 0, 8, 8] = 1
    weights = np.exp(-(np.arange(5) ** 2) / 2)
    weights /= weights.sum()
    right, down, diagonal = corruptions._streaked(point, 2, 1, np.array([0.0, -90.0, 45.0]))[:, 0]
    # at 0 degrees a pixel gathers from its right, so a point is drawn out to its left
    np.testing.assert_allclose(right[8, 4:9], weights[::-1])
    np.testing.assert_allclose(down[8:13, 8], weights)
    np.testing.assert_allclose(diagonal[8, 8], weights[0])
    assert diagonal[9:, :].sum() == diagonal[:, 9:].sum() == 0
    np.testing.assert_allclose([right.sum(), down.sum(), diagonal.sum()], 1)


def test_zoom_blur_keeps_the_middle_and_draws_the_rest_outwards():
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    zoomed = corrupt(ramp, "zoom_blur", 5, seeded())[0, 0]
    assert zoomed[:, 15:17].mean().item() == pytest.approx(0.5, abs=0.02)
    assert zoomed[:, 1].mean() > ramp[0, 0, :, 1].mean() + 0.03  # what was nearer to the middle
    assert zoomed[:, 30].mean() < ramp[0, 0, :, 30].mean() - 0.03


def test_snow_whitens_and_is_laid_over_twice():
    dark = constant(0, count=100, size=(32, 32))
    snow = corrupt(dark, "snow", 5, seeded())
    # 0.8 * 0 + 0.2 * (1.5 * 0 + 0.5) = 0.1 without a flake
    assert levels(snow).min() == 25
    assert snow.mean() > 0.15
    assert (levels(snow) - levels(snow.flip(2, 3))).abs().max() <= 1  # the flakes and the flakes turned about


def test_frost_adds_bluish_ice():
    ice = corrupt(constant(0, 3, count=200), "frost", 3, seeded()) / 0.4
    red, green, blue = ice.mean(dim=(0, 2, 3)).tolist()
    assert 0.2 < red < green < blue < 0.9
    assert ice.std(dim=(1, 2, 3)).mean() > 0.1  # crystals, not a plain tint
    assert corrupt(constant(255), "frost", 1, seeded()).min() == 1  # the image keeps its whole weight, then clips


@pytest.mark.parametrize("severity", EVERY_SEVERITY)
def test_fog_lies_between_its_bounds(severity):
    amount = SEVERITIES["fog"][severity - 1][0]
    fog = corrupt(constant(204), "fog", severity, seeded())
    # (x + amount * plasma) * max / (max + amount), the plasma from 0 to 1 in each image
    assert levels(fog).amax(dim=(1, 2, 3)).unique().tolist() == [204]
    assert levels(fog).amin(dim=(1, 2, 3)).unique().tolist() == [int(204 * 0.8 / (0.8 + amount) + 1e-6)]
    assert corrupt(constant(0), "fog", severity, seeded()).max() == 0


def test_plasma_is_rougher_the_slower_it_decays():
    smooth, rough = (corruptions._plasma(50, 32, decay, np.random.default_rng(0)) for decay in (3, 1.75))
    for plasma in (smooth, rough):
        assert plasma.shape == (50, 32, 32)
        assert (plasma.min(axis=(1, 2)) == 0).all()
        assert (plasma.max(axis=(1, 2)) == 1).all()
    assert np.abs(np.diff(rough)).mean() > 1.3 * np.abs(np.diff(smooth)).mean()


def test_elastic_transform_moves_by_a_share_of_the_size():
    for size in (32, 64):
        ramp = torch.linspace(0, 1, size).expand(300, 1, size, size)
        moved = corrupt(ramp, "elastic_transform", 1, seeded())
        # the anchor [-1, 1] of the affine map is moved by U(-0.08, 0.08) of the size across the ramp
        anchor = size // 2 + size // 3
        shift = (moved - ramp)[:, 0, size // 2 - size // 3, anchor]
        assert shift.std().item() == pytest.approx(0.08 / 3**0.5, rel=0.2)


def test_gray_is_corrupted_as_equal_channels_are(patches):
    noises_and_frost = {*GROUPS["high"], "frost"}
    for name in set(CORRUPTIONS) - noises_and_frost:
        gray = corrupt(patches[:10], name, 5, seeded())
        colour = corrupt(patches[:10].expand(-1, 3, -1, -1), name, 5, seeded())
        assert (levels(colour) - levels(gray)).abs().max() <= (2 if name == "jpeg_compression" else 1), name


def test_unknown_names_and_severities(patches):
    with pytest.raises(ValueError, match=r"unknown corruption 'rain'; allowed: gaussian_noise, shot_noise, .*jpeg"):
        corrupt(patches, "rain", 1, seeded())
    for severity in (0, 6, -1, 2.0, 2.5, "3", True, None):
        with pytest.raises(ValueError, match=f"severity must be a whole number from 1 to 5, got {severity!r}"):
            corrupt(patches, "fog", severity, seeded())
    assert torch.equal(corrupt(patches[:2], "fog", np.int64(2), seeded()), corrupt(patches[:2], "fog", 2, seeded()))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(1, 16, 16), r"shape \[n, c, h, w\] with n >= 1, got \[1, 16, 16\]"),
        (torch.rand(0, 1, 16, 16), r"with n >= 1, got \[0, 1, 16, 16\]"),
        (torch.rand(2, 2, 16, 16), r"1 \(gray\) or 3 \(colour\) channels, got 2"),
        (torch.rand(2, 1, 15, 40), "at least 16 pixels a side, got 15x40"),
        (torch.zeros(2, 1, 16, 16, dtype=torch.uint8), "got torch.uint8; divide uint8 by 255"),
        (torch.full((2, 1, 16, 16), 1.5), r"pixels must lie in \[0, 1\], got \[1.5, 1.5\]"),
        (torch.full((2, 1, 16, 16), -0.5), r"pixels must lie in \[0, 1\]"),
        (torch.full((2, 1, 16, 16), float("nan")), r"pixels must lie in \[0, 1\]"),
        (np.zeros((2, 1, 16, 16)), "images must be a torch tensor"),
    ],
)
def test_bad_images(images, message):
    with pytest.raises(ValueError, match=message):
        corrupt(images, "fog", 1, seeded())


def test_no_generator(patches):
    with pytest.raises(ValueError, match=r"generator must be a torch\.Generator, got NoneType"):
        corrupt(patches, "fog", 1, None)

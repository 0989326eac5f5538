"""Pixel similarity and thresholded targets against double loops; what is refused."""

import time

import numpy as np
import pytest
import torch

from simreg_core import PairSampler, pixel_similarity, threshold_targets


def similarity_by_loops(images: np.ndarray) -> np.ndarray:
    gray = images.mean(axis=1).reshape(len(images), -1)
    mean = gray.mean(axis=0)
    result = np.zeros((len(images), len(images)))
    for i in range(len(images)):
        for j in range(len(images)):
            a, b = gray[i] - mean, gray[j] - mean
            result[i, j] = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_similarity_equals_a_double_loop(channels, generator):
    images = torch.rand(12, channels, 5, 7, generator=generator, dtype=torch.float64)
    np.testing.assert_allclose(pixel_similarity(images).numpy(), similarity_by_loops(images.numpy()), atol=1e-12)


def test_targets_equal_a_double_loop(generator):
    similarity = pixel_similarity(torch.rand(30, 1, 2, 2, generator=generator))
    targets = threshold_targets(similarity, 0.4)
    for i in range(30):
        for j in range(30):
            s = similarity[i, j].item()
            assert targets[i, j].item() == (1 if s > 0.4 else -1 if s < -0.4 else 0)
    assert set(targets.unique().tolist()) == {-1, 0, 1}


def test_thresholds_are_strict():
    similarity = torch.tensor([[1.0, 0.5], [-0.5, 1.0]])
    assert threshold_targets(similarity, 0.5).tolist() == [[1, 0], [0, 1]]


def test_similarity_is_unchanged_by_scale_and_by_permuting_pixels_alike(generator):
    images = torch.rand(10, 1, 6, 6, generator=generator, dtype=torch.float64)
    expected = pixel_similarity(images)
    torch.testing.assert_close(pixel_similarity(images * 0.3), expected)
    order = torch.randperm(36, generator=generator)
    permuted = images.flatten(2)[:, :, order].reshape(images.shape)
    torch.testing.assert_close(pixel_similarity(permuted), expected)


def test_scaling_one_image_about_the_mean_image_leaves_its_cosines(generator):
    # a pair of images moved oppositely keeps the mean image; their own lengths must not matter
    base = torch.full((4, 1, 3, 3), 0.5, dtype=torch.float64)
    moves = 0.1 * torch.rand(2, 1, 3, 3, generator=generator, dtype=torch.float64)
    images = torch.cat([base[:2] + moves, base[:2] - moves])
    scaled = images.clone()
    scaled[[0, 2]] = 0.5 + 3 * (images[[0, 2]] - 0.5)
    torch.testing.assert_close(pixel_similarity(scaled), pixel_similarity(images))


def test_an_image_equal_to_the_mean_is_similar_to_none():
    images = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5), torch.ones(1, 2, 2)])
    assert pixel_similarity(images)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(1, 1, 4, 4), "at least two images"),
        (torch.full((3, 1, 2, 2), float("nan")), r"\[0, 1\], got \[nan, nan\]"),
        (torch.full((3, 1, 2, 2), 1.5), r"\[0, 1\], got \[1.5, 1.5\]"),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), "divide uint8 by 255"),
        (torch.rand(3, 4), "shape"),
        ([torch.rand(1, 4, 4), torch.rand(1, 5, 5)], "one size"),
        ([], "at least two images"),
        (torch.rand(3, 16, 16, 3), r"got \[3, 16, 16, 3\], whose last axis looks like the channels; images.permute"),
        (torch.rand(3, 2, 8, 1), "looks like the channels"),
        (torch.rand(3, 32, 16, 4), "looks like the channels"),
        (
            np.zeros((3, 1, 4, 4), dtype=np.float32),
            r"a torch tensor \[n, c, h, w\], got ndarray; torch.as_tensor makes one",
        ),
        ([np.zeros((1, 4, 4))] * 3, "must be torch tensors, got ndarray"),
    ],
)
def test_bad_images_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        pixel_similarity(images)


@pytest.mark.parametrize("shape", [(1, 8, 3), (3, 3, 3), (3, 8, 1), (4, 8, 4), (2, 5, 5), (1, 1, 4)])
def test_small_images_are_not_taken_for_channels_last(shape):
    assert pixel_similarity(torch.rand(4, *shape)).shape == (4, 4)


@pytest.mark.parametrize("threshold", [0, 1, -0.2, 1.5, float("nan")])
def test_threshold_outside_its_bounds(threshold):
    with pytest.raises(ValueError, match=r"threshold must lie in \(0, 1\), got"):
        threshold_targets(torch.eye(3), threshold)


@pytest.mark.parametrize("threshold", ["0.6", None, [0.6]])
def test_a_threshold_that_is_no_number(threshold):
    with pytest.raises(ValueError, match=r"threshold must be a number in \(0, 1\), got "):
        threshold_targets(torch.eye(3), threshold)


def test_five_thousand_images_are_ready_in_two_seconds(generator):
    images = torch.rand(5000, 1, 32, 32, generator=generator)
    started = time.process_time()
    similarity = pixel_similarity(images)
    PairSampler(similarity, threshold_targets(similarity, 0.8), "low", threshold=0.8)
    # processor time, which other processes do not change; two cores halve what is threaded
    assert time.process_time() - started < 4


def test_subtracting_each_images_own_mean_is_the_correlation_of_pixels(generator):
    images = torch.rand(12, 3, 5, 7, generator=generator, dtype=torch.float64)
    expected = np.corrcoef(images.mean(dim=1).flatten(1).numpy())
    found = pixel_similarity(images, subtract="own_mean")
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    lighter = images * 0.5 + 0.3 * torch.rand(12, 1, 1, 1, generator=generator, dtype=torch.float64)
    assert torch.allclose(pixel_similarity(lighter, subtract="own_mean"), found)
    assert not torch.allclose(pixel_similarity(lighter), pixel_similarity(images))


def test_another_subtraction_is_refused():
    with pytest.raises(ValueError, match="unknown subtract 'median'; allowed: mean_image, own_mean"):
        pixel_similarity(torch.rand(3, 1, 4, 4), subtract="median")

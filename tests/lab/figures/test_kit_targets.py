"""Pictures of targets show what training asks: shares, parts, and the pairs of the first step."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from simreg_core import pixel_similarity, threshold_targets
from simreg_core.lab.figures import figure, kit_targets
from simreg_core.lab.figures.kit_targets import SHOWN
from simreg_core.lab.images import load_image_set
from simreg_core.lab.recipes import experiment
from simreg_core.lab.store import Store
from simreg_core.lab.training import build_network, build_regularizer, regularization_images
from simreg_core.names import TARGET_SIMILARITIES


@pytest.fixture(autouse=True)
def nothing_is_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    yield
    assert not (tmp_path / "runs").exists()
    plt.close("all")


def matrix(ax) -> np.ndarray:
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def shown(picture) -> dict[str, np.ndarray]:
    return {ax.get_title(): matrix(ax) for ax in picture.axes if ax.get_visible()}


def test_a_higher_threshold_leaves_fewer_pairs_at_the_ends():
    study = figure("03_hyperparameter_selection").open("quick", thresholds=[0.1, 0.5])
    pixel, low, high = shown(kit_targets.thresholds_compared(study)).values()
    assert pixel.shape == (SHOWN, SHOWN)
    assert (low == (pixel > 0.1).astype(float) - (pixel < -0.1)).all()
    assert (high == (pixel > 0.5).astype(float) - (pixel < -0.5)).all()
    titles = shown(kit_targets.thresholds_compared(study))
    similarity = pixel_similarity(load_image_set("mnist-5k", "train", (28, 28), 1, 1000).pixels)
    share = (similarity[np.triu_indices(1000, k=1)] > 0.5).float().mean()
    assert f"{share:.0%} at +1" in list(titles)[2]


def test_few_images_have_their_pairs_counted():
    study = figure("08_image_count_study").open("quick")
    few, *more = shown(kit_targets.counts_compared(study)).items()
    own = threshold_targets(pixel_similarity(load_image_set("mnist-5k", "train", (28, 28), 1, 10).pixels), 0.2)
    ends = [int(((own == end).sum() - (own.diagonal() == end).sum()) / 2) for end in (1, -1)]
    assert few[0] == f"N = 10\nof 45 pairs {ends[0]} at +1, {ends[1]} at −1"
    assert few[1].shape == (10, 10)
    assert [title.partition("\n")[0] for title, _ in more] == ["N = 100", "N = 1000"]


def test_each_part_shows_the_pairs_that_are_drawn_and_no_others():
    found = shown(kit_targets.parts_compared(figure("11_target_components").open("quick")))
    pixel, whole, low, high, positive, negative, double, shuffled, zero = (
        np.where(np.eye(SHOWN) == 1, 0, one) for one in found.values()
    )
    assert set(np.unique(whole)) == {-1, 0, 1}
    assert (np.isnan(low) == (whole != 0)).all()
    assert (np.nan_to_num(low) == 0).all()
    off = ~np.eye(SHOWN, dtype=bool)
    assert (np.isnan(high) == (whole == 0))[off].all()
    assert (np.isnan(positive) == (whole == -1)).all()
    assert (np.isnan(negative) == (whole == 1)).all()
    assert np.isnan(double).any()
    assert (shuffled != whole).any()
    assert (zero == 0).all()
    assert len(np.unique(pixel)) > 100


def test_the_pairs_of_a_step_are_those_that_training_draws_first():
    study = figure("07_batch_size_study").open("quick")
    one = experiment(study.profile, "S^Th", 0)
    images = regularization_images(one)
    regularizer = build_regularizer(build_network(one, 10), one.regularizer, images, one.seed, Store())
    rows, columns, targets = regularizer.sampler.draw(16, regularizer.generator)
    batch, *pairs = [ax for ax in kit_targets.one_step(study).axes if ax.get_visible()]
    assert batch.get_title() == "a batch: 64 images with labels"
    assert len(pairs) == 16
    said = {"+1": 1, "0": 0, "−1": -1}
    assert [said[ax.get_title()] for ax in pairs] == targets.tolist()
    for ax, i, j in zip(pairs, rows, columns, strict=True):
        pixels = torch.as_tensor(ax.images[0].get_array().data)
        assert torch.equal(pixels[:28], images.pixels[i, 0])
        assert torch.equal(pixels[-28:], images.pixels[j, 0])


def test_pairs_that_do_not_fill_a_row_leave_no_empty_frame():
    picture = kit_targets.one_step(figure("07_batch_size_study").open("quick"), k=11)
    assert sum(ax.get_visible() for ax in picture.axes) == 1 + 11


def test_the_means_lead_to_other_targets():
    study = figure("13_protocol_audit").open("quick")
    image, of_image, theirs, of_own, own = kit_targets.means_compared(study).axes
    assert (np.unique(matrix(theirs)) == [-1, 0, 1]).all()
    assert (matrix(own) == 1).mean() > (matrix(theirs) == 1).mean()
    assert (matrix(of_image) != matrix(of_own)).any()
    assert image.get_title().startswith("an image")


def test_every_similarity_has_as_many_pairs_at_the_ends():
    study = figure("18_other_similarities").open("quick")
    study = figure("18_other_similarities").study(
        study.profile.changed(regularizer=study.profile.regularizer.changed(count=40))
    )
    targets = kit_targets.targets_of_similarities(study)
    assert list(targets) == ["S^Th", *TARGET_SIMILARITIES]
    assert len({(int((one == 1).sum()), int((one == -1).sum())) for one in targets.values()}) == 1
    drawn = shown(kit_targets.similarities_compared(study, targets))
    assert [title.replace("\n", " ").strip() for title in drawn][1:] == [
        "Euclidean distance", "SSIM", "cosine, after blurring", "untrained features",
    ]  # fmt: skip
    assert len({one.tobytes() for one in drawn.values()}) == 5

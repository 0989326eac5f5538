"""Pictures of what is studied: below an image under attack stands what the networks answer; sets and corruptions."""

import matplotlib.pyplot as plt
import pytest
import torch
from conftest import TINY

from simreg_core.lab.figures import figure
from simreg_core.lab.figures.kit_images import IN_A_ROW, corrupted, image_sets, under_attack
from simreg_core.lab.images import load_image_set
from simreg_core.names import GROUPS


@pytest.fixture
def study(tmp_path, monkeypatch, trained_once):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    return figure("02_attack_curves").open(str(TINY))


def test_each_picture_has_the_answers_of_both_networks(study, trained_once):
    trained_once(study.store, *(study.experiment(series) for series in ("none", "S^Th")))
    images = load_image_set("digits", "test", (16, 16))
    picture = under_attack(study, index=3)
    titles = [ax.get_title().split("\n")[0] for ax in picture.axes]
    assert titles == ["clean", "Gaussian noise,", "FGSM on none,", "boundary attack on", "boundary attack on"]
    right = images.classes[images.labels[3].item()]
    for ax in picture.axes:
        pixels = torch.as_tensor(ax.images[0].get_array().data)[None, None]
        for line, series in zip(ax.get_xlabel().split("\n"), ("none", "S^Th"), strict=True):
            with torch.no_grad():
                answer = images.classes[study.network(series)(pixels).argmax().item()]
            assert line.split(": ")[1] == answer + " ✗" * (answer != right)
    clean = picture.axes[0].images[0].get_array()
    assert (clean == images.pixels[3, 0].numpy()).all()
    plt.close(picture)
    with pytest.raises(ValueError, match="index 100000 is none of the"):
        under_attack(study, index=100_000)


def test_nothing_is_trained_unasked(study, capsys):
    assert under_attack(study) is None
    assert "not on this machine: under_attack(study, train=True) trains two" in capsys.readouterr().out


def test_each_set_has_a_row_of_its_images(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    study = figure("04_regularization_sets").open("quick")
    picture = image_sets(study)
    rows = [ax.get_ylabel() for ax in picture.axes if ax.get_ylabel()]
    assert rows == [
        "mnist-5k\nclassified and regularized with", "digits\nregularized with", "photos-foreign\nregularized with",
    ]  # fmt: skip
    known = {tuple(one.flatten().tolist()) for one in load_image_set("digits", "train", (28, 28)).pixels}
    for ax in picture.axes[IN_A_ROW : 2 * IN_A_ROW]:
        assert tuple(ax.images[0].get_array().flatten().tolist()) in known
    plt.close(picture)


def test_an_image_is_shown_under_every_corruption():
    picture = corrupted(figure("05_common_corruptions").open("quick"), severity=5)
    titles = [ax.get_title() for ax in picture.axes]
    assert titles == ["clean", *(name.replace("_", " ") for own in GROUPS.values() for name in own)]
    clean, *others = (ax.images[0].get_array() for ax in picture.axes)
    assert all((one != clean).any() for one in others)
    plt.close(picture)

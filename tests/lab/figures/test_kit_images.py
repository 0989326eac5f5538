"""Pictures of what is studied: below an image under attack stands what the networks answer; sets and corruptions."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import TINY

from simreg_core.lab.figures import figure, kit_targets
from simreg_core.lab.figures.kit_images import (
    IN_A_ROW,
    as_seen_by,
    corrupted,
    image_sets,
    maps_by_layer,
    perturbation_spectra,
    under_attack,
    under_white_box,
)
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
    for draw in (under_attack, under_white_box, perturbation_spectra):
        assert draw(study) is None
        said = f"not on this machine: {draw.__name__}(study, train=True) trains two"
        assert said in capsys.readouterr().out
    assert maps_by_layer(study) is None
    assert "maps_by_layer(study, train=True) trains one" in capsys.readouterr().out


def test_without_the_images_a_picture_is_left_out_and_that_is_said(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    for name, draw in {"04_regularization_sets": image_sets, "07_batch_size_study": kit_targets.one_step}.items():
        assert draw(figure(name).open("cifar-small")) is None
        assert capsys.readouterr().out.startswith("There is no picture here: unknown image set '")


def test_each_network_answers_to_the_attack_that_was_made_on_it(study, trained_once):
    trained_once(study.store, *(study.experiment(series) for series in ("none", "S^Th")))
    epsilons = sorted(study.profile.white_box.epsilons)
    picture = under_white_box(study, index=3)
    clean = load_image_set("digits", "test", (16, 16)).pixels[3, 0].numpy()
    for row, series in zip(np.reshape(picture.axes, (2, len(epsilons))), ("none", "S^Th"), strict=True):
        for ax, epsilon in zip(row, epsilons, strict=True):
            found = ax.images[0].get_array().data
            assert abs(found - clean).max() <= epsilon + 1e-6
            with torch.no_grad():
                answer = study.network(series)(torch.as_tensor(found)[None, None]).argmax().item()
            assert ax.get_xlabel().split(": ")[1].removesuffix(" ✗") == str(answer)
    plt.close(picture)


def test_low_and_high_frequencies_lie_where_the_spectra_say(study, trained_once, monkeypatch):
    trained_once(study.store, *(study.experiment(series) for series in ("none", "S^Th")))
    monkeypatch.setattr("simreg_core.lab.figures.kit_images.BOUNDARY_STEPS", 5)
    picture = perturbation_spectra(study, index=3)
    low, high, *_ = (np.asarray(ax.images[0].get_array()) for ax in picture.axes[4:])
    near = np.hypot(*np.meshgrid(*[np.fft.fftshift(np.fft.fftfreq(16))] * 2)) < 0.2
    assert low[near].max() == high[~near].max() == 1
    assert low[~near].max() == high[near].max() == pytest.approx(0.01)
    plt.close(picture)


def test_maps_of_every_layer_are_shown(study, trained_once):
    trained_once(study.store, study.experiment("S^pixel"))
    picture = maps_by_layer(study, (0, 5, 6))
    assert len(picture.axes) == 3 * (1 + 5)
    with torch.no_grad():
        maps = study.network("S^pixel").features(load_image_set("digits", "test", (16, 16)).pixels[[0, 5, 6]])
    assert np.allclose(picture.axes[7].images[0].get_array(), maps[0][1].mean(dim=0))
    plt.close(picture)
    with pytest.raises(ValueError, match="index 100000 is none of the"):
        maps_by_layer(study, (100_000,))


def test_each_architecture_cuts_up_an_image_in_its_way():
    study = figure("15_architectures").open("quick")
    stem, tokens, line = as_seen_by(study, index=2).axes
    clean = load_image_set("mnist-5k", "train", (28, 28)).pixels[2, 0].numpy()
    assert "7×7 pixels at once" in stem.get_title()
    assert len(stem.patches) == 3
    assert "4×4 pixels at once,\nside by side" in tokens.get_title()
    assert len(tokens.patches) == (28 // 4) ** 2
    assert (tokens.images[0].get_array() == clean).all()
    mixed = line.images[0].get_array()
    assert (mixed != clean).any()
    assert sorted(mixed.flatten()) == sorted(clean.flatten())
    plt.close("all")


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

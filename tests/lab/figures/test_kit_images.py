"""An image under attack: what stands below it is what the networks answer."""

import matplotlib.pyplot as plt
import pytest
import torch
from conftest import TINY

from simreg_core.lab.figures import figure
from simreg_core.lab.figures.kit_images import under_attack
from simreg_core.lab.images import load_image_set


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

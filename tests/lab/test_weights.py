"""Networks that ship: what is published is read back, measures as its card says, and a changed file is refused."""

import json
import shutil
import sys

import pytest
import torch
from conftest import TINY

from simreg_core import lab
from simreg_core.lab import pretrained, recipes, weights
from simreg_core.lab.cli import main
from simreg_core.lab.figures import figure
from simreg_core.lab.files import StoreError
from simreg_core.lab.image_files import DataError
from simreg_core.lab.images import load_image_set
from simreg_core.lab.series import NEURAL, NONE, THRESHOLD
from simreg_core.lab.specs import PROJECT, SpecError
from simreg_core.lab.store import Store
from simreg_core.lab.training.assembly import build_network

COMMITTED = sorted(path.parent.name for path in (PROJECT / "weights").glob(f"*/{weights.CARD}"))


@pytest.fixture
def published(tiny, trained_once, tmp_path, monkeypatch):
    """none and S^Th of tiny, published by the command."""
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SIMREG_WEIGHTS", str(tmp_path / "weights"))
    trained_once(Store(), *(recipes.experiment(tiny, target, 0) for target in (NONE, THRESHOLD)))
    command = ["simreg", "publish-weights", "--profile", str(TINY), "--target", "none", "--target", "threshold"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    return tmp_path / "weights" / "tiny"


def test_a_published_network_is_the_trained_one_and_measures_as_its_card_says(published, tiny):
    assert {path.name for path in published.iterdir()} == {
        "none.safetensors", "threshold.safetensors", "card.json", "README.md",
    }  # fmt: skip
    card = weights.model_card("tiny")
    images = load_image_set("digits", "test", (16, 16)).pixels[:50]
    for target, entry in zip((NONE, THRESHOLD), card["networks"], strict=True):
        experiment = recipes.experiment(tiny, target, 0)
        network = pretrained("tiny", target)
        assert not network.training
        expected = Store().load_weights(experiment, build_network(experiment, 10)).eval()
        with torch.no_grad():
            assert torch.equal(network(images), expected(images))
        assert entry["key"] == experiment.key
        assert weights.measured_again("tiny", target) == entry["numbers"]
        assert {one["attack"] for one in entry["numbers"]} == {"gaussian", "white_box"}
        assert len({one["accuracy"] for one in entry["numbers"]}) > 3
    first, second = (entry["numbers"] for entry in card["networks"])
    assert first != second


def test_a_curve_gives_its_network_that_ships_else_a_trained_one(published, tiny):
    study = figure("02_attack_curves").open(str(TINY))
    images = load_image_set("digits", "test", (16, 16)).pixels[:50]

    def logits(seed):
        with torch.no_grad():
            return study.network(THRESHOLD, seed)(images)

    first = recipes.experiment(tiny, THRESHOLD, 0)
    of_store = Store().load_weights(first, build_network(first, 10))
    with torch.no_grad():
        expected = of_store.eval()(images)
    assert torch.equal(logits(0), expected)  # of the published file
    assert not Store().is_trained(recipes.experiment(tiny, THRESHOLD, 1))
    assert not torch.equal(logits(1), expected)
    assert Store().is_trained(recipes.experiment(tiny, THRESHOLD, 1))
    with pytest.raises(SpecError, match="has no network of 'S\\^none', seed 0; it has none, S\\^pixel"):
        study.network("S^none")
    with pytest.raises(SpecError, match="a predictor of neural responses is no network"):
        weights.network_of(recipes.target_predictors(tiny)[0], Store())


def test_the_card_is_readable(published):
    text = (published / "README.md").read_text()
    numbers = weights.model_card("tiny")["networks"][1]["numbers"]
    assert "| S^Th | `threshold.safetensors` | 0.1 | 0.5 | 40 of 'digits' |" in text
    assert "| none | `none.safetensors` |  |  |  |" in text
    assert "300 training images of 'digits'" in text
    for one in numbers:
        assert f"{one['accuracy']:.3f}" in text
    assert text.count("\n- ") == len(weights.LIMITS)
    assert max(map(len, text.splitlines())) < 200


def test_what_is_missing_or_changed_is_one_line(published, tmp_path, monkeypatch):
    with pytest.raises(StoreError, match=r"no weights of profile 'quick' in .*/quick; there are \['tiny'\]"):
        pretrained("quick", THRESHOLD)
    with pytest.raises(StoreError, match=r"profile 'tiny' has no weights of 'S\^neural'; it has those of none, S\^Th"):
        pretrained("tiny", NEURAL)
    with monkeypatch.context() as empty:
        empty.setenv("SIMREG_WEIGHTS", str(tmp_path / "nothing"))
        with pytest.raises(StoreError, match="there are none: set SIMREG_WEIGHTS to the folder weights/ of a clone"):
            pretrained("quick", THRESHOLD)
    shutil.copy(published / "none.safetensors", published / "threshold.safetensors")
    with pytest.raises(StoreError, match=r"threshold\.safetensors is of experiment \w+, its card of \w+"):
        pretrained("tiny", THRESHOLD)
    path = published / weights.CARD
    card = json.loads(path.read_text())
    card["networks"][0]["numbers"][0]["accuracy"] = 0.999
    path.write_text(json.dumps(card, indent=1))
    with pytest.raises(StoreError, match=r"model card .*card\.json is corrupt or edited"):
        pretrained("tiny", NONE)
    with pytest.raises(AttributeError, match=r"module 'simreg_core\.lab' has no attribute 'nothing'"):
        _ = lab.nothing


def test_nothing_is_published_before_all_is_trained(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_WEIGHTS", str(tmp_path / "weights"))
    with pytest.raises(
        StoreError, match=r"'none' of profile 'tiny', seed 0, is not trained in .*: python -m simreg_core t"
    ):
        weights.publish_weights(tiny, Store(tmp_path / "runs"))
    with pytest.raises(SpecError, match=r"unknown target 'S\^pixel'; allowed: none, S\^Th, S\^neural"):
        weights.publish_weights(tiny, Store(tmp_path / "runs"), ("S^pixel",))
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("profile", COMMITTED)
def test_the_numbers_of_committed_cards_come_out_again(profile):
    """Within an image of a hundred: another processor rounds otherwise."""
    task = weights.model_card(profile)["networks"][0]["experiment"]["task"]
    try:
        load_image_set(task["images"], "test", count=100)
    except DataError as error:
        pytest.skip(f"no images of {profile} here: {error}")
    for entry in weights.model_card(profile)["networks"]:
        again = weights.measured_again(profile, entry["target"])
        assert [one["accuracy"] for one in again] == pytest.approx(
            [one["accuracy"] for one in entry["numbers"]], abs=0.01
        )
        assert [(one["attack"], one["epsilon"]) for one in again] == [
            (one["attack"], one["epsilon"]) for one in entry["numbers"]
        ]


@pytest.mark.parametrize("profile", COMMITTED)
def test_each_committed_card_is_a_page_of_the_site(profile):
    assert f"<../../weights/{profile}/README>" in (PROJECT / "docs" / "site" / "index.md").read_text(encoding="utf-8")

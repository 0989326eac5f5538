"""Notebook 90's work: a user's network and images are checked, attacked and reported; bad input is one line."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.legend import Legend
from PIL import Image
from torch import nn

from simreg_core.architectures import architecture
from simreg_core.lab import own_network, report
from simreg_core.lab.image_files import DataError
from simreg_core.lab.make.notebooks import NOTEBOOKS, notebook_paths
from simreg_core.lab.own_inputs import Settings, default_layers, sets_of, small_network
from simreg_core.lab.series import S_TH
from simreg_core.lab.specs import SpecError
from simreg_core.model import resnet18
from simreg_core.selection import AlphaChoice

NETWORKS = """
from torch import nn
VALUE = 3
def flat(num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 10 * 10, num_classes))
def tuples(num_classes):
    class Pair(nn.Sequential):
        def forward(self, x):
            return super().forward(x), None
    body = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)]
    return Pair(*body, nn.Flatten(), nn.Linear(128, num_classes))
def colour(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
def thousand(num_classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1000))
def mlp(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
def fails(num_classes):
    raise RuntimeError("no weights\\nhere")
def number(num_classes):
    return 3
def without():
    return None
"""


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """A user's files, and a data folder without anything."""
    (tmp_path / "my_networks.py").write_text(NETWORKS)
    (tmp_path / "my_broken.py").write_text("import torch\nraise KeyError('oops')\n")
    (tmp_path / "my_lacking.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "data"))
    yield
    for name in ("my_networks", "my_broken", "my_lacking"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": "my_networks"}, "network 'my_networks' must be 'module:function', as 'my_networks:small'"),
        ({"network": "no_such:f"}, "there is no module 'no_such'; put no_such.py beside the notebook, or"),
        ({"network": "my_broken:f"}, "its module cannot be imported: KeyError: 'oops' .my_broken.py, line 2.$"),
        ({"network": "my_lacking:f"}, "cannot be imported: ModuleNotFoundError: No module named 'no_such_p"),
        ({"network": "my_networks:small"}, "my_networks has no function 'small'; it has colour, fails, flat, mlp"),
        ({"network": "my_networks:VALUE"}, "my_networks has no function 'VALUE'"),
        ({"network": "my_networks:without"}, r"call without\(num_classes=...\) must be possible, but"),
        ({"network": "my_networks:fails"}, "cannot be made: RuntimeError: no weights .my_networks.py, line \\d+.$"),
        ({"network": "my_networks:number"}, "'my_networks:number' must return a torch.nn.Module, got int"),
        ({"network": "my_networks:flat"}, r"does not take images of 1x8x8 .*; give size=\(height, width\) or ch"),
        ({"network": "my_networks:colour"}, r"does not take images of 1x8x8 \(channels x height x width\)"),
        ({"network": "my_networks:thousand"}, "gives 1000 logits, but 'digits' has 10 classes: make its last"),
        ({"network": "my_networks:mlp"}, "no layer of the network gives maps of at least two places; name the layers"),
        ({"layers": ["9"]}, "unknown layer '9'; layers of this network: 0, 1, 2, 3"),
        ({"images": "leaves"}, "unknown image set 'leaves'; allowed: photos, .* or a folder of that name"),
        ({"images": "./leaves"}, r"folder .*/leaves does not exist; give a folder of class folders, or"),
        ({"alpha": -1}, "alpha: got -1"),
        ({"epsilon": 0.3}, "epsilon 0.3 must be one of epsilons, 0.02, 0.05, 0.1, 0.2"),
        ({"speed": 3}, "unknown key 'speed'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_says_what_to_change(given, message):
    with pytest.raises((SpecError, DataError), match=message) as error:
        own_network.opened(**given)
    assert "\n" not in str(error.value)


def picture_folder(root: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        for number in range(20):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.new("L", (12, 12), 100 * index + number).save(root / name / f"{number}.png")
    return root


def test_a_folder_without_classes_or_with_one_is_refused(tmp_path):
    picture_folder(tmp_path / "flat", ".")
    with pytest.raises(
        DataError, match=r"flat has no class folders: put its images into flat/CLASS/, a folder for each"
    ):
        own_network.opened(images=str(tmp_path / "flat"))
    picture_folder(tmp_path / "single", "cat")
    with pytest.raises(DataError, match="has one class, 'cat'; a classifier needs at least two"):
        own_network.opened(images=str(tmp_path / "single"))


def test_a_folder_with_an_image_for_each_class_is_refused(tmp_path):
    for name in ("dark", "light"):
        (tmp_path / "few" / name).mkdir(parents=True)
        Image.new("L", (12, 12), len(name)).save(tmp_path / "few" / name / "0.png")
    with pytest.raises(DataError, match="few' has too few images: 0 are left to train on; put more there"):
        own_network.opened(images=str(tmp_path / "few"))


def test_a_folder_is_divided_and_resized(tmp_path):
    folder = picture_folder(tmp_path / "pictures", "dark", "light")
    own = own_network.opened(network="my_networks:flat", images=str(folder), layers=["0"])
    assert [len(one) for one in (own.sets.train, own.sets.validation, own.sets.test)] == [24, 6, 10]
    parts = [one.pixels.flatten(1)[:, 0].tolist() for one in (own.sets.train, own.sets.validation, own.sets.test)]
    assert len(set().union(*parts)) == 40  # no image twice
    resized = sets_of(Settings(images=str(folder), size=(8, 10)))
    assert resized.train.images.shape[1:] == (1, 8, 10)
    picture_folder(tmp_path / "split" / "train", "dark", "light")
    picture_folder(tmp_path / "split" / "test", "dark", "light")
    split = sets_of(Settings(images=str(tmp_path / "split")))
    assert [len(one) for one in (split.train, split.validation, split.test)] == [32, 8, 40]


def test_layers_are_chosen_from_the_outside_in():
    pixels = torch.rand(2, 1, 16, 16)
    assert default_layers(resnet18(width=2), pixels) == ("stem", "stage1", "stage2", "stage3", "stage4")
    assert default_layers(small_network(10), pixels) == ("0", "2", "3", "4", "6")
    vgg = default_layers(architecture("vgg", (16, 16), width=2), pixels)
    assert len(vgg) == 5
    assert all(name.startswith("body.features.") for name in vgg)
    assert default_layers(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), pixels) == ("0",)


@pytest.fixture(scope="module")
def small():
    """The notebook's way at its smallest."""
    own = own_network.opened(steps=25, seeds=2, test_images=40, queries=20, noise=(0.1, 0.5), alphas=(0.1, 0.3))
    return own, own.attack(own.train(0.3))


def test_pairs_of_networks_start_alike_and_the_loss_does_something(small):
    own, measured = small
    table = measured.table
    assert set(table["series"]) == {"none", "S^Th"}
    assert set(table["seed"]) == {0, 1}
    assert table["value"].between(0, 1).all()
    assert len(table) == 4 * (1 + 2 + 4 + 4 + 4)  # clean, noise, FGSM, PGD, and four attacks side by side
    clean = table[table["attack"] == "clean"].set_index(["series", "seed"])["value"]
    assert clean.min() > 0.4
    first, again, other = (own.trained(alpha, 0).state_dict()["0.weight"] for alpha in (0, 0, 0.3))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    pgd = table[table["attack"] == "PGD"].groupby("epsilon")["value"].mean()
    assert pgd.iloc[-1] < clean.mean() - 0.2  # the attack bites
    assert set(measured.warnings) == {(series, seed) for series in ("none", "S^Th") for seed in (0, 1)}


def test_the_report_is_a_picture_and_a_page_with_the_measured_numbers(small, tmp_path):
    own, measured = small
    rows = ({"alpha": 0.0}, {"alpha": 0.1}, {"alpha": 0.3})
    rows = tuple({**row, **dict.fromkeys(("clean", "noisy", "clean_ratio", "noisy_ratio"), 0.5),
                  "accepted": False, "chosen": False} for row in rows)  # fmt: skip
    page = report.Report(own, measured, 0.3, AlphaChoice(None, rows))
    picture, text = page.save(tmp_path / "made" / "mine")
    assert [path.name for path in (picture, text)] == ["mine.png", "mine.md"]
    with Image.open(picture) as shown:
        assert min(shown.size) > 1000
    said = text.read_text()
    gains = page.gains().set_index("attack")
    table = measured.table[measured.table["attack"] == "PGD"]
    by_seed = table.groupby(["series", "seed"])["value"].mean()
    expected = (by_seed["S^Th"] - by_seed["none"]).mean()
    assert gains.loc["PGD", "gain"] == pytest.approx(expected)
    row = next(line for line in said.splitlines() if line.startswith("| PGD | mean |"))
    assert f"| {by_seed['none'].mean():.3f} | {by_seed['S^Th'].mean():.3f} | {expected:.3f} |" in row
    assert "](mine.png)" in said
    assert "α = 0.3 (none accepted of 0.1, 0.3), Th = 0.6" in said
    assert "none accepted: " in said
    assert len(re.findall(r"^- .*S\^Th", said, re.MULTILINE)) == 4


def test_what_the_checks_found_is_on_the_page(small):
    own, measured = small
    warned = {**measured.warnings, ("S^Th", 1): ("a black-box attack fools more",)}
    page = report.Report(own, own_network.Robustness(measured.table, warned, measured.examples, measured.labels), 0.3)
    assert "S^Th, seed 1: a black-box attack fools more" in page.suspicions()
    assert "seed 1: a black-box attack fools more" in page.markdown("x.png")
    assert "α = 0.3 (given)" in page.markdown("x.png")


def test_the_picture_tells_the_first_findings_and_the_text_all(small):
    own, measured = small
    many = {("S^Th", 1): tuple(f"finding {number}" for number in range(30))}
    page = report.Report(own, replace(measured, warnings=many), 0.3)
    picture = page.draw()
    (*_, below) = (text for ax in picture.findobj(plt.Axes) for text in ax.texts if "Suspicion" in text.get_text())
    said = " ".join(below.get_text().split())
    assert "finding 3; and 26 more, in the text beside this picture" in said
    assert "finding 29" in page.markdown("x.png")
    picture.canvas.draw()
    assert below.get_window_extent().y0 >= 0  # all of it is on the page
    assert below.get_window_extent().x1 <= picture.bbox.x1
    words = [text.get_text() for legend in picture.findobj(Legend) for text in legend.get_texts()]
    assert [word.partition(":")[0] for word in words] == ["none", S_TH, "a seed", "chance"]
    plt.close(picture)


def test_an_attack_that_leaves_nothing_is_not_called_undecided(small):
    own, measured = small
    table = measured.table.copy()
    table.loc[table["attack"] == "PGD", "value"] = 0.0
    said = report.Report(own, replace(measured, table=table), 0.3).sentences()
    assert said[3] == "Under PGD no network is above chance at any ε, so nothing is compared: give smaller epsilons."
    assert all("S^Th" in line for line in said[:3])


def test_a_noise_that_leaves_only_guesses_is_told_before_alpha_is_chosen():
    own = own_network.opened(steps=1, alphas=(0.1,), noise=(0.1, 0.9))
    with pytest.warns(UserWarning, match="under noise 0.9 the network without the loss only guesses, so alpha is chos"):
        own.choose()


@pytest.mark.parametrize(
    ("right", "message"),
    [
        ((0.5, 0.0), "the accuracy under noise of the unregularized .* compare with; give smaller values of noise$"),
        ((0.0, 0.0), "the clean accuracy of the unregularized network is 0, .*; give more steps$"),
    ],
)
def test_where_no_image_is_left_to_compare_one_line_says_what_to_change(monkeypatch, right, message):
    own = own_network.opened(steps=1, alphas=(0.1,))
    monkeypatch.setattr(own_network, "accuracies", lambda *given: right)
    with pytest.raises(SpecError, match=message):
        own.choose()


def test_a_single_seed_has_no_interval_and_tuples_are_attacked_too():
    own = own_network.opened(
        network="my_networks:tuples", steps=40, seeds=1, test_images=30, queries=5, noise=(0.5,), epsilons=(0.05,)
    )
    page = report.Report(own, own.attack(own.train(0.1)), 0.1)
    assert "one seed, so no interval" in page.sentences()[0]
    assert "one seed: none" in page.markdown("x.png")


def test_a_training_that_diverges_is_said():
    own = own_network.opened(steps=5, learning_rate=1e30)
    with pytest.raises(SpecError, match=r"the training with alpha 0 diverged; give a smaller learning_rate$"):
        own.trained(0, 0)
    with pytest.raises(SpecError, match=r"the training with alpha 0.1 diverged; give a smaller .*, or smaller alphas$"):
        own.trained(0.1, 0)
    given = own_network.opened(steps=5, learning_rate=1e30, alpha=0.1)
    with pytest.raises(
        SpecError, match=r"the training with alpha 0.1 diverged; give a smaller learning_rate or alpha$"
    ):
        given.trained(0.1, 0)


def test_notebook_90_is_no_figure_and_sets_what_can_be_set():
    (path,) = NOTEBOOKS.glob("90*.ipynb")
    assert path not in notebook_paths()
    cells = json.loads(path.read_text())["cells"]
    (parameters,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    room = {}
    exec("".join(parameters["source"]), room)
    names = {name for name in room if not name.startswith("__")} - {"report"}
    assert names <= set(Settings.model_fields)
    used = "".join("".join(cell["source"]) for cell in cells)
    assert all(f"{name}={name}" in used for name in names)
    Settings(**{name: room[name] for name in names if room[name] is not None})

"""What notebook 90 chooses by itself and how it says it: parts of the images, layers, alpha, chance, and messages."""

import json
import subprocess
import sys

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image
from torch import nn

from simreg_core.lab import own_network, report
from simreg_core.lab.image_files import DataError
from simreg_core.lab.make.notebooks import NOTEBOOKS
from simreg_core.lab.own_inputs import Settings, check_fit, default_layers, sets_of
from simreg_core.lab.specs import PROJECT, SpecError, build


def class_folders(root, **counts):
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.new("L", (12, 12), 60 * number + index).save(root / name / f"{index}.png")
    return str(root)


def numbers(images):
    return images.labels.bincount(minlength=len(images.classes)).tolist()


def test_parts_have_the_same_share_of_each_class(tmp_path):
    folder = class_folders(tmp_path / "leaves", ash=40, oak=8, yew=4)
    sets, again = sets_of(Settings(images=folder)), sets_of(Settings(images=folder))
    assert [numbers(one) for one in (sets.train, sets.validation, sets.test)] == [[24, 5, 2], [6, 1, 1], [10, 2, 1]]
    assert torch.equal(sets.test.images, again.test.images)
    assert torch.equal(sets.validation.images, again.validation.images)
    assert not sets.test.is_sorted  # the first of them are no class of their own
    digits = sets_of(Settings())
    assert all(abs(got / all_of - 0.2) < 0.01 for got, all_of in zip(
        numbers(digits.validation), (torch.tensor(numbers(digits.validation)) + torch.tensor(numbers(digits.train))),
        strict=True,
    ))  # fmt: skip


def test_a_tiny_set_is_refused_with_its_numbers(tmp_path):
    folder = class_folders(tmp_path / "tiny", ash=2, oak=2, yew=2)
    with pytest.raises(DataError) as error:
        own_network.opened(images=folder)
    said = str(error.value)
    assert "\n" not in said
    assert "each class needs at least 2 + 1 + 1 for training, validation and test" in said
    assert "there are 'ash' 0 + 1 + 1; 'oak' 0 + 1 + 1; 'yew' 0 + 1 + 1" in said
    many = class_folders(tmp_path / "many", full=30, **{f"c{number}": 3 for number in range(5)})
    with pytest.raises(DataError, match=r"'c2' 1 \+ 1 \+ 1; and 2 more classes$"):
        own_network.opened(images=many)


def test_chance_is_the_share_of_the_largest_class(tmp_path):
    own = own_network.opened(images=class_folders(tmp_path / "skewed", ash=80, oak=20), steps=1, seeds=1, queries=1)
    assert own.sets.chance == pytest.approx(0.8)
    assert own.guesses == pytest.approx(0.85)
    page = report.Report(own, own.attack(own.train(0.1)), 0.1)
    assert "Chance is 0.800, the share of the largest class" in page.markdown("x.png")
    lines = [line for ax in page.draw().findobj(plt.Axes) for line in ax.lines if line.get_linestyle() == ":"]
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([0.8] * 3)


@pytest.fixture(scope="module")
def chosen():
    own = own_network.opened(steps=15, seeds=2, test_images=20, queries=7, noise=(0.1, 0.5), alphas=(0.1, 0.3))
    return own, own.choose()


def test_alpha_is_chosen_with_all_seeds_and_no_network_is_trained_twice(chosen, monkeypatch):
    own, choice = chosen
    asked = []
    trained = own_network.OwnNetwork.trained
    monkeypatch.setattr(
        own_network.OwnNetwork, "trained", lambda self, *given: (asked.append(given), trained(self, *given))[1]
    )
    assert own.choose().grid == choice.grid
    assert asked == [(alpha, seed) for alpha in (0.0, 0.1, 0.3) for seed in (0, 1)]
    networks = own.train(0.3)
    assert len(asked) == 6
    fresh = trained(own, 0.3, 1).state_dict()
    assert all(torch.equal(value, fresh[name].cpu()) for name, value in networks["S^Th"][1].cpu().state_dict().items())
    own.train(0.2)  # which was not tried
    assert asked[6:] == [(0.0, 0), (0.0, 1), (0.2, 0), (0.2, 1)]


def test_the_report_says_on_how_much_the_choice_rests_and_what_was_averaged(chosen):
    own, choice = chosen
    page = report.Report(own, own.attack(own.train(0.3)), 0.3, choice)
    text = page.markdown("x.png")
    drawn = " ".join(" ".join(text.get_text() for ax in page.draw().findobj(plt.Axes) for text in ax.texts).split())
    for said in (
        "rests on 2 training seeds and 260 validation images: one image is 1/260 = 0.004 of a seed's accuracy",
        "0.1, 0.5 of Gaussian noise, 0.02, 0.05, 0.1, 0.2 of FGSM and PGD. PGD takes 10 steps, Square asks 7 times",
    ):
        assert said in text
        assert said in drawn
    positive, negative = own.shares()
    assert 0 < negative < positive < 0.5
    assert f"{positive:.1%} of the pairs of images have the target +1, {negative:.1%} have −1" in text
    assert "rests on" not in report.Report(own, page.measured, 0.3).markdown("x.png")


def test_one_is_singular():
    assert own_network.counted(1, "training seed") == "1 training seed"
    assert own_network.counted(1200, "test image") == "1,200 test images"


class Last(nn.Module):
    """Its map is [b, height, width, channels]."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1)


class First(nn.Module):
    def forward(self, x):
        return x.permute(0, 3, 1, 2)


def test_layers_whose_maps_cannot_be_read_are_not_chosen():
    pixels = torch.rand(2, 1, 16, 16)
    mixed = nn.Sequential(nn.Conv2d(1, 3, 1), Last(), First(), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.Flatten())
    assert default_layers(mixed, pixels) == ("0", "2", "3", "4")
    with pytest.warns(UserWarning, match="maps of 4 layers cannot be read"):
        assert default_layers(mixed, pixels, -1) == ("1",)
    last = nn.Sequential(Last(), nn.Linear(1, 5), nn.ReLU(), nn.Flatten())
    with pytest.raises(
        SpecError, match=r"maps of all layers look like .*, such as \[2, 16, 16, 1\] of '0': give chann"
    ):
        default_layers(last, pixels)
    assert default_layers(last, pixels, -1) == ("0", "1", "2")
    with pytest.raises(
        SpecError, match=r"do not suit channel_axis=7, .*: give channel_axis, -1 where channels are the last"
    ):
        default_layers(last, pixels, 7)
    few = nn.Sequential(nn.Conv2d(1, 3, 1), Last(), nn.Linear(3, 3), nn.Flatten())
    with pytest.warns(UserWarning, match="maps of 2 layers cannot be read and are left out, so that only 0 are comp"):
        assert default_layers(few, pixels) == ("0",)


def test_the_channel_axis_reaches_the_regularizer():
    own = own_network.opened(network=f"{__name__}:channels_last", channel_axis=-1)
    assert own.layers == ("0", "1", "2")
    assert own.regularizer_of(own.make(num_classes=10), 0).channel_axis == -1


def channels_last(num_classes):
    return nn.Sequential(Last(), nn.Linear(1, 5), nn.ReLU(), nn.Flatten(), nn.Linear(320, num_classes))


class Transformer(nn.Module):
    """Blocks in a list, inside of an encoder."""

    def __init__(self, blocks, kind):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, 4)
        self.encoder = nn.Module()
        self.encoder.layer = kind([nn.Linear(8, 8) for _ in range(blocks)])
        self.norm, self.drop = nn.LayerNorm(8), nn.Dropout()

    def forward(self, x):
        tokens = self.drop(self.patches(x).flatten(2).mT)
        for block in self.encoder.layer:
            tokens = block(tokens)
        return self.norm(tokens).mean(dim=1)


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda blocks: nn.Sequential(*blocks)])
def test_blocks_of_a_deep_stack_are_among_the_layers(kind):
    found = default_layers(Transformer(12, kind), torch.rand(2, 1, 16, 16))
    assert found == ("patches", *(f"encoder.layer.{block}" for block in (2, 5, 8)), "norm")
    shallow = default_layers(Transformer(2, kind), torch.rand(2, 1, 16, 16))
    assert shallow == ("patches", "drop", "norm")


def test_blocks_of_torchvisions_transformer_are_among_the_layers():
    from torchvision.models import VisionTransformer

    network = VisionTransformer(16, 4, num_layers=6, num_heads=1, hidden_dim=8, mlp_dim=8, num_classes=3)
    found = default_layers(network, torch.rand(2, 3, 16, 16))
    assert [name for name in found if ".encoder_layer_" in name] == [
        f"encoder.layers.encoder_layer_{block}" for block in (1, 3, 4)
    ]  # fmt: skip


class Outputs(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.features, self.head, self.wrap = nn.Linear(64, 32), nn.Linear(32, 10), wrap

    def forward(self, x):
        features = self.features(x.flatten(1))
        return self.wrap(features, self.head(features))


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (
            lambda f, y: {"note": "", "features": f, "logits": y},
            "of the dict .* first tensor is taken, 'features'; ret",
        ),
        (lambda f, y: (f, y), "of the tuple that it returns the first tensor is taken; put the logits first"),
        (lambda f, y: f, "make its last layer of num_classes units"),
        (lambda f, y: {"maps": f.reshape(-1, 2, 4, 4), "logits": y}, "of the dict .* is taken, 'maps'; return the log"),
    ],
)
def test_which_tensor_was_taken_for_the_logits_is_said(wrap, message):
    with pytest.raises(SpecError, match=message):
        check_fit(Outputs(wrap), Settings(), sets_of(Settings()))


def test_a_file_in_place_of_a_folder_is_called_a_file(tmp_path, monkeypatch):
    Image.new("L", (12, 12)).save(tmp_path / "leaf.png")
    monkeypatch.chdir(tmp_path)
    for name in (str(tmp_path / "leaf.png"), "leaf.png"):
        with pytest.raises(DataError, match=r"leaf.png' is a file, but a folder is wanted"):
            own_network.opened(images=name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": "[48, 40]"}, "size: got '[48, 40]'; must be [height, width], two whole numbers of at least 8"),
        ({"size": [4, 4]}, "size: got [4, 4]; must be [height, width], two whole numbers of at least 8"),
        ({"size": [48.5, 40]}, "size: got [48.5, 40]; must be [height, width], two whole numbers of at least 8"),
        ({"noise": [25]}, "noise.0: got 25; must be above 0 and at most 1, since pixels lie in [0, 1]; did you mean "
                          "25/255?"),
        ({"epsilons": [0]}, "epsilons.0: got 0; must be above 0 and at most 1, since pixels lie in [0, 1]"),
    ],
)  # fmt: skip
def test_settings_of_another_form_are_one_true_line(given, message):
    with pytest.raises(SpecError) as error:
        build(Settings, given)
    assert str(error.value) == message


def test_sizes_that_can_be_are_taken():
    assert [build(Settings, {"size": size}).size for size in ([48, 40], (8, 1024), [1, 30])] == [
        (48, 40), (8, 1024), (1, 30),
    ]  # fmt: skip


def test_what_the_notebook_advises_can_be_set_there_and_is_the_default():
    cells = json.loads((NOTEBOOKS / "90_your_own_network.ipynb").read_text(encoding="utf-8"))["cells"]
    (parameters,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    room = {}
    exec("".join(parameters["source"]), room)
    assert {"alphas", "learning_rate", "channel_axis", "layers", "steps", "noise", "epsilons"} <= room.keys()
    given = {name: room[name] for name in Settings.model_fields if room.get(name) is not None}
    assert Settings(**given) == Settings()


def test_without_the_extra_one_line_says_what_to_install():
    code = "import sys; sys.modules['pandas'] = None\nimport simreg_core.lab.own_network"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "simreg_core.lab.errors.NotInstalledError: a report on your own network needs the extra 'lab', pandas is not "
        'installed: run `make setup`, or in the project\'s folder pip install -e ".[lab]"'
    )

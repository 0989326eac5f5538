"""docs/adding.md: every example is short, and works when it is added as the page says."""

import re
from importlib import import_module

import pytest
import torch
import yaml
from attacked import attack_functions
from pages import FILES, PAGE, PROFILES, PROJECT, ROWS, added
from PIL import Image

from simreg_core import SimilarityRegularizer, attacks, names, resnet18
from simreg_core.lab import image_files, recipes
from simreg_core.lab.figures import figure
from simreg_core.lab.images import load_image_set
from simreg_core.lab.make.words import describe
from simreg_core.lab.measuring import registry
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.registry import KINDS, in_words
from simreg_core.lab.running.compute import missing_image_sets
from simreg_core.lab.running.plan import plan
from simreg_core.lab.specs import EVALUATIONS, WhiteBoxEvaluation, load_profile
from simreg_core.lab.training import rules, train

CPU = torch.device("cpu")
TINY = PROJECT / "tests" / "profiles" / "tiny.yaml"


def row(table: str, **names_in_file):
    """The object of a row, as it would be in the file of its table."""
    return eval(ROWS[f"simreg_core/{table}.py"].strip(), names_in_file)


def pair(table: str, **names_in_file) -> dict:
    """The row of a table that is a dictionary."""
    return eval(f"{{{ROWS[f'simreg_core/{table}.py']}}}", names_in_file)


def tiny_with(name: str, tmp_path):
    """A profile of the page, but as small as the tests' own."""
    path = tmp_path / f"{name}.yaml"
    text = PROFILES[name]
    assert "extends: quick\n" in text
    path.write_text(text.replace("extends: quick", f"extends: {TINY}"))
    return load_profile(path)


@pytest.fixture
def tables():
    """As before, after the test."""
    kept = [(table, dict(table)) for table in (KINDS, EVALUATIONS, rules.RULES, image_files.SETS, names.SIMILARITIES)]
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


def test_every_example_is_short_and_new():
    assert len(FILES) == 6
    for place, text in FILES.items():
        assert len(text.splitlines()) <= 40, place
        assert not (PROJECT / place).exists(), place
    assert all((PROJECT / table).is_file() for table in ROWS)


def test_every_path_of_the_page_exists():
    text = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    paths = re.findall(r"`((?:simreg_core|tests|notebooks|defences)/[\w/.]*)`", text)
    assert len(paths) > 8
    new = {*FILES, "notebooks/89_toy.ipynb"}
    for path in paths:
        assert path in new or (PROJECT / path).exists() or (PROJECT / "simreg_core" / path).exists(), path
    links = re.findall(r"\]\(([\w./]+\.md)\)", PAGE)
    assert links
    assert all((PROJECT / "docs" / link).is_file() for link in links)


@pytest.fixture
def toward_gray(tmp_path, monkeypatch):
    monkeypatch.setattr(attacks, "__path__", [*attacks.__path__, str(tmp_path)])
    return added("simreg_core/attacks/toward_gray.py", tmp_path, monkeypatch).toward_gray


def test_an_attack_is_found_and_has_what_every_attack_has(toward_gray, linear, middle_images, middle_labels):
    room: dict = {}
    exec(ROWS["simreg_core/attacks/__init__.py"], room)
    assert room["toward_gray"] is toward_gray
    assert "toward_gray" in attack_functions()
    result = toward_gray(linear, middle_images, middle_labels, 0.05)
    expected = middle_images + (0.5 - middle_images).clamp(-0.05, 0.05)
    torch.testing.assert_close(result.adversarial, expected)
    assert result.linf.max() <= 0.05 + 1e-6
    with pytest.raises(ValueError, match="the attacked model is in training mode"):
        toward_gray(linear.train(), middle_images, middle_labels, 0.05)
    with pytest.raises(ValueError, match="did you mean 8/255"):
        toward_gray(linear.eval(), middle_images, middle_labels, 8)


def test_a_measurement_is_planned_and_measured(toward_gray, tables, tmp_path, monkeypatch, tiny, store):
    module = added("simreg_core/lab/measuring/contrast.py", tmp_path, monkeypatch)
    registry.register(row("lab/measuring/registry", contrast=module, **vars(registry)))
    experiment = recipes.experiment(tiny, "none", 0)
    evaluation = module.ContrastEvaluation(epsilons=(0.0, 0.5), images=50)
    todo = plan([(experiment, evaluation)], store)
    assert missing_image_sets(todo) == []
    assert in_words(evaluation) == "moved towards gray"
    train(experiment, store, CPU)
    clean, gray = (value.value for value in evaluate(experiment, evaluation, store, CPU).values)
    assert gray < clean  # at 0.5 every image is the same
    assert store.has_record(experiment, evaluation)


def test_a_defence_becomes_a_curve_of_figure_14(tables, tmp_path, monkeypatch, store):
    module = added("simreg_core/defences/contrast.py", tmp_path, monkeypatch)
    made = row("lab/training/rules", Row=rules.Row, ContrastTraining=module.ContrastTraining)
    rules.RULES[made.name] = made
    series = figure("14_white_box").study(tiny_with("mine", tmp_path)).blocks[0].series
    assert list(series)[-1] == "lower contrast"
    experiment = series["lower contrast"][0]
    assert "trained on contrast 0.5" in describe(experiment)
    train(experiment, store, CPU)
    attack = WhiteBoxEvaluation(epsilons=(0.0, 0.05), epsilon=0.05, images=20, steps=2, queries=5)
    assert evaluate(experiment, attack, store, CPU).values


@pytest.mark.filterwarnings("ignore:image set .leaves., test images")
def test_a_folder_of_images_is_a_set_without_code(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    (listing,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in listing.splitlines():
        path = tmp_path / line.removeprefix("data/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 100).save(path)
    images = load_image_set(yaml.safe_load(PROFILES["leaves"])["task"]["images"], "train")
    assert images.classes == ("elm", "oak")
    assert load_image_set("leaves", "test").labels.tolist() == [1]
    assert tiny_with("leaves", tmp_path).task.images == "leaves"


def test_a_bundled_set_is_trained_on(tables, tmp_path, monkeypatch, tiny, store):
    added("simreg_core/lab/gratings.py", tmp_path, monkeypatch)
    image_files.SETS.update(pair("lab/image_files", NamedSet=image_files.NamedSet))
    for split in ("train", "test"):
        images = load_image_set("gratings", split, (16, 16))
        assert len(images) == image_files.count_images("gratings", split)
        assert len(images.classes) == image_files.count_classes("gratings")
        assert images.images.shape[1:] == (1, 16, 16)
    experiment = recipes.experiment(tiny, "S^Th", 0, images="gratings")
    assert missing_image_sets(plan((), store, [experiment])) == []
    train(experiment, store, CPU)
    assert store.is_trained(experiment)


def test_a_measure_is_used_by_itself_and_by_its_name(tables, tmp_path, monkeypatch, generator):
    module = added("simreg_core/correlation.py", tmp_path, monkeypatch)
    network, images = resnet18(width=2), torch.rand(20, 1, 16, 16, generator=generator)
    by_itself = SimilarityRegularizer(network, ["stage1"], images, targets="pixel", similarity=module.Correlation())
    assert 0 < by_itself().item() < 4
    names.SIMILARITIES.update(pair("names", SimilarityRow=names.SimilarityRow))
    by_name = SimilarityRegularizer(network, ["stage1"], images, targets="pixel", similarity="correlation")
    assert type(by_name.measure) is module.Correlation
    profile = tiny_with("by-correlation", tmp_path)
    assert recipes.experiment(profile, "S^Th", 0).regularizer.similarity == "correlation"


@pytest.mark.parametrize("name", names.SIMILARITIES)
def test_the_row_of_a_measure_says_what_its_class_says(name):
    module, _, kind = names.SIMILARITIES[name].place.partition(":")
    assert getattr(import_module(module), kind).whole is names.SIMILARITIES[name].whole

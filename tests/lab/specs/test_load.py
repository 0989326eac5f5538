"""Profiles that extend one another: nothing that ships has moved, little need be said, and faults are one line."""

import re
from pathlib import Path

import pytest
import yaml

from simreg_core.lab.specs import PROFILES, SpecError, load_profile

PROJECT = Path(__file__).parents[3]

# of the profiles when each was still written out in full; the studies of notebooks 17 and 18 came since
KEYS = {
    "quick": "2d7ea063f3cb0103",  # words about S^Th among the matched strengths came since
    "cifar-small": "08c26f227fe78c0e",
    "paper": "99d4eeb7c669e5a8",  # the defences of notebooks 20 to 23 came since
    "recorded": "eaa0ae86e31b5e66",
    "trimmed": "935a72fa7a318df9",
    "neural": "07e2b6d4fab8aae6",
}


@pytest.fixture
def write(tmp_path):
    """A function that writes a file and gives its path."""

    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_every_profile_that_ships_is_pinned():
    assert {path.stem for path in PROFILES.glob("*.yaml")} == KEYS.keys()


@pytest.mark.parametrize("name", KEYS)
def test_profiles_that_ship_have_not_moved(name):
    assert load_profile(name).key == KEYS[name]


def test_a_profile_of_five_lines(write):
    (text,) = re.findall(r"```yaml\n(.*?)```", (PROJECT / "docs" / "reproducing.md").read_text(), re.DOTALL)
    assert len(text.splitlines()) == 5
    mine, quick = load_profile(write(text)), load_profile("quick")
    assert mine.description == "As 'quick', with changes."
    changed = {
        "name": "mine",
        "description": mine.description,
        "seeds": 3,
        "main_seeds": None,
        "regularizer": {**quick.regularizer.model_dump(), "alpha": 0.4},
    }
    assert mine == quick.changed(**changed)


def test_mappings_merge_lists_and_values_replace_and_null_leaves_out(write):
    text = """
name: mine
description: Mine.
extends: paper
needs_gpu: null
regularizer: {size: null}
defences:
  TRADES: null
  adversarial training: {steps: 3}
  more noise: {method: gaussian, epsilon: 0.2}
selection: {alphas: [1, 2]}
"""
    mine, paper = load_profile(write(text)), load_profile("paper")
    assert mine.needs_gpu is False
    assert mine.regularizer == paper.regularizer.changed(size=None)
    assert list(mine.defences) == ["adversarial training", "noise augmentation", "blur", "more noise"]
    assert mine.defences["adversarial training"] == paper.defences["adversarial training"].changed(steps=3)
    assert mine.selection == paper.selection.changed(alphas=(1, 2))
    assert mine.description == "Mine."


def test_a_parent_is_a_file_beside_its_child(write, tiny):
    write((PROJECT / "tests" / "profiles" / "tiny.yaml").read_text(), "sub/tiny.yaml")
    write("{name: middle, extends: tiny.yaml, seeds: 3}", "sub/middle.yaml")
    child = load_profile(write("{name: mine, extends: sub/middle.yaml, pixel_alpha: 0.2}"))
    assert (child.name, child.seeds, child.pixel_alpha, child.studies) == ("mine", 3, 0.2, tiny.studies)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: mine, extends: mine.yaml}", r"{mine} extends itself: {mine} -> {mine}$"),
        ("{name: mine, extends: other.yaml}", r"{mine} extends itself: {mine} -> {other} -> {mine}$"),
        ("{name: mine, extends: huge}", r"{mine}: extends: unknown profile 'huge'; allowed: cifar-small, .*, or the"),
        ("{name: mine, extends: gone.yaml}", r"{mine}: extends: profile file {gone} does not exist$"),
        ("{name: mine, extends: list.yaml}", r"profile {list} must be a mapping of keys to values, got \['a'\]$"),
        ("{name: mine, extends: [quick]}", r"{mine}: extends: must name a profile or its file, got \['quick'\]$"),
        ("{extends: quick, seeds: 3}", r"{mine}: missing key 'name': it is not taken from 'quick'$"),
        ("{name: quick, extends: quick}", r"{mine}: name 'quick' is taken"),
        ("{name: mine, extends: quick, pixel_alpha: null}", r"{mine}: missing key 'pixel_alpha'$"),
        ("{name: mine, extends: quick, task: {sise: 8}}", r"{mine}: unknown key 'task.sise' \(value 8\)$"),
    ],
)
def test_what_cannot_be_extended_is_said_in_one_line(write, text, message):
    mine = write(text)
    write("{name: other, extends: mine.yaml}", "other.yaml")
    write(yaml.safe_dump(["a"]), "list.yaml")
    for name in ("mine", "other", "gone", "list"):
        message = message.replace(f"{{{name}}}", re.escape(str(mine.with_name(f"{name}.yaml"))))
    with pytest.raises(SpecError, match=message) as said:
        load_profile(mine)
    assert "\n" not in str(said.value)


def test_the_choices_of_a_profile_name_its_settings(write):
    mine = load_profile(write("name: mine\nextends: quick\nchosen: {colour main: {how: by hand, accepted: false}}\n"))
    assert (mine.chosen["colour main"].how, mine.chosen["colour main"].accepted) == ("by hand", False)
    assert mine.chosen["main"].accepted  # of quick
    with pytest.raises(
        SpecError, match="chosen names 'phtos', which is no setting; allowed: main, S\\^neural, mnist-5k"
    ):
        load_profile(write("name: mine\nextends: quick\nchosen: {phtos: {how: by hand}}\n"))


@pytest.mark.parametrize("fields", ["target: pixel", "target: neural, matrix: mine.npy"])
def test_a_target_of_the_whole_profile_is_refused(write, fields):
    """Each figure would put its own in its place, or fail with the same words for every notebook."""
    with pytest.raises(SpecError, match=r"regularizer.target: got '(pixel|neural)'; leave it out: each figure") as said:
        load_profile(write(f"name: mine\nextends: quick\nregularizer: {{{fields}}}\n"))
    assert len(str(said.value)) < 400


@pytest.mark.parametrize(
    ("text", "place", "base"),
    [
        ("seeds: 010", "seeds: got '010'", 8),
        ("seeds: 1:30", "seeds: got '1:30'", 60),
        ("regularizer: {alpha: 1:30.5}", "regularizer.alpha: got '1:30.5'", 60),
        ("studies: {pairs_per_step: [2, -010]}", "studies.pairs_per_step.1: got '-010'", 8),
        ("seeds: !!int '010'", "seeds: got '010'", 8),
    ],
)
def test_a_number_that_yaml_reads_as_another_one_is_refused(write, text, place, base):
    with pytest.raises(SpecError) as said:
        load_profile(write(f"name: mine\nextends: quick\n{text}\n"))
    words = f"{place}, which YAML reads in base {base}; allowed: decimal numbers, without a leading 0 or a colon"
    assert str(said.value).endswith(f"mine.yaml: {words}")


def test_all_numbers_that_are_not_what_they_seem_are_named_once(write):
    text = "name: mine\nextends: quick\nseeds: &n 010\nmain_seeds: *n\nregularizer: {count: 1:30, alpha: 0.5}\n"
    with pytest.raises(SpecError) as said:
        load_profile(write(text))
    assert re.findall(r"(\S+): got '(\S+)'", str(said.value)) == [("seeds", "010"), ("regularizer.count", "1:30")]
    with pytest.raises(SpecError, match=r"; and 80 more$"):
        load_profile(write(f"name: mine\nextends: quick\nseeds: [{', '.join(['010'] * 100)}]\n"))


@pytest.mark.parametrize("seeds", ["16", "'010'", "1_0", "0x10", "10.0"])
def test_decimal_numbers_and_text_are_read_as_they_look(write, seeds):
    expected = {"'010'": 10, "1_0": 10, "0x10": 16, "10.0": 10, "16": 16}[seeds]
    assert load_profile(write(f"name: mine\nextends: quick\nseeds: {seeds}\n")).seeds == expected


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("network: {width: 1000000000000000000000000000000}", "network.width: got"),
        ("task: {size: [100000, 100000]}", "task.size.0: got 100000; Input should be less than or equal to 1024"),
        ("optimization: {batch_size: 1000000000}", "optimization.batch_size: got 1000000000"),
        ("optimization: {learning_rate: 1e-320}", "optimization.learning_rate: got '1e-320'"),
        ("optimization: {epochs: 1000000000000}", "optimization.epochs: got 1000000000000"),
        ("regularizer: {alpha: 1e308}", "regularizer.alpha: got '1e308'"),
        ("seeds: 1000000", "seeds: got 1000000; Input should be less than or equal to 1000"),
        ("studies: {boundary_directions: 1000000000000}", "studies.boundary_directions: got 1000000000000"),
        (f"{BOMB}seeds: *i", "holds more than 100,000 values; are there aliases of aliases?"),
        (f"seeds: {[list(range(9))] * 900}", r"seeds: got \[\[0, 1, 2, 3, ...\], \[0, "),
        (f"seeds: {'[' * 3000}{']' * 3000}", "is not YAML: maximum recursion depth exceeded"),
    ],
)
def test_what_would_fill_the_memory_or_take_years_is_one_short_line(write, text, message):
    with pytest.raises(SpecError, match=message) as said:
        load_profile(write(f"name: mine\nextends: quick\n{text}\n"))
    assert "\n" not in str(said.value)
    assert len(str(said.value)) < 400

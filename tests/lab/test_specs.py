"""Specifications: keys, profiles, and errors in one line."""

import pytest
import yaml

from simreg_core.lab import recipes
from simreg_core.lab.make.figures import missing
from simreg_core.lab.specs import (
    PROFILES,
    PROJECT,
    BoundaryEvaluation,
    Experiment,
    MinimumNormEvaluation,
    NoiseEvaluation,
    Optimization,
    RegularizationSet,
    Regularizer,
    SpecError,
    build,
    load_profile,
)
from simreg_core.lab.store import Store


def test_equal_specifications_share_a_key(tiny):
    first, second = (recipes.experiment(tiny, "S^Th", 0) for _ in range(2))
    assert first.key == second.key == build(Experiment, first.model_dump(mode="json")).key
    assert len({recipes.experiment(tiny, target, seed).key for target in ("none", "S^Th") for seed in (0, 1)}) == 4


def test_keys_are_stable():
    # published records are found by these; raise COMPUTATION_VERSION rather than change them by accident
    assert NoiseEvaluation(attack="gaussian", epsilons=(0.0, 0.1)).key == "9f04099e595ba036"
    assert BoundaryEvaluation(images=100, repeats=2).key == "d0753038e743680e"


@pytest.mark.parametrize("name", ["../..", "/etc", "", "mine/../.."])
@pytest.mark.parametrize("spec", [RegularizationSet, Regularizer])
def test_an_image_set_of_a_profile_is_no_path_out_of_the_data_folder(spec, name):
    with pytest.raises(SpecError, match="must be the name of a folder in the data folder, not a path out of it"):
        build(spec, {"images": name})


def test_learning_rates_as_released():
    rates = [Optimization().learning_rate_at(epoch) for epoch in range(0, 40, 4)]
    assert rates == pytest.approx([0.1, 0.03, 0.009, 0.0027, 0.00081] * 2)


@pytest.mark.parametrize("name", ["quick", "cifar-small", "paper", "trimmed", "neural"])
def test_profiles_that_ship(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.regularizer.pairs_per_step in profile.studies.pairs_per_step
    assert profile.regularizer.count in profile.studies.image_counts
    grid = profile.selection
    assert profile.regularizer.alpha in grid.alphas
    assert profile.regularizer.threshold in grid.thresholds


def test_the_paper_profile_has_the_papers_numbers():
    paper = load_profile("paper")
    assert (paper.seeds, paper.regularizer.count, paper.regularizer.pairs_per_step) == (7, 5000, 16)
    assert (paper.regularizer.alpha, paper.regularizer.threshold, paper.network.width) == (10, 0.8, 64)
    assert (paper.optimization.epochs, paper.optimization.batch_size, paper.optimization.learning_rate) == (40, 64, 0.1)
    assert (paper.studies.boundary_images, paper.studies.boundary_repeats) == (1000, 5)
    assert paper.selection.alphas == (4, 10, 20)
    assert paper.selection.thresholds == (0.2, 0.4, 0.6, 0.8)
    assert {100, 1000, 5000} <= set(paper.studies.image_counts)
    assert paper.studies.pairs_per_step == (4, 8, 16, 32)
    assert [one.images for one in paper.studies.regularization_sets] == ["cifar10", "cifar100", "imagenet"]
    assert paper.needs_gpu


# the released code's table: task, set, alpha, Th, and epsilon ends of Gaussian, uniform, salt-and-pepper, FGSM
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CIFAR-100, ResNet18", ("cifar100", "imagenet", 10, 0.8, 60, 0.1, 0.1, 0.1, 0.005)),
        ("CIFAR-100, ResNet34", ("cifar100", "imagenet", 10, 0.8, 60, 0.1, 0.1, 0.1, 0.005)),
        ("MNIST – MNIST", ("mnist", "mnist", 4, 0.2, 20, 0.5, 0.5, 0.3, 0.5)),
        ("MNIST – Fashion", ("mnist", "fashion-mnist", 10, 0.8, 20, 0.5, 0.5, 0.3, 0.5)),
        ("Fashion – Fashion", ("fashion-mnist", "fashion-mnist", 10, 0.8, 20, 0.5, 0.5, 0.3, 0.5)),
        ("Fashion – MNIST", ("fashion-mnist", "mnist", 10, 0.4, 20, 0.5, 0.5, 0.3, 0.5)),
    ],
)
def test_the_paper_profiles_other_tasks(name, expected):
    paper = load_profile("paper")
    one = recipes.base_of(paper, variant=name)
    ends = one.studies.epsilons
    assert expected == (
        one.task.images, one.regularizer.images, one.regularizer.alpha, one.regularizer.threshold,
        one.optimization.epochs, ends.gaussian, ends.uniform, ends.salt_and_pepper, ends.fgsm,
    )  # fmt: skip


def test_the_trimmed_run_is_as_large_as_it_says(tmp_path):
    only = ("02_attack_curves", "04_regularization_sets", "11_target_components")
    todo = missing(load_profile("trimmed"), Store(tmp_path), only)
    places = (PROJECT / "docs" / "reproducing.md", PROFILES / "trimmed.yaml")
    page, profile = (" ".join(path.read_text().split()) for path in places)
    size = f"{len(todo.trainings)} networks and {len(todo.measurements)} attacks, about"
    assert size in page
    assert size in profile


def test_the_paper_profile_feeds_mnist_and_fashion_unscaled_and_unaugmented_as_released():
    paper = load_profile("paper")
    for variant in paper.studies.variants:
        one = recipes.of_variant(paper, variant)
        is_small = one.task.images in ("mnist", "fashion-mnist")
        assert (one.network.shift, one.network.gain) == ((0, 1) if is_small else (0.5, 5))
        assert one.regularizer.augment_once == ("none" if is_small else "flip")
        assert one.network.width == 64


def test_empty_fields_of_a_regularization_set_are_the_profiles_own_but_for_the_size(tiny):
    own = tiny.regularizer.changed(augment_once="flip", size=(16, 16))
    profile = tiny.changed(regularizer=own)
    bare = RegularizationSet(images="photos-foreign")
    one = recipes.experiment(profile, "S^Th", 0, **bare.fields()).regularizer
    assert one == own.changed(images="photos-foreign", size=None)
    plain = RegularizationSet(images="photos-foreign", augment_once="none")
    assert recipes.experiment(profile, "S^Th", 0, **plain.fields()).regularizer.augment_once == "none"


@pytest.mark.parametrize("low", [None, 0.5, 0.6])
def test_the_double_range_needs_a_low_threshold_below_the_other(tiny, low):
    with pytest.raises(SpecError, match=f"'double' needs low_threshold below threshold=0.5, got {low}"):
        tiny.regularizer.changed(pairs="double", low_threshold=low)
    assert tiny.regularizer.changed(pairs="double", low_threshold=0.4).low_threshold == 0.4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"seeds": 1}, "seeds: got 1"),
        ({"seeds": "many"}, "seeds: got 'many'"),
        ({"regularizer.threshold": 1.2}, "regularizer.threshold: got 1.2"),
        ({"regularizer.threshold": float("nan")}, "regularizer.threshold: got nan"),
        ({"regularizer.alpa": 3}, "unknown key 'regularizer.alpa'"),
        ({"regularizer.pairs_per_step": 781}, "pairs_per_step=781 exceeds the 780 pairs of 40 images"),
        ({"network.name": "resnet50"}, "network.name: got 'resnet50'"),
        ({"studies.epsilons.gaussian": 8}, "studies.epsilons.gaussian: got 8"),
        ({"selection.thresholds": [0.5, 1.2]}, "selection.thresholds.1: got 1.2"),
        ({"selection.alphas": [0.0]}, "selection.alphas.0: got 0.0"),
        ({"studies.image_counts": [1, 2, 3]}, "studies.image_counts.0: got 1"),
        ({"studies.image_counts": [10, 40, 10, 20]}, "image_counts has 10 twice"),
        ({"studies.pairs_per_step": [2, 4, 4]}, "pairs_per_step has 4 twice"),
        ({"studies.colour_sets": [{"images": "digits"}] * 2}, "colour_sets names 'digits' twice"),
        ({"task.images": None}, "task.images: got None"),
    ],
)
def test_profile_errors_name_key_and_value_in_one_line(tmp_path, change, message):
    from conftest import TINY

    values = yaml.safe_load(TINY.read_text())
    ((place, value),) = change.items()
    *parents, last = place.split(".")
    target = values
    for parent in parents:
        target = target[parent]
    target[last] = value
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(SpecError) as error:
        load_profile(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def of_text(tmp_path, *replaced):
    """The smallest profile with parts of its text replaced, as a file."""
    from conftest import TINY

    text = TINY.read_text()
    for before, after in replaced:
        assert before in text
        text = text.replace(before, after, 1)  # the profile's own come before those of its studies
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path):
    with pytest.raises(SpecError) as error:
        load_profile(path)
    message = str(error.value)
    assert message.startswith(f"profile {path}")
    assert "\n" not in message
    return message.removeprefix(f"profile {path}: ").split("; ")


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    path = of_text(
        tmp_path,
        ("threshold: 0.5, pairs_per_step", "threshold: 1.5, pairs_per_step"),
        ("epochs: 2, phase_epochs", "epochs: 0, speed: 3, phase_epochs"),
        ("pixel_alpha: 0.1\n", ""),
        ("  images: 30", "  images: 70"),
        ("  epsilon: 0.05\n", "  epsilon: 0.06\n"),
        ("beta: 6}", "beta: }"),
        ("pairs_per_step: [2, 4]", "pairs_per_step: [2, 2]"),
        ("image_counts: [10, 20, 40]", "image_counts: [10, 10, 40]"),
    )
    said = "; ".join(refused(path))
    for fault in (
        "regularizer.threshold: got 1.5", "optimization.epochs: got 0", "unknown key 'optimization.speed' (value 3)",
        "missing key 'pixel_alpha'", "neural: images=70 exceeds the 60 of the simulation",
        "defences.TRADES: beta: got None", "pairs_per_step has 2 twice", "image_counts has 10 twice",
    ):  # fmt: skip
        assert fault in said


def test_all_faults_of_fields_that_do_not_go_together(tmp_path):
    given = {"images": "photos", "count": 3, "pairs_per_step": 4, "pairs": "double", "matrix": "mine.npy"}
    with pytest.raises(SpecError) as error:
        build(Regularizer, given)
    assert str(error.value) == (
        "'neural' and 'matrix' go with a neural target, not with 'threshold'; pairs_per_step=4 exceeds the 3 pairs of "
        "3 images; pairs 'double' needs low_threshold below threshold=0.8, got None"
    )
    path = of_text(
        tmp_path, ("  epsilon: 0.05\n", "  epsilon: 0.06\n"), ("autoattack_images:", "autoattack_images: 11")
    )
    assert refused(path) == [
        "white_box: epsilon 0.06 must be one of epsilons",
        "got (0.0, 0.05, 0.5)",
        "autoattack_images=11 exceeds the 10 images that are attacked at all",
    ]


def test_what_the_curves_of_a_study_cannot_be(tmp_path):
    path = of_text(
        tmp_path,
        ("image_counts: [10, 20, 40]", "image_counts: [2, 3, 40]"),
        ("pairs_per_step: [2, 4]", "pairs_per_step: [2, 781]"),
        ("low_threshold: 0.3", "low_threshold: 0.6"),
        ("component_set: {images: digits,", "component_set: {images: digits, count: 3,"),
        ("{name: vgg, width: 2}", "{name: vit, width: 15}"),
    )
    assert refused(path) == [
        "studies.pairs_per_step.1: pairs_per_step=781 exceeds the 780 pairs of 40 images",
        "studies.image_counts.0: pairs_per_step=4 exceeds the 1 pairs of 2 images",
        "studies.image_counts.1: pairs_per_step=4 exceeds the 3 pairs of 3 images",
        "studies.component_set: pairs_per_step=4 exceeds the 3 pairs of 3 images",
        "studies.low_threshold: 0.6 must lie below the threshold, 0.5",
        "studies.architectures.0: width of 'vit' must be a positive multiple of 2, got 15",
    ]


def test_a_key_that_is_given_twice(tmp_path):
    path = of_text(
        tmp_path, ("alpha: 0.1}\n", 'alpha: 0.1, "alpha": 99}\n'), ("seeds: 2\nneural", "seeds: 2\nseeds: 3\nneural")
    )
    assert refused(path) == ["key 'seeds' is given twice, in lines 8 and 9", "key 'alpha' is given twice, in line 5"]
    merged = of_text(tmp_path, ("name: tiny", "name: tiny\nname: tiny"))
    assert refused(merged) == ["key 'name' is given twice, in lines 1 and 2"]


def test_a_merged_key_may_be_given_anew(tmp_path):
    path = of_text(
        tmp_path,
        ("network: {name: resnet10,", "network: &small {name: resnet10,"),
        ("      network: {name: resnet18,", "      network: {<<: *small, name: resnet18,"),
    )
    assert load_profile(path).studies.variants[0].network.name == "resnet18"


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("seeds: 2\nneural", "seeds: true\nneural", "seeds"),
        ("alpha: 0.1}\n", "alpha: yes}\n", "regularizer.alpha"),
        ("size: [16, 16], validation", "size: [16, true], validation", "task.size.1"),
        ("size: [16, 16], validation", "size: [16, 16], channels: true, validation", "task.channels"),
        ("alphas: [0.1, 0.2]", "alphas: [0.1, true]", "selection.alphas.1"),
    ],
)
def test_true_is_no_number(tmp_path, before, after, place):
    assert refused(of_text(tmp_path, (before, after)))[0] == f"{place}: got True"


def test_numbers_as_yaml_writes_them(tmp_path, tiny):
    path = of_text(tmp_path, ("epochs: 2, phase_epochs", "epochs: 2.0, learning_rate: 1e-1, phase_epochs"))
    assert load_profile(path) == tiny  # YAML reads 1e-1 as text; 2.0 is a whole number
    assert load_profile(path).key == tiny.key
    assert refused(of_text(tmp_path, ("epochs: 2, phase", "epochs: 2.5, phase")))[0] == "optimization.epochs: got 2.5"


def test_a_long_value_is_shortened_and_many_faults_are_counted(tmp_path):
    said = "; ".join(refused(of_text(tmp_path, ("name: resnet10,", f"name: {'x' * 10_000},"))))
    assert len(said) < 500
    keys = "".join(f"key{index}: 1\n" for index in range(100))
    said = refused(of_text(tmp_path, ("name: tiny\n", f"name: tiny\n{keys}")))
    assert (len(said), said[-1]) == (21, "and 80 more")


def test_a_profile_is_read_as_utf_8(tmp_path):
    path = of_text(tmp_path, ("As small", "\ufeffGrößter Ernst, as small"))
    assert load_profile(path).description.startswith("\ufeffGrößter Ernst")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # with a mark of its byte order
    assert load_profile(path).name == "tiny"
    path.write_bytes("name: größe".encode("latin-1"))
    assert "is not YAML" in refused(path)[0]


def test_a_norm_that_a_method_does_not_minimize():
    with pytest.raises(SpecError, match="method 'carlini_wagner' minimizes l2, not linf"):
        build(MinimumNormEvaluation, {"method": "carlini_wagner", "norm": "linf"})
    with pytest.raises(SpecError, match="method 'deepfool' minimizes linf or l2, not l0"):
        build(MinimumNormEvaluation, {"method": "deepfool", "norm": "l0"})


def test_missing_key(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\n")
    with pytest.raises(SpecError, match="missing key 'description'"):
        load_profile(path)


@pytest.mark.parametrize("text", ["- a\n- list\n", "{unclosed: ", "[" * 500, "a: 2024-13-45", "? [a]\n: 1"])
def test_not_a_profile(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"mapping of keys|not YAML"):
        load_profile(path)


def test_a_copy_cannot_take_the_name_of_a_profile_that_ships(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text((PROFILES / "quick.yaml").read_text())
    with pytest.raises(SpecError, match="name 'quick' is taken"):
        load_profile(path)


def test_unknown_profile():
    with pytest.raises(
        SpecError, match="unknown profile 'huge'; allowed: cifar-small, neural, paper, quick, recorded, trimmed"
    ):
        load_profile("huge")
    with pytest.raises(SpecError, match=r"profile file nowhere\.yaml does not exist"):
        load_profile("nowhere.yaml")


def test_unknown_attack_and_pairs():
    with pytest.raises(SpecError, match="attack: got 'laser'"):
        build(NoiseEvaluation, {"attack": "laser", "epsilons": [0.1]})
    with pytest.raises(SpecError, match="pairs: got 'some'"):
        build(Regularizer, {"images": "photos", "pairs": "some"})


def test_changed_is_validated(tiny):
    with pytest.raises(SpecError, match="threshold: got 2"):
        tiny.regularizer.changed(threshold=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epsilons": 0.3}, "epsilons: got 0.3; must be a list such as [0.3]"),
        ({"epsilons": "[0.1, 0.2]"}, "epsilons: got '[0.1, 0.2]'; must be a list, not a text that looks like one"),
        ({"epsilons": None}, "epsilons: got None; must be a list"),
        ({"epsilons": True}, "epsilons: got True; must be a list"),
        ({"epsilons": []}, "epsilons: got []; must have at least 1 item"),
        ({"epsilons": [25]}, "epsilons.0: got 25; Input should be less than or equal to 1"),
    ],
)
def test_what_is_no_list_or_holds_what_cannot_be_is_one_true_line(given, message):
    with pytest.raises(SpecError) as error:
        build(NoiseEvaluation, {"attack": "gaussian", **given})
    assert str(error.value) == message


@pytest.mark.parametrize("size", [48, "[48, 40]", [48], [48, 40, 3]])
def test_a_size_is_two_numbers(size):
    with pytest.raises(SpecError, match=r"^size: got .*; must be \[height, width\], two whole numbers of at least 8$"):
        build(RegularizationSet, {"images": "photos", "size": size})

"""Figure 18: networks that differ from S^Th's in one thing, trained on their own targets and images; all drawn."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from made_up import attack_rows, made_up

from simreg_core import pixel_similarity, threshold_targets
from simreg_core.defences import GaussianBlur
from simreg_core.lab.checks import problems
from simreg_core.lab.figures import figure
from simreg_core.lab.figures.other_similarities import OF_TARGETS, TABLE
from simreg_core.lab.recipes import experiment
from simreg_core.lab.series import MAIN_TASK
from simreg_core.lab.specs import SpecError
from simreg_core.lab.training.assembly import build_network, build_regularizer, regularization_images
from simreg_core.other_similarities import matched_targets, ssim_similarity

NAME = "18_other_similarities"


def table_of(**gains: float) -> pd.DataFrame:
    """Every curve gains 2, but for those that are given."""
    names = ["S^Th", *OF_TARGETS, "S^Th by linear CKA", "S^Th, blurred images"]
    rows = attack_rows({"none": 0, **dict.fromkeys(names, 2), **gains}, MAIN_TASK)
    return pd.DataFrame([*rows, *attack_rows({"none": 0, "S^Th": 1}, TABLE)])


def test_each_network_differs_from_that_of_the_target_in_one_thing(tiny):
    main, table = figure(NAME).study(tiny).blocks
    whole = main.series["S^Th"][0].regularizer
    assert whole == tiny.regularizer
    differ = {
        label: {name: value for name, value in one[0].regularizer if getattr(whole, name) != value}
        for label, one in main.series.items()
        if label not in ("none", "S^Th")
    }
    assert differ == {
        "SSIM": {"target_similarity": "ssim"},
        "untrained features": {"target_similarity": "untrained"},
        "S^Th by linear CKA": {"similarity": "linear_cka", "alpha": 0.5},
        "S^Th, blurred images": {"low_pass": 1.5},
    }
    assert {one[0].task.images for one in table.series.values()} == {"breast-cancer"}


def test_no_more_cases_of_a_table_are_attacked_than_it_has(tiny):
    large = tiny.changed(studies=tiny.studies.changed(test_images=500, boundary_images=300))
    _, table = figure(NAME).study(large).blocks
    assert {one.attack: one.images for one in table.evaluations}["boundary"] == 100
    assert {one.images for one in table.evaluations if one.attack != "boundary"} == {None}
    wanted = [(seeds[0], own) for seeds in table.series.values() for own in table.evaluations]
    assert problems((), wanted, lambda one: None) == []


def test_a_regularizer_has_the_targets_and_images_that_it_says(tiny, store):
    def made(**fields):
        one = experiment(tiny, "S^Th", 0, **fields)
        images = regularization_images(one)
        built = build_regularizer(build_network(one, 10), one.regularizer, images, one.seed, store)
        return images.pixels, built

    pixels, built = made(target_similarity="ssim")
    expected = matched_targets(ssim_similarity(pixels), threshold_targets(pixel_similarity(pixels), 0.5))
    assert torch.equal(built.sampler.targets, expected)
    assert not torch.equal(expected, threshold_targets(pixel_similarity(pixels), 0.5))
    pixels, built = made(low_pass=1.5)
    blurred = GaussianBlur(1.5)(pixels).clamp(0, 1)
    assert torch.equal(built.images, blurred)
    assert torch.equal(built.sampler.targets, threshold_targets(pixel_similarity(blurred), 0.5))


def test_what_does_not_go_together_is_refused(tiny):
    with pytest.raises(SpecError, match="target_similarity goes with target 'threshold' and no 'subtract', got 'zero'"):
        experiment(tiny, "all targets 0", 0, target_similarity="ssim")
    sizes = tiny.studies
    with pytest.raises(SpecError, match=r"'low_pass' needs sigma, and nothing else has one; got ssim with sigma 2\.0"):
        sizes.changed(other_similarities=({"name": "ssim", "sigma": 2.0},))
    with pytest.raises(SpecError, match="other_similarities names 'ssim' twice"):
        sizes.changed(other_similarities=({"name": "ssim"}, {"name": "ssim"}))


def test_verdicts_follow_the_numbers():
    assert set(made_up(NAME, table_of()).headlines().values()) == {"direction holds", "no effect"}
    found = made_up(NAME, table_of(**{"SSIM": -1, "untrained features": 1, "S^Th, blurred images": 1})).headlines()
    assert found == {
        "other-similarities": "contradicted",  # SSIM surely loses
        "pixel-cosine": "direction holds",
        "linear-cka": "direction holds",
        "tabular": "direction holds",
        "low-pass-set": "contradicted",
    }


def test_every_curve_is_drawn():
    picture = made_up(NAME, table_of().assign(attempted=5, failed=0, condition=None)).draw()
    said = [label.get_text() for label in picture.axes[0].get_yticklabels()]
    assert said[:2] == [r"cosine of pixels ($S^{\mathrm{Th}}$)", "Euclidean distance"]
    assert said[-4:] == ["Targets made of", "Layers compared by", "Regularization images", "A table"]
    assert " ".join(picture.get_suptitle().split()).count("n = 4") == 5
    plt.close(picture)

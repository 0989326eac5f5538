"""A changed number reaches all that has one of its own; corners of a profile."""

import pytest

from simreg_core.lab import recipes
from simreg_core.lab.figures import figure
from simreg_core.lab.specs import SpecError, load_profile


def test_a_changed_number_reaches_every_set_and_variant_with_one_of_its_own(tiny):
    own = {"images": "digits", "alpha": 0.3, "threshold": 0.6}
    (variant,) = tiny.studies.variants
    sizes = tiny.studies.changed(
        regularization_sets=(own, {"images": "photos-foreign"}),
        colour_sets=(own,),
        component_set=own,
        variants=(variant.changed(regularization_set=own, pixel_alpha=0.4),),
        architectures=({"name": "mlp", "alpha": 0.3},),
    )
    profile = tiny.changed(studies=sizes)
    changed = recipes.adapt(profile, alpha=0.7, threshold=0.45)
    for name in (
        "04_regularization_sets",
        "05_common_corruptions",
        "09_colour",
        "10_layer_weights",
        "11_target_components",
        "12_other_tasks_and_depths",
        "15_architectures",
    ):
        regularizers = [one.regularizer for one, _ in figure(name).study(changed).measurements() if one.regularizer]
        assert {spec.alpha for spec in regularizers} <= {0.7, 0.0}  # 0: the control without a loss
        assert {spec.threshold for spec in regularizers} == {0.45}
    assert recipes.adapt(profile) == profile


def test_more_seeds_are_more_seeds_of_the_spectra_too(tiny):
    (block,) = figure("06_frequency_spectra").study(recipes.adapt(tiny, seeds=3)).blocks
    assert {len(experiments) for experiments in block.series.values()} == {3}
    fewer = tiny.changed(studies=tiny.studies.changed(spectrum_seeds=5))
    assert recipes.adapt(fewer, seeds=3).studies.spectrum_seeds == 5


def test_corners_of_a_profile():
    quick = load_profile("quick")
    assert recipes.base_of(quick, colour=True).task.channels == 3
    assert recipes.base_of(quick, "photos-foreign").regularizer.images == "photos-foreign"
    assert recipes.base_of(quick, variant="photographs, ResNet10").task.images == "photos"
    with pytest.raises(SpecError, match="set 'nowhere'; allowed: mnist-5k, digits, photos-foreign"):
        recipes.base_of(quick, "nowhere")
    with pytest.raises(SpecError, match="variant 'mnist'; allowed: photographs, ResNet10, MNIST digits, ResNet18"):
        recipes.base_of(quick, variant="mnist")


def test_linear_cka_is_chosen_for_in_a_profile_whose_other_studies_have_zero_targets():
    quick = load_profile("quick")
    assert any("zero" in part.losses for part in quick.studies.design)
    assert recipes.base_of(quick, similarity="linear_cka").regularizer.similarity == "linear_cka"


def test_a_figures_own_part_is_changed_its_tasks_and_else_the_profile(tiny):
    def changed(part, **changes):
        return recipes.with_part(tiny, part, changes)

    assert changed("partial", epsilon=0.07).partial == tiny.partial.changed(epsilon=0.07)
    polarizing = changed("polarizing", weight=3.0, threshold=0.25, seeds=None).polarizing
    assert (polarizing.weight, polarizing.seeds) == (3.0, tiny.polarizing.seeds)
    assert {task.threshold for task in polarizing.tasks} == {0.25} != {tiny.regularizer.threshold}
    assert {task.kept for task in changed("sparse_coding", kept=4).sparse_coding.tasks} == {4}
    assert changed("studies.design", threshold=0.45) == recipes.adapt(tiny, threshold=0.45)
    assert changed("partial", epsilon=None, seeds=None) == changed(None) == tiny
    assert changed(None, animals=7).neural.animals == 7
    with pytest.raises(SpecError, match="keep"):
        changed("hebbian", keep=2.0)
    with pytest.raises(TypeError, match="keep"):
        changed("partial", keep=0.5)


def test_a_figure_with_a_part_of_its_own_is_opened_with_its_numbers():
    study = figure("23_hebbian_networks").open("quick", keep=0.5)
    assert study.customized
    assert {one.adversarial.keep for one, _ in study.measurements()} == {0.5}
    assert not figure("23_hebbian_networks").open("quick", keep=0.2).customized

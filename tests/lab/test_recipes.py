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

"""What a front end certifies, against an attack on its levels, and its activations and filters stage by stage."""

import pytest
import torch

from simreg_core.defences.polarizing import quantized
from simreg_core.lab import recipes
from simreg_core.lab.measuring import polarization
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.measuring.subject import Attacked
from simreg_core.lab.specs import PolarizationEvaluation

CPU = torch.device("cpu")


@pytest.fixture
def polarized(tiny):
    def make(**fields):
        task = tiny.task.changed(train_images=200, validation_images=30)
        small = tiny.changed(task=task, optimization={"epochs": 2, "batch_size": 32})
        rule = {"method": "polarizing", "width": 4, **fields}
        return recipes.experiment(small, "none", 0).changed(adversarial=rule)

    return make


@pytest.fixture
def opened(polarized, store, trained_once):
    def make(**fields):
        experiment = polarized(**fields)
        trained_once(store, experiment)
        evaluation = PolarizationEvaluation(epsilon=0.2, certificates=(0.00003, 0.0001, 0.3), images=120)
        return Attacked.opened(experiment, evaluation, store, CPU)

    return make


def of(found, metric: str) -> dict:
    return {(one.condition, one.epsilon): one.value for one in found.values if one.metric == metric}


def test_no_attack_changes_the_levels_of_a_certified_image(opened):
    subject = opened()
    found = polarization.polarization(subject)
    kept, certified = of(found, "levels_kept"), of(found, "certified")
    counts = {one.epsilon: one.attempted for one in found.values if one.condition == polarization.CERTIFIED}
    assert counts[0.00003] > 50
    assert all(value == 1 for (name, _), value in kept.items() if name == polarization.CERTIFIED)
    assert kept[(polarization.OTHERS, 0.3)] < 0.5  # the attack can change levels
    assert certified[(None, 0.3)] == 0  # at the source's epsilon no image is certified
    assert len(found.arrays["distances"]) == 120


def test_activations_and_filters_are_those_of_each_stage(opened):
    subject = opened()
    front_end, found = subject.network.front_end, polarization.polarization(subject)
    z = front_end.activations(subject.pixels)
    near = ((z.abs() - 0.5).abs() < 0.2).double().mean().item()
    danger, final = of(found, "danger"), polarization.STAGE_NAMES[-1]
    assert danger[(final, 0.2)] == pytest.approx(near)
    assert danger[("after stage two", 0.2)] == pytest.approx(near)  # frozen exactly
    assert of(found, "nonzero")[(final, None)] == pytest.approx((quantized(z, 0.5) != 0).double().mean().item())
    assert of(found, "drift") == {(None, None): 0}
    assert [*found.arrays["histograms"]] == [*polarization.STAGE_NAMES]
    assert all(sum(one) == pytest.approx(1, abs=1e-5) for one in found.arrays["histograms"].values())
    filters = torch.tensor(found.arrays["filters"]["untrained"])
    assert filters.shape == (25, 5, 5)
    torch.testing.assert_close(filters.flatten(1), front_end.filters_before[0], atol=1e-5, rtol=0)
    share = (filters.flatten(1).abs().amax(1) > filters.flatten(1).abs().sum(1) / 2).double().mean()
    assert of(found, "pixel_like")[("untrained", None)] == share


def test_the_drift_of_the_released_code_is_measured(opened):
    (drift,) = of(polarization.polarization(opened(freezing="drift")), "drift").values()
    assert 0 < drift < 0.05


def test_quantized_pixels_and_a_training_without_quantizer(opened):
    pixels = polarization.polarization(opened(filters="pixels"))
    assert {one.metric for one in pixels.values} == {"certified", "levels_kept"}
    early = polarization.polarization(opened(until=2))
    assert [*early.arrays["filters"]] == ["untrained", "after stage one", "final"]
    assert not of(early, "drift")


def test_a_network_that_quantizes_nothing_is_refused(tiny, polarized):
    evaluation = PolarizationEvaluation(epsilon=0.2, certificates=(0.1,))
    (line,) = kind_of(evaluation).lacks(recipes.experiment(tiny, "none", 0), evaluation, None)
    assert line.endswith("has no front end that quantizes")
    assert [*kind_of(evaluation).lacks(polarized(filters="pixels"), evaluation, None)] == []

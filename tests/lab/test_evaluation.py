"""Evaluation: the same images for all, every number in its record, surrogates of the same task."""

import math

import pytest
import torch

from simreg_core import attacks
from simreg_core.lab import studies
from simreg_core.lab.data import DataError, load_image_set
from simreg_core.lab.evaluation import correct, evaluate, evaluation_images, trained_network
from simreg_core.lab.store import StoreError
from simreg_core.lab.training import load_data, train

CPU = torch.device("cpu")


@pytest.fixture
def trained(tiny, store):
    experiment = studies.experiment(tiny, "S^Th", 0)
    train(experiment, store, CPU)
    train(studies.fgsm(tiny, "released").surrogate, store, CPU)
    return experiment


@pytest.mark.parametrize("protocol", ["released", "strict"])
def test_noise_accuracy_is_what_the_network_does(tiny, store, trained, protocol):
    record = evaluate(trained, studies.gaussian(tiny, protocol), store, CPU)
    assert [value.epsilon for value in record.values] == list(studies.levels(0.3))
    images = load_image_set("digits", "test", (8, 8))
    network = trained_network(trained, 10, store, CPU)
    clean = correct(network, images.pixels, images.labels).double().mean().item()
    assert record.values[0].value == clean
    assert {value.attempted for value in record.values} == {500}
    assert store.record(trained, studies.gaussian(tiny, protocol)) == record


def test_evaluation_is_repeatable(tiny, store, trained):
    for evaluation in (studies.gaussian(tiny, "strict"), studies.fgsm(tiny, "strict"), studies.boundary(tiny)):
        first, second = (evaluate(trained, evaluation, store, CPU) for _ in range(2))
        assert first.values == second.values
        assert first.arrays == second.arrays


def test_fgsm_of_a_network_on_itself_hurts_more_than_noise(tiny, store, trained):
    surrogate = studies.fgsm(tiny, "strict").surrogate
    evaluation = studies.fgsm(tiny, "strict")
    own = evaluate(surrogate, evaluation, store, CPU).values[-1].value
    noise = (
        evaluate(surrogate, studies.gaussian(tiny, "strict").changed(epsilons=evaluation.epsilons), store, CPU)
        .values[-1]
        .value
    )
    assert own < noise


def test_a_surrogate_of_another_task_is_refused(tiny, store, trained):
    other = tiny.changed(task={**tiny.task.model_dump(), "validation_images": 50})
    evaluation = studies.fgsm(tiny, "strict").changed(surrogate=studies.experiment(other, "none", 0).model_dump())
    with pytest.raises(ValueError, match="trained on another task"):
        evaluate(trained, evaluation, store, CPU)


def test_boundary_record(tiny, store, trained):
    record = evaluate(trained, studies.boundary(tiny), store, CPU)
    values = {value.metric: value for value in record.values}
    assert values["median_l2"].attempted == 12
    images = evaluation_images(trained, studies.boundary(tiny))
    network = trained_network(trained, 10, store, CPU)
    assert len(images) == 12
    assert record.arrays["cumulative"][-1] == pytest.approx(1)
    assert len(record.arrays["power"]) == 8
    # the size, computed again from the attack itself
    from simreg_core.lab.training import stream

    result = attacks.boundary_attack(
        network, images.pixels, steps=50, protocol="released", seed=stream(0, "boundary 0"), directions=30
    )
    expected = result.squared_l2_per_pixel[~result.failed].double().quantile(0.5).item()
    assert values["median_squared_l2_per_pixel"].value == pytest.approx(expected)
    assert math.sqrt(expected * 64) < 8


def test_a_network_that_no_image_can_fool_is_recorded_as_such(tiny, store, trained):
    from simreg_core.lab.training import build_network

    constant = build_network(trained, 10)
    torch.nn.init.zeros_(constant.head.weight)
    store.save_trained(trained, constant.state_dict(), {})
    for protocol, size in (("released", math.nan), ("strict", math.inf)):
        evaluation = studies.boundary(tiny).changed(protocol=protocol)
        evaluate(trained, evaluation, store, CPU)
        record = store.record(trained, evaluation)  # as read back from its file
        assert all(value.failed == value.attempted == 12 for value in record.values)
        assert all(value.value == size or (math.isnan(size) and math.isnan(value.value)) for value in record.values)
        assert record.arrays == {}


def test_colour_trains_and_the_released_score_sees_the_first_channel(tiny, store):
    colour = tiny.changed(
        task={**tiny.task.model_dump(), "images": "photos", "channels": 3},
        regularizer={**tiny.regularizer.model_dump(), "images": "photos-foreign"},
        optimization={**tiny.optimization.model_dump(), "epochs": 1},
    )
    experiment = studies.experiment(colour, "S^Th", 0)
    train(experiment, store, CPU)
    sizes = {}
    for protocol in attacks.PROTOCOLS:
        record = evaluate(experiment, studies.boundary(colour).changed(protocol=protocol), store, CPU)
        sizes[protocol] = {value.metric: value.value for value in record.values}
    assert record.provenance.regularization_set == "photos-foreign/train"
    assert sizes["released"]["median_l2"] == sizes["strict"]["median_l2"]
    assert sizes["released"]["median_squared_l2_per_pixel"] != sizes["strict"]["median_squared_l2_per_pixel"]


def test_every_model_is_attacked_on_the_same_images(tiny):
    evaluation = studies.boundary(tiny)
    chosen = [
        evaluation_images(studies.experiment(tiny, target, seed), evaluation).checksum
        for target, seed in (("none", 0), ("S^Th", 1))
    ]
    assert chosen[0] == chosen[1]


def test_validation_images_are_not_test_images(tiny):
    experiment = studies.experiment(tiny, "none", 0)
    evaluation = studies.gaussian(tiny, "strict").changed(split="validation")
    images = evaluation_images(experiment, evaluation)
    assert images.checksum == load_data(experiment).validation.checksum
    assert images.checksum != evaluation_images(experiment, studies.gaussian(tiny, "strict")).checksum


def test_too_many_images(tiny):
    with pytest.raises(DataError, match="501 images are asked for, but 'digits' has 500"):
        evaluation_images(studies.experiment(tiny, "none", 0), studies.boundary(tiny).changed(images=501))


def test_an_untrained_experiment_is_named(tiny, store):
    experiment = studies.experiment(tiny, "none", 0)
    with pytest.raises(StoreError, match=r"weights\.safetensors is missing"):
        evaluate(experiment, studies.gaussian(tiny, "strict"), store, CPU)

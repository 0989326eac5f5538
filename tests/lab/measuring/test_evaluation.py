"""Evaluation: the same images for all, every number in its record, surrogates of the same task."""

import dataclasses
import math
import shutil

import pytest
import torch

from simreg_core import attacks
from simreg_core.corruptions import corrupt
from simreg_core.lab import recipes
from simreg_core.lab.files import StoreError
from simreg_core.lab.image_files import DataError
from simreg_core.lab.images import load_image_set
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.registry import kind_of
from simreg_core.lab.measuring.subject import Attacked, correct, evaluation_images, trained_network
from simreg_core.lab.specs import (
    CorruptionEvaluation,
    CorruptionSpectraEvaluation,
    LayerWeightsEvaluation,
    MinimumNormEvaluation,
    TransferEvaluation,
    WhiteBoxEvaluation,
    stream,
)
from simreg_core.lab.training import build_network, load_data, train
from simreg_core.names import CORRUPTIONS, PROTOCOLS

CPU = torch.device("cpu")


@pytest.fixture
def trained(tiny, store, trained_once):
    experiment = recipes.experiment(tiny, "S^Th", 0)
    trained_once(store, experiment, recipes.fgsm(tiny, "released").surrogate)
    return experiment


@pytest.mark.parametrize("protocol", ["released", "strict"])
def test_noise_accuracy_is_what_the_network_does(tiny, store, trained, protocol):
    record = evaluate(trained, recipes.noise(tiny, "gaussian", protocol), store, CPU)
    assert [value.epsilon for value in record.values] == list(recipes.levels(0.3))
    images = evaluation_images(trained, recipes.noise(tiny, "gaussian", protocol))
    network = trained_network(trained, 10, store, CPU)
    clean = correct(network, images.pixels, images.labels).double().mean().item()
    assert record.values[0].value == clean
    assert {value.attempted for value in record.values} == {tiny.studies.test_images}
    assert store.record(trained, recipes.noise(tiny, "gaussian", protocol)) == record


def test_evaluation_is_repeatable(tiny, store, trained):
    for evaluation in (recipes.noise(tiny, "gaussian", "strict"), recipes.fgsm(tiny, "strict"), recipes.boundary(tiny)):
        first, second = (evaluate(trained, evaluation, store, CPU) for _ in range(2))
        assert first.values == second.values
        assert first.arrays == second.arrays


def test_transferred_fgsm_is_the_surrogates_direction_shown_to_the_attacked_network(tiny, store, trained):
    evaluation = recipes.fgsm(tiny, "strict")
    found = [value.value for value in evaluate(trained, evaluation, store, CPU).values]
    images = evaluation_images(trained, evaluation)
    attacked, surrogate = (trained_network(one, 10, store, CPU) for one in (trained, evaluation.surrogate))
    direction = attacks.fgsm_direction(surrogate, images.pixels, images.labels)
    expected = []
    for epsilon in evaluation.epsilons:
        seen = attacks.transferred_fgsm(images.pixels, direction, epsilon, protocol="strict").adversarial
        expected.append(correct(attacked, seen, images.labels).double().mean().item())
    assert found == expected
    strongest = attacks.transferred_fgsm(images.pixels, direction, 0.1, protocol="strict").adversarial
    noisy = attacks.gaussian_noise(
        images.pixels, 0.1, protocol="strict", generator=torch.Generator().manual_seed(0)
    ).adversarial
    own, noise = (correct(surrogate, seen, images.labels).double().mean() for seen in (strongest, noisy))
    assert own < noise  # the surrogate itself


def test_a_network_is_no_surrogate_of_itself(tiny, store):
    evaluation = recipes.fgsm(tiny, "strict")
    with pytest.raises(ValueError, match=f"experiment {evaluation.surrogate.key}, seed 2. is the surrogate of this"):
        evaluate(evaluation.surrogate, evaluation, store, CPU)  # said before its weights are looked for


def test_a_surrogate_of_another_task_is_refused(tiny, store, trained):
    other = tiny.changed(task={**tiny.task.model_dump(), "validation_images": 50})
    evaluation = recipes.fgsm(tiny, "strict").changed(surrogate=recipes.experiment(other, "none", 0).model_dump())
    with pytest.raises(ValueError, match="trained on another task"):
        evaluate(trained, evaluation, store, CPU)


def test_boundary_record(tiny, store, trained):
    record = evaluate(trained, recipes.boundary(tiny), store, CPU)
    values = {value.metric: value for value in record.values}
    assert values["median_l2"].attempted == tiny.studies.boundary_images
    images = evaluation_images(trained, recipes.boundary(tiny))
    network = trained_network(trained, 10, store, CPU)
    assert len(images) == tiny.studies.boundary_images
    assert record.arrays["cumulative"][-1] == pytest.approx(1)
    assert len(record.arrays["power"]) == 16
    # the size, computed again from the attack itself
    same = {"seed": stream(0, "boundary 0"), "directions": tiny.studies.boundary_directions}
    result = attacks.boundary_attack(network, images.pixels, steps=50, protocol="released", **same)
    expected = result.squared_l2_per_pixel[~result.failed].double().quantile(0.5).item()
    assert values["median_squared_l2_per_pixel"].value == pytest.approx(expected)
    assert values["median_l2"].value == pytest.approx(result.l2[~result.failed].double().quantile(0.5).item())
    # nearer than where the attack starts
    start = attacks.boundary_attack(network, images.pixels, steps=1, protocol="released", **same)
    assert values["median_l2"].value < start.l2[~start.failed].double().quantile(0.5)


def test_a_network_that_no_image_can_fool_is_recorded_as_such(tiny, store, trained):
    constant = build_network(trained, 10)
    torch.nn.init.zeros_(constant.head.weight)
    store.save_trained(trained, constant.state_dict(), {})
    for protocol, size in (("released", math.nan), ("strict", math.inf)):
        evaluation = recipes.boundary(tiny).changed(protocol=protocol)
        evaluate(trained, evaluation, store, CPU)
        record = store.record(trained, evaluation)  # as read back from its file
        assert all(value.failed == value.attempted == tiny.studies.boundary_images for value in record.values)
        assert all(value.value == size or (math.isnan(size) and math.isnan(value.value)) for value in record.values)
        assert record.arrays == {}


def test_colour_trains_and_the_released_score_sees_the_first_channel(tiny, store):
    colour = tiny.changed(
        task=tiny.task.changed(images="photos", channels=3, train_images=None),
        regularizer={**tiny.regularizer.model_dump(), "images": "photos-foreign"},
        # after one epoch some networks call every noise image by the class of a photograph, so no start is found
        optimization={**tiny.optimization.model_dump(), "epochs": 3},
    )
    experiment = recipes.experiment(colour, "S^Th", 0, alpha=0.001)
    train(experiment, store, CPU)
    sizes = {}
    for protocol in PROTOCOLS:
        attack = recipes.boundary(colour).changed(protocol=protocol, directions=300)  # so that none fails
        record = evaluate(experiment, attack, store, CPU)
        assert {value.failed for value in record.values} == {0}
        sizes[protocol] = {value.metric: value.value for value in record.values}
    assert record.provenance.regularization_set == "photos-foreign/train"
    assert sizes["released"]["median_l2"] == sizes["strict"]["median_l2"]
    assert sizes["released"]["median_squared_l2_per_pixel"] != sizes["strict"]["median_squared_l2_per_pixel"]


def test_every_model_is_attacked_on_the_same_images(tiny):
    evaluation = recipes.boundary(tiny)
    chosen = [
        evaluation_images(recipes.experiment(tiny, target, seed), evaluation).checksum
        for target, seed in (("none", 0), ("S^Th", 1))
    ]
    assert chosen[0] == chosen[1]


def test_validation_images_are_not_test_images(tiny):
    experiment = recipes.experiment(tiny, "none", 0)
    evaluation = recipes.noise(tiny, "gaussian", "strict").changed(split="validation", images=None)
    images = evaluation_images(experiment, evaluation)
    assert images.checksum == load_data(experiment).validation.checksum
    assert images.checksum != evaluation_images(experiment, recipes.noise(tiny, "gaussian", "strict")).checksum


def test_too_many_images(tiny):
    with pytest.raises(DataError, match="501 images are asked for, but 'digits' has 500"):
        evaluation_images(recipes.experiment(tiny, "none", 0), recipes.boundary(tiny).changed(images=501))


def test_an_untrained_experiment_is_named(tiny, store):
    experiment = recipes.experiment(tiny, "none", 0)
    with pytest.raises(StoreError, match=r"weights\.safetensors is missing"):
        evaluate(experiment, recipes.noise(tiny, "gaussian", "strict"), store, CPU)


def test_corruptions_are_measured_on_corrupted_images(tiny, store, trained):
    evaluation = CorruptionEvaluation(corruptions=("contrast", "fog"), severities=(1, 5), images=100)
    record = evaluate(trained, evaluation, store, CPU)
    found = {(value.corruption, value.severity): value.value for value in record.values}
    assert found.keys() == {(None, 0), ("contrast", 1), ("contrast", 5), ("fog", 1), ("fog", 5)}
    images = evaluation_images(trained, evaluation)
    network = trained_network(trained, 10, store, CPU)
    for severity in (1, 5):
        seen = corrupt(images.pixels, "contrast", severity, torch.Generator())  # contrast draws nothing
        expected = correct(network, seen, images.labels).double().mean().item()
        assert found["contrast", severity] == expected
    assert found[None, 0] == correct(network, images.pixels, images.labels).double().mean().item()
    assert found["contrast", 5] < found[None, 0]


def test_every_network_sees_the_same_corrupted_images(tiny, store, trained):
    evaluation = CorruptionEvaluation(corruptions=("snow", "gaussian_noise"), severities=(3,), images=50)
    first = evaluate(trained, evaluation, store, CPU)
    shutil.rmtree(store.root / "made")
    assert evaluate(trained, evaluation, store, CPU).values == first.values


def test_official_files_are_read(tiny, store, monkeypatch):
    task = {"images": "photos", "size": (32, 32), "validation_images": 100, "train_images": 200, "channels": 3}
    quick = tiny.changed(task=task, optimization={**tiny.optimization.model_dump(), "epochs": 1})
    experiment = recipes.experiment(quick, "none", 0)
    train(experiment, store, CPU)
    images = load_image_set("photos", "test", (32, 32), 3)
    dark = dataclasses.replace(images, images=torch.zeros_like(images.images))
    asked = []

    def fake(corruption, severity, channels):
        asked.append((corruption, severity, channels))
        return dark

    monkeypatch.setattr("simreg_core.lab.measuring.corruptions.load_cifar10_c", fake)
    evaluation = CorruptionEvaluation(corruptions=("fog",), severities=(2,), images=40, source="files")
    record = evaluate(experiment, evaluation, store, CPU)
    assert asked == [("fog", 2, 3)]
    network = trained_network(experiment, 10, store, CPU)
    chosen = evaluation_images(experiment, evaluation)
    expected = correct(network, torch.zeros(40, 3, 32, 32), chosen.labels).double().mean().item()
    assert record.values[1].value == expected
    monkeypatch.setattr(
        "simreg_core.lab.measuring.corruptions.load_cifar10_c",
        lambda *_: dataclasses.replace(dark, labels=(dark.labels + 1) % 10),
    )
    with pytest.raises(DataError, match="labels of CIFAR-10-C are not those of 'photos'"):
        evaluate(experiment, evaluation.changed(seed=1), store, CPU)


def test_spectra_of_corruptions(tiny, store, trained):
    record = evaluate(trained, CorruptionSpectraEvaluation(images=40), store, CPU)
    frequency = {value.corruption: value.value for value in record.values}
    assert frequency.keys() == set(CORRUPTIONS)
    assert frequency["gaussian_noise"] > 3 * frequency["fog"]
    assert all(record.arrays[name][-1] == pytest.approx(1) for name in CORRUPTIONS)


class Broken(torch.nn.Module):
    """What a network would answer, changed."""

    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x):
        return self.change(self.network(x), x)


def attacks_of(profile):
    """Every kind of evaluation that shows images to a network."""
    surrogate = recipes.fgsm(profile, "strict").surrogate
    return (
        recipes.noise(profile, "gaussian", "strict"),
        recipes.noise(profile, "uniform", "released"),
        recipes.fgsm(profile, "strict"),
        recipes.boundary(profile),
        CorruptionEvaluation(corruptions=("contrast",), severities=(1,), images=20),
        WhiteBoxEvaluation(epsilons=(0.0, 0.1), epsilon=0.1, images=10, steps=2, queries=5),
        MinimumNormEvaluation(images=10, steps=2),
        MinimumNormEvaluation(images=10, steps=2, norm="l2", away_from="prediction"),
        TransferEvaluation(name="none", epsilons=(0.1,), surrogates=(surrogate,), images=10, steps=2),
    )


def test_no_number_comes_of_a_network_that_is_no_classifier(tiny, store, trained):
    network = trained_network(trained, 10, store, CPU)
    half = Broken(network, lambda logits, x: logits).eval()
    half.part = torch.nn.Dropout()
    bad = [
        (Broken(network, lambda logits, x: logits * torch.nan).eval(), "logits must be finite"),
        (Broken(network, lambda logits, x: logits[:, :1]).eval(), "at least 2 classes"),
        (Broken(network, lambda logits, x: logits + 0.1 * torch.randn_like(logits)).eval(), "answer the same twice"),
        (Broken(network, lambda logits, x: torch.nn.functional.dropout(logits)).eval(), "answer the same twice"),
        (Broken(network, lambda logits, x: (logits, x)).eval(), "got tuple"),
        (half, "training mode"),
    ]

    def measure(network, images, evaluation):
        return kind_of(evaluation).measure(Attacked(trained, evaluation, network, images, store, CPU))

    for evaluation in attacks_of(tiny):
        images = evaluation_images(trained, evaluation)
        for each, message in bad:
            with pytest.raises(ValueError, match=message):
                measure(each, images, evaluation)
        clean = {image.numpy().tobytes() for image in images.pixels}

        def dies(logits, x, clean=clean):
            new = torch.tensor([image.detach().numpy().tobytes() not in clean for image in x])
            return logits.masked_fill(new[:, None], torch.nan)

        with pytest.raises(ValueError, match="logits must be finite"):  # though they are, of the clean images
            measure(Broken(network, dies).eval(), images, evaluation)


def test_layer_weights_are_those_of_training(tiny, store, trained):
    record = evaluate(trained, LayerWeightsEvaluation(), store, CPU)
    history = store.history(trained)["epochs"]
    assert record.arrays["layer_weights"] == [epoch["layer_weights"] for epoch in history]
    assert [value.value for value in record.values] == history[-1]["layer_weights"]
    assert [value.layer for value in record.values] == list(range(5))
    plain = recipes.experiment(tiny, "none", 0)
    train(plain, store, CPU)
    with pytest.raises(ValueError, match="unregularized network has no layer weights"):
        evaluate(plain, LayerWeightsEvaluation(), store, CPU)

"""Predictors in the store, neural targets in training, and comparisons of similarities."""

import numpy as np
import pytest
import torch
from conftest import in_this_process

from simreg_core import neural, pixel_similarity
from simreg_core.lab import recipes, series
from simreg_core.lab.claims import CONTRADICTED, SMALLER
from simreg_core.lab.figures import figure, pixel_vs_neural
from simreg_core.lab.files import StoreError
from simreg_core.lab.image_files import DataError
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.predictors import fit, fitted, neural_target, recording_of
from simreg_core.lab.recordings import Recording, population, write_recording
from simreg_core.lab.running.compute import compute, missing_image_sets
from simreg_core.lab.running.plan import Plan, plan
from simreg_core.lab.specs import (
    Condition,
    NeuralExperiment,
    NoiseEvaluation,
    Predictor,
    Published,
    Recorded,
    Regularizer,
    SimilarityEvaluation,
    Simulated,
    SpecError,
    build,
    dependencies,
    load_profile,
)
from simreg_core.lab.study import Study
from simreg_core.lab.training import build_network, build_regularizer, load_data

CPU = torch.device("cpu")
SIMULATED = Simulated(count=60, trials=3, neurons=12, mean_rate=1.0)
SMALL = Predictor(channels=4, kernel=5, layers=0, epochs=3)


@pytest.fixture
def animal():
    return NeuralExperiment(source=SIMULATED, predictor=SMALL)


@pytest.fixture
def real(tmp_path, monkeypatch, generator):
    """A recording in the data folder, one neuron of it silent."""
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path / "data"))
    images = torch.randint(0, 256, (15, 1, 12, 12), generator=generator, dtype=torch.uint8)
    responses = torch.rand(4, 15, 6, generator=generator)
    responses[:, :, 3] = 0
    write_recording(Recording("mine", images, responses, source="a test"), tmp_path / "data" / "recordings" / "mine")
    return NeuralExperiment(source=Recorded(recording="mine"))


def similarity(*conditions, **others):
    return SimilarityEvaluation(conditions=conditions, **{"resamples": 20, "permutations": 19, **others})


def values(record, metric="pearson"):
    return {value.condition: value.value for value in record.values if value.metric == metric}


# fitting and loading


def test_a_fitted_predictor_is_loaded_as_it_was(animal, store):
    fit(animal, store, CPU)
    images = recording_of(animal).pixels[:10]
    own = fitted(animal, store)
    first = own.predictor.rates(images)
    written = store.weights_path(animal).stat().st_mtime_ns
    fit(animal, store, CPU)  # stored already
    assert store.weights_path(animal).stat().st_mtime_ns == written
    assert own.weights.shape == (12,)
    store.forget(animal, similarity(Condition(name="a", responses="predicted")))
    fit(animal, store, CPU)
    assert torch.equal(fitted(animal, store).predictor.rates(images), first)


def test_with_a_gpu_too_all_is_fitted_and_compared_on_the_cpu(animal, store):
    """On a GPU the targets that are made of a predictor would be others on every run; and a record names the CPU."""
    gpu = torch.device("cuda")
    fit(animal, store, gpu)
    record = evaluate(animal, similarity(Condition(name="a", responses="predicted"), images=20), store, gpu)
    assert record.provenance.device.startswith("cpu (")


def test_a_predictor_that_is_missing_or_anothers_is_refused(animal, store):
    with pytest.raises(StoreError, match="is missing"):
        fitted(animal, store)
    fit(animal, store, CPU)
    other = animal.changed(seed=1)
    path = store.weights_path(other)
    path.parent.mkdir(parents=True)
    path.write_bytes(store.weights_path(animal).read_bytes())
    with pytest.raises(StoreError, match=f"belongs to experiment {animal.key}"):
        fitted(other, store)


def test_negative_responses_are_refused_by_the_fit(real, store, tmp_path):
    own = recording_of(real)
    write_recording(Recording("mine", own.images, own.responses - 0.5), tmp_path / "data" / "recordings" / "mine")
    small = real.changed(predictor=SMALL.model_dump())
    with pytest.raises(DataError, match="recording 'mine': a Poisson loss needs responses that are not negative"):
        fit(small, store, CPU)
    assert not store.weights_path(small).exists()


# as a target


def regularizer(**changes):
    return build(Regularizer, {"images": "photos", "size": (16, 16), "count": 20, "pairs_per_step": 4, **changes})


def test_the_target_is_the_mean_of_the_predicted_similarities(animal, store):
    animals = (animal, animal.changed(seed=1))
    for one in animals:
        fit(one, store, CPU)
    pixels = recording_of(animal).pixels[:20]
    found = neural_target(regularizer(target="neural", neural=animals), pixels, store)
    expected = [
        neural.response_similarity(fitted(one, store).predictor.rates(pixels).double(), fitted(one, store).weights)
        for one in animals
    ]
    assert torch.allclose(found, (sum(expected) / 2).float())


def test_networks_are_trained_towards_a_neural_target_and_its_shuffle(tiny, store):
    own = recipes.experiment(tiny, series.NEURAL, 0)
    todo = plan([(own, recipes.noise(tiny, "gaussian"))], store)
    assert [one.key for one in todo.trainings] == [*(one.key for one in dependencies(own)), own.key]
    compute(Plan(todo.trainings, ()), store, "test", executor=in_this_process)
    assert store.is_trained(own)
    shuffled = recipes.experiment(tiny, series.SHUFFLED_NEURAL, 0)
    network = build_network(own, 10)
    images = load_data(own).regularization
    matrices = [
        build_regularizer(network, one.regularizer, images, 0, store).sampler.targets for one in (own, shuffled)
    ]
    assert torch.allclose(matrices[0], neural_target(own.regularizer, images.pixels, store))
    assert not torch.equal(*matrices)
    assert torch.allclose(matrices[0].flatten().sort().values, matrices[1].flatten().sort().values)
    assert torch.allclose(matrices[1].diagonal(), torch.ones(len(images)), atol=1e-5)


def test_a_matrix_of_ones_own_is_a_target(tmp_path, monkeypatch, store):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    (tmp_path / "similarities").mkdir()
    pixels = torch.rand(20, 1, 16, 16)
    np.save(tmp_path / "similarities" / "mine.npy", pixel_similarity(pixels).numpy())
    spec = regularizer(target="neural", matrix="mine.npy")
    assert torch.allclose(neural_target(spec, pixels, store), pixel_similarity(pixels))
    with pytest.raises(DataError, match="is of 20 images, but there are 10"):
        neural_target(spec, pixels[:10], store)


def test_images_of_another_size_than_the_predictors_are_refused(animal, store):
    fit(animal, store, CPU)
    spec = regularizer(target="neural", neural=(animal,))
    with pytest.raises(DataError, match="takes images of 16x16, but the regularization set 'photos' has 20x20"):
        neural_target(spec, torch.rand(5, 1, 20, 20), store)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "neural"}, "needs either 'neural' .predictors. or 'matrix'"),
        ({"target": "neural", "matrix": "a.npy", "neural": [{"source": {"kind": "published"}}]}, "needs either"),
        ({"matrix": "a.npy"}, "go with a neural target, not with 'threshold'"),
        ({"target": "neural", "neural": [{"source": {"kind": "simulated"}}]}, "each of 'neural' needs a predictor"),
    ],
)
def test_a_neural_target_without_one_source_is_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        regularizer(**changes)


def test_a_published_predictor_is_not_fitted_again():
    with pytest.raises(SpecError, match="fitted already: leave 'predictor' out"):
        build(NeuralExperiment, {"source": {"kind": "published"}, "predictor": {}})


# comparisons


def test_a_recording_is_compared_on_its_own_images(real, store):
    plain = Condition(name="plain", responses="trial_mean")
    record = evaluate(
        real,
        similarity(
            plain,
            plain.changed(name="own mean", subtract="own_mean"),
            plain.changed(name="crop", crop=(2, 10, 0, 12)),
            plain.changed(name="small", size=(3, 3)),
            plain.changed(name="weighted", weighted=True),
            plain.changed(name="two", neurons=2),
        ),
        store,
        CPU,
    )
    own = recording_of(real)
    # all images, in another order, which a correlation does not see
    mean = own.responses.double().mean(dim=0)
    pixels = own.pixels.double()
    c, s, p = neural.similarity_correlation, neural.response_similarity, pixel_similarity
    weights = neural.reliability(own.responses).weights
    small = torch.nn.functional.interpolate(pixels, (3, 3), mode="area")
    expected = {
        "plain": c(p(pixels), s(mean)),
        "own mean": c(p(pixels, "own_mean"), s(mean)),
        "crop": c(p(pixels[:, :, 2:10]), s(mean)),
        "small": c(p(small), s(mean)),
        "weighted": c(p(pixels), s(mean, weights)),
    }
    found = values(record)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert found["two"] != pytest.approx(found["plain"])
    silent = next(value for value in record.values if value.metric == "silent_neurons")
    assert (silent.value, silent.attempted) == (1, 6)
    assert values(record, "pearson_low")["plain"] < found["plain"] < values(record, "pearson_high")["plain"]
    assert np.array(record.arrays["density"]).sum() == 15 * 14 / 2
    assert store.record(real, record.evaluation) == record


def test_matrices_are_shown_in_one_order(real, store):
    record = evaluate(real, similarity(Condition(name="plain", responses="trial_mean")), store, CPU)
    matrices = [torch.tensor(record.arrays[name]) for name in ("pixel_matrix", "neural_matrix")]
    assert neural.similarity_correlation(*matrices) == pytest.approx(values(record)["plain"], abs=0.01)


def test_a_simulation_knows_its_truth(animal, store):
    fit(animal, store, CPU)
    names = ("predicted", "trial_mean", "noise_free", "simple", "complex", "linear", "luminance")
    conditions = [Condition(name=name, responses=name) for name in names]
    averaged = Condition(name="averaged", responses="noise_free", recordings=3)
    record = evaluate(animal, similarity(*conditions, averaged, images=40), store, CPU)
    found = values(record)
    assert set(found) == {*names, "averaged"}
    assert found["luminance"] > 0.7 > found["noise_free"]
    closeness = values(record, "to_noise_free")
    assert 0 < closeness["trial_mean"] < 1
    assert 0 < closeness["predicted"] < 1
    own = population(SIMULATED, 0)
    assert found["noise_free"] == pytest.approx(_on_chosen(animal, own, store), abs=1e-6)


def _on_chosen(animal, own, store):
    from simreg_core.lab.measuring.neural_vs_pixel import Comparison

    images = Comparison(animal, similarity(Condition(name="a", responses="noise_free"), images=40), store).images
    return neural.similarity_correlation(
        pixel_similarity(images.double()), neural.response_similarity(own.rates(images))
    )


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"responses": "predicted"}, "condition 'a' needs a predictor, and none is fitted to 'mine'"),
        ({"responses": "noise_free"}, "condition 'a' is known of a simulation alone, not of 'mine'"),
        ({"responses": "trial_mean", "recordings": 2}, "condition 'a' is known of a simulation alone"),
        ({"responses": "trial_mean", "neurons": 50}, "asks for 50 neurons, but there are 6"),
        ({"responses": "trial_mean", "crop": (0, 13, 0, 5)}, "leave the images of 12x12"),
    ],
)
def test_what_a_recording_does_not_have_is_said(real, store, condition, message):
    with pytest.raises(DataError, match=message):
        evaluate(real, similarity(Condition(name="a", **condition)), store, CPU)


def test_reliability_weights_need_two_trials(real, store, tmp_path):
    own = recording_of(real)
    write_recording(Recording("mine", own.images, own.responses[:1]), tmp_path / "data" / "recordings" / "mine")
    with pytest.raises(DataError, match="condition 'w': reliability needs at least two trials of each image, got 1"):
        evaluate(real, similarity(Condition(name="w", responses="trial_mean", weighted=True)), store, CPU)


def test_too_many_images_and_images_of_another_set_are_refused(real, store):
    plain = Condition(name="plain", responses="trial_mean")
    with pytest.raises(DataError, match="50 images are asked for, but 'mine' has 15"):
        evaluate(real, similarity(plain, images=50), store, CPU)
    with pytest.raises(DataError, match="trial means are of the recording's own images, not of 'photos'"):
        evaluate(real, similarity(plain, image_set="photos"), store, CPU)


@pytest.mark.parametrize("source", ["animal", "real"])
def test_a_predictor_of_a_recording_is_shown_images_of_a_set(source, request, store):
    """More images than the recording has: its own responses take no part."""
    one = request.getfixturevalue(source).changed(predictor=SMALL)
    fit(one, store, CPU)
    evaluation = similarity(Condition(name="plain", responses="predicted"), image_set="digits", images=70)
    evaluate(one, evaluation, store, CPU)
    record = store.record(one, evaluation)
    assert values(record).keys() == {"plain"}
    assert record.provenance.image_set == "digits"
    assert not values(record, "split_half")
    trials = similarity(Condition(name="means", responses="trial_mean"), image_set="digits")
    (problem,) = missing_image_sets(plan([(one, trials)], store))
    assert problem.endswith("its trials are not of 'digits'")
    with pytest.raises(DataError, match="condition 'means' needs trials, and 'digits' was not shown in any"):
        evaluate(one, trials, store, CPU)


def test_attacks_are_for_networks_and_comparisons_for_responses(animal, tiny, store):
    with pytest.raises(ValueError, match="evaluation 'gaussian' is not for a NeuralExperiment"):
        evaluate(animal, NoiseEvaluation(attack="gaussian", epsilons=(0.0,)), store, CPU)
    with pytest.raises(ValueError, match="evaluation 'similarity' is not for a Experiment"):
        evaluate(
            recipes.experiment(tiny, series.NONE, 0), similarity(Condition(name="a", responses="simple")), store, CPU
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"conditions": [{"name": "a", "responses": "spikes"}]}, "got 'spikes'"),
        ({"conditions": [{"name": "a", "responses": "simple", "crop": (5, 2, 0, 4)}]}, "top < bottom and left < right"),
        ({"conditions": [{"name": "a", "responses": "simple"}] * 2}, "conditions name 'a' twice"),
        ({"conditions": []}, "conditions: got"),
        ({"conditions": [{"name": "a", "responses": "simple"}], "resamples": 3}, "resamples: got 3"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(values, message):
    with pytest.raises(SpecError, match=message):
        build(SimilarityEvaluation, values)


# the committed records of real recordings


@pytest.fixture(scope="module")
def committed():
    profile = load_profile("quick")
    blocks = pixel_vs_neural.recorded_blocks()
    return Study("01_pixel_vs_neural_similarity", profile, blocks).table()


def test_the_committed_records_meet_the_numbers_computed_independently(committed):
    found = pixel_vs_neural.correlations(committed).set_index(["series", "condition"])["pearson"]
    full = {region: found[f"mouse V1, region {region}", "full frame"] for region in (1, 2, 3)}
    assert full == pytest.approx({1: 0.298, 2: 0.166, 3: 0.162}, abs=0.001)
    assert found[pixel_vs_neural.PUBLISHED_V1, "full frame"] == pytest.approx(0.218, abs=0.001)
    assert found[pixel_vs_neural.PUBLISHED_V1, pixel_vs_neural.CROP] == pytest.approx(0.367, abs=0.001)


def test_the_main_claims_are_judged_by_the_real_series(committed):
    quick = load_profile("quick")
    found = pixel_vs_neural.correlations(committed)
    positive, printed = figure("01_pixel_vs_neural_similarity").study(quick).judge()[:2]
    assert (positive.key, positive.verdict, positive.unit) == ("pixel-neural", SMALLER, "images")
    real = found.query("condition == 'full frame'").set_index("series")["pearson"]
    assert positive.estimate == real[pixel_vs_neural.PUBLISHED_V1]
    assert [one["estimate"] for one in positive.also] == real.tolist()
    assert (printed.key, printed.verdict) == ("as-printed", CONTRADICTED)
    assert printed.estimate == found["pearson"].max()


def test_real_series_are_never_computed_with_a_profile(tiny):
    own = figure("01_pixel_vs_neural_similarity").study(tiny)
    kinds = {type(experiment.source) for experiment, _ in own.measurements()}
    assert kinds == {Simulated}
    assert Published in {type(one.source) for block in own.blocks for _, one, _ in block.measurements()}

"""What a trained network looks at, and what it makes of pairs."""

import math

import pytest
import torch
from torch.nn import functional as F

from simreg_core.lab import recipes
from simreg_core.lab.image_files import DataError
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.pair_similarity import bin_of
from simreg_core.lab.measuring.registry import in_words, kind_of
from simreg_core.lab.measuring.subject import Attacked, trained_network
from simreg_core.lab.specs import (
    ALIKE,
    AS_TRAINED,
    PROJECT,
    FrequencyBiasEvaluation,
    PairSimilarityEvaluation,
    load_profile,
)
from simreg_core.lab.store import Store
from simreg_core.lab.training import load_data, train
from simreg_core.lab.training.assembly import build_regularizer
from simreg_core.targets import pixel_similarity

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny():
    return load_profile(PROJECT / "tests" / "profiles" / "tiny.yaml")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def trained(tiny, store):
    experiments = [recipes.experiment(tiny, target, 0) for target in ("none", "S^Th")]
    for one in experiments:
        train(one, store, CPU)
    return experiments


def value(record, metric, condition=None):
    (found,) = [v for v in record.values if v.metric == metric and v.condition == condition]
    return found.value


def test_frequency_bias_is_that_of_the_filters_and_gradients(tiny, store, trained):
    evaluation = FrequencyBiasEvaluation(images=12)
    record = evaluate(trained[0], evaluation, store, CPU)
    subject = Attacked.opened(trained[0], evaluation, store, CPU)
    x = subject.pixels.double().requires_grad_()
    network = subject.network.double()
    loss = F.cross_entropy(network(x), subject.labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    rows, columns = torch.meshgrid(*[torch.fft.fftfreq(n, dtype=torch.float64) for n in x.shape[-2:]], indexing="ij")
    high = (rows.square() + columns.square()).sqrt() > 0.25
    shares = []
    for one in gradient:  # of unit norm, each has the same power
        power = torch.fft.fft2(one[0]).abs().square()
        shares.append((power[high].sum() / power.sum()).item())
    assert value(record, "gradient_high_frequency_share") == pytest.approx(sum(shares) / len(shares), rel=1e-4)
    weight = network.stem[0].weight.detach()
    own = []
    for one in weight:
        power = torch.fft.fft2(one[0], s=x.shape[-2:]).abs().square()
        own.append((power[high].sum() / power.sum()).item())
    assert value(record, "filter_high_frequency_share") == pytest.approx(sum(own) / len(own), rel=1e-5)
    assert len(record.arrays["gradient_power"]) == x.shape[-2]


def test_pair_similarity_is_that_of_the_network(tiny, store, trained):
    evaluation = PairSimilarityEvaluation(images=14)
    record = evaluate(trained[1], evaluation, store, CPU)
    subject = Attacked.opened(trained[1], evaluation, store, CPU)
    pixels = subject.images.pixels
    maps = [one.detach().double() for one in trained_network(trained[1], 10, store, CPU).features(pixels)]
    history = store.history(trained[1])
    gamma = next(e["layer_weights"] for e in history["epochs"] if e["validation_loss"] == history["best_loss"])
    asked, found, plain = [], [], []
    similarity = pixel_similarity(pixels)
    for i in range(14):
        for j in range(i + 1, 14):
            cosines = []
            for layer in maps:
                centred = layer - layer.mean(dim=(0, 2, 3), keepdim=True)
                cosines.append(F.cosine_similarity(centred[i].flatten(), centred[j].flatten(), dim=0).item())
            asked.append(similarity[i, j].item())
            found.append(sum(g * c for g, c in zip(gamma, cosines, strict=True)))
            plain.append(sum(cosines) / len(cosines))
    asked, found, plain = map(torch.tensor, (asked, found, plain))
    for condition, expected in ((AS_TRAINED, found), (ALIKE, plain)):
        assert value(record, "similarity_mean", condition) == pytest.approx(expected.mean().item(), abs=1e-5)
        assert value(record, "similarity_deviation", condition) == pytest.approx(expected.std().item(), abs=1e-5)
        r = torch.corrcoef(torch.stack([asked, expected]))[0, 1].item()
        assert value(record, "pearson", condition) == pytest.approx(r, abs=1e-4)
    assert sum(record.arrays["counts"]) == 14 * 13 // 2
    for index, mean in enumerate(record.arrays["weighted_means"]):
        inside = found[bin_of(asked) == index]
        assert (mean is None) == (len(inside) == 0)
        if mean is not None:
            assert mean == pytest.approx(inside.mean().item(), abs=1e-5)


def test_every_pair_is_kept_in_the_order_of_the_classes(store, trained):
    evaluation = PairSimilarityEvaluation(images=14, every_pair=True)
    record = evaluate(trained[1], evaluation, store, CPU)
    assert record.evaluation.key != PairSimilarityEvaluation(images=14).key
    images = Attacked.opened(trained[1], evaluation, store, CPU).images
    order = images.labels.argsort(stable=True)
    assert order.tolist() != list(range(14))
    rows, columns = torch.triu_indices(14, 14, offset=1)
    asked = pixel_similarity(images.pixels[order].double())[rows, columns]
    assert record.arrays["pixel_pairs"] == pytest.approx(asked.tolist(), abs=1e-4)
    layers = torch.tensor(record.arrays["layer_pairs"], dtype=torch.float64)
    weighted = torch.tensor(record.arrays["layer_weights"], dtype=torch.float64) @ layers
    assert weighted.mean().item() == pytest.approx(value(record, "similarity_mean", AS_TRAINED), abs=1e-4)
    assert layers.mean().item() == pytest.approx(value(record, "similarity_mean", ALIKE), abs=1e-4)


def test_every_pair_is_not_kept_of_the_images_of_a_training(trained):
    seen = PairSimilarityEvaluation(images=8, seen=trained[1].regularizer, every_pair=True)
    (line,) = kind_of(seen).lacks(trained[1], seen, None)
    assert line == "every_pair keeps pairs of unseen images only: leave seen empty"


def test_seen_pairs_are_those_of_the_training(tiny, store, trained):
    spec = trained[1].regularizer
    record = evaluate(trained[1], PairSimilarityEvaluation(images=None, seen=spec), store, CPU)
    network = trained_network(trained[1], 10, store, CPU)
    regularizer = build_regularizer(network, spec, load_data(trained[1]).regularization, trained[1].seed, store)
    asked = pixel_similarity(regularizer.images)
    upper = torch.triu_indices(*asked.shape, offset=1)
    counts = torch.bincount(bin_of(asked[upper[0], upper[1]].double()), minlength=10)
    assert record.arrays["counts"] == counts.tolist()


def test_an_unregularized_network_has_no_weights_of_its_own(tiny, store, trained):
    seen = trained[1].regularizer
    record = evaluate(trained[0], PairSimilarityEvaluation(images=8, seen=seen), store, CPU)
    assert {one.condition for one in record.values} == {ALIKE}
    assert "weighted_means" not in record.arrays
    assert -1 <= value(record, "pearson", ALIKE) <= 1


def test_bins_are_of_equal_width():
    assert bin_of(torch.tensor([-1.0, -0.81, -0.79, 0.01, 0.99, 1.0])).tolist() == [0, 0, 1, 5, 9, 9]


def test_more_images_than_were_seen(tiny, store, trained):
    seen = trained[1].regularizer
    evaluation = PairSimilarityEvaluation(images=seen.count + 1, seen=seen)
    lacking = list(kind_of(evaluation).lacks(trained[1], evaluation, None))
    assert lacking == [f"{seen.count + 1} images are asked for, but seen.count is {seen.count}"]
    with pytest.raises(DataError, match="the regularization set has"):
        evaluate(trained[1], evaluation, store, CPU)


def test_words():
    assert in_words(FrequencyBiasEvaluation()) == "frequency bias"
    assert in_words(PairSimilarityEvaluation()) == "similarity of unseen pairs"
    assert not math.isnan(kind_of(PairSimilarityEvaluation()).passes(PairSimilarityEvaluation(), 10))

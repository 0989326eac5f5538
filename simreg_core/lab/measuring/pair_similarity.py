"""Does the network do what the similarity loss asks for: S^CNN of pairs against their pixel similarity."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from simreg_core.features import FeatureTaps, as_maps
from simreg_core.lab.image_files import DataError
from simreg_core.lab.measuring.subject import BATCH, Attacked, Images, Look, Measured, attacked_images, chosen
from simreg_core.lab.records import Value
from simreg_core.lab.specs import ALIKE, AS_TRAINED, Experiment, PairSimilarityEvaluation
from simreg_core.lab.training.assembly import compared_layers, regularization_images, regularization_pixels
from simreg_core.targets import pixel_similarity

BINS = 10  # of pixel similarity, equally wide, from -1 to 1


def pair_similarity(subject: Attacked) -> Measured:
    """Correlation of S^CNN with pixel similarity over all pairs of the images shown, and its mean and spread.

    S^CNN is weighted by gamma as it was trained (of an unregularized network there is none) and, as another condition,
    with all layers alike. Means that are subtracted, of each channel and of the pixels, are those of the images shown.
    Arrays: 'counts' of pairs in bins of pixel similarity, 'bin_edges'; 'means' and 'deviations' of S^CNN in each bin
    with all layers alike, and 'layer_means', [layers, bins]; with gamma 'weighted_means' and 'weighted_deviations'.
    A bin without pairs has mean and deviation None. With `every_pair` also 'pixel_pairs', [pairs], and 'layer_pairs',
    [layers, pairs], of the pairs above the diagonal, row by row, and with gamma 'layer_weights', [layers].
    """
    pixels = shown_pixels(subject)
    upper = torch.triu_indices(len(pixels), len(pixels), offset=1)
    asked = pixel_similarity(pixels.double())[upper[0], upper[1]]
    layers = torch.stack([one[upper[0], upper[1]] for one in layer_similarities(subject, pixels)])
    place = bin_of(asked)
    arrays = {
        "bin_edges": torch.linspace(-1, 1, BINS + 1).tolist(),
        "counts": torch.bincount(place, minlength=BINS).tolist(),
        "layer_means": [_in_bins(one, place)[0] for one in layers],
    }
    values = []
    weights = kept_layer_weights(subject)
    if subject.evaluation.every_pair:
        arrays |= {"pixel_pairs": _rounded(asked), "layer_pairs": [_rounded(one) for one in layers]}
        if weights is not None:
            arrays["layer_weights"] = weights.tolist()
    conditions = {ALIKE: ("", torch.full((len(layers),), 1 / len(layers), dtype=torch.float64))}
    if weights is not None:
        conditions[AS_TRAINED] = ("weighted_", weights)
    for condition, (prefix, weight) in conditions.items():
        found = weight @ layers
        arrays[f"{prefix}means"], arrays[f"{prefix}deviations"] = _in_bins(found, place)
        for metric, value in {
            "pearson": torch.corrcoef(torch.stack([asked, found]))[0, 1],
            "similarity_mean": found.mean(),
            "similarity_deviation": found.std(),
        }.items():
            values.append(Value(metric=metric, value=value.item(), attempted=len(pixels), condition=condition))
    return Measured(values, arrays)


def shown_pixels(subject: Attacked) -> Tensor:
    """[n, c, h, w] in [0, 1], on the CPU: of the task, or as in a training with the regularizer `seen`."""
    evaluation = subject.evaluation
    if evaluation.seen is None:
        shown = subject.images
        return shown.pixels[shown.labels.argsort(stable=True)] if evaluation.every_pair else shown.pixels
    trained = subject.experiment.changed(regularizer=evaluation.seen)
    pixels = regularization_pixels(evaluation.seen, regularization_images(trained), trained.seed)
    if (evaluation.images or 0) > len(pixels):
        raise DataError(f"{evaluation.images} images are asked for, but the regularization set has {len(pixels)}")
    return pixels if evaluation.images is None else pixels[chosen(len(pixels), evaluation)]


@torch.no_grad()
def layer_similarities(subject: Attacked, pixels: Tensor) -> list[Tensor]:
    """Cosine of the maps of each pair of images, less the mean of each channel: [n, n] float64 for each layer."""
    layers = compared_layers(subject.network)
    features = layers if callable(layers) else FeatureTaps(subject.network, layers)
    batches = [
        [one.cpu() for one in as_maps(features(part.to(subject.device)))]
        for part in pixels.split(BATCH[subject.device.type])
    ]
    similarities = []
    for maps in zip(*batches, strict=True):
        layer = torch.cat(maps)
        axis = 2 if layer.ndim == 3 else 1  # of the channels
        mean = layer.mean(dim=[other for other in range(layer.ndim) if other != axis], keepdim=True)
        flat = F.normalize((layer - mean).flatten(1), dim=1)
        similarities.append((flat @ flat.T).double().clamp(-1, 1))
    return similarities


def kept_layer_weights(subject: Attacked) -> Tensor | None:
    """gamma after the epoch whose weights were kept, [layers]; None of an unregularized network."""
    history = subject.store.history(subject.experiment)
    epochs = history["epochs"]
    kept = next((epoch for epoch in epochs if epoch["validation_loss"] == history["best_loss"]), epochs[-1])
    weights = kept["layer_weights"]
    return None if weights is None else torch.tensor(weights, dtype=torch.float64)


def bin_of(similarity: Tensor) -> Tensor:
    """The bin of each pixel similarity, [pairs] in 0 ... BINS - 1."""
    return ((similarity + 1) / 2 * BINS).long().clamp(0, BINS - 1)


def _rounded(values: Tensor) -> list[float]:
    """To four digits, as many as a picture shows: the file of a record stays small."""
    return [round(value, 4) for value in values.tolist()]


def _in_bins(values: Tensor, place: Tensor) -> tuple[list[float | None], list[float | None]]:
    """Mean and standard deviation of the values in each bin."""
    parts = [values[place == index] for index in range(BINS)]
    return (
        [part.mean().item() if len(part) else None for part in parts],
        [part.std(correction=0).item() if len(part) else None for part in parts],
    )


def pair_similarity_images(experiment: Experiment, evaluation: PairSimilarityEvaluation) -> Images:
    """Those that are shown."""
    if evaluation.seen is None:
        return attacked_images(experiment, evaluation)
    return Images(evaluation.seen.images, "train", evaluation.seen.size or experiment.task.size, evaluation.images)


def pair_similarity_lacks(experiment: Experiment, evaluation: PairSimilarityEvaluation, look: Look) -> Iterator[str]:
    """Images enough in the regularization set, and unseen images where every pair is kept."""
    if evaluation.every_pair and evaluation.seen is not None:
        yield "every_pair keeps pairs of unseen images only: leave seen empty"
    if evaluation.seen is not None and (evaluation.images or 0) > evaluation.seen.count:
        yield f"{evaluation.images} images are asked for, but seen.count is {evaluation.seen.count}"


def pair_similarity_passes(evaluation: PairSimilarityEvaluation, images: int) -> float:
    """One each; all pairs are a product of matrices, about as much again."""
    return 2 * images


def pair_similarity_words(evaluation: PairSimilarityEvaluation) -> str:
    """'similarity of unseen pairs'."""
    return f"similarity of {'unseen' if evaluation.seen is None else 'seen'} pairs"

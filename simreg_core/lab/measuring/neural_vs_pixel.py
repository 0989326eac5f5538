"""Neural against pixel similarity: one source of responses, compared under several conditions."""

from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from torch import Tensor
from torch.nn import functional as F

from simreg_core import pixel_similarity
from simreg_core.lab.image_files import DataError
from simreg_core.lab.images import checksum_of, load_image_set
from simreg_core.lab.measuring.subject import Images, Look, Measured, chosen
from simreg_core.lab.predictors import Fitted, fitted, recording_of
from simreg_core.lab.recordings import Recording, population
from simreg_core.lab.records import Value
from simreg_core.lab.specs import (
    Condition,
    NeuralExperiment,
    Published,
    SimilarityEvaluation,
    Simulated,
    stream,
)
from simreg_core.lab.store import Store
from simreg_core.neural import (
    GaborPopulation,
    averaged_similarity,
    correlation_interval,
    mantel_test,
    reliability,
    response_similarity,
    similarity_correlation,
)

SHOWN_IMAGES = 40  # of the matrices that a figure shows
DENSITY_BINS = 50  # on each side of [-1, 1]
LEAST_SIZE = (8, 8)  # of images that a specification can ask for


class Comparison:
    """The images of a comparison, and every similarity that can be had of them.

    experiment: the source of responses.  evaluation: the images and the conditions.
    Raises DataError where the source is missing or does not have what a condition asks for.
    """

    of: ClassVar[type] = NeuralExperiment
    device: ClassVar[torch.device] = torch.device("cpu")  # always: it takes seconds there

    def __init__(self, experiment: NeuralExperiment, evaluation: SimilarityEvaluation, store: Store):
        self.experiment, self.evaluation, self.store = experiment, evaluation, store
        # of other images than its own a recording has no responses
        is_recorded = evaluation.image_set is None and not isinstance(experiment.source, Published)
        self.recording = recording_of(experiment) if is_recorded else None
        self.fitted: Fitted | None = None
        if experiment.predictor is not None or isinstance(experiment.source, Published):
            self.fitted = fitted(experiment, store)
        images = self._all_images()
        if evaluation.images is not None and evaluation.images > len(images):
            raise DataError(f"{evaluation.images} images are asked for, but '{self.name}' has {len(images)}")
        self.chosen = chosen(len(images), evaluation)
        self.images = images[self.chosen]
        self.reliability = None
        if self.recording is not None and len(self.recording.responses) > 1:
            generator = torch.Generator().manual_seed(stream(evaluation.seed, "splits"))
            self.reliability = reliability(self._responses(self.recording), generator=generator)

    @classmethod
    def opened(
        cls, experiment: NeuralExperiment, evaluation: SimilarityEvaluation, store: Store, device: torch.device
    ) -> "Comparison":
        """As `Attacked.opened`, but on its own `device`."""
        return cls(experiment, evaluation, store)

    def sets(self) -> dict[str, str]:
        """As `Attacked.sets`."""
        return {"image_set": self.name, "checksum": self.checksum}

    @property
    def name(self) -> str:
        """Of the images."""
        return self.evaluation.image_set or self.recording.name

    @property
    def checksum(self) -> str:
        """Of the recording, or of the images shown to a published predictor."""
        if self.recording is not None:
            return self.recording.checksum
        return checksum_of((self.images * 255).round().to(torch.uint8))

    def _all_images(self) -> Tensor:
        """[n, 1, h, w] in [0, 1]."""
        if self.evaluation.image_set is None:
            if self.recording is None:
                raise DataError("the published predictor has no images of its own: give image_set")
            return self.recording.pixels
        if self.fitted is None:
            raise DataError(f"trial means are of the recording's own images, not of '{self.evaluation.image_set}'")
        return load_image_set(self.evaluation.image_set, "train", self.fitted.predictor.size, 1).pixels

    def _responses(self, recording: Recording) -> Tensor:
        """[trials, images, neurons], of the chosen images."""
        return recording.responses[:, self.chosen].double()

    # the two similarities of a condition

    def pixels(self, condition: Condition) -> Tensor:
        """S^pixel."""
        images = self.images
        if condition.crop is not None:
            top, bottom, left, right = condition.crop
            if bottom > images.shape[2] or right > images.shape[3]:
                raise DataError(
                    f"condition '{condition.name}': crop rows {top} to {bottom}, columns {left} to {right} leave the "
                    f"images of {images.shape[2]}x{images.shape[3]}"
                )
            images = images[:, :, top:bottom, left:right]
        if condition.size is not None:
            images = F.interpolate(images, condition.size, mode="area")
        return pixel_similarity(images.double(), condition.subtract)

    def neural(self, condition: Condition) -> Tensor:
        """S^neural."""
        match condition.responses:
            case "predicted":
                return self._predicted(condition)
            case "trial_mean":
                return self._trial_mean(condition)
            case "noise_free":
                return averaged_similarity(
                    [response_similarity(one.rates(self.images)) for one in self._animals(condition)]
                )
            case "simple" | "complex":
                own = next(self._animals(condition))
                return response_similarity(own.rates(self.images)[:, own.simple == (condition.responses == "simple")])
            case cells:
                return response_similarity(next(self._animals(condition, cells)).rates(self.images))

    def _predicted(self, condition: Condition) -> Tensor:
        if self.fitted is None:
            raise DataError(f"condition '{condition.name}' needs a predictor, and none is fitted to '{self.name}'")
        rates = self._predicted_rates
        if condition.weighted:
            return response_similarity(rates, self.fitted.weights)
        return response_similarity(rates[:, self._some(condition, rates.shape[1])])

    @cached_property
    def _predicted_rates(self) -> Tensor:
        return self.fitted.predictor.rates(self.images).double()

    def _trial_mean(self, condition: Condition) -> Tensor:
        if self.recording is None:
            raise DataError(f"condition '{condition.name}' needs trials, and '{self.name}' was not shown in any")
        if condition.recordings > 1:
            of_animals = [one.trials(*shown) for one, shown in self._shown_to_animals(condition)]
            return averaged_similarity([response_similarity(one.double().mean(dim=0)) for one in of_animals])
        responses = self._responses(self.recording).mean(dim=0)
        if not condition.weighted:
            return response_similarity(responses[:, self._some(condition, responses.shape[1])])
        if self.reliability is None:
            raise DataError(f"condition '{condition.name}': reliability needs at least two trials of each image, got 1")
        return response_similarity(responses, self.reliability.weights)

    def _some(self, condition: Condition, neurons: int) -> Tensor:
        """Indices of the neurons that take part."""
        wanted = condition.neurons or neurons
        if wanted > neurons:
            raise DataError(f"condition '{condition.name}' asks for {wanted} neurons, but there are {neurons}")
        generator = torch.Generator().manual_seed(stream(self.evaluation.seed, "neurons"))
        return torch.randperm(neurons, generator=generator)[:wanted].sort().values

    def _animals(self, condition: Condition, cells: str = "v1") -> Iterator[GaborPopulation]:
        """The simulated populations of a condition: the experiment's own first."""
        source, seed = self.experiment.source, self.experiment.seed
        if not isinstance(source, Simulated):
            raise DataError(f"condition '{condition.name}' is known of a simulation alone, not of '{self.name}'")
        for animal in range(condition.recordings):
            yield population(source, seed if animal == 0 else stream(seed, f"animal {animal}"), cells)

    def _shown_to_animals(self, condition: Condition) -> Iterator[tuple[GaborPopulation, tuple]]:
        """Each animal, and what `trials` needs to show it the images."""
        trials = self.experiment.source.trials if isinstance(self.experiment.source, Simulated) else 0
        for index, animal in enumerate(self._animals(condition)):
            generator = torch.Generator().manual_seed(stream(self.experiment.seed, f"trials of animal {index}"))
            yield animal, (self.images, trials, generator)


def similarity(comparison: Comparison) -> Measured:
    """Correlations of S^neural with S^pixel, and what is to be known of the source.

    Metrics by condition: pearson with its interval (pearson_low, pearson_high) and spearman, over image pairs; of the
    first condition mantel_p. Of the source: split_half and ceiling, silent_neurons (attempted: all of them), the mean
    correlation of prediction and responses (prediction), and for a simulation the correlation of the predicted and of
    the trial-averaged similarity with the noise-free one (to_noise_free).
    Arrays: density of the pairs of the first condition, and both of its matrices for some images, ordered alike.
    """
    evaluation = comparison.evaluation
    values, arrays = [], {}
    for index, condition in enumerate(evaluation.conditions):
        pixel, neural = comparison.pixels(condition), comparison.neural(condition)
        values += _correlations(pixel, neural, condition.name, evaluation)
        if index == 0 and evaluation.permutations:
            generator = torch.Generator().manual_seed(stream(evaluation.seed, "shuffles"))
            p = mantel_test(pixel, neural, evaluation.permutations, generator)
            values.append(_value("mantel_p", p, len(pixel), condition.name))
        if index == 0:
            arrays = {"density": _density(pixel, neural), **_matrices(pixel, neural)}
    return Measured(values + _of_source(comparison), arrays)


def _correlations(pixel: Tensor, neural: Tensor, name: str, evaluation: SimilarityEvaluation) -> list[Value]:
    generator = torch.Generator().manual_seed(stream(evaluation.seed, "resamples"))
    low, high = correlation_interval(pixel, neural, evaluation.resamples, generator=generator)
    found = {
        "pearson": similarity_correlation(pixel, neural),
        "pearson_low": low,
        "pearson_high": high,
        "spearman": similarity_correlation(pixel, neural, ranks=True),
    }
    return [_value(metric, value, len(pixel), name) for metric, value in found.items()]


def _of_source(comparison: Comparison) -> list[Value]:
    values = []
    images = len(comparison.images)
    if comparison.reliability is not None:
        values.append(_value("split_half", comparison.reliability.split_half, images))
        values.append(_value("ceiling", comparison.reliability.ceiling, images))
    if comparison.recording is not None:
        silent = comparison.recording.silent
        values.append(_value("silent_neurons", float(silent.sum()), len(silent)))
    own = comparison.fitted
    if own is not None and own.correlations is not None:
        values.append(_value("prediction", own.correlations.mean().item(), len(own.correlations)))
    if isinstance(comparison.experiment.source, Simulated):
        plain = {name: Condition(name=name, responses=name) for name in ("noise_free", "trial_mean", "predicted")}
        truth = comparison.neural(plain.pop("noise_free"))
        for name, condition in plain.items():
            if (comparison.recording if name == "trial_mean" else own) is not None:
                closeness = similarity_correlation(comparison.neural(condition), truth)
                values.append(_value("to_noise_free", closeness, images, name))
    return values


def _value(metric: str, value: float, attempted: int, condition: str | None = None) -> Value:
    return Value(metric=metric, value=value, attempted=attempted, condition=condition)


def _density(pixel: Tensor, neural: Tensor) -> list:
    """Number of pairs i < j by (S^pixel, S^neural), [bins, bins]; the first axis is S^pixel."""
    rows, cols = np.triu_indices(len(pixel), 1)
    edges = np.linspace(-1, 1, DENSITY_BINS + 1)
    counts, _, _ = np.histogram2d(pixel.numpy()[rows, cols], neural.numpy()[rows, cols], bins=(edges, edges))
    return counts.astype(int).tolist()


def _matrices(pixel: Tensor, neural: Tensor) -> dict[str, list]:
    """Both matrices of the first images, ordered so that images of similar pixels stand together."""
    shown = pixel[:SHOWN_IMAGES, :SHOWN_IMAGES].numpy()
    order = leaves_list(linkage(shown, method="average", optimal_ordering=True)).copy()
    return {
        "pixel_matrix": shown[order][:, order].round(3).tolist(),
        "neural_matrix": neural.numpy()[order][:, order].round(3).tolist(),
    }


def shown_images(experiment: NeuralExperiment, evaluation: SimilarityEvaluation) -> Images | None:
    """Of the image set that a predictor is shown, at whatever size it takes; None: those of the recording."""
    if evaluation.image_set is None:
        return None
    return Images(evaluation.image_set, "train", LEAST_SIZE, evaluation.images)


def similarity_passes(evaluation: SimilarityEvaluation, images: int) -> float:
    """None, but multiplications: six quadratic forms a resample."""
    return images**2 * (6 * evaluation.resamples * len(evaluation.conditions) + evaluation.permutations)


def similarity_words(evaluation: SimilarityEvaluation) -> str:
    """'similarities under 5 conditions'."""
    count = len(evaluation.conditions)
    return f"similarities under {count} condition{'s' * (count > 1)}"


def similarity_lacks(experiment: NeuralExperiment, evaluation: SimilarityEvaluation, look: Look) -> Iterator[str]:
    """Images, neurons and trials that its conditions ask for."""
    source, found, shown = experiment.source, look.source(experiment), evaluation.image_set
    has_predictor = experiment.predictor is not None or isinstance(source, Published)
    if shown is None and isinstance(source, Published):
        yield "the published predictor has no images of its own: give image_set"
        return
    if shown is not None and not has_predictor:
        yield f"trial means are of the recording's own images, not of '{shown}'"
    if found is None:
        return
    size, images, neurons, trials, _ = found
    if shown is not None:
        try:
            images = look.count(shown, "train")
        except DataError:  # said already
            return
    name = shown or experiment.title
    if (evaluation.images or images) > images:
        yield f"{evaluation.images} images are asked for, but '{name}' has {images}"
    if min(evaluation.images or images, images) < 3:
        yield f"a comparison needs at least 3 images, got {evaluation.images or images} of '{name}'"
    for one in evaluation.conditions:
        if shown is not None and has_predictor and one.responses == "trial_mean" and not isinstance(source, Published):
            yield f"condition '{one.name}' of {experiment.title}: its trials are not of '{shown}'"
        for fault in _of_condition(one, source, has_predictor, size, neurons, trials):
            yield f"condition '{one.name}' of {experiment.title}: {fault}"


def _of_condition(
    one: Condition, source, has_predictor: bool, size: tuple[int, int], neurons: int, trials: int
) -> Iterator[str]:
    if one.crop is not None and (one.crop[1] > size[0] or one.crop[3] > size[1]):
        yield f"crop {one.crop} leaves the images of {size[0]}x{size[1]}"
    simulated = isinstance(source, Simulated)
    if one.responses == "predicted" and not has_predictor:
        yield "it needs a predictor, and none is fitted"
    if one.responses == "trial_mean" and isinstance(source, Published):
        yield "it needs trials, which a published predictor lacks"
    if one.responses not in ("predicted", "trial_mean") and not simulated:
        yield f"'{one.responses}' is known of a simulation alone"
    if one.responses == "trial_mean" and one.recordings > 1 and not simulated:
        yield f"{one.recordings} recordings are known of a simulation alone"
    if one.responses == "trial_mean" and one.weighted and one.recordings == 1 and trials == 1:
        yield "reliability needs at least two trials of each image, got 1"
    if one.neurons is not None and not one.weighted and one.neurons > neurons:
        yield f"it asks for {one.neurons} neurons, but there are {neurons}"

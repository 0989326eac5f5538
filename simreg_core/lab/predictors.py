"""Predictors of neural responses: fitted to a recording and stored, or published; and the targets made from them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from simreg_core.lab.image_files import DataError
from simreg_core.lab.inputs import checksums
from simreg_core.lab.made_once import digest, made_once
from simreg_core.lab.published_predictor import load_published_predictor
from simreg_core.lab.recordings import (
    Recording,
    load_recording,
    load_similarity,
    simulate,
)
from simreg_core.lab.specs import NeuralExperiment, Published, Regularizer, Simulated, stream
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import load_into
from simreg_core.neural import (
    V1Predictor,
    averaged_similarity,
    fit_predictor,
    neuron_weights,
    predicted_similarity,
    reliability,
)


@dataclass(frozen=True)
class Fitted:
    """A predictor with the weights of its neurons.

    reliability: w, [neurons], None where images were shown once.  correlations: v, [neurons], None for the published
    predictor, which comes without recordings.
    """

    predictor: V1Predictor
    reliability: Tensor | None = None
    correlations: Tensor | None = None

    @property
    def weights(self) -> Tensor | None:
        """w * v, what of it is known, [neurons]; None where nothing is."""
        return neuron_weights(self.reliability, self.correlations)


def recording_of(experiment: NeuralExperiment) -> Recording:
    """The recording of an experiment, real or simulated."""
    source = experiment.source
    if isinstance(source, Simulated):
        return simulate(source, experiment.seed)
    if isinstance(source, Published):
        raise DataError(f"the published predictor '{source.file}' has no recording")
    return load_recording(source.recording)


def fit(
    experiment: NeuralExperiment,
    store: Store,
    device: torch.device,
    progress: Callable[[float], None] = lambda work: None,
) -> None:
    """Fit the experiment's predictor to its recording and store it.

    device: not used, all is fitted on the CPU: on a GPU the gradients of where a neuron looks are added in any order.
    progress: called with 1 at the end.  Raises DataError for a recording that is missing, damaged or has negative
    responses, StoreError where the result cannot be written.
    """
    if store.is_trained(experiment):
        return
    started = time.perf_counter()
    recording, settings = recording_of(experiment), experiment.predictor
    order = torch.randperm(
        len(recording.images), generator=torch.Generator().manual_seed(stream(experiment.seed, "held out"))
    )
    predictor = _new_predictor(experiment, recording)
    try:
        result = fit_predictor(
            predictor,
            recording.pixels,
            recording.responses,
            order[: max(3, round(settings.held_out * len(order)))],
            epochs=settings.epochs,
            patience=settings.patience,
            learning_rate=settings.learning_rate,
            generator=torch.Generator().manual_seed(stream(experiment.seed, "fit")),
        )
    except ValueError as error:
        raise DataError(f"recording '{recording.name}': {error}") from error
    tensors = {f"predictor.{name}": tensor for name, tensor in predictor.state_dict().items()}
    tensors |= {"correlations": result.correlations, "size": torch.tensor(predictor.size)}
    if len(recording.responses) > 1:
        tensors["reliability"] = reliability(recording.responses, splits=1).weights
    history = {
        "seconds": time.perf_counter() - started,
        "train_loss": result.train_loss,
        "held_out_loss": result.held_out_loss,
        "silent_neurons": int(result.silent.sum()),
    }
    if inputs := checksums(experiment):
        history["inputs"] = inputs
    store.save_trained(experiment, tensors, history)
    progress(1)


def _new_predictor(experiment: NeuralExperiment, recording: Recording) -> V1Predictor:
    """An untrained predictor that normalizes the recording's pixels; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(experiment.seed, "predictor"))
        predictor = _shaped(experiment, tuple(recording.images.shape[2:]), recording.responses.shape[2])
    predictor.mean.fill_(recording.pixels.mean())
    predictor.std.fill_(recording.pixels.std())
    return predictor


def _shaped(experiment: NeuralExperiment, size: tuple[int, int], neurons: int) -> V1Predictor:
    settings = experiment.predictor
    return V1Predictor(size, neurons, settings.channels, settings.kernel, settings.layers, settings.layer_kernel)


def fitted(experiment: NeuralExperiment, store: Store) -> Fitted:
    """The experiment's predictor: from the store, or the published one.

    Raises StoreError where it is not fitted or its file is damaged, DataError for a published file that is missing.
    """
    if isinstance(experiment.source, Published):
        return Fitted(load_published_predictor(experiment.source.file))
    tensors = store.trained_tensors(experiment)
    state = {name.removeprefix("predictor."): one for name, one in tensors.items() if name.startswith("predictor.")}
    predictor = _shaped(experiment, tuple(tensors["size"].tolist()), len(state["bias"]))
    load_into(predictor, state, store.weights_path(experiment))
    return Fitted(predictor.eval(), tensors.get("reliability"), tensors["correlations"])


def _tensors_of(own: Fitted) -> dict[str, Tensor]:
    weights = {} if own.weights is None else {"weights of neurons": own.weights}
    return {**own.predictor.state_dict(), **weights}


def neural_target(spec: Regularizer, pixels: Tensor, store: Store) -> Tensor:
    """The similarity that a regularizer with a neural target pulls towards, [n, n].

    pixels: the regularization images, [n, c, h, w] in [0, 1]; colour is averaged to gray.
    The similarities of several predictors are averaged; a matrix of the user's own is taken as it is.
    Raises DataError where images or matrix do not fit.
    """
    if spec.matrix is not None:
        return load_similarity(spec.matrix, len(pixels))
    gray = pixels.mean(dim=1, keepdim=True)
    found = []
    for experiment in spec.neural:
        own = fitted(experiment, store)
        if tuple(gray.shape[2:]) != own.predictor.size:
            (h, w), (height, width) = own.predictor.size, gray.shape[2:]
            raise DataError(
                f"the V1 predictor takes images of {h}x{w}, but the regularization set '{spec.images}' has "
                f"{height}x{width}; give the set that size"
            )
        found.append(
            made_once(
                store,
                "predicted similarities",
                {"images": digest(gray), "predictor": {name: digest(one) for name, one in _tensors_of(own).items()}},
                partial(predicted_similarity, own.predictor, gray, own.weights),
            )
        )
    return averaged_similarity(found).float()

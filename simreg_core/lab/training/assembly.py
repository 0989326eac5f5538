"""What a training is put together from: image sets, network and regularizer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from simreg_core import SimilarityRegularizer, pixel_similarity, threshold_targets
from simreg_core.architectures import architecture
from simreg_core.defences.blur import GaussianBlur
from simreg_core.lab.files import StoreError
from simreg_core.lab.image_files import DataError, has_validation
from simreg_core.lab.images import ImageSet, load_image_set
from simreg_core.lab.predictors import neural_target
from simreg_core.lab.specs import Experiment, Fit, Regularizer as RegularizerSpec, Task, stream
from simreg_core.lab.store import Store
from simreg_core.lab.training.augmentation import augment
from simreg_core.lab.training.rules import front_end_of, rule_of, stages_of
from simreg_core.model import BLOCKS, ResNet
from simreg_core.other_similarities import matched_targets, target_similarity

ARTEFACT = "artefact"  # the tensor of a stored one


@dataclass
class Data:
    """The three sets of an experiment; validation and regularization may overlap under 'released'."""

    train: ImageSet
    validation: ImageSet
    regularization: ImageSet | None


def load_data(experiment: Experiment) -> Data:
    """Image sets of an experiment.  Raises DataError where a set is too small for what is asked."""
    task, spec = experiment.task, experiment.regularizer
    train, validation = train_and_validation(task, experiment.seed)
    return Data(train, validation, None if spec is None else regularization_images(experiment))


def regularization_images(experiment: Experiment) -> ImageSet:
    """The regularization set of an experiment that has one.  Raises DataError as `load_data`."""
    task, spec = experiment.task, experiment.regularizer
    if spec.images == task.images and experiment.protocol == "strict":
        return train_and_validation(task, experiment.seed)[0].first(spec.count)  # validation images kept out
    size = spec.size or task.size
    if spec.images == task.images and task.train_images is not None:
        if size != task.size:
            raise DataError(
                f"regularizer.size {size[0]}x{size[1]} must be the task's, {task.size[0]}x{task.size[1]}, where both "
                f"use the train_images of '{task.images}'"
            )
        return _chosen_images(task).first(spec.count)
    return load_image_set(spec.images, "train", size, task.channels, spec.count)


def train_and_validation(task: Task, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training and validation images; these are cut off the former where the set has none of its own."""
    train = _chosen_images(task)
    generator = torch.Generator().manual_seed(stream(seed, "validation"))
    if has_validation(task.images):
        validation = load_image_set(task.images, "validation", task.size, task.channels)
        if task.validation_images > len(validation):
            raise DataError(
                f"validation_images is {task.validation_images}, but '{task.images}' has {len(validation)} of them"
            )
        return train, validation.take(torch.randperm(len(validation), generator=generator)[: task.validation_images])
    if task.validation_images >= len(train):
        raise DataError(
            f"validation_images is {task.validation_images}, but '{task.images}' has {len(train)} training images"
        )
    if task.train_images is not None:  # what is left is balanced too
        held_out = train.balanced(task.validation_images, generator)
        rest = torch.ones(len(train), dtype=torch.bool).index_fill(0, held_out, False).nonzero().flatten()
        return train.take(rest), train.take(held_out)
    order = torch.randperm(len(train), generator=generator)
    held_out, rest = order[: task.validation_images], order[task.validation_images :].sort().values
    return train.take(rest), train.take(held_out)


def _chosen_images(task: Task) -> ImageSet:
    """The training images of a task; those that are held out for validation are still among them.

    Raises DataError where the set has too few for `train_images` beside the validation images.
    """
    train = load_image_set(task.images, "train", task.size, task.channels)
    if task.train_images is None:
        return train
    count = task.train_images + (0 if has_validation(task.images) else task.validation_images)
    if count > len(train):
        raise DataError(
            f"train_images is {task.train_images} and validation_images {task.validation_images}, but '{task.images}' "
            f"has {len(train)} training images"
        )
    return train.take(train.balanced(count, torch.Generator().manual_seed(stream(0, "training images"))))


def build_network(experiment: Experiment, num_classes: int) -> nn.Module:
    """The experiment's network in the form in which its training ends, untrained; the same weights for the same seed.

    Whatever the global random state, which is left alone.
    Raises ValueError where an architecture cannot have the task's images or the width that is asked.
    """
    network = starting_network(experiment, num_classes)
    for stage in range(len(stages_of(experiment))):
        begin_stage(experiment, stage, network)
    return network


def starting_network(experiment: Experiment, num_classes: int, store: Store | None = None) -> nn.Module:
    """The experiment's network before its first stage.

    store: where the weights of its parent and its artefacts are; without one, both are left untrained.
    Raises ValueError as `build_network`, StoreError where parent or artefact is missing, corrupt or does not fit.
    """
    rule, parent = rule_of(experiment.adversarial), experiment.parent
    if parent is None:
        base = _plain_network(experiment, num_classes)
    else:
        base = build_network(parent, num_classes)
        if store is not None:
            store.load_weights(parent, base)
    with _seeded(experiment, "transformed network"):
        network = rule.network(base)
    if store is not None:
        for fit in experiment.fits:
            _load_artefact(fit, network, store)
    with _seeded(experiment, "prepared network"):
        rule.prepare(network, torch.zeros(1, experiment.task.channels, *experiment.task.size))
    return network


def _load_artefact(fit: Fit, network: nn.Module, store: Store) -> None:
    """Copy a fitted artefact into the network's buffer of its name."""
    fitted, method = store.trained_tensors(fit)[ARTEFACT], fit.defence.method
    try:
        buffer = network.get_buffer(fit.artefact)
    except AttributeError as error:
        raise ValueError(f"the network of method '{method}' has no buffer '{fit.artefact}' for its artefact") from error
    if buffer.shape != fitted.shape:
        raise StoreError(
            f"{store.weights_path(fit)} holds {list(fitted.shape)}, but the network's '{fit.artefact}' takes "
            f"{list(buffer.shape)}"
        )
    buffer.copy_(fitted)


def begin_stage(experiment: Experiment, stage: int, network: nn.Module) -> None:
    """Change a network as its stage begins, see `Rule.begin`."""
    with _seeded(experiment, f"stage {stage}"):
        rule_of(experiment.adversarial).begin(stage, network)


@contextmanager
def _seeded(experiment: Experiment, purpose: str) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(experiment.seed, purpose))
        yield


def _plain_network(experiment: Experiment, num_classes: int) -> nn.Module:
    task, spec = experiment.task, experiment.network
    with _seeded(experiment, "network"):
        if spec.name in BLOCKS:
            front_end = front_end_of(spec)
            return ResNet(BLOCKS[spec.name], task.channels, num_classes, spec.width, spec.shift, spec.gain, front_end)
        return architecture(spec.name, task.size, task.channels, num_classes, spec.width, spec.shift, spec.gain)


def build_regularizer(
    network: nn.Module,
    spec: RegularizerSpec,
    images: ImageSet,
    seed: int,
    store: Store,
    augmentation: torch.Generator | None = None,
) -> SimilarityRegularizer:
    """The experiment's regularizer on a network that is already on its device; predictors come from the store.

    augmentation: CPU generator, where images are augmented anew at every draw.
    """
    pixels = regularization_pixels(spec, images, seed)
    optional: dict[str, Any] = {"eps": spec.eps, "pair_statistics": spec.statistics, "similarity": spec.similarity}
    return SimilarityRegularizer(
        network,
        compared_layers(network),
        pixels,
        spec.threshold,
        targets=regularization_targets(spec, pixels, seed, store),
        pairs=spec.pairs,
        low_threshold=spec.low_threshold,
        pairs_per_step=spec.pairs_per_step,
        **{name: value for name, value in optional.items() if value is not None},
        preprocess=spec.augment_each and partial(augment, how=spec.augment_each, generator=augmentation),
        seed=stream(seed, "pairs"),
    )


def regularization_pixels(spec: RegularizerSpec, images: ImageSet, seed: int) -> Tensor:
    """The regularization images, augmented and blurred once, [n, c, h, w] in [0, 1]."""
    generator = torch.Generator().manual_seed(stream(seed, "regularization images"))
    pixels = augment(images.pixels, spec.augment_once, generator)
    return pixels if spec.low_pass is None else GaussianBlur(spec.low_pass)(pixels).clamp(0, 1)


def compared_layers(network: nn.Module) -> Callable | Sequence[str]:
    """What `SimilarityRegularizer` takes as layers: `features` of a ResNet, `layers` of others."""
    for name in ("features", "layers"):
        if hasattr(network, name):
            return getattr(network, name)
    raise ValueError(f"a {type(network).__name__} cannot be regularized: it has neither 'features' nor 'layers'")


def regularization_targets(spec: RegularizerSpec, pixels: Tensor, seed: int, store: Store) -> str | Tensor:
    """What `SimilarityRegularizer` takes as targets; neural ones and the controls are matrices."""
    match spec.target:
        case "zero":
            return torch.zeros(len(pixels), len(pixels))
        case "threshold" if spec.target_similarity is not None:
            whole = threshold_targets(pixel_similarity(pixels), spec.threshold)
            return matched_targets(target_similarity(spec.target_similarity, pixels), whole)
        case "threshold" if spec.subtract is not None:
            return threshold_targets(pixel_similarity(pixels, spec.subtract), spec.threshold)
        case "shuffled":
            return _shuffled(threshold_targets(pixel_similarity(pixels), spec.threshold), seed)
        case "neural":
            return neural_target(spec, pixels, store)
        case "shuffled_neural":
            return _shuffled(neural_target(spec, pixels, store), seed)
        case named:
            return named


def _shuffled(matrix: Tensor, seed: int) -> Tensor:
    """Rows and columns permuted alike: the same structure, of the wrong images."""
    order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(stream(seed, "shuffled targets")))
    return matrix[order][:, order]

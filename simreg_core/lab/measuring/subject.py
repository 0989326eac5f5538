"""What an evaluation is of and what comes of it: a trained network with its images, and measured values.

What all kinds of evaluations share is here, each once: the choice of images, the network, accuracy and median.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from simreg_core.lab.image_files import DataError
from simreg_core.lab.images import ImageSet, load_image_set
from simreg_core.lab.records import Value
from simreg_core.lab.specs import Evaluation, Experiment, NeuralExperiment, stream
from simreg_core.lab.store import Store
from simreg_core.lab.training import build_network, load_data
from simreg_core.lab.training.rules import rule_of, transforms
from simreg_core.model import ResNet

BATCH = {"cpu": 500, "cuda": 5000}  # images that are classified at once, by kind of device


@dataclass(frozen=True)
class Measured:
    """What is measured: numbers, arrays as nested lists, and warnings that an attack could not work."""

    values: list[Value]
    arrays: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Images:
    """Images that an evaluation needs: of an image set and a split, `count` of them or, where None, all."""

    name: str
    split: str
    size: tuple[int, int]
    count: int | None


class Look(Protocol):
    """Looks at what is there, before anything is computed; each thing once."""

    def count(self, name: str, split: str) -> int:
        """Images of a set.  Raises DataError where it is missing."""

    def classes(self, name: str) -> int:
        """Classes of a set.  Raises DataError where it is missing."""

    def source(self, experiment: NeuralExperiment) -> tuple[tuple[int, int], int, int, int, float] | None:
        """Size of a source's images, how many, neurons, trials, and the lowest response; None where unreadable."""


@dataclass(frozen=True)
class Attacked:
    """A trained network in eval mode, on a device, and the images that it is shown, on the CPU."""

    experiment: Experiment
    evaluation: Any  # of the kind that is measured
    network: nn.Module
    images: ImageSet
    store: Store
    device: torch.device

    of: ClassVar[type] = Experiment

    @classmethod
    def opened(cls, experiment: Experiment, evaluation: Evaluation, store: Store, device: torch.device) -> "Attacked":
        """Raises StoreError where the network is not trained, DataError for image sets that do not fit, and ValueError
        for a surrogate of another task or the attacked network itself."""
        check_surrogate(experiment, evaluation)
        images = evaluation_images(experiment, evaluation)
        network = trained_network(experiment, len(images.classes), store, device)
        return cls(experiment, evaluation, network, images, store, device)

    @property
    def pixels(self) -> Tensor:
        """The images on the device, [n, c, h, w] in [0, 1]."""
        return self.images.pixels.to(self.device)

    @property
    def labels(self) -> Tensor:
        """[n] int64, on the device."""
        return self.images.labels.to(self.device)

    def trained(self, surrogate: Experiment) -> nn.Module:
        """The network of a surrogate, as `network`."""
        return trained_network(surrogate, len(self.images.classes), self.store, self.device)

    def sets(self) -> dict[str, str | None]:
        """The image sets with their checksums, as provenance has them."""
        regularization = load_data(self.experiment).regularization
        return {
            "image_set": f"{self.images.name}/{self.images.split}",
            "checksum": self.images.checksum,
            "regularization_set": regularization and f"{regularization.name}/{regularization.split}",
            "regularization_checksum": regularization and regularization.checksum,
        }


def attacked_images(experiment: Experiment, evaluation: Evaluation) -> Images:
    """Those of `evaluation_images`: of the task, of the split that the evaluation names."""
    task = experiment.task
    count = evaluation.images
    if count is None and evaluation.split == "validation":
        count = task.validation_images
    return Images(task.images, evaluation.split, task.size, count)


def lacks_nothing(experiment: Experiment, evaluation: Evaluation, look: Look) -> Iterator[str]:
    """Of an evaluation that any network and any images do for."""
    yield from ()


def check_surrogate(experiment: Experiment, evaluation: Evaluation) -> None:
    """Refuse a transferred attack that would not be one: ValueError for the surrogate of another task, or itself."""
    for surrogate in evaluation.surrogates_needed:
        if surrogate == experiment:
            raise ValueError(
                f"the attacked network (experiment {experiment.key}, seed {experiment.seed}) is the surrogate of this "
                "attack itself, so nothing is transferred; attack one of another seed or target"
            )
        if surrogate.task != experiment.task:
            raise ValueError(
                f"the surrogate was trained on another task ('{surrogate.task.images}') than the attacked "
                f"network ('{experiment.task.images}')"
            )


def evaluation_images(experiment: Experiment, evaluation: Evaluation) -> ImageSet:
    """The images to be attacked: test images are the same for every experiment of a task."""
    task = experiment.task
    if evaluation.split == "validation":
        images = load_data(experiment).validation
    else:
        images = load_image_set(task.images, "test", task.size, task.channels)
    if evaluation.images is None:
        return images
    if evaluation.images > len(images):
        raise DataError(f"{evaluation.images} images are asked for, but '{task.images}' has {len(images)} to attack")
    return images.take(chosen(len(images), evaluation))


def chosen(total: int, evaluation: Evaluation) -> Tensor:
    """Indices of the images that an evaluation takes out of `total`, [images]: the same for all models."""
    generator = torch.Generator().manual_seed(stream(evaluation.seed, "images"))
    return torch.randperm(total, generator=generator)[: evaluation.images]


def trained_network(experiment: Experiment, num_classes: int, store: Store, device: torch.device) -> nn.Module:
    """The trained network in eval mode, folded if it can be.

    Raises StoreError where it is missing, corrupt or another network.
    """
    network = store.load_weights(experiment, build_network(experiment, num_classes)).eval()
    if isinstance(network, ResNet) and not transforms(rule_of(experiment.adversarial)):
        network = network.folded()
    return network.to(device, memory_format=torch.channels_last)


@torch.no_grad()
def correct(network: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    """Which images the network classifies rightly, [n] bool.  pixels: [n, c, h, w] in [0, 1]."""
    predictions = torch.cat([network(batch).argmax(dim=1) for batch in pixels.split(BATCH[pixels.device.type])])
    return predictions == labels


def accuracy(correct: Tensor, epsilon: float | None = None, **what: Any) -> Value:
    """The share of images that are classified rightly.  correct: [n] bool.  what: other fields of `Value`."""
    share = correct.double().mean().item()
    return Value(metric="accuracy", epsilon=epsilon, value=share, attempted=len(correct), **what)


def median(sizes: Tensor) -> float:
    """Median over the images: skipped ones (NaN) left out, infinite ones counted; NaN where all are skipped."""
    sizes = sizes[~sizes.isnan()].sort().values
    if len(sizes) == 0:
        return float("nan")
    middle = (sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2
    return middle.item()

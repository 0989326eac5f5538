"""A trained network and an attack give a record."""

import time

import torch
from torch import Tensor, nn

from simreg_core import attacks, spectra
from simreg_core.lab.data import DataError, ImageSet, load_image_set
from simreg_core.lab.experiment import (
    BoundaryEvaluation,
    Evaluation,
    Experiment,
    FgsmEvaluation,
    NoiseEvaluation,
)
from simreg_core.lab.store import Record, Store, Value, provenance
from simreg_core.lab.training import build_network, load_data, stream

BATCH = 500


def evaluate(experiment: Experiment, evaluation: Evaluation, store: Store, device: torch.device) -> Record:
    """Measure a trained experiment and store the record.

    Raises StoreError where the network, or the surrogate of an FGSM evaluation, is not trained,
    DataError for image sets that do not fit, and ValueError for a surrogate of another task.
    """
    started = time.perf_counter()
    images = evaluation_images(experiment, evaluation)
    network = trained_network(experiment, len(images.classes), store, device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        if isinstance(evaluation, NoiseEvaluation):
            values, arrays = _noise(network, images, evaluation, device), {}
        elif isinstance(evaluation, FgsmEvaluation):
            values, arrays = _fgsm(network, images, experiment, evaluation, store, device), {}
        else:
            values, arrays = _boundary(network, images, evaluation, device)
    regularization = load_data(experiment).regularization
    record = Record(
        experiment_key=experiment.key,
        evaluation_key=evaluation.key,
        experiment=experiment,
        evaluation=evaluation,
        values=tuple(values),
        arrays=arrays,
        provenance=provenance(
            device,
            time.perf_counter() - started,
            image_set=f"{images.name}/{images.split}",
            checksum=images.checksum,
            regularization_set=regularization and f"{regularization.name}/{regularization.split}",
            regularization_checksum=regularization and regularization.checksum,
        ),
    )
    store.save_record(record)
    return record


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
    generator = torch.Generator().manual_seed(stream(evaluation.seed, "images"))
    return images.take(torch.randperm(len(images), generator=generator)[: evaluation.images])


def trained_network(experiment: Experiment, num_classes: int, store: Store, device: torch.device) -> nn.Module:
    """The trained network in eval mode.  Raises StoreError where it is missing, corrupt or another network."""
    network = store.load_weights(experiment, build_network(experiment, num_classes))
    return network.to(device, memory_format=torch.channels_last).eval()


@torch.no_grad()
def correct(network: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    """Which images the network classifies rightly, [n] bool.  pixels: [n, c, h, w] in [0, 1]."""
    predictions = torch.cat([network(batch).argmax(dim=1) for batch in pixels.split(BATCH)])
    return predictions == labels


def _noise(network: nn.Module, images: ImageSet, evaluation: NoiseEvaluation, device: torch.device) -> list[Value]:
    pixels, labels = images.pixels, images.labels.to(device)
    values = []
    for index, epsilon in enumerate(evaluation.epsilons):
        # drawn on the CPU: the same noise on every device
        generator = torch.Generator().manual_seed(stream(evaluation.seed, f"{evaluation.attack} {index}"))
        result = attacks.NOISES[evaluation.attack](pixels, epsilon, protocol=evaluation.protocol, generator=generator)
        values.append(_accuracy(network, result.adversarial.to(device), labels, epsilon))
    return values


def _fgsm(
    network: nn.Module,
    images: ImageSet,
    experiment: Experiment,
    evaluation: FgsmEvaluation,
    store: Store,
    device: torch.device,
) -> list[Value]:
    if evaluation.surrogate.task != experiment.task:
        raise ValueError(
            f"the surrogate was trained on another task ('{evaluation.surrogate.task.images}') than the attacked "
            f"network ('{experiment.task.images}')"
        )
    surrogate = trained_network(evaluation.surrogate, len(images.classes), store, device)
    pixels, labels = images.pixels.to(device), images.labels.to(device)
    direction = attacks.fgsm_direction(surrogate, pixels, labels)
    return [
        _accuracy(
            network,
            attacks.transferred_fgsm(pixels, direction, epsilon, protocol=evaluation.protocol).adversarial,
            labels,
            epsilon,
        )
        for epsilon in evaluation.epsilons
    ]


def _accuracy(network: nn.Module, pixels: Tensor, labels: Tensor, epsilon: float) -> Value:
    share = correct(network, pixels, labels).double().mean().item()
    return Value(metric="accuracy", epsilon=epsilon, value=share, attempted=len(labels))


def _boundary(
    network: nn.Module, images: ImageSet, evaluation: BoundaryEvaluation, device: torch.device
) -> tuple[list[Value], dict]:
    pixels = images.pixels.to(device)
    values, spectra_of_repeats = [], []
    for repeat in range(evaluation.repeats):
        result = attacks.boundary_attack(
            network,
            pixels,
            steps=evaluation.steps,
            protocol=evaluation.protocol,
            seed=stream(evaluation.seed, f"boundary {repeat}"),
            directions=evaluation.directions,
        )
        counts = {"attempted": result.attempted, "failed": int(result.failed.sum()), "repeat": repeat}
        sizes = {"squared_l2_per_pixel": result.squared_l2_per_pixel, "l2": result.l2, "linf": result.linf}
        if evaluation.protocol == "released":  # of colour images, the released score sees the first channel alone
            sizes["squared_l2_per_pixel"] = result.perturbations[:, 0].flatten(1).square().mean(dim=1)
            sizes["squared_l2_per_pixel"][result.failed] = torch.nan
        for name, size in sizes.items():
            values.append(Value(metric=f"median_{name}", value=_median(size), **counts))
        if not result.failed.all():
            spectra_of_repeats.append(spectra.mean_power_spectrum(result.perturbations[~result.failed]).cpu())
    if not spectra_of_repeats:  # a network that no image could fool: its sizes say so, and it has no spectrum
        return values, {}
    power = torch.stack(spectra_of_repeats).mean(dim=0)
    radius, cumulative = spectra.cumulative_radial_profile(power)
    values.append(
        Value(
            metric="half_power_frequency",
            value=spectra.half_power_frequency(radius, cumulative),
            attempted=sum(v.attempted for v in values if v.metric == "median_l2"),
            failed=sum(v.failed for v in values if v.metric == "median_l2"),
        )
    )
    return values, {"power": power.tolist(), "radius": radius.tolist(), "cumulative": cumulative.tolist()}


def _median(sizes: Tensor) -> float:
    """Median over the images: skipped ones (NaN) left out, infinite ones counted."""
    sizes = sizes[~sizes.isnan()].sort().values
    if len(sizes) == 0:
        return float("nan")
    middle = (sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2
    return middle.item()

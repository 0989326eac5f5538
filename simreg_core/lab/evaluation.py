"""A trained network and an attack give a record."""

import time

import torch
from torch import Tensor, nn

from simreg_core import attacks, door, spectra
from simreg_core.corruptions import CORRUPTIONS, corrupt
from simreg_core.lab.data import DataError, ImageSet, load_cifar10_c, load_image_set
from simreg_core.lab.experiment import (
    BoundaryEvaluation,
    CorruptionEvaluation,
    CorruptionSpectraEvaluation,
    Evaluation,
    Experiment,
    FgsmEvaluation,
    LayerWeightsEvaluation,
    MinimumNormEvaluation,
    NeuralExperiment,
    NoiseEvaluation,
    SimilarityEvaluation,
    TransferEvaluation,
    WhiteBoxEvaluation,
    stream,
    surrogates_of,
)
from simreg_core.lab.inputs import checksums
from simreg_core.lab.similarity import Comparison, measure
from simreg_core.lab.store import Record, Store, Value, provenance
from simreg_core.lab.training import build_network, load_data, repeatable
from simreg_core.lab.training.rules import rule_of, transforms
from simreg_core.lab.white_box import minimum_norm, transfer, white_box
from simreg_core.model import ResNet

BATCH = {"cpu": 500, "cuda": 5000}  # images that are classified at once, by kind of device
WALKERS = {"cpu": 256, "cuda": 5000}  # images that a boundary attack moves at once


def evaluate(
    experiment: Experiment | NeuralExperiment, evaluation: Evaluation, store: Store, device: torch.device
) -> Record:
    """Measure a trained experiment and store the record.

    Raises StoreError where the network, the surrogate of an FGSM evaluation or a predictor is not trained,
    DataError for image sets and recordings that do not fit, and ValueError for a surrogate of another task or the
    attacked network, and for an evaluation that is not for this kind of experiment.
    """
    if isinstance(experiment, NeuralExperiment) != isinstance(evaluation, SimilarityEvaluation):
        raise ValueError(f"evaluation '{evaluation.attack}' is not for a {type(experiment).__name__}")
    started = time.perf_counter()
    of_kind = _of_neural if isinstance(experiment, NeuralExperiment) else _of_network
    values, arrays, warnings, sets = of_kind(experiment, evaluation, store, device)
    sets["inputs"] = checksums(experiment, evaluation) or None
    record = Record(
        experiment_key=experiment.key,
        evaluation_key=evaluation.key,
        experiment=experiment,
        evaluation=evaluation,
        values=tuple(values),
        arrays=arrays,
        warnings=warnings,
        provenance=provenance(device, time.perf_counter() - started, **sets),
    )
    store.save_record(record)
    return record


def _of_network(
    experiment: Experiment, evaluation: Evaluation, store: Store, device: torch.device
) -> tuple[list[Value], dict, tuple[str, ...], dict[str, str | None]]:
    """Values, arrays, warnings, and the image sets with their checksums."""
    check_surrogate(experiment, evaluation)
    images = evaluation_images(experiment, evaluation)
    network = trained_network(experiment, len(images.classes), store, device)
    with repeatable():
        values, arrays, *warnings = _measure(network, images, experiment, evaluation, store, device)
    regularization = load_data(experiment).regularization
    sets = {
        "image_set": f"{images.name}/{images.split}",
        "checksum": images.checksum,
        "regularization_set": regularization and f"{regularization.name}/{regularization.split}",
        "regularization_checksum": regularization and regularization.checksum,
    }
    return values, arrays, *(warnings or [()]), sets


def _of_neural(
    experiment: NeuralExperiment, evaluation: SimilarityEvaluation, store: Store, device: torch.device
) -> tuple[list[Value], dict, tuple[str, ...], dict[str, str]]:
    """As `_of_network`; always on the CPU, where it takes seconds."""
    comparison = Comparison(experiment, evaluation, store)
    values, arrays = measure(comparison)
    return values, arrays, (), {"image_set": comparison.name, "checksum": comparison.checksum}


def _measure(
    network: nn.Module,
    images: ImageSet,
    experiment: Experiment,
    evaluation: Evaluation,
    store: Store,
    device: torch.device,
) -> tuple[list[Value], dict] | tuple[list[Value], dict, tuple[str, ...]]:
    """Values and arrays of a record, and warnings, where an attack has checks."""
    match evaluation:
        case WhiteBoxEvaluation():
            return white_box(network, images.pixels.to(device), images.labels.to(device), evaluation)
        case MinimumNormEvaluation():
            return minimum_norm(network, images.pixels.to(device), images.labels.to(device), evaluation)
        case TransferEvaluation():
            surrogates = [trained_network(one, len(images.classes), store, device) for one in evaluation.surrogates]
            pixels, labels = images.pixels.to(device), images.labels.to(device)
            return transfer(network, surrogates, pixels, labels, evaluation), {}
        case NoiseEvaluation():
            return _noise(network, images, evaluation, device), {}
        case FgsmEvaluation():
            return _fgsm(network, images, evaluation, store, device), {}
        case BoundaryEvaluation():
            return _boundary(network, images, evaluation, device)
        case CorruptionEvaluation():
            return _corruptions(network, images, evaluation, device), {}
        case CorruptionSpectraEvaluation():
            return _corruption_spectra(images, evaluation)
        case LayerWeightsEvaluation():
            return _layer_weights(experiment, store)


def check_surrogate(experiment: Experiment, evaluation: Evaluation) -> None:
    """Refuse a transferred attack that would not be one: ValueError for the surrogate of another task, or itself."""
    for surrogate in surrogates_of(evaluation):
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
    return images.take(_choice(len(images), evaluation))


def _choice(total: int, evaluation: Evaluation) -> Tensor:
    """Which images are attacked: the same for all models."""
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


def _noise(network: nn.Module, images: ImageSet, evaluation: NoiseEvaluation, device: torch.device) -> list[Value]:
    pixels, labels = images.pixels, images.labels.to(device)
    network = door.classifier(network, pixels[: door.PROBE].to(device))
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
    evaluation: FgsmEvaluation,
    store: Store,
    device: torch.device,
) -> list[Value]:
    pixels, labels = images.pixels.to(device), images.labels.to(device)
    network = door.classifier(network, pixels)
    direction = _fgsm_direction(evaluation.surrogate, images, store, device)
    return [
        _accuracy(
            network,
            attacks.transferred_fgsm(pixels, direction, epsilon, protocol=evaluation.protocol).adversarial,
            labels,
            epsilon,
        )
        for epsilon in evaluation.epsilons
    ]


_directions_before: dict[tuple, Tensor] = {}  # of this worker: every network of a study gets the same attack


def _fgsm_direction(surrogate: Experiment, images: ImageSet, store: Store, device: torch.device) -> Tensor:
    key = (str(store.weights_path(surrogate)), images.checksum)
    if key not in _directions_before:
        _directions_before.clear()  # one task at a time: a big set is not kept for long
        network = trained_network(surrogate, len(images.classes), store, device)
        _directions_before[key] = attacks.fgsm_direction(network, images.pixels.to(device), images.labels.to(device))
    return _directions_before[key]


def _accuracy(network: nn.Module, pixels: Tensor, labels: Tensor, epsilon: float | None, **what) -> Value:
    share = correct(network, pixels, labels).double().mean().item()
    return Value(metric="accuracy", epsilon=epsilon, value=share, attempted=len(labels), **what)


def _boundary(
    network: nn.Module, images: ImageSet, evaluation: BoundaryEvaluation, device: torch.device
) -> tuple[list[Value], dict]:
    pixels = images.pixels.to(device)
    # all repeats in one batch: each starts from noise of its own
    result = attacks.boundary_attack(
        network,
        pixels.repeat(evaluation.repeats, 1, 1, 1),
        steps=evaluation.steps,
        protocol=evaluation.protocol,
        seed=stream(evaluation.seed, "boundary 0"),
        directions=evaluation.directions,
        batch_size=WALKERS[device.type],
    )
    values, spectra_of_repeats = [], []
    for repeat in range(evaluation.repeats):
        own = slice(repeat * len(pixels), (repeat + 1) * len(pixels))
        perturbations, failed = result.perturbations[own], result.failed[own]
        counts = {"attempted": len(pixels), "failed": int(failed.sum()), "repeat": repeat}
        sizes = {
            "squared_l2_per_pixel": result.squared_l2_per_pixel[own], "l2": result.l2[own], "linf": result.linf[own],
        }  # fmt: skip
        if evaluation.protocol == "released":  # of colour images, the released score sees the first channel alone
            sizes["squared_l2_per_pixel"] = perturbations[:, 0].flatten(1).square().mean(dim=1)
            sizes["squared_l2_per_pixel"][failed] = torch.nan
        for name, size in sizes.items():
            values.append(Value(metric=f"median_{name}", value=_median(size), **counts))
        if not failed.all():
            spectra_of_repeats.append(spectra.mean_power_spectrum(perturbations[~failed]).cpu())
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


def _corruptions(
    network: nn.Module, images: ImageSet, evaluation: CorruptionEvaluation, device: torch.device
) -> list[Value]:
    pixels, labels = images.pixels.to(device), images.labels.to(device)
    network = door.classifier(network, pixels)
    values = [_accuracy(network, pixels, labels, None, severity=0)]
    for corruption in evaluation.corruptions:
        for severity in evaluation.severities:
            pixels = _corrupted(images, evaluation, corruption, severity).to(device)
            values.append(_accuracy(network, pixels, labels, None, corruption=corruption, severity=severity))
    return values


def _corruption_spectra(images: ImageSet, evaluation: CorruptionSpectraEvaluation) -> tuple[list[Value], dict]:
    values, profiles = [], {}
    for corruption in CORRUPTIONS:
        change = _corrupted(images, evaluation, corruption, evaluation.severity) - images.pixels
        radius, cumulative = spectra.cumulative_radial_profile(spectra.mean_power_spectrum(change))
        frequency = spectra.half_power_frequency(radius, cumulative)
        values.append(
            Value(
                metric="half_power_frequency",
                value=frequency,
                attempted=len(images),
                corruption=corruption,
                severity=evaluation.severity,
            )
        )
        profiles[corruption] = cumulative.tolist()
    return values, {"radius": radius.tolist(), **profiles}


def _corrupted(
    images: ImageSet, evaluation: CorruptionEvaluation | CorruptionSpectraEvaluation, corruption: str, severity: int
) -> Tensor:
    """The images of `evaluation_images`, corrupted, [n, c, h, w]."""
    if evaluation.source == "generated":
        return _generated(images, corruption, severity, evaluation.seed)
    channels = images.images.shape[1]
    files = load_cifar10_c(corruption, severity, channels)
    indices = torch.arange(len(files)) if evaluation.images is None else _choice(len(files), evaluation)
    chosen = files.take(indices)
    if not torch.equal(chosen.labels, images.labels):
        raise DataError(f"the labels of CIFAR-10-C are not those of '{images.name}': its files belong to cifar10 alone")
    return chosen.pixels


_generated_before: dict[tuple, Tensor] = {}  # of this worker: every network of a study sees the same corrupted images


def _generated(images: ImageSet, corruption: str, severity: int, seed: int) -> Tensor:
    key = (images.checksum, corruption, severity, seed)
    if key not in _generated_before:
        generator = torch.Generator().manual_seed(stream(seed, f"{corruption} {severity}"))
        corrupted = corrupt(images.pixels, corruption, severity, generator)
        _generated_before[key] = (corrupted * 255).round().to(torch.uint8)
    return _generated_before[key].float() / 255


def _layer_weights(experiment: Experiment, store: Store) -> tuple[list[Value], dict]:
    """gamma at the end of training, and after every epoch as an array, [epochs, layers]."""
    weights = [epoch["layer_weights"] for epoch in store.history(experiment)["epochs"]]
    if weights[-1] is None:
        raise ValueError("an unregularized network has no layer weights")
    values = [
        Value(metric="layer_weight", value=value, attempted=1, layer=layer) for layer, value in enumerate(weights[-1])
    ]
    return values, {"layer_weights": weights}


def _median(sizes: Tensor) -> float:
    """Median over the images: skipped ones (NaN) left out, infinite ones counted."""
    sizes = sizes[~sizes.isnan()].sort().values
    if len(sizes) == 0:
        return float("nan")
    middle = (sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2
    return middle.item()

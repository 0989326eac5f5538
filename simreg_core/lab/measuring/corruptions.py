"""Accuracy under common corruptions, and the spectra of what they do to the images."""

from collections.abc import Iterator

import torch
from torch import Tensor

from simreg_core import spectra
from simreg_core.attacks import door
from simreg_core.corruptions import LEAST_SIDE, corrupt
from simreg_core.lab.cifar10_c import check_cifar10_c, load_cifar10_c
from simreg_core.lab.image_files import CIFAR10_SIZE, DataError
from simreg_core.lab.images import ImageSet
from simreg_core.lab.made_once import digest, made_once
from simreg_core.lab.measuring.subject import Attacked, Look, Measured, accuracy, chosen, correct
from simreg_core.lab.records import Value
from simreg_core.lab.specs import CorruptionEvaluation, CorruptionSpectraEvaluation, Experiment, stream
from simreg_core.lab.store import Store
from simreg_core.names import CORRUPTIONS

OfCorruptions = CorruptionEvaluation | CorruptionSpectraEvaluation


def corruptions(subject: Attacked) -> Measured:
    """Accuracy on the clean images (severity 0), and under each corruption at each severity."""
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    network = door.classifier(subject.network, pixels)
    values = [accuracy(correct(network, pixels, labels), severity=0)]
    for corruption in evaluation.corruptions:
        for severity in evaluation.severities:
            pixels = _corrupted(subject, corruption, severity).to(subject.device)
            right = correct(network, pixels, labels)
            values.append(accuracy(right, corruption=corruption, severity=severity))
    return Measured(values)


def corruption_spectra(subject: Attacked) -> Measured:
    """Half-power frequency of what each corruption changes, and its cumulative spectrum as an array."""
    images, evaluation = subject.images, subject.evaluation
    values: list[Value] = []
    profiles: dict[str, list[float]] = {}
    for corruption in CORRUPTIONS:
        change = _corrupted(subject, corruption, evaluation.severity) - images.pixels
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
    return Measured(values, {"radius": radius.tolist(), **profiles})


def _corrupted(subject: Attacked, corruption: str, severity: int) -> Tensor:
    """The images that are attacked, corrupted, [n, c, h, w]."""
    images, evaluation = subject.images, subject.evaluation
    if evaluation.source == "generated":
        return _generated(images, corruption, severity, evaluation.seed, subject.store)
    channels = images.images.shape[1]
    files = load_cifar10_c(corruption, severity, channels)
    indices = torch.arange(len(files)) if evaluation.images is None else chosen(len(files), evaluation)
    corrupted = files.take(indices)
    if not torch.equal(corrupted.labels, images.labels):
        raise DataError(f"the labels of CIFAR-10-C are not those of '{images.name}': its files belong to cifar10 alone")
    return corrupted.pixels


def _generated(images: ImageSet, corruption: str, severity: int, seed: int, store: Store) -> Tensor:
    """Every network of a study sees the same corrupted images, so they are kept."""

    def make() -> Tensor:
        generator = torch.Generator().manual_seed(stream(seed, f"{corruption} {severity}"))
        return (corrupt(images.pixels, corruption, severity, generator) * 255).round().to(torch.uint8)

    depends_on = {"images": digest(images.images), "corruption": corruption, "severity": severity, "seed": seed}
    return made_once(store, "corrupted images", depends_on, make).float() / 255


def corruptions_lack(experiment: Experiment, evaluation: OfCorruptions, look: Look) -> Iterator[str]:
    """Images that are large enough, or those that the official files belong to."""
    task = experiment.task
    height, width = task.size
    if evaluation.source == "generated":
        if min(task.size) < LEAST_SIDE:
            least = f"{LEAST_SIDE}x{LEAST_SIDE}"
            yield f"corruptions need images of at least {least}, but the task '{task.images}' has {height}x{width}"
        return
    if (task.images, task.size, evaluation.split) != ("cifar10", CIFAR10_SIZE, "test"):
        yield (
            f"the files of CIFAR-10-C go with the test images of 'cifar10' at {CIFAR10_SIZE[0]}x{CIFAR10_SIZE[1]}, not "
            f"with '{task.images}' at {height}x{width}; take source 'generated'"
        )
        return
    try:
        check_cifar10_c()
    except DataError as error:
        yield str(error)


def corruptions_passes(evaluation: CorruptionEvaluation, images: int) -> float:
    """The images, clean and under each corruption at each severity."""
    return images * (1 + len(evaluation.corruptions) * len(evaluation.severities))


def corruption_spectra_passes(evaluation: CorruptionSpectraEvaluation, images: int) -> float:
    """None; to corrupt them takes about as long as a small network."""
    return images * len(CORRUPTIONS)


def corruptions_words(evaluation: CorruptionEvaluation) -> str:
    """'15 corruptions'."""
    return f"{len(evaluation.corruptions)} corruption{'s' * (len(evaluation.corruptions) > 1)}"


def corruption_spectra_words(evaluation: CorruptionSpectraEvaluation) -> str:
    """'spectra of corruptions'."""
    return "spectra of corruptions"

"""What of a plan cannot be done, all of it, found in its specifications and the data folder before any training."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import torch

from simreg_core.lab.image_files import (
    SETS,
    TORCHVISION,
    DataError,
    count_classes,
    count_images,
    has_validation,
    is_bundled,
)
from simreg_core.lab.images import labels_of, load_image_set
from simreg_core.lab.inputs import Checksums, inputs_of, learned
from simreg_core.lab.measuring.registry import kind_of, misplaced
from simreg_core.lab.measuring.subject import Images, check_surrogate
from simreg_core.lab.published_predictor import load_published_predictor
from simreg_core.lab.recordings import load_recording
from simreg_core.lab.specs import (
    DefenceSpec,
    Evaluation,
    Experiment,
    Fit,
    Network,
    NeuralExperiment,
    Predictor,
    Recorded,
    Simulated,
    Task,
    Trainable,
)
from simreg_core.lab.training import build_network, regularization_images, regularization_pixels
from simreg_core.neural import V1Predictor
from simreg_core.pairs import PairSampler
from simreg_core.targets import pixel_similarity

PHOTO_SIDE = 32  # patches up to this fit into the smallest photograph


def problems(
    trainings: Iterable[Trainable], measurements: Iterable[tuple[Trainable, Evaluation]], now: Checksums
) -> list[str]:
    """One line for each thing that is missing or does not fit, each once; sets that are not there come first.

    now: reads the user's files, so that one that is damaged is found too. Nothing is downloaded.
    """
    look = _Look(now)
    measurements = tuple(one for one in measurements if not one[1].times_steps)  # on random pixels
    experiments = tuple(dict.fromkeys((*trainings, *(one for one, _ in measurements))))
    lines = [*look.missing_sets(experiments, measurements)]
    for one in experiments:
        if not isinstance(one, Fit):  # what it lacks, its network lacks too
            lines += look.of_network(one) if isinstance(one, Experiment) else look.of_source(one)
    for experiment, evaluation in measurements:
        lines += look.of_measurement(experiment, evaluation)
    return list(dict.fromkeys(lines))


def pair_problems(trainings: Iterable[Trainable], wanted: Callable[[str], bool]) -> list[str]:
    """One line for each range of pairs that an image set has too few of.  wanted: of which sets, by name.

    Of experiments that differ in their seed only, whose images are flipped by chance, one is looked at.
    """
    ranged: dict[Trainable, Any] = {}
    for one in trainings:
        spec = one.regularizer if isinstance(one, Experiment) else None
        if spec is not None and spec.pairs != "all" and wanted(spec.images):
            ranged.setdefault(one.changed(seed=0, regularizer=spec.changed(alpha=1.0)), one)
    return [line for one in ranged.values() for line in _too_few_pairs(one)]


def _too_few_pairs(experiment: Experiment) -> Iterator[str]:
    spec = experiment.regularizer
    try:
        images = regularization_images(experiment)
        similarity = pixel_similarity(regularization_pixels(spec, images, experiment.seed))
        targets = torch.zeros_like(similarity)
        found = len(PairSampler(similarity, targets, spec.pairs, spec.threshold, spec.low_threshold))
        if found < spec.pairs_per_step:
            raise ValueError(f"pairs_per_step={spec.pairs_per_step} exceeds the {found} pairs in range '{spec.pairs}'")
    except DataError:  # said already
        return
    except ValueError as error:
        yield f"regularization set '{spec.images}': {error}"


class _Look:
    """Looks at one plan: what is counted or read once is not read again."""

    def __init__(self, now: Checksums):
        self._now = now
        self.count, self.classes = cache(count_images), cache(count_classes)
        self.source = cache(_source_of)

    def missing_sets(self, experiments: tuple, measurements: tuple) -> Iterator[str]:
        """Image sets and splits that are missing, damaged or of the wrong size, sorted; then other files."""
        wanted: dict[tuple[str, str, tuple], None] = {}
        for one in experiments:
            wanted |= dict.fromkeys(_sets(one))
        for one, evaluation in measurements:
            wanted |= dict.fromkeys(_sets(one, evaluation))
        for name, split, size in sorted(wanted):
            try:
                self.count(name, split)
                if is_bundled(name) and (max(size) > PHOTO_SIDE or SETS[name].size not in (None, size)):
                    load_image_set(name, split, size)
            except DataError as error:
                yield str(error)
        inputs = dict.fromkeys(
            own for pair in (*((one, None) for one in experiments), *measurements) for own in inputs_of(*pair)
        )
        for one in inputs:
            try:
                self._now(one)
            except DataError as error:
                yield str(error)

    def of_network(self, experiment: Experiment) -> Iterator[str]:
        """What a training lacks; nothing of sets that are missing."""
        task, spec = experiment.task, experiment.regularizer
        try:
            images, classes = self._training_images(experiment), self.classes(task.images)
        except DataError as error:
            yield str(error)
            return
        if classes < 2:
            yield f"image set '{task.images}' has {classes} class; a task needs at least 2"
        if images < 1:
            own = " of them" if has_validation(task.images) else " training images"
            yield f"validation_images is {task.validation_images}, but '{task.images}' has {self._whole(task)}{own}"
            return
        if task.train_images is not None and task.images not in TORCHVISION:
            yield from self._of_choice(task)
        if experiment.optimization.batch_size > images:
            batch = experiment.optimization.batch_size
            yield f"batch_size {batch} exceeds the {images} training images of '{task.images}'"
        if spec is not None:
            yield from self._of_regularizer(experiment, images)
        yield from self._of_batches(experiment)

    def _of_choice(self, task: Task) -> Iterator[str]:
        """Whether its classes have enough images for `train_images` and validation images."""
        held_out = 0 if has_validation(task.images) else task.validation_images
        generator = torch.Generator().manual_seed(0)
        try:
            every = labels_of(task.images)
            if (count := task.train_images + held_out) > len(every):
                raise DataError(
                    f"train_images is {task.train_images} and validation_images {task.validation_images}, but "
                    f"'{task.images}' has {len(every)} training images"
                )
            chosen = every.take(every.balanced(count, generator))
            if held_out:
                chosen.balanced(held_out, generator)
        except DataError as error:
            yield str(error)

    def _of_batches(self, experiment: Experiment) -> Iterator[str]:
        """Whether the network takes the task's images, and the regularizer's, of which a batch has at least two."""
        task, spec = experiment.task, experiment.regularizer
        batches = {task.size: min(2, experiment.optimization.batch_size)}
        if spec is not None and spec.size is not None:
            batches.setdefault(spec.size, 2)
        for size, count in batches.items():
            if problem := _network_problem(experiment.network, experiment.adversarial, task, size, count):
                yield problem

    def _whole(self, task: Task) -> int:
        """How many images the validation images are taken from."""
        return self.count(task.images, "validation" if has_validation(task.images) else "train")

    def _training_images(self, experiment: Experiment) -> int:
        """How many are trained on; 0 where too many are asked for as validation images."""
        task, whole = experiment.task, self._whole(experiment.task)
        if task.train_images is not None and task.validation_images <= whole:
            return task.train_images
        if has_validation(task.images):
            return self.count(task.images, "train") if task.validation_images <= whole else 0
        return max(0, whole - task.validation_images)

    def _of_regularizer(self, experiment: Experiment, images: int) -> Iterator[str]:
        task, spec = experiment.task, experiment.regularizer
        shared, size = spec.images == task.images, spec.size or task.size
        try:
            there = self.count(spec.images, "train")
        except DataError:  # said already
            return
        if shared and experiment.protocol == "strict":
            there = images
        elif shared and task.train_images is not None:
            there = images + (0 if has_validation(task.images) else task.validation_images)
            if size != task.size:
                yield (
                    f"regularizer.size {_by(size)} must be the task's, {_by(task.size)}, where both use the "
                    f"train_images of '{task.images}'"
                )
        if spec.count > there:
            yield f"{spec.count} images are asked for, but '{spec.images}' has {there} for this"
        for one in spec.neural or ():
            yield from self.of_source(one)
            source = self.source(one)
            if source is not None and source[0] != size:
                yield (
                    f"the V1 predictor takes images of {_by(source[0])}, but the regularization set '{spec.images}' "
                    f"has {_by(size)}; give the set that size"
                )

    def of_source(self, experiment: NeuralExperiment) -> Iterator[str]:
        """What the fit of a predictor lacks."""
        source, own = experiment.source, experiment.predictor
        if isinstance(source, Simulated):
            try:
                if source.count > (there := self.count(source.images, "train")):
                    yield f"{source.count} images are asked for, but '{source.images}' has {there} for this"
            except DataError as error:
                yield str(error)
        found = self.source(experiment)
        if own is None or found is None:
            return
        size, images, neurons, _, lowest = found
        held_out = max(3, round(own.held_out * images))  # as `predictors.fit` has it
        if held_out > images - 2:
            yield f"{experiment.title}: held_out {own.held_out:g} of {images} images leaves fewer than 2 to fit to"
        if lowest < 0:
            yield f"{experiment.title}: responses must not be negative, got {lowest:g}"
        if problem := _predictor_problem(own, size, neurons):
            yield f"{experiment.title}, predictor: {problem}"

    def of_measurement(self, experiment: Trainable, evaluation: Evaluation) -> Iterator[str]:
        """What an evaluation lacks."""
        if problem := misplaced(experiment, evaluation):
            yield problem
            return
        kind = kind_of(evaluation)
        if isinstance(experiment, Experiment):
            yield from self._of_attack(experiment, evaluation, kind.images(experiment, evaluation))
        yield from kind.lacks(experiment, evaluation, self)

    def _of_attack(self, experiment: Experiment, evaluation: Evaluation, wanted: Images) -> Iterator[str]:
        try:
            check_surrogate(experiment, evaluation)
        except ValueError as error:
            yield str(error)
        try:
            held_out = wanted.split == "validation"
            there = experiment.task.validation_images if held_out else self.count(wanted.name, wanted.split)
        except DataError:  # said already
            return
        if (wanted.count or there) > there:
            yield f"{wanted.count} images are asked for, but '{wanted.name}' has {there} to attack"


def _sets(experiment: Trainable, evaluation: Evaluation | None = None) -> Iterator[tuple[str, str, tuple]]:
    """Image sets by name, with split and size."""
    if evaluation is not None and not misplaced(experiment, evaluation):
        wanted = kind_of(evaluation).images(experiment, evaluation)
        if wanted is not None and wanted.split != "validation":  # cut off the training images, or learned from below
            yield wanted.name, wanted.split, wanted.size
    if isinstance(experiment, NeuralExperiment):
        if isinstance(source := experiment.source, Simulated):
            yield source.images, "train", source.size
        return
    task, spec = experiment.task, getattr(experiment, "regularizer", None)  # a fit has none
    for split in learned(task.images):
        yield task.images, split, task.size
    if spec is not None:
        yield spec.images, "train", spec.size or task.size
        for own in spec.neural or ():
            yield from _sets(own)


@cache
def _network_problem(own: Network, defence: DefenceSpec | None, task: Task, size: tuple[int, int], count: int) -> str:
    """Why a network made for a task cannot take `count` images of a size, or ''; only shapes are computed."""
    try:
        with torch.device("meta"):
            made_for = Experiment(task=task, network=own, adversarial=defence)
            network = build_network(made_for, num_classes=10).train()
            images = torch.empty(count, task.channels, *size)
        network(images)  # outside of `device`, under which each operation is looked up twice
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        trained = f", method '{defence.method}'," if defence is not None else ""
        network = f"{own.name} of width {own.width}{trained}"
        return f"{network} cannot take {count} images of {_by(size)}: {_first_line(error)}"
    return ""


@cache
def _predictor_problem(own: Predictor, size: tuple[int, int], neurons: int) -> str:
    """Why a predictor cannot take images of a size, or ''."""
    try:
        with torch.device("meta"):
            V1Predictor(size, neurons, own.channels, own.kernel, own.layers, own.layer_kernel)
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        return _first_line(error)
    return ""


def _source_of(experiment: NeuralExperiment) -> tuple[tuple[int, int], int, int, int, float] | None:
    """Size of its images, how many, neurons, trials, and the lowest response; None where it cannot be read.

    Of a published predictor, which has neither, no images and no trials.
    """
    source = experiment.source
    try:
        if isinstance(source, Simulated):
            return source.size, source.count, source.neurons, source.trials, 0.0
        if isinstance(source, Recorded):
            own = load_recording(source.recording)
            trials, images, neurons = own.responses.shape
            return (own.images.shape[2], own.images.shape[3]), images, neurons, trials, own.responses.min().item()
        predictor = load_published_predictor(source.file)
        return predictor.size, 0, len(predictor.bias), 0, 0.0
    except DataError:  # said already, as an input
        return None


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

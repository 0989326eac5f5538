"""The user's own files that a result is made from, and whether they are still what they were.

Results are keyed by specifications, and a specification names an image set, a recording, a matrix or a predictor; what
lies under that name in the data folder may be replaced. So each training and each record keeps a checksum of what it
read (bundled and torchvision sets never change and have none), and a plan compares it with what is there now. Where
they differ the plan is refused: nothing that took hours is overwritten because a folder was changed. What is not there
now is not compared: a figure is drawn from committed records on a machine without the images.

A checksum is of the pixels as they are read, not of the files. To decode 5,000 small images takes about three seconds,
so a checksum is kept in the store under the names, sizes and times of its files, and found again in a tenth of one.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import unwrap
from typing import Any

from simreg_core.lab.files import note
from simreg_core.lab.image_files import SETS, DataError, has_validation, stamp_of
from simreg_core.lab.records import Record
from simreg_core.lab.specs import (
    Evaluation,
    Experiment,
    Fit,
    NeuralExperiment,
    Published,
    Recorded,
    Simulated,
    Trainable,
    dependencies,
)
from simreg_core.lab.store import Store


@dataclass(frozen=True)
class Images:
    """Images of a folder in the data folder, as `load_image_set` takes them."""

    name: str
    split: str
    size: tuple[int, int]
    channels: int
    count: int | None = None

    @property
    def label(self) -> str:
        """Under which its checksum is kept."""
        what = f"image set '{self.name}', {self.split}, {self.size[0]}x{self.size[1]}x{self.channels}"
        return what if self.count is None else f"{what}, {self.count} of them"

    def stamp(self) -> str:
        """Another one where a file was written.  Raises DataError where it is missing."""
        return stamp_of(self.name, self.split, self.count)

    def checksum(self, read_anew: bool = False) -> str:
        """Of its pixels and labels.  read_anew: what is in memory may be of files that were replaced since.

        Raises DataError where they cannot be read.
        """
        from simreg_core.lab.images import load_image_set  # here, as below: most plans read no input, and need no torch

        load = unwrap(load_image_set) if read_anew else load_image_set
        given = (self.name, self.split, self.size, self.channels)
        return load(*given, *(() if self.count is None else (self.count,))).checksum  # as training asks: kept in memory


@dataclass(frozen=True)
class File:
    """A recording, a matrix or a predictor of the data folder: kind, name, and the number of images of a matrix."""

    kind: str
    name: str
    images: int | None = None

    @property
    def label(self) -> str:
        """As `Images.label`."""
        return f"{self.kind} '{self.name}'"

    def stamp(self) -> str:
        """As `Images.stamp`."""
        from simreg_core.lab.published_predictor import predictor_files
        from simreg_core.lab.recordings import recording_files, similarity_files

        find = {"recording": recording_files, "predictor": predictor_files, "matrix": similarity_files}
        states = [(path.name, path.stat()) for path in find[self.kind](self.name)]
        return repr([(name, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for name, state in states])

    def checksum(self, read_anew: bool = True) -> str:
        """As `Images.checksum`; always read anew."""
        from simreg_core.lab.images import checksum_of
        from simreg_core.lab.published_predictor import load_published_predictor
        from simreg_core.lab.recordings import load_recording, load_similarity

        if self.kind == "recording":
            return load_recording(self.name).checksum
        if self.kind == "predictor":
            return checksum_of(*load_published_predictor(self.name).state_dict().values())
        return checksum_of(load_similarity(self.name, self.images))


Input = Images | File


def inputs_of(experiment: Trainable, evaluation: Evaluation | None = None) -> list[Input]:
    """What a training, or an evaluation of it, reads of the user's own files, each once."""
    if evaluation is not None and evaluation.times_steps:
        return []
    found: list[Input] = []
    for one in (experiment, *dependencies(experiment, evaluation)):
        found += OF_KIND[type(one)](one)
    if evaluation is not None and isinstance(experiment, Experiment) and evaluation.split == "test":
        task = experiment.task
        found.append(Images(task.images, "test", task.size, task.channels))
    return [one for one in dict.fromkeys(found) if isinstance(one, File) or one.name not in SETS]


def _of_source(experiment: NeuralExperiment) -> list[Input]:
    match experiment.source:
        case Simulated() as own:
            return [Images(own.images, "train", own.size, 1, own.count)]
        case Recorded(recording=name):
            return [File("recording", name)]
        case Published(file=name):
            return [File("predictor", name)]


def learned(name: str) -> tuple[str, ...]:
    """The splits that a training on a set reads; of a set that is missing, one."""
    try:
        return ("train", "validation") if has_validation(name) else ("train",)
    except DataError:
        return ("train",)


def _of_task(experiment: Experiment | Fit) -> list[Input]:
    task = experiment.task
    return [Images(task.images, split, task.size, task.channels) for split in learned(task.images)]


def _of_network(experiment: Experiment) -> list[Input]:
    task, spec = experiment.task, experiment.regularizer
    found = _of_task(experiment)
    if spec is None:
        return found
    if spec.images != task.images or not (experiment.protocol == "strict" or task.train_images):
        found.append(Images(spec.images, "train", spec.size or task.size, task.channels, spec.count))
    if spec.matrix is not None:
        found.append(File("matrix", spec.matrix, spec.count))
    return found + [one for own in spec.neural or () for one in _of_source(own)]


OF_KIND: dict[type, Callable[[Any], list[Input]]] = {
    Experiment: _of_network,
    NeuralExperiment: _of_source,
    Fit: _of_task,
}


def checksums(experiment: Trainable, evaluation: Evaluation | None = None) -> dict[str, str]:
    """The checksums of `inputs_of` by label, as a worker reads them."""
    return {one.label: one.checksum() for one in inputs_of(experiment, evaluation)}


class Checksums:
    """Checksums of what is in the data folder now, each read once; kept in a store, where one is given.

    Called with an input, it gives its checksum, or raises DataError where the input is missing or cannot be read.
    """

    def __init__(self, store: Store | None = None):
        self._store = store
        self._found: dict[Input, str | DataError] = {}
        self._there: dict[Input, bool] = {}

    def __call__(self, one: Input) -> str:
        if one not in self._found:
            try:
                self._found[one] = self._now(one)
            except DataError as error:
                self._found[one] = error
        if isinstance(found := self._found[one], DataError):
            raise found
        return found

    def is_there(self, one: Input) -> bool:
        """Whether the input lies in the data folder; its pixels are not read."""
        if one not in self._there:
            try:
                _stamp(one)
                self._there[one] = True
            except DataError:
                self._there[one] = False
        return self._there[one]

    def _now(self, one: Input) -> str:
        stamp = _stamp(one)  # also says what is missing
        kept = None if self._store is None else self._store.root / "checksums" / f"{stamp}.txt"
        if kept is not None and kept.is_file() and len(text := kept.read_text(encoding="utf-8").strip()) == 16:
            return text
        found = one.checksum(read_anew=True)
        if kept is not None:
            note(kept, found + "\n")
        return found


def _stamp(one: Input) -> str:
    """Names a checksum of an input, as it lies there now."""
    try:
        return hashlib.sha256(f"{one.label} {one.stamp()}".encode()).hexdigest()[:32]
    except OSError as error:
        raise DataError(f"{one.label} cannot be read: {error}") from error


def changed(trained: Iterable[Trainable], measured: Iterable[tuple[Trainable, Evaluation]], store: Store) -> str:
    """Which inputs are there, but not as they were when results were made from them, in one line; '' for none.

    trained: finished trainings of the store.  measured: what has a record, of the store or published.
    Only results with an input that is there are read.
    """
    now = Checksums(store)
    results = []
    for one in trained:
        if inputs := [own for own in inputs_of(one) if now.is_there(own)]:
            results.append((one.key, store.history(one).get("inputs", {}), inputs))
    for one, evaluation in measured:
        if inputs := [own for own in inputs_of(one, evaluation) if now.is_there(own)]:
            record = store.record(one, evaluation)
            results.append((f"{one.key}/{evaluation.key}", _read_by(record), inputs))
    differing = {place: found for place, before, inputs in results if (found := _differing(before, inputs, now))}
    if not differing:
        return ""
    labels = ", ".join(sorted({label for found in differing.values() for label in found}))
    first, *others = differing
    more = f" and {len(others)} more" if others else ""
    return (
        f"{labels}: not what result {first}{more} was made from; put back what was there, give the new images a name "
        f"of their own, or compute again (make figures RECOMPUTE=1, or delete the results in {store.root})"
    )


def _read_by(record: Record) -> dict[str, str]:
    """The checksums of a record's inputs by label; of a record that has no list of them, as many as it tells."""
    own, experiment, evaluation = record.provenance, record.experiment, record.evaluation
    if own.inputs is not None or isinstance(experiment, NeuralExperiment):
        return own.inputs or {}
    task, spec = experiment.task, experiment.regularizer
    known = {}
    if evaluation.split == "test" and evaluation.images is None:
        known[Images(task.images, "test", task.size, task.channels).label] = own.checksum
    if spec is not None and own.regularization_checksum is not None:
        one = Images(spec.images, "train", spec.size or task.size, task.channels, spec.count)
        known[one.label] = own.regularization_checksum
    return known


def _differing(before: dict[str, str], inputs: list[Input], now: Checksums) -> list[str]:
    differing = []
    for one in inputs:
        if one.label in before:
            try:
                same = now(one) == before[one.label]
            except DataError:  # not there: nothing to compare
                continue
            differing += [] if same else [one.label]
    return differing

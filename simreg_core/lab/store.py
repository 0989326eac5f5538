"""The run directory: checkpoints and records; atomic, resumable, and read before anything is computed.

    runs/experiments/KEY/experiment.json      the specification
                         resume.safetensors   the state after the last epoch, while training
                         weights.safetensors  the trained network, once done
                         history.json         losses by epoch, once done
    runs/records/EXPERIMENT-KEY/EVALUATION-KEY.json
    figures/PROFILE/records/...               published records, the same layout, committed

A record that was computed here goes before a published one.

Records and histories begin with a checksum of what follows, checkpoints have one of their tensors and notes:
a file that was changed, or that has none, is refused.
"""

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

from simreg_core.lab.files import (
    StoreError,
    is_left_behind,
    read_bytes,
    sealed,
    unsealed,
    write_bytes,
    write_text,
    written_whole,
)
from simreg_core.lab.folders import folder_of
from simreg_core.lab.records import Record, parse_record
from simreg_core.lab.specs import (
    Evaluation,
    Trainable,
    to_train,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# the weights last: once they are there, the experiment is trained
CHECKPOINT_FILES = ("experiment.json", "history.json", "resume.safetensors", "weights.safetensors")
TRAIN_AGAIN = "delete its folder to train again"


def _tensors() -> ModuleType:
    """`lab.tensors`; loaded with the first checkpoint, since torch takes seconds, and records need none."""
    from simreg_core.lab import tensors

    return tensors


class Store:
    """Reads and writes one run directory.

    root: the run directory; by default `$SIMREG_RUNS`, else `runs` in the project's folder.
    published: a folder of published records to fall back to, or None.
    """

    def __init__(self, root: Path | None = None, published: Path | None = None):
        self.root = folder_of("SIMREG_RUNS") if root is None else Path(root).expanduser().absolute()
        self.published = published

    def sweep(self) -> None:
        """Remove temporary files of processes that were killed while writing."""
        for path in self.root.rglob(".*.*"):
            if is_left_behind(path):
                path.unlink(missing_ok=True)

    @contextmanager
    def computing(self, wait: bool = True) -> Iterator[bool]:
        """Held while a process computes or deletes here; another waits, and says for whom.  Yields whether it waited.

        The lock goes with its process: one that is killed leaves none behind.  Who holds it may take it again.
        wait: where False, StoreError instead of waiting.
        """
        holder = (self.root.resolve(), threading.get_ident())
        if holder in _holders:
            yield False
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "computing.lock").open("a+", encoding="utf-8") as file:
            waited = not _locked(file)
            if waited:
                file.seek(0)
                said = f"{self.root}: process {file.read().strip() or '?'} computes here"
                if not wait:
                    raise StoreError(f"{said}; try again when it has ended")
                print(f"{said}; waiting for it", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            _holders.add(holder)
            try:
                yield waited
            finally:
                _holders.discard(holder)

    # records; an experiment is an `Experiment` or a `NeuralExperiment` here and below

    def record(self, experiment: Trainable, evaluation: Evaluation) -> Record | None:
        """The record of an evaluation, from the store, else published; None where there is none."""
        path = self.record_place(experiment, evaluation)
        return None if path is None else self.read_record(path, experiment, evaluation)

    def has_record(self, experiment: Trainable, evaluation: Evaluation) -> bool:
        """Whether there is a record of an evaluation; nothing is read."""
        return self.record_place(experiment, evaluation) is not None

    def record_place(self, experiment: Trainable, evaluation: Evaluation) -> Path | None:
        """The file that `record` reads; None where there is none."""
        return next((path for path in self.record_paths(experiment, evaluation) if path.is_file()), None)

    def record_paths(self, experiment: Trainable, evaluation: Evaluation) -> list[Path]:
        """Where a record may lie, the store's own place first."""
        place = Path(experiment.key) / f"{evaluation.key}.json"
        published = [] if self.published is None else [self.published / place]
        return [self.root / "records" / place, *published]

    def save_record(self, record: Record) -> None:
        """Write a record, whole or not at all."""
        path = self.record_paths(record.experiment, record.evaluation)[0]
        write_text(path, sealed(record.model_dump_json(indent=1, exclude_none=True)) + "\n")

    def read_record(self, path: Path, experiment: Trainable, evaluation: Evaluation) -> Record:
        """The record of an evaluation, from one of its `record_paths`.  Raises StoreError where it is of no use."""
        return self._parse_record(read_bytes(path, f"record {path}"), path, experiment, evaluation)

    @staticmethod
    def _parse_record(content: bytes, path: Path, experiment: Trainable, evaluation: Evaluation) -> Record:
        record = parse_record(content, path)
        if (record.experiment, record.evaluation) != (experiment, evaluation):
            raise StoreError(f"record {path} does not belong here: it was made from another specification")
        return record

    def record_bytes(self, experiment: Trainable, evaluation: Evaluation) -> bytes:
        """The store's own record as it is written, to be sent to another machine."""
        return self.record_paths(experiment, evaluation)[0].read_bytes()

    def receive_record(self, experiment: Trainable, evaluation: Evaluation, content: bytes) -> None:
        """Write a record that another store's `record_bytes` gave.  Raises StoreError where it does not belong here."""
        path = self.record_paths(experiment, evaluation)[0]
        self._parse_record(content, path, experiment, evaluation)
        write_bytes(path, content)

    def forget(self, experiment: Trainable, evaluation: Evaluation) -> None:
        """Remove a record, its experiment and what that depends on from this store (not from the published ones).

        Waits while another process computes here.
        """
        with self.computing():
            self.record_paths(experiment, evaluation)[0].unlink(missing_ok=True)
            for one in to_train(experiment, evaluation):
                shutil.rmtree(self._folder(one), ignore_errors=True)

    # checkpoints

    def weights_path(self, experiment: Trainable) -> Path:
        """Where the trained network lies."""
        return self._folder(experiment) / "weights.safetensors"

    def resume_path(self, experiment: Trainable) -> Path:
        """Where the state of an unfinished training lies."""
        return self._folder(experiment) / "resume.safetensors"

    def is_trained(self, experiment: Trainable) -> bool:
        """Whether the training is done."""
        return self.weights_path(experiment).is_file()

    def save_resume(self, experiment: Trainable, tensors: "dict[str, Tensor]", history: list[dict]) -> None:
        """Write the state after an epoch."""
        write_text(self._folder(experiment) / "experiment.json", experiment.model_dump_json(indent=1) + "\n")
        notes = {"key": experiment.key, "history": json.dumps(history)}
        _tensors().write_tensors(self.resume_path(experiment), tensors, notes)

    def load_resume(self, experiment: Trainable) -> "tuple[dict[str, Tensor], list[dict]] | None":
        """The state after the last epoch and the history so far; None where training has not begun."""
        path = self.resume_path(experiment)
        if not path.is_file():
            return None
        tensors, notes = _tensors().read_tensors(path)
        self._check_owner(path, notes, experiment)
        return tensors, json.loads(notes["history"])

    def save_trained(self, experiment: Trainable, weights: "dict[str, Tensor]", history: dict) -> None:
        """Write the trained network; the state for resuming is no longer needed.

        Raises StoreError where a weight is not finite: nothing is written then.
        """
        if name := _tensors().not_finite(weights):
            raise StoreError(f"experiment {experiment.key} is not stored as trained: '{name}' is not finite")
        write_text(self._folder(experiment) / "history.json", sealed(json.dumps(history, indent=1)) + "\n")
        _tensors().write_tensors(self.weights_path(experiment), weights, {"key": experiment.key})
        self.resume_path(experiment).unlink(missing_ok=True)

    def history(self, experiment: Trainable) -> dict:
        """best_loss, seconds and epochs of a finished training.  Raises StoreError where it is missing or corrupt."""
        path = self._folder(experiment) / "history.json"
        what = f"training history {path}"
        return unsealed(read_bytes(path, what), what, TRAIN_AGAIN)

    def trained_tensors(self, experiment: Trainable) -> "dict[str, Tensor]":
        """What `save_trained` wrote.  Raises StoreError where it is missing, was changed, or is not finite."""
        path = self.weights_path(experiment)
        weights, notes = _tensors().read_tensors(path)
        self._check_owner(path, notes, experiment)
        if name := _tensors().not_finite(weights):
            raise StoreError(f"checkpoint {path} is of no use: '{name}' is not finite; {TRAIN_AGAIN}")
        return weights

    def load_weights(self, experiment: Trainable, network: "torch.nn.Module") -> "torch.nn.Module":
        """Put the trained weights into a network of the same shape.  Raises StoreError where they do not fit."""
        return _tensors().load_into(network, self.trained_tensors(experiment), self.weights_path(experiment))

    def checkpoint_files(self, experiment: Trainable) -> dict[str, bytes]:
        """What is there of an experiment by file name, trained or half trained, to be sent to another machine."""
        folder = self._folder(experiment)
        return {name: (folder / name).read_bytes() for name in CHECKPOINT_FILES if (folder / name).is_file()}

    def receive_checkpoint(self, experiment: Trainable, files: dict[str, bytes]) -> None:
        """Write an experiment that another store's `checkpoint_files` gave; trained once all of it is written.

        Raises StoreError where a checkpoint is corrupt or of another experiment, and for a file of another name.
        """
        if unknown := files.keys() - set(CHECKPOINT_FILES):
            raise StoreError(
                f"experiment {experiment.key} came with '{min(unknown)}', which is no file of a checkpoint"
            )
        for name in sorted(files, key=CHECKPOINT_FILES.index):
            path = self._folder(experiment) / name
            with written_whole(path) as temporary:
                temporary.write_bytes(files[name])
                if path.suffix == ".safetensors":
                    self._check_owner(path, _tensors().read_tensors(temporary)[1], experiment)
                elif name == "history.json":
                    unsealed(files[name], f"training history {path}", TRAIN_AGAIN)
        if self.is_trained(experiment):
            self.resume_path(experiment).unlink(missing_ok=True)

    def _folder(self, experiment: Trainable) -> Path:
        return self.root / "experiments" / experiment.key

    @staticmethod
    def _check_owner(path: Path, notes: dict[str, str], experiment: Trainable) -> None:
        if notes.get("key") != experiment.key:
            raise StoreError(
                f"checkpoint {path} belongs to experiment {notes.get('key')}, not {experiment.key}; "
                "delete it to train again"
            )


_holders: set[tuple[Path, int]] = set()  # (store, thread) of this process that computes


def _locked(file: IO) -> bool:
    """Whether the lock was free; it is taken then."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

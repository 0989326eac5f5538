"""Tasks that fail: tried again, then left out and kept with their reason, while all others go on."""

import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from simreg_core.lab.files import DiskFull, write_text
from simreg_core.lab.measuring.registry import in_words
from simreg_core.lab.running.processes import ProcessDied
from simreg_core.lab.specs import Evaluation, Trainable
from simreg_core.lab.store import Store
from simreg_core.lab.training import TrainingError

RETRIES = 2  # of a failed task; of a training that diverged none, since it would again
FAILED_IN_A_ROW = 30  # attempts; where none succeeds between them, it is not for the tasks


class RunnerError(RuntimeError):
    """Workers that cannot continue; what they had finished is in the store."""


@dataclass(frozen=True)
class Failure:
    """A task that failed for good, in words, with its key and the last of its errors."""

    key: str
    what: str
    error: Exception

    @property
    def reason(self) -> str:
        """'ValueError: no such thing', in one line."""
        return f"{type(self.error).__name__}: {' '.join(str(self.error).split())}"


@dataclass
class Failures:
    """Of the tasks of a stage, as they come.  found: those that failed for good."""

    found: list[Failure] = field(default_factory=list)
    _attempts: Counter = field(default_factory=Counter)
    _in_a_row: int = 0

    def again(self, arguments: tuple, error: Exception) -> bool:
        """Note that a task failed; whether it is to be tried again.  arguments: of the task; the store is the last.

        What failed for good is written down at once: the next task may end the whole run.

        Raises RunnerError where all has failed for a while, and where the disk is full: no other task would end.
        """
        key, what = _key(*arguments), described(*arguments)
        if isinstance(error, DiskFull):
            raise RunnerError(
                f"{what} failed: {error}; what was finished is kept: make room, and run again to continue"
            ) from error
        if isinstance(error, ProcessDied):
            error = RunnerError(f"a worker process died by {error} while {what}")
        failure = Failure(key, what, error)
        self._attempts[key] += 1
        self._in_a_row += 1
        if self._in_a_row >= FAILED_IN_A_ROW:
            raise RunnerError(
                f"{FAILED_IN_A_ROW} attempts in a row have failed, at last {what} ({failure.reason}); what was "
                "finished is kept: run again to continue"
            ) from error
        again = not isinstance(error, TrainingError) and self._attempts[key] <= RETRIES
        if not again:
            self.found.append(failure)
            keep([failure], arguments[-1])
        print(f"{what} failed{'; trying again' if again else ''} ({failure.reason})", file=sys.stderr, flush=True)
        return again

    def succeeded(self) -> None:
        """Note that a task was done."""
        self._in_a_row = 0


def described(experiment: Trainable, evaluation: Evaluation | None, *_) -> str:
    """What a task does: 'training ...' or 'measuring ... of ...'."""
    doing = "training" if evaluation is None else f"measuring {in_words(evaluation)} of"
    return f"{doing} {experiment.title} (experiment {experiment.key})"


def _key(experiment: Trainable, evaluation: Evaluation | None, *_) -> str:
    return experiment.key if evaluation is None else f"{experiment.key}/{evaluation.key}"


def keep(failures: Iterable[Failure], store: Store) -> None:
    """Write down what failed, beside what failed before and is still not there."""
    path = _path(store)
    kept = {key: words for key, words in kept_failures(store).items() if not _is_done(key, store)}
    kept |= {one.key: f"{one.what}: {one.reason}" for one in failures}
    if kept:
        write_text(path, json.dumps(kept, indent=1) + "\n")
    else:
        path.unlink(missing_ok=True)


def kept_failures(store: Store) -> dict[str, str]:
    """What failed in a store for good and was not done since: words by key, 'experiment' or 'experiment/evaluation'.

    A file that cannot be read holds none: it is for a reader only.
    """
    try:
        found = json.loads(_path(store).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: words for key, words in found.items() if not _is_done(key, store)} if isinstance(found, dict) else {}


def _path(store: Store) -> Path:
    return store.root / "failed.json"


def _is_done(key: str, store: Store) -> bool:
    records, experiments = store.root / "records", store.root / "experiments"
    return (records / f"{key}.json" if "/" in key else experiments / key / "weights.safetensors").is_file()


def raise_failures(failures: list[Failure]) -> None:
    """Raise what failed, if anything: a single error as it is, several as a RunnerError that names each."""
    if not failures:
        return
    if len(failures) == 1:
        raise failures[0].error
    listed = "; ".join(f"{one.what}: {one.reason}" for one in failures)
    raise RunnerError(f"{len(failures)} tasks failed, all others are done: {listed}; run again to try these again")

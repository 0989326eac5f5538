"""When the state of a training is written."""

from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING

from torch import Tensor

from simreg_core.lab.training.resume import state_of

if TYPE_CHECKING:
    from simreg_core.lab.training.loop import Run

SECONDS = 30.0  # at least, from one state to the next: written after each epoch, a disk would set the pace of a GPU


class Checkpoints:
    """Writes the state of a training after its epochs, beside the next epoch; a context manager around them.

    The first epoch's state is written at once, then one every `SECONDS` at most. A training that is stopped by an
    exception, as Ctrl-C and SIGTERM are, loses the epoch under way only: the last state is written then. One that is
    killed loses what it did since the last state, half a minute or an epoch.
    """

    def __init__(self, run: "Run"):
        self._run = run
        self._writer = ThreadPoolExecutor(1)
        self._written: Future | None = None
        self._due = 0.0  # when the next state is written
        self._state: dict[str, Tensor] = {}  # after the last epoch, on the CPU
        self._history: list[dict] = []
        self._best: dict[str, Tensor] | None = None  # the best weights that are in it
        self._waits = False  # to be written

    def __enter__(self) -> "Checkpoints":
        return self

    def after_epoch(self) -> None:
        """Take the state, and write it where it is time.  Raises what the last writing raised."""
        if self._written is not None and self._written.done():
            self._written.result()
        self._state, self._history, self._waits = self._copied(), list(self._run.history), True
        if monotonic() >= self._due:
            self._write()

    def __exit__(self, kind, error, trace) -> None:
        try:
            if error is not None and self._waits:
                self._write()
            if self._written is not None:
                self._written.result()
        finally:
            self._writer.shutdown()

    def _copied(self) -> dict[str, Tensor]:
        same = self._best is self._run.best  # replaced as a whole, never changed
        self._best = self._run.best
        kept = {name: tensor for name, tensor in self._state.items() if same and name.startswith("best.")}
        fresh = {name: tensor for name, tensor in state_of(self._run).items() if name not in kept}
        return {**kept, **{name: tensor.to("cpu", copy=True) for name, tensor in fresh.items()}}

    def _write(self) -> None:
        if self._written is not None:
            self._written.result()
        run = self._run
        self._written = self._writer.submit(run.store.save_resume, run.experiment, self._state, self._history)
        self._due, self._waits = monotonic() + SECONDS, False

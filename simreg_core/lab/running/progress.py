"""Progress with an estimate of the time left: bars in a terminal or notebook, lines in a log file."""

import sys
import time

from tqdm.auto import tqdm

SECONDS_BETWEEN_LINES = 10


class Progress:
    """Counts work in any unit; use as a context manager.

    total: work to be done; none is all done.  label: what is being done.  Written to standard error: how much is done
    in all, and in a terminal or notebook a line for each worker.
    """

    def __init__(self, total: float, label: str):
        self.total, self.label = total, label
        self.done = 0.0
        self._start = self._last = time.monotonic()
        self._bar = None
        self._lines: dict[int, tqdm] = {}
        if sys.stderr.isatty() or "ipykernel" in sys.modules:
            self._bar = tqdm(total=100, desc=label, bar_format="{l_bar}{bar}| {elapsed} gone, {remaining} left")

    @property
    def share(self) -> float:
        """How much of the work is done, in [0, 1]."""
        return self.done / self.total if self.total > 0 else 1.0

    def advance(self, work: float, worker: int | None = None, doing: str = "") -> None:
        """Add work done.  worker: a number of the one who did it.  doing: what it is at."""
        self.done = min(self.total, self.done + work)
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(100 * self.share - self._bar.n)
            if worker is not None:
                self._line_of(worker).set_description_str(f"  worker {list(self._lines).index(worker) + 1}: {doing}")
        elif now - self._last >= SECONDS_BETWEEN_LINES and self.share > 0:
            self._last = now
            left = (now - self._start) * (1 - self.share) / self.share
            print(f"{self.label}: {100 * self.share:.0f} %, {duration(left)} left", file=sys.stderr)

    def _line_of(self, worker: int) -> tqdm:
        if worker not in self._lines:
            self._lines[worker] = tqdm(total=0, position=len(self._lines) + 1, bar_format="{desc}", leave=False)
        return self._lines[worker]

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        for line in self._lines.values():
            line.close()
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """'45 s', '12 min' or '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

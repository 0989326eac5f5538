"""Progress with an estimate of the time left: a bar in a terminal or notebook, lines in a log file."""

import sys
import time

from tqdm.auto import tqdm

SECONDS_BETWEEN_LINES = 10


class Progress:
    """Counts work in any unit; use as a context manager.

    total: work to be done; none is all done.  label: what is being done.  Written to standard error.
    """

    def __init__(self, total: float, label: str):
        self.total, self.label = total, label
        self.done = 0.0
        self._start = self._last = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() or "ipykernel" in sys.modules:
            self._bar = tqdm(total=100, desc=label, bar_format="{l_bar}{bar}| {elapsed} gone, {remaining} left")

    @property
    def share(self) -> float:
        """How much of the work is done, in [0, 1]."""
        return self.done / self.total if self.total > 0 else 1.0

    def advance(self, work: float) -> None:
        """Add work done."""
        self.done = min(self.total, self.done + work)
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(100 * self.share - self._bar.n)
        elif now - self._last >= SECONDS_BETWEEN_LINES and self.share > 0:
            self._last = now
            left = (now - self._start) * (1 - self.share) / self.share
            print(f"{self.label}: {100 * self.share:.0f} %, {duration(left)} left", file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """'45 s', '12 min' or '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

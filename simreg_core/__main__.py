"""`python -m simreg_core`, and the command `simreg`."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from simreg_core.lab.errors import not_installed

STOPPED = 130  # exit status after Ctrl-C, as shells have it


def main() -> None:
    """Run a command of the laboratory.

    Without its packages one line says what to install. After Ctrl-C one line says that it was stopped.
    """
    _open_closed_streams()
    if was_stopped(lambda: _laboratory()()):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would only disturb the end
        print("simreg: stopped; run again to go on", file=sys.stderr)
        raise SystemExit(STOPPED)


def was_stopped(command: Callable[[], None]) -> bool:
    """Whether Ctrl-C stopped it."""
    try:
        command()
    except KeyboardInterrupt:  # also while modules are loaded
        return True
    except SystemExit as end:  # typer makes one of it
        if end.code != STOPPED:
            raise
        return True
    return False


def _laboratory() -> Callable[[], None]:
    try:
        from simreg_core.lab.cli import main as command
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("simreg_core"):
            raise
        print(f"simreg: {not_installed('the command', error)}", file=sys.stderr)
        raise SystemExit(2) from None
    return command


def _open_closed_streams() -> None:
    """Give the standard streams that a shell has closed to nothing: files opened later would else take their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


if __name__ == "__main__":
    main()

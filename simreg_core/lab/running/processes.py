"""Processes that each do one task at a time; where one dies, what it was doing and why are known."""

import faulthandler
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}  # faulthandler tells of them


SECONDS_TO_STOP = 5.0


class Stopped(BaseException):
    """Raised in a task whose process gets SIGTERM: it is to end soon, and may write down how far it is."""


class ProcessDied(RuntimeError):
    """A process that ended in the midst of its task; the message says how, in the words of `way_of_death`."""


def way_of_death(exit_code: int) -> str:
    """How a process ended, from its exit code: a negative one is a signal's number."""
    if exit_code >= 0:
        return f"exit status {exit_code}"
    try:
        name = signal.Signals(-exit_code)
    except ValueError:
        return f"signal {-exit_code}"
    if name == signal.SIGKILL:
        return "SIGKILL (killed from outside; where memory ran out, the system does that)"
    if name in CRASHES:
        return f"{name.name} (a crash in compiled code; where Python was then stands on standard error)"
    return name.name


class _Process:
    """This side of a process: its task, while it has one."""

    def __init__(self, start: Callable[[int], None] | None, number: int):
        self.number = number
        context = multiprocessing.get_context("spawn")  # a forked torch may hang
        self.connection, other = context.Pipe()
        self.task = None
        self.process: BaseProcess = context.Process(target=_work, args=(other, os.getpid(), start, number))
        self.process.start()
        other.close()  # or its end would not be seen when the process dies

    def begin(self, task, function: Callable, arguments: tuple) -> None:
        self.task = task
        with suppress(BrokenPipeError):  # it has died since its last task: `next_event` will say so
            self.connection.send((function, arguments))

    def next_event(self) -> tuple[str, Any]:
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return "died", ProcessDied(way_of_death(self.process.exitcode))

    def stop(self) -> None:
        """Let it write down how far it is, and end."""
        self.process.terminate()

    def end(self, stopped: bool) -> None:
        """Wait until it ends.  stopped: after `stop`; it is killed where it takes too long."""
        self.connection.close()
        if stopped:
            self.process.join(SECONDS_TO_STOP)
            self.process.kill()
        self.process.join()
        self.process.close()


class Processes:
    """Up to as many processes as tasks were ever under way at once; a context manager.

    start: called in each process before its first task, with the lowest number that no other has: 0, 1, ...
    A process whose task failed is ended: what the failure left behind, as a GPU in an error, goes with it.
    At the end, processes without a task end by themselves, and others are stopped; after an error all are. In a process
    that is stopped its task gets a `Stopped`, and has `SECONDS_TO_STOP` before it is killed.
    """

    def __init__(self, start: Callable[[int], None] | None = None):
        self._start = start
        self._processes: list[_Process] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, kind, error, trace) -> None:
        stopped = [one for one in self._processes if error is not None or one.task is not None]
        for process in stopped:
            process.stop()
        for process in self._processes:
            process.end(process in stopped)
        self._processes.clear()

    @property
    def running(self) -> int:
        """Number of tasks under way."""
        return sum(process.task is not None for process in self._processes)

    def begin(self, task, function: Callable, *arguments) -> None:
        """Begin a task in a process that has none.  task: what `events` calls it; not None."""
        for process in self._processes:
            if process.task is None:
                break
        else:
            taken = {other.number for other in self._processes}
            process = _Process(self._start, min({*range(len(taken) + 1)} - taken))
            self._processes.append(process)
        process.begin(task, function, arguments)

    def events(self) -> Iterator[tuple[Any, int, str, Any]]:
        """Wait until something happens; what has happened since, each as (task, process number, kind, content).

        kind: 'report', with what the task gave to `report`; 'done', with its result; 'failed', with its exception; or
        'died', with a ProcessDied.
        """
        busy = [process for process in self._processes if process.task is not None]
        ready = wait([process.connection for process in busy])
        for process in [one for one in busy if one.connection in ready]:
            kind, content = process.next_event()
            task = process.task
            if kind != "report":
                process.task = None
            pid = process.process.pid
            if kind in ("died", "failed"):
                self._processes.remove(process)
                process.end(stopped=False)
            yield task, pid, kind, content


_connection: Connection | None = None  # of this process to the one that started it


def report(content) -> None:
    """Tell the process that began this task how far it is."""
    _connection.send(("report", content))


def _work(connection: Connection, parent: int, start: Callable[[int], None] | None, number: int) -> None:
    global _connection
    _connection = connection
    if not faulthandler.is_enabled() and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    try:
        signal.signal(signal.SIGTERM, _stop)
        _work_on(connection, parent, start, number)
    except Stopped:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)  # its end says why


def _stop(*_) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what is being written shall be whole
    raise Stopped


def _work_on(connection: Connection, parent: int, start: Callable[[int], None] | None, number: int) -> None:
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    while True:
        try:
            task = connection.recv_bytes()
        except EOFError:  # the parent needs no more
            return
        try:
            if start is not None:  # here: what fails in it, as a GPU without memory, is told like what fails in a task
                start(number)
                start = None
            function, arguments = pickle.loads(task)
            message = "done", function(*arguments)
        except Exception as error:
            message = "failed", _sendable(error)
        connection.send(message)


def _sendable(error: Exception) -> Exception:
    """The error with its traceback as a note; one that cannot travel becomes a RuntimeError that says the same."""
    note = f"in a process of its own:\n{''.join(traceback.format_exception(error))}"
    error.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error


def _leave_with(parent: int) -> None:
    """End this process when its parent was killed: an orphan would compute beside the next run."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)

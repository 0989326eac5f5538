"""Processes that do tasks: results, reports, errors, deaths; none is left behind."""

import os
import signal
import time

import pytest

from simreg_core.lab.running import processes
from simreg_core.lab.running.processes import Processes, Stopped, report, way_of_death


class Awkward(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def work(what):
    report(f"begun {what}")
    if what == "awkward":
        raise Awkward("one", "two")
    if what == "wrong":
        raise ValueError("no such thing")
    if what == "ended":
        os._exit(3)
    if what == "slow":
        time.sleep(600)
    return os.getpid()


def outcome(processes, what):
    processes.begin(what, work, what)
    found = []
    while processes.running:
        for task, _, kind, content in processes.events():
            assert task == what
            found.append((kind, content))
    assert found.pop(0) == ("report", f"begun {what}")
    ((kind, content),) = found
    return kind, content


def begin_badly(number):
    raise MemoryError(f"no room for {number}")


def test_what_fails_before_the_first_task_is_told_like_a_task_that_failed():
    with Processes(begin_badly) as processes:
        for _ in range(2):
            processes.begin("a", work, "a")
            ((task, _, kind, error),) = processes.events()
            assert (task, kind, type(error), str(error)) == ("a", "failed", MemoryError, "no room for 0")


def test_what_becomes_of_tasks():
    with Processes() as processes:
        kind, first = outcome(processes, "a")
        assert kind == "done"
        assert outcome(processes, "b") == ("done", first)  # the same process
        kind, error = outcome(processes, "wrong")
        assert (kind, type(error), str(error)) == ("failed", ValueError, "no such thing")
        assert "in work" in error.__notes__[0]
        assert outcome(processes, "after it")[1] != first  # what failed may have left a GPU in an error
        kind, error = outcome(processes, "awkward")
        assert (kind, type(error), str(error)) == ("failed", RuntimeError, "Awkward: one and two")
        kind, error = outcome(processes, "ended")
        assert (kind, str(error)) == ("died", "exit status 3")
        kind, second = outcome(processes, "c")  # in a new one
        assert kind == "done"
        assert second != first
    for process in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def number_of_this_process(wrong):
    if wrong:
        raise ValueError("no such thing")
    return _number


def keep_number(number):
    global _number
    _number = number


def test_a_process_whose_task_failed_gives_its_number_to_the_next():
    """Its number says which GPU is its own; its memory and its error go with it."""
    with Processes(keep_number) as processes:
        for name, wrong in (("a", True), ("b", False)):
            processes.begin(name, number_of_this_process, wrong)
        found = {}
        while processes.running:
            found |= {task: content for task, _, kind, content in processes.events() if kind == "done"}
        for name in ("c", "d"):
            processes.begin(name, number_of_this_process, False)
        while processes.running:
            found |= {task: content for task, _, kind, content in processes.events() if kind == "done"}
    assert found["b"] == 1
    assert {found["c"], found["d"]} == {0, 1}


def stopped():
    with Processes() as processes:
        processes.begin("slow", work, "slow")
        ((_, process, kind, _),) = processes.events()
        assert kind == "report"
        raise KeyboardInterrupt(process)


def test_after_an_error_what_runs_is_given_up():
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        stopped()
    assert time.monotonic() - started < 300
    (process,) = caught.value.args
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def work_until_stopped(path, stubborn):
    try:
        report("begun")
        time.sleep(600)
    except Stopped:
        path.write_text("how far it is")
        if stubborn:
            time.sleep(600)
        raise


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_task_that_is_stopped_may_write_how_far_it_is(tmp_path, monkeypatch, stubborn):
    monkeypatch.setattr(processes, "SECONDS_TO_STOP", 1.0 if stubborn else 300.0)

    def interrupted():
        with Processes() as both:
            for name in ("one", "other"):
                both.begin(name, work_until_stopped, tmp_path / name, stubborn)
            begun: list = []
            while len(begun) < 2:
                begun += both.events()
            raise KeyboardInterrupt(*[process for _, process, *_ in begun])

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    assert [(tmp_path / name).read_text() for name in ("one", "other")] == ["how far it is"] * 2
    for process in caught.value.args:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (1, "exit status 1"),
        (-signal.SIGTERM, "SIGTERM"),
        (-signal.SIGBUS, "SIGBUS (a crash in compiled code; where Python was then stands on standard error)"),
        (-63, "signal 63"),
    ],
)
def test_ways_of_death(code, said):
    assert way_of_death(code) == said

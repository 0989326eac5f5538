"""Tests whose process dies: named once with the signal, and all others are run."""

import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

from crashes import OneCrashEach

from simreg_core.lab.specs import PROJECT

FILES = {
    "test_a.py": """
import os
def test_before(): pass
def test_segfault(): os.kill(os.getpid(), 11)
def test_after(): pass
""",
    "test_b.py": """
import time
def test_slow(): time.sleep(4)  # until the process that replaces the dead one has begun, on a busy machine too
def test_next(): pass
""",
    "test_c.py": """
import os
def test_killed(): os.kill(os.getpid(), 9)
""",
    "test_d.py": "def test_last(): pass",
}
OPTIONS = ("-p", "xdist", "-p", "crashes", "-v", "-n", "2", "--dist", "loadfile", "-c", os.devnull)


def test_a_crash_is_named_once_and_all_other_tests_are_run(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    path = os.pathsep.join([str(Path(__file__).parent), str(PROJECT)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, "--rootdir", tmp_path, tmp_path],
        env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # others take seconds to load
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, 5 passed" in done.stdout
    assert "test_a.py::test_segfault did not end: its process died by SIGSEGV (a crash" in done.stdout
    assert "test_c.py::test_killed did not end: its process died by SIGKILL (killed from outside" in done.stdout
    assert "INTERNALERROR" not in done.stdout
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert 'test_a.py", line 4 in test_segfault' in done.stderr


class Dead:
    """A process that died and whose death xdist has not heard of yet."""

    def send_runtest_some(self, indices):
        raise OSError("cannot send (already closed?)")


def test_what_a_dead_process_cannot_be_given_waits_for_another():
    scheduler, node = object.__new__(OneCrashEach), Dead()
    scheduler.registered_collections = {node: ["a::one", "b::two"]}
    scheduler.assigned_work = {node: {}}
    scheduler.workqueue = OrderedDict(a={"a::one": False}, b={"b::two": False})
    scheduler._assign_work_unit(node)
    assert list(scheduler.workqueue) == ["a", "b"]
    assert scheduler.assigned_work == {node: {}}

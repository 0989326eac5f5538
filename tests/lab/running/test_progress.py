"""Progress in a log file, and durations as people say them."""

import pytest

from simreg_core.lab.running import progress
from simreg_core.lab.running.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "said"), [(3.2, "3 s"), (89, "89 s"), (120, "2 min"), (5000, "83 min"), (7200, "2.0 h")]
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_a_log_gets_lines_with_the_time_left(monkeypatch, capsys):
    clock = iter([0.0, 2.0, 15.0, 16.0, 30.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.delitem(progress.sys.modules, "ipykernel", raising=False)
    with Progress(100, "training") as bar:
        for work in (5, 20, 5, 20):
            bar.advance(work)
    # a line at most every ten seconds: after 15 s a quarter is done, after 30 s a half
    assert capsys.readouterr().err.splitlines() == ["training: 25 %, 45 s left", "training: 50 %, 30 s left"]


def test_no_work_is_all_done(monkeypatch, capsys):
    clock = iter([0.0, 20.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.delitem(progress.sys.modules, "ipykernel", raising=False)
    with Progress(0, "nothing") as bar:
        bar.advance(0)
    assert capsys.readouterr().err.splitlines() == ["nothing: 100 %, 0 s left"]

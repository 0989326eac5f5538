"""Worker processes: out of GPU memory, dead workers, two processes on one store."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from simreg_core.lab import recipes
from simreg_core.lab.running.compute import compute
from simreg_core.lab.running.plan import Plan
from simreg_core.lab.running.progress import Progress
from simreg_core.lab.running.workers import RunnerError, Workers
from simreg_core.lab.store import Store


def greedy(folder: Path, name: str, cost: float) -> None:
    """A task that needs all memory for itself, and says so as torch does."""
    own = folder / f"{name}.running"
    own.touch()
    try:
        while name != "too much" and not (folder / "met").exists():  # until both workers are up
            if len(list(folder.glob("*.running"))) > 1:
                (folder / "met").touch()
            time.sleep(0.05)
        time.sleep(0.5)
        if len(list(folder.glob("*.running"))) > 1 or name == "too much":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        (folder / f"{name}.done").touch()
    finally:
        own.unlink()


def killed(experiment, evaluation, store, cost: float) -> None:
    os.kill(os.getpid(), int(cost))


def test_out_of_memory_goes_on_with_fewer_workers(tmp_path, capsys):
    names = ["a", "b", "c"]
    with Workers(2) as workers:
        assert workers([(greedy, (tmp_path, name), 1.0) for name in names], Progress(3, "test")) == []
        assert workers.limit == 1
        with pytest.raises(RunnerError, match=r"does not suffice for one worker alone: CUDA out of memory"):
            workers([(greedy, (tmp_path, "too much"), 1.0)], Progress(1, "test"))
    assert sorted(path.stem for path in tmp_path.glob("*.done")) == names
    assert "out of GPU memory with 2 workers; going on with 1" in capsys.readouterr().err


def test_a_worker_that_dies_is_reported_with_its_task_and_signal(tiny, store, capfd):
    one, fgsm = recipes.experiment(tiny, "S^Th", 0), recipes.fgsm(tiny)
    for number, evaluation, doing, how in (
        (signal.SIGSEGV, None, "training", r"SIGSEGV \(a crash in compiled code"),
        (signal.SIGKILL, fgsm, "measuring transferred FGSM of", r"SIGKILL \(killed from outside; where memory ran out"),
    ):
        said = rf"a worker process died by {how}.* while {doing} resnet10, threshold, seed 0 \(experiment {one.key}\)"
        with Workers(1) as workers, pytest.raises(RunnerError, match=said):
            workers([(killed, (one, evaluation, store), float(number))], Progress(1, "test"))
    said = capfd.readouterr().err
    assert "Fatal Python error: Segmentation fault" in said
    assert "in killed" in said  # where it was


def test_numbers_of_workers():
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        Workers(0)


def test_a_second_process_waits_and_computes_only_what_is_missing(tiny, store, capsys):
    one = recipes.experiment(tiny, "none", 0)
    holder = f"""
import sys, time, torch
from simreg_core.lab import recipes
from simreg_core.lab.specs import load_profile
from simreg_core.lab.store import Store
from simreg_core.lab.training import train
store = Store({str(store.root)!r})
with store.computing() as waited:
    assert not waited
    print("holding", flush=True)
    time.sleep(2)
    train(recipes.experiment(load_profile({str(Path(__file__).parents[2] / "profiles" / "tiny.yaml")!r}), "none", 0),
          store, torch.device("cpu"))
"""
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holding\n"
    compute(Plan((one,), ()), store, "test")
    assert process.wait() == 0
    assert f"process {process.pid} computes here; waiting for it" in capsys.readouterr().out
    assert store.is_trained(one)
    assert not store.resume_path(one).exists()


def test_a_killed_process_leaves_no_lock(tmp_path):
    store = Store(tmp_path)
    code = f"from simreg_core.lab.store import Store\nimport os\nwith Store({str(tmp_path)!r}).computing(): os._exit(1)"
    subprocess.run([sys.executable, "-c", code], check=False)
    with store.computing() as waited:
        assert not waited

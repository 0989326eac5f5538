"""Worker processes: out of GPU memory, dead workers, two processes on one store."""

import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch

from simreg_core.lab import recipes
from simreg_core.lab.running import workers as workers_module
from simreg_core.lab.running.compute import compute
from simreg_core.lab.running.plan import Plan
from simreg_core.lab.running.progress import Progress
from simreg_core.lab.running.workers import Workers, default_workers
from simreg_core.lab.store import Store
from simreg_core.lab.training import Run


def greedy(experiment, evaluation, store, cost: float) -> None:
    """A task that needs all memory for itself, and says so as torch does; with alpha 9 it needs even more."""
    own = store.root / f"{experiment.key}.running"
    own.touch()
    try:
        while experiment.regularizer.alpha != 9 and not (store.root / "met").exists():  # until both workers are up
            if len(list(store.root.glob("*.running"))) > 1:
                (store.root / "met").touch()
            time.sleep(0.05)
        time.sleep(0.5)
        if len(list(store.root.glob("*.running"))) > 1 or experiment.regularizer.alpha == 9:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        (store.root / f"{experiment.key}.done").touch()
    finally:
        own.unlink()


def killed(experiment, evaluation, store, cost: float) -> None:
    if cost:
        os.kill(os.getpid(), int(cost))
    (store.root / "done").touch()


def fails_once(experiment, evaluation, store, cost: float) -> None:
    if not (store.root / "failed").exists():
        (store.root / "failed").touch()
        raise OSError("the disk of the network is away")
    (store.root / "done").touch()


@pytest.fixture
def folder(store):
    store.root.mkdir(parents=True)
    return store.root


def test_out_of_memory_goes_on_with_fewer_workers(tiny, store, folder, capsys):
    some = [recipes.experiment(tiny, "S^Th", seed) for seed in range(3)]
    with Workers(2) as workers:
        assert workers([(greedy, (one, None, store), 1.0) for one in some], Progress(3, "test")) == []
        assert workers.limit == 1
        too_much = recipes.experiment(tiny, "S^Th", 0, alpha=9)
        (failure,) = workers([(greedy, (too_much, None, store), 1.0)], Progress(1, "test"))
    assert "RunnerError: the GPU's memory does not suffice for one worker alone: CUDA out of memory" in failure.reason
    assert sorted(path.stem for path in folder.glob("*.done")) == sorted(one.key for one in some)
    assert "out of GPU memory with 2 workers; going on with 1" in capsys.readouterr().err


def test_a_worker_that_dies_is_replaced_twice_and_the_others_go_on(tiny, store, folder, capfd):
    one, fgsm = recipes.experiment(tiny, "S^Th", 0), recipes.fgsm(tiny)
    tasks = [(killed, (one, fgsm, store), float(signal.SIGSEGV)), (killed, (one, None, store), 0.0)]
    with Workers(1) as workers:
        (failure,) = workers(tasks, Progress(1, "test"))
    assert (folder / "done").exists()
    assert failure.key == f"{one.key}/{fgsm.key}"
    assert "a worker process died by SIGSEGV (a crash in compiled code" in failure.reason
    assert f"while measuring transferred FGSM of resnet10, threshold, seed 0 (experiment {one.key})" in failure.reason
    said = capfd.readouterr().err
    assert said.count("failed; trying again (RunnerError: a worker process died by SIGSEGV") == 2
    assert "Fatal Python error: Segmentation fault" in said
    assert "in killed" in said  # where it was


def test_what_failed_is_tried_again(tiny, store, folder, capsys):
    with Workers(1) as workers:
        task = (fails_once, (recipes.experiment(tiny, "none", 0), None, store), 1.0)
        assert workers([task], Progress(1, "test")) == []
    assert (folder / "done").exists()
    assert "failed; trying again (OSError: the disk of the network is away)" in capsys.readouterr().err


def test_memory_is_free_when_a_failed_training_leaves_it(tiny, store, monkeypatch):
    """The error's traceback held the training, so that nothing could be given back; and the retry met a full GPU."""
    alive, seen = [], []

    def full(run, *_):
        alive.append(weakref.ref(run.network))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Run, "_step", full)
    monkeypatch.setattr(workers_module, "report", lambda content: None)
    monkeypatch.setattr(workers_module, "leave_memory", lambda: seen.append(alive[0]() is None))
    with pytest.raises(torch.OutOfMemoryError):
        workers_module.train_task(recipes.experiment(tiny, "S^Th", 0), None, store, 1.0)
    assert seen == [True]


def test_numbers_of_workers(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        Workers(0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(workers_module, "cores", lambda: 6)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert default_workers() == 2  # one for each GPU: several would wait for each other
    (tmp_path / "control").touch()
    assert default_workers() == 6  # four for each GPU, but not more than there are cores


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

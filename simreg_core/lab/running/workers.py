"""Worker processes on this machine: one per core, or several that share a GPU, fewer where its memory runs out."""

import os
import sys
from collections import deque
from collections.abc import Callable

import torch

from simreg_core.lab.devices import default_device
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.registry import in_words
from simreg_core.lab.predictors import fit
from simreg_core.lab.running.processes import Processes, report
from simreg_core.lab.running.progress import Progress
from simreg_core.lab.specs import Evaluation, Experiment, Fit, NeuralExperiment, Trainable
from simreg_core.lab.store import Store
from simreg_core.lab.training import TrainingError, fit_artefact, train

# glibc gives large blocks back to the kernel after each use by default: 20 to 35 % of a small network's time
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33), "OMP_NUM_THREADS": "1"}
WORKERS_PER_GPU = 4  # workers that share one by default: a single small network leaves most of it idle

Task = tuple[Callable, tuple, float]  # function, arguments, cost; called with the arguments and the cost


class RunnerError(RuntimeError):
    """Workers that cannot continue; what they had finished is in the store."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """How many workers compute at once: one per core, or a few per GPU."""
    return WORKERS_PER_GPU * torch.cuda.device_count() if torch.cuda.is_available() else cores()


def check_workers(count: int | None) -> int:
    """The number of workers asked for, or the default.  Raises ValueError below 1."""
    if count is not None and count < 1:
        raise ValueError(f"workers must be at least 1, got {count}")
    return count or default_workers()


class Workers:
    """Runs tasks in single-thread processes; a context manager.

    count: at most so many at once; see `default_workers` where empty.
    Two threads in one process are far slower than two processes, so each has one.
    """

    def __init__(self, count: int | None = None):
        self.limit = check_workers(count)
        self._before = {name: os.environ.get(name) for name in ALLOCATOR}
        if not torch.cuda.is_available():
            os.environ.update(ALLOCATOR)  # read by each worker as it starts
        self._processes = Processes(_start_worker)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        # an error or Ctrl-C: what runs is given up and resumed the next time
        self._processes.__exit__(*exception)

    def __call__(self, tasks: list[Task], progress: Progress) -> list[TrainingError]:
        """Run tasks.  Returns the trainings that diverged; any other error ends the run.

        A task that finds the GPU's memory full is put back, and from then on half as many run at once.
        Raises RunnerError where a worker died, or where a single task is too much for the GPU.
        """
        # the longest first, so that no core waits long at the end; equal ones in the order given
        waiting = deque(sorted(tasks, key=lambda task: -task[2]))
        diverged = []
        while waiting or self._processes.running:
            while waiting and self._processes.running < self.limit:
                function, arguments, cost = task = waiting.popleft()
                self._processes.begin(task, function, *arguments, cost)
            for task, worker, kind, content in self._processes.events():
                if kind == "report":
                    work, doing = content
                    progress.advance(work, worker, doing)
                elif kind == "died":
                    raise RunnerError(
                        f"a worker process died by {content} while {_described(task)}; what was finished is kept: run "
                        "again to continue"
                    )
                elif isinstance(content, TrainingError):
                    diverged.append(content)
                elif isinstance(content, torch.OutOfMemoryError):
                    self._go_on_with_fewer(self._processes.running + 1, content)
                    waiting.appendleft(task)
                elif kind == "failed":
                    raise content
        return diverged

    def _go_on_with_fewer(self, running: int, error: torch.OutOfMemoryError) -> None:
        """running: how many shared the GPU when its memory did not suffice."""
        if running == 1:
            raise RunnerError(f"the GPU's memory does not suffice for one worker alone: {error}") from error
        self.limit = min(self.limit, max(1, running // 2))
        print(f"out of GPU memory with {running} workers; going on with {self.limit}", file=sys.stderr)


def _described(task: Task) -> str:
    """What a task does, for its worker's obituary."""
    _, (experiment, evaluation, _), _ = task
    doing = "training" if evaluation is None else f"measuring {in_words(evaluation)} of"
    return f"{doing} {experiment.title} (experiment {experiment.key})"


def _start_worker(number: int) -> None:
    torch.set_num_threads(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())


def trainer_of(experiment: Trainable) -> Callable:
    """What trains or fits it: called with it, a store, a device and a function that is told of progress."""
    return {Experiment: train, NeuralExperiment: fit, Fit: fit_artefact}[type(experiment)]


def train_task(experiment: Trainable, _: None, store: Store, cost: float) -> None:
    """A worker's task: train, and report the work done."""
    with_progress = trainer_of(experiment)
    done = 0.0

    def advance(share: float) -> None:
        nonlocal done
        done += share
        report((share * cost, f"{experiment.title} trained {done:.0%}"))

    try:
        with_progress(experiment, store, default_device(), advance)
    finally:
        _leave_gpu_memory()


def evaluate_task(experiment: Experiment, evaluation: Evaluation, store: Store, cost: float) -> None:
    """A worker's task: evaluate, and report the work done."""
    doing = f"{experiment.title}, {in_words(evaluation)}"
    report((0.0, doing))
    try:
        evaluate(experiment, evaluation, store, default_device())
    finally:
        _leave_gpu_memory()
    report((cost, f"{doing} done"))


def _leave_gpu_memory() -> None:
    """What torch keeps for itself is out of the other workers' reach."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""Worker processes on this machine: one per core, or several that share a GPU, fewer where its memory runs out."""

import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from simreg_core.lab.devices import default_device, leave_memory, out_of_memory
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.registry import in_words
from simreg_core.lab.predictors import fit
from simreg_core.lab.running.failures import Failure, Failures, RunnerError
from simreg_core.lab.running.processes import Processes, report
from simreg_core.lab.running.progress import Progress
from simreg_core.lab.specs import Evaluation, Experiment, Fit, NeuralExperiment, Trainable
from simreg_core.lab.store import Store
from simreg_core.lab.training import fit_artefact, train

# glibc gives large blocks back to the kernel after each use by default: 20 to 35 % of a small network's time
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33), "OMP_NUM_THREADS": "1"}
WORKERS_PER_GPU = 4  # that share one by default, where they can: a single small network leaves most of it idle
MPS_PIPES = "/tmp/nvidia-mps"  # where NVIDIA's MPS listens if CUDA_MPS_PIPE_DIRECTORY says nothing else

Task = tuple[Callable, tuple, float]  # function, arguments, cost; called with the arguments and the cost


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers() -> int:
    """How many workers compute at once: one per core; or one per GPU, and a few where NVIDIA's MPS runs.

    Without MPS a GPU runs the kernels of one process at a time, so several would only share its memory.
    """
    if not torch.cuda.is_available():
        return cores()
    sharing = WORKERS_PER_GPU if mps_runs() else 1
    return min(sharing * torch.cuda.device_count(), cores())


def mps_runs() -> bool:
    """Whether NVIDIA's Multi-Process Service listens on this machine."""
    return (Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", MPS_PIPES)) / "control").exists()


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

    def __call__(self, tasks: list[Task], progress: Progress) -> list[Failure]:
        """Run tasks.  Returns those that failed, each after as many attempts as `Failures` grants it.

        A task that finds the GPU's memory full is put back, and from then on half as many run at once.
        Raises RunnerError where attempt after attempt fails.
        """
        # the longest first, so that no core waits long at the end; equal ones in the order given
        waiting = deque(sorted(tasks, key=lambda task: -task[2]))
        failures = Failures()
        while waiting or self._processes.running:
            while waiting and self._processes.running < self.limit:
                function, arguments, cost = task = waiting.popleft()
                self._processes.begin(task, function, *arguments, cost)
            for task, worker, kind, content in self._processes.events():
                if kind == "report":
                    work, doing = content
                    progress.advance(work, worker, doing)
                elif kind == "done":
                    failures.succeeded()
                elif (full := out_of_memory(content)) and self._processes.running > 0:
                    self._go_on_with_fewer(self._processes.running + 1)
                    waiting.appendleft(task)
                else:
                    if full:
                        content = RunnerError(f"the GPU's memory does not suffice for one worker alone: {full}")
                    if failures.again(task[1], content):
                        waiting.append(task)  # what is wrong with the machine may be over by then
        return failures.found

    def _go_on_with_fewer(self, running: int) -> None:
        """running: how many shared the GPU when its memory did not suffice."""
        self.limit = min(self.limit, max(1, running // 2))
        print(f"out of GPU memory with {running} workers; going on with {self.limit}", file=sys.stderr)


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

    with _memory_left():
        with_progress(experiment, store, default_device(), advance)


def evaluate_task(experiment: Experiment, evaluation: Evaluation, store: Store, cost: float) -> None:
    """A worker's task: evaluate, and report the work done."""
    doing = f"{experiment.title}, {in_words(evaluation)}"
    report((0.0, doing))
    with _memory_left():
        evaluate(experiment, evaluation, store, default_device())
    report((cost, f"{doing} done"))


@contextmanager
def _memory_left() -> Iterator[None]:
    """Leaves the GPU's memory to others, also after an error, whose traceback would hold the network and its images."""
    try:
        yield
    except Exception as error:
        one: BaseException | None = error
        while one is not None:
            traceback.clear_frames(one.__traceback__)
            one = one.__cause__ or one.__context__
        raise
    finally:
        leave_memory()

"""Computes a plan on the machines of a Ray cluster; nothing but this process writes the store.

A task is one training or one evaluation, in a temporary store on its machine: the checkpoints that it needs travel
there as bytes and its result travels back. No shared file system is needed, but simreg and the image sets are, on
every machine. A machine that is lost costs what it was computing: Ray runs that again on another.
"""

import logging
import os
import secrets
import socket
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch

from simreg_core.lab.devices import default_device
from simreg_core.lab.files import StoreError
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.running.failures import Failure, Failures, RunnerError
from simreg_core.lab.running.progress import Progress
from simreg_core.lab.running.workers import ALLOCATOR, trainer_of
from simreg_core.lab.specs import Evaluation, Trainable, dependencies
from simreg_core.lab.store import Store
from simreg_core.lab.training import TrainingError

RETRIES = 5  # of a task whose machine was lost; its own errors are not retried
CONNECT_SECONDS = 10
THIS_MACHINE = "127.0.0.1"
LOCAL = "local"  # a new Ray; without an address Ray would join any that runs on this machine, also another user's
CHECKPOINTS_KEPT = 32  # in Ray's memory, for the next task that needs them


@dataclass(frozen=True)
class Outcome:
    """What came back from a machine.

    checkpoint: files of a training.  record: of an evaluation.
    diverged: the message of a TrainingError.  error: type and message of any other.  details: its traceback.
    """

    machine: str
    checkpoint: dict[str, bytes] = field(default_factory=dict)
    record: bytes = b""
    diverged: str = ""
    error: str = ""
    details: str = ""


class TaskError(RunnerError):
    """A task that failed on a machine, or was lost with machine after machine."""


class RayExecutor:
    """An executor of `compute.compute` on a Ray cluster; use as a context manager.

    address: of the cluster's head, host:port, or 'auto', a Ray that already runs here; empty: what RAY_ADDRESS says,
    else a Ray of this machine only is started and ended again, which others do not reach.
    workers_per_gpu: tasks that share a GPU, where the cluster has any when it is entered; else a task takes one core.
    Raises RunnerError where Ray is not installed or not reached, or the cluster has nothing to compute on.
    """

    def __init__(self, address: str = "", workers_per_gpu: int = 1):
        if workers_per_gpu < 1:
            raise ValueError(f"workers_per_gpu must be at least 1, got {workers_per_gpu}")
        self.address, self.workers_per_gpu = address, workers_per_gpu
        self.gpus = 0

    def __enter__(self) -> "RayExecutor":
        self._ray = _imported_ray()
        self._connected_here = not self._ray.is_initialized()
        if self._connected_here:
            self._connect()
        resources = self._ray.cluster_resources()
        self.gpus = int(resources.get("GPU", 0))
        if not resources.get("CPU"):
            self.__exit__()
            raise RunnerError("the Ray cluster has no core to compute on: start a worker with `ray start --address`")
        return self

    def __exit__(self, *exception) -> None:
        if self._connected_here:
            self._ray.shutdown()

    def _connect(self) -> None:
        address = self.address or os.environ.get("RAY_ADDRESS") or LOCAL
        if address not in ("auto", LOCAL):
            _check_reachable(address)
        alone = {}
        if address == LOCAL:
            alone["_node_ip_address"] = THIS_MACHINE
            # Ray asks for a token then, and keeps none in the user's home
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a Ray that is started here
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns of a change to come
        options = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False, **alone}
        try:
            with _bound_to_this_machine() if alone else nullcontext():
                self._ray.init(address, **options)
        except Exception as error:  # Ray raises many types, its own and others
            where = f"at '{address}'" if address != LOCAL else "on this machine"
            raise RunnerError(
                f"Ray {where} was not joined or started (this machine must be one of the cluster's, with its token "
                f"and RAY_AUTH_MODE=token, where it asks for one): {error}"
            ) from error

    def describe(self) -> str:
        """The cluster in one line."""
        resources = self._ray.cluster_resources()
        machines = sum(one["Alive"] for one in self._ray.nodes())
        return f"Ray: {machines} machine(s), {resources.get('CPU', 0):.0f} cores, {self.gpus} GPUs"

    def __call__(self, tasks: list, progress: Progress) -> list[Failure]:
        """Run the tasks of a stage.  Returns those that failed, each after as many attempts as `Failures` grants it.

        tasks: (function, (experiment, evaluation or None, store), cost); the function is that of the local executor.
        Raises RunnerError where a machine cannot run simreg, a result cannot be stored, or attempt after attempt fails.
        """
        waiting = sorted(tasks, key=lambda task: task[2])  # the longest last, to be taken first
        submit = self._submitter()
        running: dict = {}
        failures = Failures()
        try:
            while waiting or running:
                while waiting and len(running) < self._at_once():
                    task = waiting.pop()
                    running[submit(*task[1])] = task
                # not before a result is on this machine: one that was not fetched is lost with its machine
                done, _ = self._ray.wait(list(running), timeout=1, fetch_local=True)
                for reference in done:
                    task = running.pop(reference)
                    try:
                        outcome = self._result(reference, task[1][0])
                    except (TrainingError, TaskError) as error:
                        if failures.again(task[1], error):
                            waiting.insert(0, task)
                    else:
                        failures.succeeded()
                        _keep(outcome, *task[1])
                        progress.advance(task[2])
            return failures.found
        finally:
            for reference in running:
                self._ray.cancel(reference, force=True)

    def _submitter(self) -> Callable:
        """Submits a task with the checkpoints that it needs; each is put into Ray's memory once."""
        per_task = {"num_gpus": 1 / self.workers_per_gpu} if self.gpus else {"runtime_env": {"env_vars": ALLOCATOR}}
        remote = self._ray.remote(compute_on_machine).options(num_cpus=1, max_retries=RETRIES, **per_task)

        @lru_cache(maxsize=CHECKPOINTS_KEPT)
        def put(experiment: Trainable, store: Store):
            return self._ray.put((experiment, store.checkpoint_files(experiment)))

        def submit(experiment: Trainable, evaluation: Evaluation | None, store: Store):
            needed = {one.key: one for one in (*dependencies(experiment, evaluation), experiment)}
            checkpoints = [put(one, store) for one in needed.values()]
            return remote.remote(experiment, evaluation, experiment.key, bool(self.gpus), *checkpoints)

        return submit

    def _at_once(self) -> int:
        """Tasks under way or next in line: machines may join and leave, and few checkpoints shall lie in memory."""
        resources = self._ray.cluster_resources()
        slots = resources.get("GPU", 0) * self.workers_per_gpu if self.gpus else resources.get("CPU", 0)
        return max(2, 2 * int(slots))

    def _result(self, reference, experiment: Trainable) -> Outcome:
        """What came back.  Raises TrainingError or TaskError where the task failed."""
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # what `compute_on_machine` raises, it returns
            raise RunnerError(
                f"a machine of the Ray cluster cannot run simreg; is the same version installed there? {error}"
            ) from error
        except self._ray.exceptions.RayError as error:
            raise TaskError(
                f"experiment {experiment.key} was lost with its machine or worker {RETRIES + 1} times "
                f"({' '.join(str(error).split())})"
            ) from error
        if outcome.diverged:
            raise TrainingError(outcome.diverged)
        if outcome.error:
            failure = TaskError(f"on machine {outcome.machine}: {outcome.error}")
            failure.add_note(outcome.details)
            raise failure
        return outcome


def _imported_ray():
    try:
        import ray
    except ImportError as error:
        raise RunnerError(
            f"executor 'ray' needs the package ray, which cannot be imported ({error}): pip install -e \".[ray]\""
        ) from error
    return ray


@contextmanager
def _bound_to_this_machine() -> Iterator[None]:
    """Within it a Ray that is told 127.0.0.1 takes it, as where it forms no clusters; else an address others reach."""
    from ray._private import ray_constants

    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _check_reachable(address: str) -> None:
    """Raise RunnerError where nothing answers at host:port, which Ray itself would notice after minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise RunnerError(f"the address of a Ray cluster must be host:port (Ray's port is 6379), got '{address}'")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise RunnerError(f"no Ray cluster answers at '{address}': {error}") from error


def _keep(outcome: Outcome, experiment: Trainable, evaluation: Evaluation | None, store: Store) -> None:
    """Write a result into the store, checked."""
    try:
        if evaluation is None:
            store.receive_checkpoint(experiment, outcome.checkpoint)
        else:
            store.receive_record(experiment, evaluation, outcome.record)
    except StoreError as error:
        raise RunnerError(f"the result of machine {outcome.machine} was not stored: {error}") from error


def compute_on_machine(
    experiment: Trainable, evaluation: Evaluation | None, key: str, gpu: bool, *checkpoints: tuple
) -> Outcome:
    """A task of the cluster: train, or evaluate where an evaluation is given.  Errors are returned, not raised.

    key: the experiment's, as computed where the task comes from.  checkpoints: (experiment, files) that are needed.
    """
    machine = socket.gethostname()
    torch.set_num_threads(1)  # one task per core, as in the local executor
    try:
        if experiment.key != key:
            raise RunnerError(f"experiment {key} is {experiment.key} here: another version of simreg is installed")
        with tempfile.TemporaryDirectory(prefix="simreg-") as folder:
            return _computed(experiment, evaluation, gpu, checkpoints, Store(Path(folder)), machine)
    except TrainingError as error:
        return Outcome(machine, diverged=str(error))
    except Exception as error:  # also a fault of a library: its type and machine must reach the user
        return Outcome(machine, error=f"{type(error).__name__}: {error}", details=traceback.format_exc())


def _computed(experiment, evaluation, gpu: bool, checkpoints: tuple, store: Store, machine: str) -> Outcome:
    for one, files in checkpoints:
        store.receive_checkpoint(one, files)
    device = default_device() if gpu else torch.device("cpu")
    if evaluation is not None:
        evaluate(experiment, evaluation, store, device)
        return Outcome(machine, record=store.record_bytes(experiment, evaluation))
    trainer_of(experiment)(experiment, store, device)
    return Outcome(machine, checkpoint=store.checkpoint_files(experiment))

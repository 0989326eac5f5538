"""Two machines in one: what a lost one computed is computed again on the other, and nothing else is."""

import builtins
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from simreg_core.lab import ray_executor, studies
from simreg_core.lab.evaluation import evaluate
from simreg_core.lab.experiment import FgsmEvaluation, dependencies
from simreg_core.lab.ray_executor import RayExecutor
from simreg_core.lab.runner import Plan, RunnerError, compute, plan
from simreg_core.lab.store import Store, StoreError
from simreg_core.lab.training import TrainingError, train

ray = pytest.importorskip("ray")
CPU = torch.device("cpu")
QUICKLY = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
MEMORY = 100 * 2**20  # bytes of each machine's object store


@pytest.fixture(scope="module")
def cluster():
    """A head and a second machine, each with one core, and a connection to them: workers import torch once."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False, "_system_config": QUICKLY}
        two = Cluster(initialize_head=True, head_node_args=head)
        two.second = two.add_node(num_cpus=1, object_store_memory=MEMORY)
        with RayExecutor(two.address):
            yield two
        two.shutdown()


def test_a_lost_machine_costs_one_experiment(cluster, tiny, store, tmp_path, monkeypatch):
    log = tmp_path / "log"
    log.mkdir()
    first, second, third = (studies.experiment(tiny, "S^Th", seed) for seed in range(3))
    neural = studies.experiment(tiny, "S^neural", 0)
    fgsm = studies.fgsm(tiny)
    asked = [(one, studies.noise(tiny, "gaussian")) for one in (first, second, neural)] + [(first, fgsm)]
    todo = plan([*asked, (third, studies.noise(tiny, "gaussian"))], store)
    train(third, store, CPU)  # finished before: not to be trained again
    todo = plan([*asked, (third, studies.noise(tiny, "gaussian"))], store)
    monkeypatch.setattr(ray_executor, "compute_on_machine", _watched(log, cluster.second.node_id))
    killer = threading.Thread(target=_kill_when_busy, args=(cluster, log))
    killer.start()
    with RayExecutor() as machines:
        compute(todo, store, "test", executor=machines)
    killer.join()

    begun = Counter(path.read_text() for path in log.glob("begun-*"))
    lost = (log / "lost").read_text()
    assert begun.pop(lost) == 2
    assert set(begun.values()) == {1}
    trained = {one.key for one in todo.trainings}
    assert third.key not in trained
    assert {name for name in (*begun, lost) if "/" not in name} == trained
    assert not plan(asked, store)
    _assert_same_as_here(asked, store, Store(tmp_path / "here"))


def _watched(log: Path, doomed: str):
    """`compute_on_machine` that notes what is begun; the first training on the doomed machine never ends."""
    compute_on_machine = ray_executor.compute_on_machine

    def watched(experiment, evaluation, *others):
        name = experiment.key if evaluation is None else f"{experiment.key}/{evaluation.key}"
        (log / f"begun-{time.monotonic_ns()}").write_text(name)
        here = ray.get_runtime_context().get_node_id()
        if here == doomed and evaluation is None:
            (log / "lost").write_text(name)
            time.sleep(600)
        return compute_on_machine(experiment, evaluation, *others)

    return watched


def _kill_when_busy(cluster, log: Path) -> None:
    while not (log / "lost").exists():
        time.sleep(0.1)
    cluster.remove_node(cluster.second, allow_graceful=False)


def _assert_same_as_here(measurements, remote: Store, here: Store) -> None:
    for experiment, evaluation in measurements:
        for one in (*dependencies(experiment, evaluation), experiment):
            if one.needs_training:
                _train_here(one, here)
        expected = evaluate(experiment, evaluation, here, CPU)
        record = remote.record(experiment, evaluation)
        assert record.values == expected.values
        assert (record.arrays, record.provenance.checksum) == (expected.arrays, expected.provenance.checksum)


def _train_here(one, store: Store) -> None:
    from simreg_core.lab.experiment import Experiment
    from simreg_core.lab.predictors import fit

    (train if isinstance(one, Experiment) else fit)(one, store, CPU)

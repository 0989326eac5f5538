"""Two machines in one: what a lost one was computing is computed again on the other, and nothing else is."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import TINY
from PIL import Image

from simreg_core.lab import recipes
from simreg_core.lab.cli import main
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.predictors import fit
from simreg_core.lab.running import ray as ray_executor
from simreg_core.lab.running.compute import compute
from simreg_core.lab.running.failures import RunnerError
from simreg_core.lab.running.plan import Plan, plan
from simreg_core.lab.running.ray import RayExecutor, compute_on_machine
from simreg_core.lab.specs import Experiment, dependencies
from simreg_core.lab.store import Store
from simreg_core.lab.training import TrainingError, train

ray = pytest.importorskip("ray")
services = pytest.importorskip("ray._private.services")
CPU = torch.device("cpu")
LOST_AFTER = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}


def started(kind, head: dict):
    """A cluster with its head; on a busy machine Ray's own processes may be late once, and Ray then gives up."""
    for _ in range(2):
        with contextlib.suppress(Exception):
            return kind(initialize_head=True, head_node_args=head)
    return kind(initialize_head=True, head_node_args=head)


@pytest.fixture(scope="module")
def cluster():
    """A head and a second machine, each with one core, and a connection to them: workers import torch once."""
    from ray.cluster_utils import Cluster

    one = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_log_monitor": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("SIMREG_DATA", raising=False)  # the machines have no image sets but the bundled ones
        two = started(Cluster, {**one, "no_monitor": True, "_system_config": LOST_AFTER})
        try:
            two.second = two.add_node(**one)
            with RayExecutor(two.address):
                yield two
        finally:
            two.shutdown()


def test_a_lost_machine_costs_one_experiment(cluster, tiny, store, tmp_path, monkeypatch):
    gaussian = recipes.noise(tiny, "gaussian")
    finished, first = (recipes.experiment(tiny, "S^Th", seed) for seed in range(2))
    neural = recipes.experiment(tiny, "S^neural", 0)
    asked = [(finished, gaussian), (first, gaussian), (neural, gaussian), (first, recipes.fgsm(tiny))]
    train(finished, store, CPU)
    todo = plan(asked, store)
    monkeypatch.setattr(ray_executor, "compute_on_machine", _watched(tmp_path, cluster.second.node_id))
    killer = threading.Thread(target=_kill_when_busy, args=(cluster, tmp_path))
    killer.start()
    with RayExecutor() as machines:
        compute(todo, store, "test", executor=machines)
    killer.join()

    begun = Counter(path.read_text() for path in tmp_path.glob("begun-*"))
    lost = (tmp_path / "lost").read_text()
    assert begun.pop(lost) == 2
    assert set(begun.values()) == {1}
    trained = {name for name in (*begun, lost) if "/" not in name}
    assert trained == {one.key for one in todo.trainings}
    assert finished.key not in trained
    assert not plan(asked, store)
    assert not list(store.root.rglob(".*"))
    _assert_same_as_here(asked, store, Store(tmp_path / "here"))


def _watched(log: Path, doomed: str):
    """`compute_on_machine` that notes what is begun; a training on the doomed machine never ends."""

    def watched(experiment, evaluation, *others):
        name = experiment.key if evaluation is None else f"{experiment.key}/{evaluation.key}"
        (log / f"begun-{time.time_ns()}").write_text(name)
        if ray.get_runtime_context().get_node_id() == doomed and isinstance(experiment, Experiment):
            (log / "lost.new").write_text(name)
            (log / "lost.new").rename(log / "lost")
            time.sleep(600)
        return compute_on_machine(experiment, evaluation, *others)

    return watched


def _kill_when_busy(cluster, log: Path) -> None:
    while not (log / "lost").exists():
        time.sleep(0.1)
    cluster.remove_node(cluster.second, allow_graceful=False)


def _assert_same_as_here(measurements, remote: Store, here: Store) -> None:
    for experiment, evaluation in measurements:
        for one in (*dependencies(experiment, evaluation), *dependencies(experiment), experiment):
            (train if isinstance(one, Experiment) else fit)(one, here, CPU)
        expected, record = evaluate(experiment, evaluation, here, CPU), remote.record(experiment, evaluation)
        assert record.values == expected.values
        assert record.provenance.checksum == expected.provenance.checksum


def test_a_diverging_training_stops_no_other(cluster, tiny, store):
    diverging = recipes.experiment(tiny, "S^Th", 0, alpha=1e30)
    sound = recipes.experiment(tiny, "none", 1)
    gaussian = recipes.noise(tiny, "gaussian")
    todo = plan([(diverging, gaussian), (sound, gaussian)], store)
    with RayExecutor() as machines, pytest.raises(TrainingError, match="diverged in epoch 1"):
        compute(todo, store, "test", executor=machines)
    assert store.record(sound, gaussian) is not None
    assert not store.is_trained(diverging)


def test_an_error_of_a_machine_names_it(cluster, tiny, store, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))  # here, and not on the machines
    (tmp_path / "mine" / "train" / "one").mkdir(parents=True)
    for index in range(40):
        Image.new("L", (16, 16), index).save(tmp_path / "mine" / "train" / "one" / f"{index}.png")
    todo = Plan((recipes.experiment(tiny, "S^Th", 0, images="mine"),), ())
    with RayExecutor() as machines, pytest.raises(RunnerError) as raised:
        compute(todo, store, "test", executor=machines)
    assert str(raised.value).startswith(f"on machine {socket.gethostname()}: DataError: unknown image set 'mine'")
    assert not store.is_trained(todo.trainings[0])


def test_the_command_computes_on_the_cluster(cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    command = ["simreg_core", "run", "--profile", str(TINY), "--only", "10_layer_weights", "--executor", "ray"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    said = capsys.readouterr().out
    assert "machine(s), " in said
    assert "4 networks to train" in said
    assert len(list((tmp_path / "runs" / "records").glob("*/*.json"))) == 4


# without a cluster


def test_another_version_on_a_machine_is_refused(tiny):
    one = recipes.experiment(tiny, "none", 0)
    outcome = compute_on_machine(one, None, "0123456789abcdef", False)
    assert outcome.error.startswith(f"RunnerError: experiment 0123456789abcdef is {one.key} here: another version")


def test_a_checkpoint_of_another_experiment_is_refused_on_the_machine(tiny, store):
    one, other = (recipes.experiment(tiny, "none", seed) for seed in range(2))
    train(other, store, CPU)
    noise = recipes.noise(tiny, "gaussian")
    outcome = compute_on_machine(one, noise, one.key, False, (one, store.checkpoint_files(other)))
    assert "StoreError: checkpoint" in outcome.error
    assert f"belongs to experiment {other.key}, not {one.key}" in outcome.error
    assert not outcome.record


def test_a_half_trained_network_goes_on_elsewhere(tiny, store):
    one = recipes.experiment(tiny, "S^Th", 0)

    def stop(share: float) -> None:
        if share == 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(one, store, CPU, stop)
    begun = store.checkpoint_files(one)
    assert sorted(begun) == ["experiment.json", "resume.safetensors"]
    outcome = compute_on_machine(one, None, one.key, False, (one, begun))
    store.receive_checkpoint(one, outcome.checkpoint)
    seconds = [epoch["seconds"] for epoch in store.history(one)["epochs"]]
    assert str(seconds[0]) in begun["resume.safetensors"].decode(errors="replace")  # not trained again
    assert not store.resume_path(one).exists()


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:1", "no Ray cluster answers at '127.0.0.1:1'"), ("head", "must be host:port .* got 'head'")],
)
def test_an_address_without_a_cluster_is_refused_at_once(address, message, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(RunnerError, match=message):
        RayExecutor(address).__enter__()


class FakeRay:
    """Notes how it is started."""

    def __init__(self):
        self.started = None

    def is_initialized(self):
        return False

    def init(self, address, **options):
        given = options.get("_node_ip_address")
        # as Ray itself does: it would make an address that others reach of one that they do not
        self.started = (address, given and services.resolve_ip_for_localhost(given))

    def cluster_resources(self):
        return {"CPU": 1}

    def shutdown(self):
        pass


@pytest.mark.parametrize(
    ("given", "named", "started"),
    [("", None, ("local", "127.0.0.1")), ("", "auto", ("auto", None)), ("auto", None, ("auto", None))],
)
def test_no_cluster_is_joined_unasked_and_nobody_joins_one_of_this_machine(given, named, started, monkeypatch):
    fake = FakeRay()
    monkeypatch.setattr("ray._private.worker._global_node", None)  # of the cluster above
    monkeypatch.setattr(ray_executor, "_imported_ray", lambda: fake)
    here = {name: value for name, value in os.environ.items() if name not in ("RAY_AUTH_TOKEN", "RAY_ADDRESS")}
    monkeypatch.setattr(os, "environ", here if named is None else {**here, "RAY_ADDRESS": named})
    with RayExecutor(given):
        assert fake.started == started
    assert len(os.environ.get("RAY_AUTH_TOKEN", "")) == (64 if started[0] == "local" else 0)


def test_a_cluster_that_is_not_joined_is_asked_for_its_token(monkeypatch):
    """Ray itself only says that it failed to connect."""
    fake = FakeRay()
    monkeypatch.setattr(ray_executor, "_imported_ray", lambda: fake)
    monkeypatch.setattr(fake, "init", lambda *_, **options: 1 / 0)
    with pytest.raises(RunnerError, match=r"Ray at 'auto' was not joined .*RAY_AUTH_MODE=token, where it asks for one"):
        RayExecutor("auto").__enter__()

"""Tasks that fail: how often they are tried, what is kept of them, when all is given up."""

import errno
import itertools
import pickle

import pytest
import torch
from conftest import in_this_process

from simreg_core.lab import recipes
from simreg_core.lab.files import StoreError, written_whole
from simreg_core.lab.make.status import status
from simreg_core.lab.running.compute import compute
from simreg_core.lab.running.failures import FAILED_IN_A_ROW, Failures, RunnerError, kept_failures
from simreg_core.lab.running.plan import Plan, plan
from simreg_core.lab.running.processes import ProcessDied
from simreg_core.lab.training import TrainingError, train


def failing_in_this_process(tasks, progress):
    failures = Failures()
    for task in tasks:
        error = None
        while error is None or failures.again(task[1], error):
            try:
                in_this_process([task], progress)
                break
            except (ValueError, TrainingError) as found:
                error = found
    return failures.found


def test_what_fails_is_tried_twice_more_and_what_diverges_is_not(tiny, store):
    failures, task = Failures(), (recipes.experiment(tiny, "none", 0), recipes.fgsm(tiny), store)
    assert [failures.again(task, ProcessDied("SIGKILL")) for _ in range(3)] == [True, True, False]
    assert not failures.again((recipes.experiment(tiny, "none", 1), None, store), TrainingError("diverged"))
    died, diverged = failures.found
    assert died.reason.startswith("RunnerError: a worker process died by SIGKILL while measuring transferred FGSM of")
    assert diverged.reason == "TrainingError: diverged"


def test_where_all_fails_it_is_given_up(tiny, store):
    failures, last = Failures(), (recipes.experiment(tiny, "none", FAILED_IN_A_ROW), None, store)
    for _ in range(2):
        for seed in range(FAILED_IN_A_ROW - 1):
            failures.again((recipes.experiment(tiny, "none", seed), None, store), OSError("no GPU"))
        failures.succeeded()
    for seed in range(FAILED_IN_A_ROW - 1):
        failures.again((recipes.experiment(tiny, "none", seed), None, store), OSError("no GPU"))
    with pytest.raises(
        RunnerError, match=f"^{FAILED_IN_A_ROW} attempts in a row .* at last training .*OSError: no GPU"
    ):
        failures.again(last, OSError("no GPU"))


def test_a_full_disk_ends_all_at_once(tiny, store):
    """Each other task would train for an epoch before it meets the full disk, three times."""
    with pytest.raises(
        RunnerError, match=r"^training .* failed: cannot write .*: no space left on the disk; .* make room"
    ):
        Failures().again((recipes.experiment(tiny, "none", 0), None, store), full_disk(store.root / "resume"))


@pytest.mark.parametrize("end", ["full disk", "Ctrl-C", "all fail"])
def test_what_failed_is_kept_also_where_the_stage_does_not_end(tiny, store, end):
    broken, other = (recipes.experiment(tiny, "none", seed) for seed in range(2))

    def executor(tasks, progress):
        failures, error = Failures(), ValueError("no such thing")
        while failures.again((broken, None, store), error):
            pass
        if end == "Ctrl-C":
            raise KeyboardInterrupt
        for seed in range(FAILED_IN_A_ROW):
            task = (recipes.experiment(tiny, "S^Th", seed), None, store)
            failures.again(task, full_disk(store.root / "resume") if end == "full disk" else error)

    with pytest.raises(KeyboardInterrupt if end == "Ctrl-C" else RunnerError):
        compute(Plan((broken, other), ()), store, "test", executor=executor)
    assert kept_failures(store) == {
        broken.key: f"training {broken.title} (experiment {broken.key}): ValueError: no such thing"
    }


def full_disk(path):
    with pytest.raises(StoreError) as said, written_whole(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    return pickle.loads(pickle.dumps(said.value))  # as it comes from a worker


def test_one_failure_ends_nothing_else_and_is_kept_until_it_is_done(tiny, store, capsys, monkeypatch):
    """A checkpoint that was damaged: everything but what is measured of it is computed."""
    monkeypatch.setenv("SIMREG_RUNS", str(store.root))
    broken, sound = (recipes.experiment(tiny, "none", seed) for seed in range(2))
    diverging, gaussian = recipes.experiment(tiny, "S^Th", 0, alpha=1e30), recipes.noise(tiny, "gaussian")
    todo = [(broken, gaussian), (diverging, gaussian), (sound, gaussian)]
    train(broken, store, torch.device("cpu"))
    whole = store.weights_path(broken).read_bytes()
    store.weights_path(broken).write_bytes(whole[:-1])
    with pytest.raises(RunnerError, match=r"^2 tasks failed, all others are done: training .*; run again to try these"):
        compute(plan(todo, store), store, "test", executor=failing_in_this_process)
    assert store.has_record(sound, gaussian)
    reasons = kept_failures(store)
    assert reasons.keys() == {diverging.key, f"{broken.key}/{gaussian.key}"}
    assert f"(experiment {broken.key}): StoreError: checkpoint" in reasons[f"{broken.key}/{gaussian.key}"]
    assert capsys.readouterr().err.count("trying again (StoreError") == 2
    assert sum(line.startswith("FAILED: ") for line in itertools.islice(status(tiny), 5)) == 2

    store.weights_path(broken).write_bytes(whole)
    with pytest.raises(TrainingError, match="diverged"):  # a single failure is raised as it is
        compute(plan(todo, store), store, "test", executor=failing_in_this_process)
    assert kept_failures(store).keys() == {diverging.key}
    compute(plan([(sound, recipes.noise(tiny, "uniform"))], store), store, "test", executor=in_this_process)
    assert kept_failures(store).keys() == {diverging.key}


def test_a_single_failure_keeps_its_kind(tiny, store):
    one, gaussian = recipes.experiment(tiny, "none", 0), recipes.noise(tiny, "gaussian")
    train(one, store, torch.device("cpu"))
    store.weights_path(one).write_bytes(b"nothing")
    with pytest.raises(StoreError, match="is corrupt"):
        compute(plan([(one, gaussian)], store), store, "test", executor=failing_in_this_process)

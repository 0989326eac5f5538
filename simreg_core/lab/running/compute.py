"""Computes what is missing: trainings first, then evaluations, as many at once as the machine has cores."""

import multiprocessing
from collections.abc import Callable
from contextlib import nullcontext

import torch

from simreg_core.lab import checks
from simreg_core.lab.image_files import TORCHVISION, DataError
from simreg_core.lab.images import load_image_set
from simreg_core.lab.inputs import Checksums
from simreg_core.lab.running.estimate import Costs
from simreg_core.lab.running.failures import Failure, RunnerError, keep, raise_failures
from simreg_core.lab.running.plan import Plan
from simreg_core.lab.running.progress import Progress
from simreg_core.lab.running.workers import Workers, evaluate_task, train_task
from simreg_core.lab.specs import (
    AnyExperiment,
    Evaluation,
    Experiment,
    NeuralExperiment,
    Profile,
    SpecError,
    Trainable,
    dependencies,
    to_train,
)
from simreg_core.lab.store import Store

# runs the tasks of a stage (see `_stages`) and returns those that failed
Executor = Callable[[list, Progress], list[Failure]]


def compute(
    todo: Plan,
    store: Store,
    label: str,
    costs: Costs | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
) -> None:
    """Compute a plan and store the results; what was finished stays where a later part fails.

    costs: given, steps that it has timed before are not timed again.
    workers: how many tasks run at once on this machine, see `workers.default_workers`.
    executor: where the tasks run instead.
    One process computes in a store at a time: another waits, and then computes what is still missing.

    A task that fails does not stop the others: it is tried again, as `Failures` says, then kept with its reason, and
    what depends on it is left out.
    Raises at the end what failed: the error of a single task (DataError, StoreError, TrainingError, ValueError), and
    RunnerError where a worker died or several tasks failed.
    """
    if not todo:
        return
    if multiprocessing.parent_process() is not None:
        raise RunnerError("a worker process would compute all over again: put this under if __name__ == '__main__':")
    check(todo, store)
    for name in sorted(_torchvision_sets(todo)):
        load_image_set(name, "train")  # downloaded here, not by several workers at once
    if problems := checks.pair_problems(todo.trainings, lambda name: name in TORCHVISION):
        raise DataError("; ".join(problems))
    with store.computing():
        store.sweep()
        _compute(todo.still_missing(store), store, label, costs or Costs(), workers, executor)


def _compute(
    todo: Plan, store: Store, label: str, costs: Costs, workers: int | None, executor: Executor | None
) -> None:
    stages = _stages(todo, store, costs)
    total = sum(cost for stage in stages for *_, cost in stage)
    failed: list[Failure] = []
    with Progress(total, label) as progress, nullcontext(executor) if executor else Workers(workers) as run:
        for stage in stages:
            failed += run([task for task in stage if _is_ready(*task[1])], progress)
    keep(failed, store)  # most are already, see `Failures`; and what is done by now is not kept any longer
    raise_failures(failed)


def _stages(todo: Plan, store: Store, costs: Costs) -> list[list]:
    """Tasks of workers: (function, arguments, cost), each stage needing those before it."""
    by_level: dict[int, list] = {0: [], 1: []}
    for one in todo.trainings:
        by_level.setdefault(_level(one), []).append(one)
    training = [
        [(train_task, (experiment, None, store), costs.training(experiment)) for experiment in by_level[level]]
        for level in sorted(by_level)
    ]
    measuring = [
        (evaluate_task, (experiment, evaluation, store), costs.evaluation(experiment, evaluation))
        for experiment, evaluation in todo.measurements
    ]
    timing = [[task] for task in measuring if task[1][1].times_steps]
    return [*training, [task for task in measuring if not task[1][1].times_steps], *timing]


def _level(experiment: Trainable) -> int:
    """In which stage it is trained: fits first, then networks, those that start from others after these."""
    if not isinstance(experiment, Experiment):
        return 0
    return 1 + (0 if experiment.parent is None else _level(experiment.parent))


def _is_ready(experiment: AnyExperiment, evaluation: Evaluation | None, store: Store) -> bool:
    """Whether what a task needs is trained: not where a training before it diverged."""
    needed = dependencies(experiment) if evaluation is None else to_train(experiment, evaluation)
    return all(store.is_trained(one) for one in needed)


def _torchvision_sets(todo: Plan) -> set[str]:
    """Those that the trainings and measurements of a plan read."""
    found = set()
    measured = (experiment for experiment, evaluation in todo.measurements if not evaluation.times_steps)
    for one in (*todo.trainings, *measured):
        if isinstance(one, NeuralExperiment):
            found.add(getattr(one.source, "images", None))
        else:
            own = getattr(one, "regularizer", None)  # a fit has none
            found |= {one.task.images, *([] if own is None else [own.images])}
    return found & TORCHVISION.keys()


def missing_image_sets(todo: Plan, store: Store | None = None) -> list[str]:
    """One line for each thing that a plan lacks or that does not fit, before anything is trained; see `lab.checks`.

    Only what the plan computes is looked at, and nothing is downloaded. store: where checksums of image sets are kept.
    """
    found = checks.problems(todo.trainings, todo.measurements, Checksums(store))
    return [*found, *checks.pair_problems(todo.trainings, lambda name: name not in TORCHVISION)]


def check(todo: Plan, store: Store) -> None:
    """Raise DataError with all that `missing_image_sets` finds."""
    if problems := missing_image_sets(todo, store):
        raise DataError("; ".join(problems))


def check_profile(profile: Profile, todo: Plan, store: Store, without_gpu: bool) -> None:
    """Refuse a plan of a profile that cannot be computed, as `check`, and one that needs a GPU where there is none.

    without_gpu: compute it all the same; else SpecError. A plan without anything to compute is never refused.
    """
    check(todo, store)
    if not (todo and profile.needs_gpu) or torch.cuda.is_available() or without_gpu:
        return
    raise SpecError(
        f"profile '{profile.name}' needs a GPU for {len(todo.trainings)} networks and {len(todo.measurements)} "
        f"attacks, and this machine has none; --without-gpu (make figures PROFILE={profile.name} WITHOUT_GPU=1; "
        "run(without_gpu=True) in a notebook) computes them here, and first says how long that takes"
    )

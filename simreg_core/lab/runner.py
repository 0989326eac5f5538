"""Computes what is missing: trainings first, then evaluations, as many at once as the machine has cores."""

import multiprocessing
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from math import prod

import torch
from torch.utils.flop_counter import FlopCounterMode

from simreg_core.architectures import architecture
from simreg_core.lab import checks
from simreg_core.lab.data import load_image_set
from simreg_core.lab.devices import default_device
from simreg_core.lab.image_files import TORCHVISION, DataError, count_images
from simreg_core.lab.inputs import Checksums, learned
from simreg_core.lab.measuring.registry import passes_of
from simreg_core.lab.progress import Progress, duration
from simreg_core.lab.running.plan import Plan
from simreg_core.lab.specs import (
    Evaluation,
    Experiment,
    Fit,
    Network,
    NeuralExperiment,
    Predictor,
    Profile,
    Simulated,
    SpecError,
    dependencies,
    to_train,
)
from simreg_core.lab.steps import seconds_per_step, timed
from simreg_core.lab.store import Store
from simreg_core.lab.training import TrainingError, steps_per_epoch
from simreg_core.lab.training.rules import rule_of, stages_of, transforms
from simreg_core.lab.workers import RunnerError, Workers, cores, evaluate_task, train_task
from simreg_core.model import BLOCKS
from simreg_core.names import FIT_BATCH
from simreg_core.neural import V1Predictor

SECONDS_A_FIT = 10.0  # of an artefact, about: for an estimate alone


# runs the tasks of a stage (see `_stages`) and returns the trainings that diverged
Executor = Callable[[list, Progress], list[TrainingError]]


def compute(
    todo: Plan,
    store: Store,
    label: str,
    costs: "Costs | None" = None,
    workers: int | None = None,
    executor: Executor | None = None,
) -> None:
    """Compute a plan and store the results; what was finished stays where a later part fails.

    costs: given, steps that it has timed before are not timed again.
    workers: how many tasks run at once on this machine, see `workers.default_workers`.
    executor: where the tasks run instead.
    One process computes in a store at a time: another waits, and then computes what is still missing.

    A training that diverges does not stop the others; what depends on it is left out.
    Raises the first error of a worker (DataError, StoreError, TrainingError, ValueError), or RunnerError
    where a worker died.
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
    todo: Plan, store: Store, label: str, costs: "Costs", workers: int | None, executor: Executor | None
) -> None:
    stages = _stages(todo, store, costs)
    total = sum(cost for stage in stages for *_, cost in stage)
    diverged = []
    with Progress(total, label) as progress, nullcontext(executor) if executor else Workers(workers) as run:
        for stage in stages:
            diverged += run([task for task in stage if _is_ready(*task[1])], progress)
    if diverged:
        raise diverged[0]


def _stages(todo: Plan, store: Store, costs: "Costs") -> list[list]:
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


def _level(experiment: Experiment | NeuralExperiment | Fit) -> int:
    """In which stage it is trained: fits first, then networks, those that start from others after these."""
    if not isinstance(experiment, Experiment):
        return 0
    return 1 + (0 if experiment.parent is None else _level(experiment.parent))


def _is_ready(experiment: Experiment | NeuralExperiment, evaluation: Evaluation | None, store: Store) -> bool:
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


def estimate_seconds(todo: Plan, costs: "Costs | None" = None) -> float:
    """Seconds that a plan will take on this machine, from a few timed training steps.

    costs: given, steps that it has timed before are not timed again.
    """
    return (costs or Costs()).seconds(todo) / (1 if torch.cuda.is_available() else cores())


def describe(name: str, todo: Plan, costs: "Costs | None" = None) -> str:
    """What a plan computes and how long it takes on this machine, in one line."""
    return (
        f"{name}: {len(todo.trainings)} networks to train and {len(todo.measurements)} attacks to run, "
        f"about {duration(estimate_seconds(todo, costs))}"
    )


class Costs:
    """Estimated seconds on one core (or the GPU) of trainings and evaluations, measured on random pixels."""

    def __init__(self):
        self._step_seconds: dict[str, float] = {}

    def seconds(self, todo: Plan) -> float:
        """Seconds to compute a plan."""
        trainings = sum(self.training(experiment) for experiment in todo.trainings)
        return trainings + sum(self.evaluation(*measurement) for measurement in todo.measurements)

    def training(self, experiment: Experiment) -> float:
        """Seconds to train an experiment from the start."""
        if isinstance(experiment, NeuralExperiment):
            return self._fit(experiment)
        if isinstance(experiment, Fit):
            return SECONDS_A_FIT
        passes = rule_of(experiment.adversarial).passes()
        more = passes * self._step(_bare(experiment)) if passes else 0
        return _steps(experiment) * (self._step(experiment) + more)

    def evaluation(self, experiment: Experiment, evaluation: Evaluation) -> float:
        """Seconds to attack a trained experiment."""
        if isinstance(experiment, NeuralExperiment):
            return passes_of(experiment, evaluation) / MULTIPLICATIONS_A_SECOND
        bare = _bare(experiment)
        batch = bare.optimization.batch_size
        # a training step is a forward pass and about two more backwards
        return passes_of(experiment, evaluation) * self._step(bare) / (3 * batch)

    def _fit(self, experiment: NeuralExperiment) -> float:
        """Seconds to fit a predictor, from one timed step on a small one; of a recording of the simulation's size."""
        source = experiment.source if isinstance(experiment.source, Simulated) else Simulated()
        kind = repr((experiment.predictor, source))
        if kind not in self._step_seconds:
            self._step_seconds[kind] = seconds_per_fit_step(experiment.predictor, source)
        steps = experiment.predictor.epochs * steps_per_epoch(source.count, FIT_BATCH)
        return steps * self._step_seconds[kind]

    def _step(self, experiment: Experiment) -> float:
        spec = experiment.regularizer
        shape = (experiment.task.size, experiment.task.channels, experiment.optimization.batch_size)
        pairs = None if spec is None else (spec.size, spec.pairs_per_step)
        transformed = experiment.adversarial if transforms(rule_of(experiment.adversarial)) else None
        kind = repr((experiment.network, transformed, shape, pairs))
        if kind not in self._step_seconds:
            self._step_seconds[kind] = seconds_per_step(experiment, steps=3)
        return self._step_seconds[kind]


def _bare(experiment: Experiment) -> Experiment:
    """The same network, trained on clean images alone."""
    spec = experiment.adversarial
    return experiment.changed(regularizer=None, adversarial=spec if transforms(rule_of(spec)) else None)


def _steps(experiment: Experiment) -> int:
    """Steps of the whole training."""
    batch_size = experiment.optimization.batch_size
    epochs = sum(stage.epochs for stage in stages_of(experiment))
    return epochs * steps_per_epoch(_training_images(experiment), batch_size)


MULTIPLICATIONS_A_SECOND = 1e9  # of a core in double precision, about: for an estimate alone


def seconds_per_fit_step(settings: Predictor, source: Simulated, steps: int = 3) -> float:
    """Median seconds of a step of fitting a predictor, on random responses, on one core or the GPU."""
    device = default_device()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(FIT_BATCH, 1, *source.size, generator=generator).to(device)
    predictor = V1Predictor(
        source.size, source.neurons, settings.channels, settings.kernel, settings.layers, settings.layer_kernel
    ).to(device)

    def step() -> None:
        predictor.zero_grad()
        predictor(images).sum().backward()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step()  # the first call allocates
        return sorted(timed(step, device) for _ in range(steps))[steps // 2]
    finally:
        torch.set_num_threads(threads)


A100_SECONDS = 34 * 60  # of `_A100_EXPERIMENT`, printed by the authors (CCN 2024 paper)
_BLOCKS = {name: sum(blocks) for name, blocks in BLOCKS.items()}


def a100_seconds(todo: Plan) -> float:
    """Seconds that a plan takes on one A100, scaled from the authors' 34 minutes for ResNet18 on CIFAR-10.

    Counts multiply-adds alone, so it is rough; small networks take longer than it says, and so do architectures that a
    GPU makes less use of than of a ResNet.
    """
    reference = _pixels_a_step(64, (32, 32), 16, (32, 32)) * 40 * steps_per_epoch(49_500, 64)
    reference *= _BLOCKS["resnet18"] * 64**2
    networks = [one for one in todo.trainings if isinstance(one, Experiment)]  # predictors take minutes in all
    attacks = [one for one in todo.measurements if isinstance(one[0], Experiment)]
    return A100_SECONDS * (sum(map(_training_work, networks)) + sum(_attack_work(*one) for one in attacks)) / reference


def check_profile(profile: Profile, todo: Plan, store: Store, without_gpu: bool) -> None:
    """Refuse a plan of a profile that cannot be computed, as `check`, and one that needs a GPU where there is none.

    without_gpu: allowed all the same; else SpecError with an estimate. A plan without anything to compute is never
    refused.
    """
    check(todo, store)
    if not (todo and profile.needs_gpu) or torch.cuda.is_available() or without_gpu:
        return
    raise SpecError(
        f"profile '{profile.name}' needs a GPU: {len(todo.trainings)} networks and {len(todo.measurements)} attacks, "
        f"about {a100_seconds(todo) / 3600:.0f} h on one A100 at the authors' pace, and far longer without any; "
        f"--without-gpu (make figures PROFILE={profile.name} WITHOUT_GPU=1; run(without_gpu=True) in a notebook) does "
        "it all the same, and says how long it takes here"
    )


def _pixels_a_step(batch: int, size: tuple[int, int], pairs: int, pair_size: tuple[int, int]) -> int:
    return batch * size[0] * size[1] + 2 * pairs * pair_size[0] * pair_size[1]


def _network_work(experiment: Experiment) -> float:
    """Multiply-adds for a pixel, in units of 18: what a residual block of width 1 has, its stage counted."""
    network = experiment.network
    if network.name in _BLOCKS:
        return _BLOCKS[network.name] * network.width**2
    return _multiplications(network, experiment.task.size, experiment.task.channels) / (18 * prod(experiment.task.size))


@lru_cache
def _multiplications(network: Network, size: tuple[int, int], channels: int) -> float:
    """Multiply-adds of another architecture for one image, counted without computing them."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        built = architecture(network.name, size, channels, width=network.width).eval()  # batch norm: of one
        built(torch.empty(1, channels, *size))
    return counter.get_total_flops() / 2


def _training_work(experiment: Experiment) -> float:
    task, spec, batch_size = experiment.task, experiment.regularizer, experiment.optimization.batch_size
    pairs, pair_size = (0, (0, 0)) if spec is None else (spec.pairs_per_step, spec.size or task.size)
    a_step = _pixels_a_step(batch_size, task.size, pairs, pair_size) * _network_work(experiment)
    return _steps(experiment) * a_step


def _attack_work(experiment: Experiment, evaluation: Evaluation) -> float:
    h, w = experiment.task.size
    # a training step is a forward pass and about two more backwards
    return passes_of(experiment, evaluation) * h * w * _network_work(experiment) / 3


def _training_images(experiment: Experiment) -> int:
    """Number of training images, found without decoding or downloading them."""
    task = experiment.task
    if task.train_images is not None:
        return task.train_images
    return count_images(task.images, "train") - (0 if "validation" in learned(task.images) else task.validation_images)

"""How long a plan takes on this machine: from a few timed steps on random pixels, and the number of steps."""

import torch

from simreg_core.lab.devices import default_device
from simreg_core.lab.image_files import count_images
from simreg_core.lab.inputs import learned
from simreg_core.lab.measuring.registry import passes_of
from simreg_core.lab.running.plan import Plan
from simreg_core.lab.running.progress import duration
from simreg_core.lab.running.workers import cores
from simreg_core.lab.specs import (
    AnyExperiment,
    Evaluation,
    Experiment,
    Fit,
    NeuralExperiment,
    Predictor,
    Simulated,
    Trainable,
)
from simreg_core.lab.steps import median_seconds, seconds_per_pass, seconds_per_step
from simreg_core.lab.training import is_recorded, steps_per_epoch
from simreg_core.lab.training.rules import rule_of, stages_of, transforms
from simreg_core.names import FIT_BATCH
from simreg_core.neural import V1Predictor

SECONDS_A_FIT = 10.0  # of an artefact, about
MULTIPLICATIONS_A_SECOND = 1e9  # per core in double precision, about


class Costs:
    """Estimated seconds on one core (or the GPU) of trainings and evaluations, measured on random pixels."""

    def __init__(self):
        self._step_seconds: dict[str, float] = {}

    def seconds(self, todo: Plan) -> float:
        """Seconds to compute a plan."""
        trainings = sum(self.training(experiment) for experiment in todo.trainings)
        return trainings + sum(self.evaluation(*measurement) for measurement in todo.measurements)

    def training(self, experiment: Trainable) -> float:
        """Seconds to train an experiment from the start."""
        if isinstance(experiment, NeuralExperiment):
            return self._fit(experiment)
        if isinstance(experiment, Fit):
            return SECONDS_A_FIT
        passes = rule_of(experiment.adversarial).passes()
        recorded = is_recorded(experiment, default_device())  # as the passes of its attack then are
        more = passes * self._step(_bare(experiment), recorded) if passes else 0
        return _steps(experiment) * (self._step(experiment) + more)

    def evaluation(self, experiment: AnyExperiment, evaluation: Evaluation) -> float:
        """Seconds to attack a trained experiment."""
        if isinstance(experiment, NeuralExperiment):
            return passes_of(experiment, evaluation) / MULTIPLICATIONS_A_SECOND
        return passes_of(experiment, evaluation) * self._pass(_bare(experiment))

    def _fit(self, experiment: NeuralExperiment) -> float:
        """Seconds to fit a predictor, from one timed step on a small one; of a recording of the simulation's size."""
        source = experiment.source if isinstance(experiment.source, Simulated) else Simulated()
        kind = repr((experiment.predictor, source))
        if kind not in self._step_seconds:
            self._step_seconds[kind] = seconds_per_fit_step(experiment.predictor, source)
        steps = experiment.predictor.epochs * steps_per_epoch(source.count, FIT_BATCH)
        return steps * self._step_seconds[kind]

    def _pass(self, bare: Experiment) -> float:
        """Seconds of a forward pass of an image.  bare: as of `_bare`."""
        if default_device().type == "cpu":
            # a training step is a forward pass and about two more backwards
            return self._step(bare) / (3 * bare.optimization.batch_size)
        kind = f"a pass of {_kind(bare)}"  # a GPU attacks in float32, and far larger batches than it trains on
        if kind not in self._step_seconds:
            self._step_seconds[kind] = seconds_per_pass(bare)
        return self._step_seconds[kind]

    def _step(self, experiment: Experiment, recorded: bool | None = None) -> float:
        """recorded: as of `seconds_per_step`."""
        recorded = is_recorded(experiment, default_device()) if recorded is None else recorded
        spec, settings = experiment.regularizer, experiment.optimization
        pairs = None if spec is None else (spec.size, spec.pairs_per_step)
        kind = repr((_kind(experiment), settings.batch_size, settings.precision, pairs, recorded))
        if kind not in self._step_seconds:
            self._step_seconds[kind] = seconds_per_step(experiment, steps=3, recorded=recorded)
        return self._step_seconds[kind]


def _kind(experiment: Experiment) -> str:
    """What two networks have in common whose passes take the same time."""
    transformed = experiment.adversarial if transforms(rule_of(experiment.adversarial)) else None
    return repr((experiment.network, transformed, experiment.task.size, experiment.task.channels))


def seconds_here(seconds: float) -> str:
    """'12 min on this machine (0.4 core-hours)' of the seconds that `Costs` gives."""
    gpu = torch.cuda.is_available()
    whole = duration(seconds / (1 if gpu else cores()))
    return f"{whole} on this machine ({seconds / 3600:.1f} {'GPU' if gpu else 'core'}-hours)"


def describe(name: str, todo: Plan, costs: Costs | None = None) -> str:
    """What a plan computes and how long it takes on this machine, in one line.

    costs: given, steps that it has timed before are not timed again.
    """
    return (
        f"{name}: {len(todo.trainings)} networks to train and {len(todo.measurements)} attacks to run, "
        f"about {seconds_here((costs or Costs()).seconds(todo))}"
    )


def _bare(experiment: Experiment) -> Experiment:
    """The same network, trained on clean images only."""
    spec = experiment.adversarial
    return experiment.changed(regularizer=None, adversarial=spec if transforms(rule_of(spec)) else None)


def _steps(experiment: Experiment) -> int:
    """Steps of the whole training."""
    batch_size = experiment.optimization.batch_size
    epochs = sum(stage.epochs for stage in stages_of(experiment))
    return epochs * steps_per_epoch(_training_images(experiment), batch_size)


def seconds_per_fit_step(settings: Predictor, source: Simulated, steps: int = 3) -> float:
    """Median seconds of a step of fitting a predictor, on random responses, on one core: there all are fitted."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(FIT_BATCH, 1, *source.size, generator=generator)
    predictor = V1Predictor(
        source.size, source.neurons, settings.channels, settings.kernel, settings.layers, settings.layer_kernel
    )

    def step() -> None:
        predictor.zero_grad()
        predictor(images).sum().backward()

    return median_seconds(step, torch.device("cpu"), steps)


def _training_images(experiment: Experiment) -> int:
    """Number of training images, found without decoding or downloading them."""
    task = experiment.task
    if task.train_images is not None:
        return task.train_images
    return count_images(task.images, "train") - (0 if "validation" in learned(task.images) else task.validation_images)

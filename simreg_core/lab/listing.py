"""What a profile has to train, in words: each experiment once, with the figures that need it."""

from dataclasses import dataclass, field

from simreg_core.lab.image_files import DataError
from simreg_core.lab.runner import a100_seconds
from simreg_core.lab.running.plan import Plan
from simreg_core.lab.specs import (
    Experiment,
    Fit,
    NeuralExperiment,
    Profile,
    Published,
    Recorded,
    Simulated,
    to_train,
)
from simreg_core.lab.studies import STUDIES, study
from simreg_core.lab.training.rules import stages_of


@dataclass
class Training:
    """Experiments that differ in their seed alone.

    what: in words.  seeds: in order.  notebooks: the figures that need them, by number.
    a100_hours: of all seeds; None of V1 predictors and artefacts (minutes), and where the task's images
        are not there to be counted.
    """

    what: str
    seeds: list[int] = field(default_factory=list)
    notebooks: list[str] = field(default_factory=list)
    a100_hours: float | None = 0.0

    def __str__(self) -> str:
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {_ranges(self.seeds)}"
        hours = "" if self.a100_hours is None else f"; {self.a100_hours:.1f} h"
        return f"{self.what}; {seeds}; for {', '.join(self.notebooks)}{hours}"


def trainings(profile: Profile, todo: Plan) -> list[Training]:
    """The trainings of a plan, grouped over seeds, in the order in which the figures need them."""
    wanted = {experiment.key for experiment in todo.trainings}
    found: dict[str, Training] = {}
    counted: set[str] = set()
    for name in STUDIES:
        for experiment in needed(profile, name):
            if experiment.key not in wanted:
                continue
            one = found.setdefault(experiment.changed(seed=0).key, Training(describe(experiment)))
            if experiment.key not in counted:
                counted.add(experiment.key)
                one.seeds.append(experiment.seed)
                hours = a100_hours(Plan((experiment,), ())) if isinstance(experiment, Experiment) else None
                one.a100_hours = None if hours is None else one.a100_hours + hours
            if name[:2] not in one.notebooks:
                one.notebooks.append(name[:2])
    return list(found.values())


def a100_hours(todo: Plan) -> float | None:
    """Hours that a plan takes on one A100; None where the images to be learned or attacked are not there to count."""
    try:
        return a100_seconds(todo) / 3600
    except DataError:
        return None


def needed(profile: Profile, name: str) -> list[Experiment | NeuralExperiment | Fit]:
    """The experiments that a study trains, FGSM surrogates and predictors among them, each once."""
    experiments: dict[str, Experiment | NeuralExperiment | Fit] = {}
    for experiment, evaluation in study(name, profile).measurements():
        for one in to_train(experiment, evaluation):
            experiments[one.key] = one
    return list(experiments.values())


def describe(experiment: Experiment | NeuralExperiment | Fit) -> str:
    """An experiment in words, but for its seed."""
    if isinstance(experiment, Fit):
        return f"{experiment.made.words()} of {experiment.task.images}"
    if isinstance(experiment, NeuralExperiment):
        return f"V1 predictor of {_source(experiment.source)}"
    task, network, spec = experiment.task, experiment.network, experiment.regularizer
    colour = "gray" if task.channels == 1 else "colour"
    text = f"{colour} {task.images} {task.size[0]}x{task.size[1]}, {network.name} width {network.width}, "
    text += f"{sum(stage.epochs for stage in stages_of(experiment))} epochs"
    if network.blur is not None:
        text += f", blur {network.blur:g}"
    if network.front_end is not None:
        text += f", {network.front_end.kind} in front"
    if experiment.adversarial is not None:
        text += f", {experiment.adversarial.made.words()}"
    if spec is None:
        return f"{text}, unregularized"
    target = {
        "threshold": "S^Th", "pixel": "S^pixel", "shuffled": "shuffled S^Th", "zero": "all targets 0",
        "neural": "S^neural", "shuffled_neural": "shuffled S^neural",
    }  # fmt: skip
    pairs = "" if spec.pairs == "all" else f" of pairs '{spec.pairs}'"
    loss = f"alpha {spec.alpha:g}" if spec.alpha else "no loss"
    return (
        f"{text}, {target[spec.target]}{pairs}, {loss}, Th {spec.threshold:g}, k {spec.pairs_per_step}, "
        f"{spec.count} images of {spec.images}"
    )


def _source(source: Simulated | Recorded | Published) -> str:
    if isinstance(source, Simulated):
        return f"a simulated recording, {source.count} images of {source.images}, {source.trials} trials each"
    return f"recording '{source.recording}'" if isinstance(source, Recorded) else f"file '{source.file}'"


def _ranges(numbers: list[int]) -> str:
    """'0-6, 8' of [0, ..., 6, 8]."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)

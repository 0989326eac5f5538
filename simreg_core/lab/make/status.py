"""What of a profile's figures is done, what is missing and how long it takes, each training once and in words."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from simreg_core.lab.figures import FIGURES
from simreg_core.lab.folders import published_folder
from simreg_core.lab.image_files import DataError
from simreg_core.lab.make.figures import measurements_of, missing, studies_of
from simreg_core.lab.make.words import describe
from simreg_core.lab.running.compute import missing_image_sets
from simreg_core.lab.running.estimate import Costs, seconds_here
from simreg_core.lab.running.failures import kept_failures
from simreg_core.lab.running.plan import Plan
from simreg_core.lab.specs import Profile, Trainable, to_train
from simreg_core.lab.store import Store
from simreg_core.lab.study import Figure


def status(profile: Profile, without_gpu: bool = False) -> Iterator[str]:
    """What is done and what is missing, line by line; nothing is computed but the time of a few training steps.

    without_gpu: estimate the time of a profile that needs a GPU on a machine that has none.
    """
    store = Store(published=published_folder(profile))
    todo = missing(profile, store)
    for problem in missing_image_sets(todo, store):
        yield f"MISSING: {problem}"
    for failed in kept_failures(store).values():
        yield f"FAILED: {failed}"
    for one in studies_of(profile):
        measurements = measurements_of([one])
        own = todo.part(measurements)
        left = f"{len(own.trainings)} networks to train" if own else "done"
        yield f"{one.name}: {len(measurements) - len(own.measurements)} of {len(measurements)} records, {left}"
    if not todo:
        return
    yield "\nto train, shared ones once:"
    for line in trainings(profile, todo):
        yield f"  {line}"
    time = _time(profile, todo, without_gpu)
    yield f"together {len(todo.trainings)} networks and {len(todo.measurements)} attacks: {time}"


def _time(profile: Profile, todo: Plan, without_gpu: bool) -> str:
    """How long a plan takes here, from timed steps, where that is the machine for it."""
    if profile.needs_gpu and not torch.cuda.is_available() and not without_gpu:
        return "for a GPU, which this machine lacks; --without-gpu says how long they take here"
    try:
        return f"about {seconds_here(Costs().seconds(todo))}"
    except DataError:
        return "how long is unknown without the missing image sets"


@dataclass
class Training:
    """Experiments that differ in their seed only.

    what: in words.  seeds: in order.  notebooks: the figures that need them, by number.
    """

    what: str
    seeds: list[int] = field(default_factory=list)
    notebooks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {_ranges(self.seeds)}"
        return f"{self.what}; {seeds}; for {', '.join(self.notebooks)}"


def trainings(profile: Profile, todo: Plan) -> list[Training]:
    """The trainings of a plan, grouped over seeds, in the order in which the figures need them."""
    wanted = {experiment.key for experiment in todo.trainings}
    found: dict[str, Training] = {}
    counted: set[str] = set()
    for figure in (one for one in FIGURES.values() if one.is_of(profile)):
        for experiment in needed(profile, figure):
            if experiment.key not in wanted:
                continue
            one = found.setdefault(experiment.changed(seed=0).key, Training(describe(experiment)))
            if experiment.key not in counted:
                counted.add(experiment.key)
                one.seeds.append(experiment.seed)
            if figure.number not in one.notebooks:
                one.notebooks.append(figure.number)
    return list(found.values())


def needed(profile: Profile, figure: Figure) -> list[Trainable]:
    """The experiments that a figure trains, FGSM surrogates and predictors among them, each once."""
    experiments: dict[str, Trainable] = {}
    for experiment, evaluation in figure.study(profile).measurements():
        for one in to_train(experiment, evaluation):
            experiments[one.key] = one
    return list(experiments.values())


def _ranges(numbers: list[int]) -> str:
    """'0-6, 8' of [0, ..., 6, 8]."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)

"""What is missing of measurements: found from specifications and the names of files, without torch."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from simreg_core.lab.image_files import DataError
from simreg_core.lab.inputs import changed
from simreg_core.lab.specs import AnyExperiment, Evaluation, Trainable, to_train
from simreg_core.lab.store import Store

Measurement = tuple[AnyExperiment, Evaluation]


@dataclass(frozen=True)
class Plan:
    """What has to be computed: each thing once.

    trainings: experiments, surrogates and predictors of neural responses among them.
    measurements: (experiment, evaluation).
    """

    trainings: tuple[Trainable, ...]
    measurements: tuple[Measurement, ...]

    def __bool__(self) -> bool:
        return bool(self.trainings or self.measurements)

    def part(self, measurements: Iterable[Measurement]) -> "Plan":
        """What of it these measurements need."""
        wanted = {(experiment.key, evaluation.key): (experiment, evaluation) for experiment, evaluation in measurements}
        own = tuple(one for one in self.measurements if (one[0].key, one[1].key) in wanted)
        needed = {one.key for experiment, evaluation in own for one in to_train(experiment, evaluation)}
        return Plan(tuple(one for one in self.trainings if one.key in needed), own)

    def still_missing(self, store: Store) -> "Plan":
        """What the store lacks of it by now: less than before, or more where something was deleted."""
        again = plan(self.measurements, store)
        needed = {one.key: one for one in (*self.trainings, *again.trainings)}
        return Plan(tuple(one for one in needed.values() if not store.is_trained(one)), again.measurements)


def plan(measurements: Iterable[Measurement], store: Store, trainings: Iterable[Trainable] = ()) -> Plan:
    """What is missing of these measurements, and of trainings that nothing is measured of.

    Raises DataError where what is there was made from other images than those of the same name now, see `lab.inputs`.
    """
    missing: dict[tuple[str, str], Measurement] = {}
    present: dict[tuple[str, str], Measurement] = {}
    for experiment, evaluation in measurements:
        there = present if store.has_record(experiment, evaluation) else missing
        there[experiment.key, evaluation.key] = (experiment, evaluation)
    needed: dict[str, Trainable] = {}
    for wanted, evaluated in (*missing.values(), *((one, None) for one in trainings)):
        needed |= {one.key: one for one in to_train(wanted, evaluated)}
    done = {key: one for key, one in needed.items() if store.is_trained(one)}
    if problem := changed(done.values(), present.values(), store):
        raise DataError(problem)
    return Plan(tuple(one for key, one in needed.items() if key not in done), tuple(missing.values()))


def by_network(todo: Plan, at_once: int, first: Collection[str] = ()) -> list[Plan]:
    """A plan cut into plans of `at_once` networks each, with all that is measured of them, in the order given.

    first: keys of networks that come before all others.
    What a network depends on (predictors, surrogates) is trained with the first network that needs it.
    """
    measured: dict[str, list[Measurement]] = {}
    for experiment, evaluation in todo.measurements:
        measured.setdefault(experiment.key, []).append((experiment, evaluation))
    untrained = {one.key: one for one in todo.trainings}
    groups = [measured[key] for key in sorted(measured, key=lambda key: key not in first)]
    plans = []
    for start in range(0, len(groups), at_once):
        own = [measurement for group in groups[start : start + at_once] for measurement in group]
        needed = [one for measurement in own for one in to_train(*measurement)]
        trainings = [untrained.pop(one.key) for one in needed if one.key in untrained]
        plans.append(Plan(tuple(trainings), tuple(own)))
    return plans

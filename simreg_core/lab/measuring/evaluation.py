"""A trained experiment and an evaluation give a record."""

import time

import torch

from simreg_core.lab.inputs import checksums
from simreg_core.lab.measuring.registry import kind_of, misplaced
from simreg_core.lab.records import Record, provenance
from simreg_core.lab.specs import AnyExperiment, Evaluation
from simreg_core.lab.store import Store
from simreg_core.lab.training import repeatable


def evaluate(experiment: AnyExperiment, evaluation: Evaluation, store: Store, device: torch.device) -> Record:
    """Measure a trained experiment and store the record.

    Raises StoreError where the network, the surrogate of an FGSM evaluation or a predictor is not trained,
    DataError for image sets and recordings that do not fit, ValueError for a surrogate of another task or the
    attacked network, and for an evaluation that is not for this kind of experiment, and RegistryError for a kind of
    evaluation that has no row.
    """
    if problem := misplaced(experiment, evaluation):
        raise ValueError(problem)
    kind, started = kind_of(evaluation), time.perf_counter()
    subject = kind.subject.opened(experiment, evaluation, store, device)
    with repeatable():
        measured = kind.measure(subject)
    sets = {**subject.sets(), "inputs": checksums(experiment, evaluation) or None}
    record = Record(
        experiment_key=experiment.key,
        evaluation_key=evaluation.key,
        experiment=experiment,
        evaluation=evaluation,
        values=tuple(measured.values),
        arrays=measured.arrays,
        warnings=measured.warnings,
        provenance=provenance(getattr(subject, "device", device), time.perf_counter() - started, **sets),
    )
    store.save_record(record)
    return record

"""What a training step costs in time and memory, measured against k and N (paper, v2 section 4.6)."""

import time
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

import torch

from simreg_core.lab.measuring.subject import Images, Measured
from simreg_core.lab.specs import Experiment, Regularizer, StepCostEvaluation
from simreg_core.lab.steps import random_regularizer, random_step, seconds_per_step
from simreg_core.lab.store import Store
from simreg_core.lab.training import build_network


@dataclass(frozen=True)
class Step:
    """A training step on random pixels, on a device."""

    experiment: Experiment
    evaluation: StepCostEvaluation
    device: torch.device

    of: ClassVar[type] = Experiment

    @classmethod
    def opened(
        cls, experiment: Experiment, evaluation: StepCostEvaluation, store: Store, device: torch.device
    ) -> "Step":
        """Nothing is read.  Raises ValueError for an experiment that is regularized."""
        if experiment.regularizer is not None:
            raise ValueError("'step_cost' is for an unregularized experiment: the evaluation says what is added to it")
        return cls(experiment, evaluation, device)

    def sets(self) -> dict[str, str]:
        """In place of image sets, as provenance has them."""
        return {"image_set": "random pixels", "checksum": "none"}


def step_cost(step: Step) -> Measured:
    """Costs of a training step, for each k (0, unregularized, first) and each N, in the order of the evaluation.

    Arrays, of each k: 'seconds', median over repeats; 'ratios' to the unregularized step, [ks, repeats]; 'saved_bytes',
    what the step keeps for its backward pass. Of each N: 'seconds_by_images'; 'setup_seconds' and 'held_bytes', the
    time to make the regularizer, and what it keeps.
    """
    own = step.experiment, step.evaluation, step.device
    return Measured([], {**_against_pairs(*own), **_against_images(*own)})


def step_cost_images(experiment: Experiment, evaluation: StepCostEvaluation) -> Images:
    """As many as a batch has; they are random."""
    return Images(experiment.task.images, "train", experiment.task.size, experiment.optimization.batch_size)


def step_cost_passes(evaluation: StepCostEvaluation, images: int) -> float:
    """Forwards and backwards (about two more).  images: of a batch."""
    against_pairs = evaluation.repeats * sum(images + 2 * k for k in (0, *evaluation.pairs_per_step))
    against_images = len(evaluation.image_counts) * (images + 2 * evaluation.image_pairs)
    return 3 * (evaluation.rounds + 1) * (against_pairs + against_images)


def step_cost_words(evaluation: StepCostEvaluation) -> str:
    """'cost of a step'."""
    return "cost of a step"


def _regularized(experiment: Experiment, evaluation: StepCostEvaluation, k: int, images: int) -> Experiment:
    spec = Regularizer(images=experiment.task.images, size=evaluation.size, count=images, pairs_per_step=k)
    return experiment.changed(regularizer=spec)


def _against_pairs(experiment: Experiment, evaluation: StepCostEvaluation, device: torch.device) -> dict[str, list]:
    ks, images = evaluation.pairs_per_step, max(evaluation.image_counts)
    steps = [experiment, *(_regularized(experiment, evaluation, k, images) for k in ks)]
    # in turns, so that a slow moment of the machine strikes all k alike
    seconds = [
        [seconds_per_step(one, evaluation.rounds, device=device) for one in steps] for _ in range(evaluation.repeats)
    ]
    return {
        "seconds": [median(once[place] for once in seconds) for place in range(len(steps))],
        "ratios": [[once[place] / once[0] for once in seconds] for place in range(len(steps))],
        "saved_bytes": [saved_bytes(one) for one in steps],
    }


def saved_bytes(one: Experiment) -> int:
    """Bytes that a training step keeps for its backward pass, its weights not counted: the same on every device."""
    loss, parameters, _ = random_step(one, torch.device("cpu"))
    weights = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that no other tensor takes its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss()
    return sum(storage.nbytes() for storage in kept.values())


def _against_images(experiment: Experiment, evaluation: StepCostEvaluation, device: torch.device) -> dict[str, list]:
    found: dict[str, list] = {"seconds_by_images": [], "setup_seconds": [], "held_bytes": []}
    for count in evaluation.image_counts:
        one = _regularized(experiment, evaluation, evaluation.image_pairs, count)
        network = build_network(one, num_classes=10)
        started = time.perf_counter()
        regularizer = random_regularizer(network, one, count, torch.Generator().manual_seed(0))
        found["setup_seconds"].append(time.perf_counter() - started)
        held = [*regularizer.buffers(), regularizer.sampler.targets]
        found["held_bytes"].append(sum(tensor.nbytes for tensor in held))
        found["seconds_by_images"].append(seconds_per_step(one, evaluation.rounds, images=count, device=device))
    return found

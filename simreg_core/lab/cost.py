"""What a training step costs in time and memory, measured against k and N (paper, v2 section 4.6)."""

import time
from statistics import median

import torch

from simreg_core.lab.experiment import Experiment, Profile
from simreg_core.lab.runner import random_regularizer, random_step, seconds_per_step
from simreg_core.lab.store import Store, device_name
from simreg_core.lab.studies import NONE, THRESHOLD, experiment
from simreg_core.lab.training import build_network
from simreg_core.lab.workers import default_device

REPEATS = 5
MORE_IMAGE_COUNTS = (1000, 5000)  # beside the study's own: memory grows with N squared


def step_costs(profile: Profile, store: Store, rounds: int = 10) -> dict:
    """Costs of a profile's training step as recorded; measured now where there is no record.

    rounds: steps timed at a time.
    Returns 'device'; 'rows' with k (0: unregularized), seconds and ratio to unregularized (medians over repeated
    measurements), ratios, predicted = (batch + 2k) / batch, and saved_bytes, what the step keeps for its backward
    pass; 'image_counts' with N, seconds of a step, held_bytes, what the regularizer keeps, and setup_seconds.
    """
    costs = store.costs(profile)
    if costs is None:
        costs = {
            "device": device_name(default_device()),
            "rows": _against_pairs(profile, rounds),
            "image_counts": _against_images(profile, rounds),
        }
        store.save_costs(profile, costs)
    return costs


def _against_pairs(profile: Profile, rounds: int) -> list[dict]:
    batch = profile.optimization.batch_size
    ks = (0, *sorted(profile.studies.pairs_per_step))
    steps = {k: experiment(profile, THRESHOLD, 0, pairs_per_step=k) for k in ks[1:]}
    steps[0] = experiment(profile, NONE, 0)
    # in turns, so that a slow moment of the machine strikes all k alike
    seconds = [{k: seconds_per_step(steps[k], rounds) for k in ks} for _ in range(REPEATS)]
    return [
        {
            "k": k,
            "seconds": median(once[k] for once in seconds),
            "ratio": median(once[k] / once[0] for once in seconds),
            "ratios": [once[k] / once[0] for once in seconds],
            "predicted": (batch + 2 * k) / batch,
            "saved_bytes": saved_bytes(steps[k]),
        }
        for k in ks
    ]


def saved_bytes(one: Experiment) -> int:
    """Bytes that a training step keeps for its backward pass, its weights not counted: the same on every device."""
    loss, parameters = random_step(one, torch.device("cpu"))
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


def _against_images(profile: Profile, rounds: int) -> list[dict]:
    rows = []
    for count in sorted({*profile.studies.image_counts, *MORE_IMAGE_COUNTS}):
        one = experiment(profile, THRESHOLD, 0, count=count)
        network = build_network(one, num_classes=10)
        started = time.perf_counter()
        regularizer = random_regularizer(network, one, count, torch.Generator().manual_seed(0))
        setup = time.perf_counter() - started
        held = [*regularizer.buffers(), regularizer.sampler.targets]
        rows.append(
            {
                "N": count,
                "seconds": seconds_per_step(one, rounds, images=count),
                "setup_seconds": setup,
                "held_bytes": sum(tensor.nbytes for tensor in held),
            }
        )
    return rows

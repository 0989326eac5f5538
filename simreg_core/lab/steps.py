"""A training step on random pixels: what it computes, and how long it takes."""

import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from simreg_core.lab.devices import default_device, leave_memory
from simreg_core.lab.images import ImageSet
from simreg_core.lab.specs import Experiment
from simreg_core.lab.store import Store
from simreg_core.lab.training import (
    Replayed,
    autocast,
    build_network,
    build_regularizer,
    is_recorded,
    repeatable,
    settings_of,
)
from simreg_core.lab.training.at_once import AtOnce
from simreg_core.lab.training.replay import WARM_UP
from simreg_core.lab.training.rules import rule_of
from simreg_core.lab.training.settings import lowered

ATTACKED = 1000  # images of a timed pass: attacks classify many at once


def seconds_per_step(
    experiment: Experiment,
    steps: int,
    images: int = 64,
    device: torch.device | None = None,
    recorded: bool | None = None,
) -> float:
    """Median seconds of a training step of this experiment, on random pixels, on one core or the GPU.

    images: size of the random regularization set, where there is one.  device: by default the GPU where there is one.
    recorded: whether the step is recorded and replayed; None: as its training does.
    Nothing stays in the GPU's memory but what CUDA itself needs in a process, about half a gigabyte.
    """
    device = device or default_device()
    try:
        return _seconds_per_step(experiment, steps, images, device, recorded)
    finally:
        leave_memory()


def _seconds_per_step(
    experiment: Experiment, steps: int, images: int, device: torch.device, recorded: bool | None
) -> float:
    loss, parameters, at_once = random_step(experiment, device, images)
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        if at_once:
            at_once.gather()
        optimizer.step()

    with settings_of(experiment):  # as the trainings whose time this tells
        if is_recorded(experiment, device) if recorded is None else recorded:
            return median_seconds(Replayed(step), device, steps, WARM_UP + 1)
        return median_seconds(step, device, steps)


def seconds_per_pass(experiment: Experiment, steps: int = 3, device: torch.device | None = None) -> float:
    """Median seconds in which an image passes forwards through the network, among others, as attacks show it."""
    device = device or default_device()

    def measured() -> float:
        task, generator = experiment.task, torch.Generator().manual_seed(0)
        network = build_network(experiment, num_classes=10).to(device, memory_format=torch.channels_last).eval()
        pixels = torch.rand(ATTACKED, task.channels, *task.size, generator=generator).to(device)
        with repeatable(), torch.no_grad():
            return median_seconds(lambda: network(pixels), device, steps) / ATTACKED

    try:
        return measured()
    finally:
        leave_memory()


def median_seconds(step: Callable[[], object], device: torch.device, steps: int, before: int = 1) -> float:
    """Median seconds of a step, on one core or the GPU.  before: calls that are not timed, since they allocate."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(before):
            step()
        return sorted(timed(step, device) for _ in range(steps))[steps // 2]
    finally:
        torch.set_num_threads(threads)


def timed(step: Callable[[], object], device: torch.device) -> float:
    """Seconds that a step takes on a device, until its last kernel has ended."""
    _finish_work(device)  # or what was begun before would be timed too
    started = time.perf_counter()
    step()
    _finish_work(device)
    return time.perf_counter() - started


def _finish_work(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_step(
    experiment: Experiment, device: torch.device, images: int = 64
) -> tuple[Callable[[], torch.Tensor], list[torch.nn.Parameter], AtOnce | None]:
    """A training step on random pixels: its loss, as a function, what it trains, and what gathers the gradients, if
    anything does: training without its data.
    """
    task, spec = experiment.task, experiment.regularizer
    generator = torch.Generator().manual_seed(0)
    network = build_network(experiment, num_classes=10).to(device, memory_format=torch.channels_last).train()
    pixels = torch.rand(experiment.optimization.batch_size, task.channels, *task.size, generator=generator).to(device)
    labels = torch.randint(0, 10, (len(pixels),), generator=generator).to(device)
    regularizer, pairs = None, None
    if spec is not None:
        regularizer = random_regularizer(network, experiment, max(images, spec.pairs_per_step), generator)
        pairs = tuple(each.to(device) for each in regularizer.draw())  # drawn before, as in training

    rule = rule_of(experiment.adversarial)
    alike = rule.recordable and not rule.gradients(network)
    at_once = AtOnce(network, lowered(experiment)) if alike else None  # as in training

    def loss() -> torch.Tensor:
        with autocast(experiment, device), at_once.step() if at_once else nullcontext():
            task_loss = torch.nn.functional.cross_entropy(network(pixels).float(), labels)
            if regularizer is None:
                return task_loss
            with at_once.pairs() if at_once else nullcontext():
                return task_loss + 1e-6 * regularizer(pairs)

    return loss, [*network.parameters(), *([] if regularizer is None else regularizer.parameters())], at_once


def random_regularizer(network, experiment: Experiment, count: int, generator: torch.Generator):
    """The experiment's regularizer on `count` images of random pixels."""
    task, spec = experiment.task, experiment.regularizer
    size = (count, task.channels, *(spec.size or task.size))
    images = torch.randint(0, 256, size, generator=generator).byte()
    random_set = ImageSet("random", "train", images, torch.zeros(count), ())
    # random pixels are never similar: targets and pairs that such images have; linear CKA takes no equal targets
    target = "pixel" if spec.similarity == "linear_cka" else "zero"
    free = spec.changed(
        pairs="all", low_threshold=None, augment_once="none", target=target, target_similarity=None, neural=None,
        matrix=None, count=count,
    )  # fmt: skip
    return build_regularizer(network, free, random_set, seed=0, store=Store())

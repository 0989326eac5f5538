"""A training step on random pixels: what it computes, and how long it takes."""

import time
from collections.abc import Callable

import torch

from simreg_core.lab.devices import default_device
from simreg_core.lab.images import ImageSet
from simreg_core.lab.specs import Experiment
from simreg_core.lab.store import Store
from simreg_core.lab.training import autocast, build_network, build_regularizer, settings_of


def seconds_per_step(experiment: Experiment, steps: int, images: int = 64, device: torch.device | None = None) -> float:
    """Median seconds of a training step of this experiment, on random pixels, on one core or the GPU.

    images: size of the random regularization set, where there is one.  device: by default the GPU where there is one.
    """
    device = device or default_device()
    loss, parameters = random_step(experiment, device, images)
    optimizer = torch.optim.SGD(parameters, lr=1e-6, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    with settings_of(experiment):  # as the trainings whose time this tells
        return median_seconds(step, device, steps)


def median_seconds(step: Callable[[], None], device: torch.device, steps: int) -> float:
    """Median seconds of a step, on one core or the GPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step()  # the first call allocates
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
) -> tuple[Callable[[], torch.Tensor], list[torch.nn.Parameter]]:
    """The loss of a training step on random pixels, as a function, and what it trains: training without its data."""
    task, spec = experiment.task, experiment.regularizer
    generator = torch.Generator().manual_seed(0)
    network = build_network(experiment, num_classes=10).to(device, memory_format=torch.channels_last).train()
    pixels = torch.rand(experiment.optimization.batch_size, task.channels, *task.size, generator=generator).to(device)
    labels = torch.randint(0, 10, (len(pixels),), generator=generator).to(device)
    regularizer = None
    if spec is not None:
        regularizer = random_regularizer(network, experiment, max(images, spec.pairs_per_step), generator)

    def loss() -> torch.Tensor:
        with autocast(experiment, device):
            task_loss = torch.nn.functional.cross_entropy(network(pixels).float(), labels)
            return task_loss if regularizer is None else task_loss + 1e-6 * regularizer()

    return loss, [*network.parameters(), *([] if regularizer is None else regularizer.parameters())]


def random_regularizer(network, experiment: Experiment, count: int, generator: torch.Generator):
    """The experiment's regularizer on `count` images of random pixels."""
    task, spec = experiment.task, experiment.regularizer
    size = (count, task.channels, *(spec.size or task.size))
    images = torch.randint(0, 256, size, generator=generator).byte()
    random_set = ImageSet("random", "train", images, torch.zeros(count), ())
    # random pixels are never similar: targets and pairs that such images have
    free = spec.changed(
        pairs="all", low_threshold=None, augment_once="none", target="zero", neural=None, matrix=None, count=count
    )
    return build_regularizer(network, free, random_set, seed=0, store=Store())

"""One training loop: classify a batch, regularize a pair batch, step."""

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core import SimilarityRegularizer, pixel_similarity, threshold_targets
from simreg_core.architectures import Normalized, architecture
from simreg_core.defences import GaussianBlur, noisy, pgd_adversarial_examples, trades_loss
from simreg_core.lab.data import DataError, ImageSet, has_validation, load_image_set
from simreg_core.lab.experiment import Experiment, Task, stream
from simreg_core.lab.experiment import Regularizer as RegularizerSpec
from simreg_core.lab.inputs import checksums
from simreg_core.lab.predictors import neural_target
from simreg_core.lab.replay import Replayed
from simreg_core.lab.store import Store, load_into
from simreg_core.model import BLOCKS, ResNet

VALIDATION_BATCH = 500
CROP_PADDING = 4  # released code, CIFAR


class TrainingError(RuntimeError):
    """A training that cannot go on; the message says which and why."""


@dataclass
class Data:
    """The three sets of an experiment; validation and regularization may overlap under 'released'."""

    train: ImageSet
    validation: ImageSet
    regularization: ImageSet | None


def load_data(experiment: Experiment) -> Data:
    """Image sets of an experiment.  Raises DataError where a set is too small for what is asked."""
    task, spec = experiment.task, experiment.regularizer
    train, validation = _train_and_validation(task, experiment.seed)
    return Data(train, validation, None if spec is None else regularization_images(experiment))


def regularization_images(experiment: Experiment) -> ImageSet:
    """The regularization set of an experiment that has one.  Raises DataError as `load_data`."""
    task, spec = experiment.task, experiment.regularizer
    if spec.images == task.images and experiment.protocol == "strict":
        return _train_and_validation(task, experiment.seed)[0].first(spec.count)  # validation images kept out
    size = spec.size or task.size
    if spec.images == task.images and task.train_images is not None:
        if size != task.size:
            raise DataError(
                f"regularizer.size {size[0]}x{size[1]} must be the task's, {task.size[0]}x{task.size[1]}, where both "
                f"use the train_images of '{task.images}'"
            )
        return _chosen_images(task).first(spec.count)
    return load_image_set(spec.images, "train", size, task.channels, spec.count)


def _train_and_validation(task: Task, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training and validation images; these are cut off the former where the set has none of its own."""
    train = _chosen_images(task)
    generator = torch.Generator().manual_seed(stream(seed, "validation"))
    if has_validation(task.images):
        validation = load_image_set(task.images, "validation", task.size, task.channels)
        if task.validation_images > len(validation):
            raise DataError(
                f"validation_images is {task.validation_images}, but '{task.images}' has {len(validation)} of them"
            )
        return train, validation.take(torch.randperm(len(validation), generator=generator)[: task.validation_images])
    if task.validation_images >= len(train):
        raise DataError(
            f"validation_images is {task.validation_images}, but '{task.images}' has {len(train)} training images"
        )
    if task.train_images is not None:  # what is left is balanced too
        held_out = train.balanced(task.validation_images, generator)
        rest = torch.ones(len(train), dtype=torch.bool).index_fill(0, held_out, False).nonzero().flatten()
        return train.take(rest), train.take(held_out)
    order = torch.randperm(len(train), generator=generator)
    held_out, rest = order[: task.validation_images], order[task.validation_images :].sort().values
    return train.take(rest), train.take(held_out)


def _chosen_images(task: Task) -> ImageSet:
    """The training images of a task; those that are held out for validation are still among them.

    Raises DataError where the set has too few for `train_images` beside the validation images.
    """
    train = load_image_set(task.images, "train", task.size, task.channels)
    if task.train_images is None:
        return train
    count = task.train_images + (0 if has_validation(task.images) else task.validation_images)
    if count > len(train):
        raise DataError(
            f"train_images is {task.train_images} and validation_images {task.validation_images}, but '{task.images}' "
            f"has {len(train)} training images"
        )
    return train.take(train.balanced(count, torch.Generator().manual_seed(stream(0, "training images"))))


def build_network(experiment: Experiment, num_classes: int) -> ResNet | Normalized:
    """The experiment's untrained network; the same weights for the same seed, whatever the global random state.

    Raises ValueError where an architecture cannot have the task's images or the width that is asked.
    """
    task, spec = experiment.task, experiment.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(experiment.seed, "network"))
        if spec.name in BLOCKS:
            blur = None if spec.blur is None else GaussianBlur(spec.blur)
            return ResNet(BLOCKS[spec.name], task.channels, num_classes, spec.width, spec.shift, spec.gain, blur)
        return architecture(spec.name, task.size, task.channels, num_classes, spec.width, spec.shift, spec.gain)


def build_regularizer(
    network: ResNet | Normalized,
    spec: RegularizerSpec,
    images: ImageSet,
    seed: int,
    store: Store,
    augmentation: torch.Generator | None = None,
) -> SimilarityRegularizer:
    """The experiment's regularizer on a network that is already on its device; predictors come from the store.

    augmentation: CPU generator, where images are augmented anew at every draw.
    """
    pixels = regularization_pixels(spec, images, seed)
    return SimilarityRegularizer(
        network,
        network.features if isinstance(network, ResNet) else network.layers,
        pixels,
        spec.threshold,
        targets=_targets(spec, pixels, seed, store),
        pairs=spec.pairs,
        low_threshold=spec.low_threshold,
        batch_pairs=spec.pairs_per_step,
        eps=spec.eps or 1e-5,
        pair_statistics=spec.statistics or "shared",
        preprocess=spec.augment_each and partial(augment, how=spec.augment_each, generator=augmentation),
        seed=stream(seed, "pairs"),
    )


def regularization_pixels(spec: RegularizerSpec, images: ImageSet, seed: int) -> Tensor:
    """The regularization images, augmented once, [n, c, h, w] in [0, 1]."""
    generator = torch.Generator().manual_seed(stream(seed, "regularization images"))
    return augment(images.pixels, spec.augment_once, generator)


def _targets(spec: RegularizerSpec, pixels: Tensor, seed: int, store: Store) -> str | Tensor:
    """What `SimilarityRegularizer` takes as targets; neural ones and the controls are matrices."""
    match spec.target:
        case "zero":
            return torch.zeros(len(pixels), len(pixels))
        case "threshold" if spec.subtract is not None:
            return threshold_targets(pixel_similarity(pixels, spec.subtract), spec.threshold)
        case "shuffled":
            return _shuffled(threshold_targets(pixel_similarity(pixels), spec.threshold), seed)
        case "neural":
            return neural_target(spec, pixels, store)
        case "shuffled_neural":
            return _shuffled(neural_target(spec, pixels, store), seed)
        case named:
            return named


def _shuffled(matrix: Tensor, seed: int) -> Tensor:
    """Rows and columns permuted alike: the same structure, of the wrong images."""
    order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(stream(seed, "shuffled targets")))
    return matrix[order][:, order]


def augment(pixels: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """'none', 'flip' (left-right, half of the images) or 'crop-flip' (reflect-pad 4, random crop, flip).

    pixels: [b, c, h, w].  generator: CPU generator.  Returns the same shape.
    """
    return augmented(pixels, *(one.to(pixels.device) for one in draw_augmentation(len(pixels), how, generator)))


def draw_augmentation(b: int, how: str, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The random choices of `augmented` for b images: none, flips [b], or flips and the crops' corners [2, b]."""
    if how == "none":
        return ()
    corners = (torch.randint(0, 2 * CROP_PADDING + 1, (2, b), generator=generator),) if how == "crop-flip" else ()
    return (torch.rand(b, generator=generator) < 0.5, *corners)


def augmented(pixels: Tensor, flips: Tensor | None = None, corners: Tensor | None = None) -> Tensor:
    """Images cropped and flipped as drawn.  pixels: [b, c, h, w].  Returns the same shape."""
    if flips is None:
        return pixels
    if corners is not None:
        b, _, h, w = pixels.shape
        padded = F.pad(pixels, [CROP_PADDING] * 4, mode="reflect")
        rows = corners[0][:, None] + torch.arange(h, device=pixels.device)  # [b, h]
        cols = corners[1][:, None] + torch.arange(w, device=pixels.device)  # [b, w]
        batch = torch.arange(b, device=pixels.device)[:, None, None]
        pixels = padded[batch, :, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
    return torch.where(flips[:, None, None, None], pixels.flip(3), pixels)


def repeatable() -> AbstractContextManager:
    """The GPU's settings under which all is attacked and, in float32, trained: the same numbers on every run.

    No algorithm is chosen by timing, and none has reduced precision.
    """
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def settings_of(experiment: Experiment) -> AbstractContextManager:
    """The GPU's settings under which an experiment is trained and timed: its fastest ones where bfloat16 allows."""
    if experiment.optimization.precision is None:
        return repeatable()
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False)


def autocast(experiment: Experiment, device: torch.device) -> AbstractContextManager:
    """The precision of an experiment's passes; similarities and losses stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=experiment.optimization.precision == "bfloat16")


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Full batches in an epoch; the rest is dropped, as released."""
    return images // batch_size


def train(
    experiment: Experiment, store: Store, device: torch.device, progress: Callable[[float], None] = lambda work: None
) -> None:
    """Train and store an experiment, going on from its last finished epoch.

    progress: called with the share of the training that each epoch is.
    Raises DataError, StoreError, or TrainingError where the loss is no longer finite.
    """
    if store.is_trained(experiment):
        return
    with settings_of(experiment):
        _Run(experiment, store, device).finish(progress)


class _Run:
    """One training under way: everything that changes, so that it can be written down and taken up again."""

    def __init__(self, experiment: Experiment, store: Store, device: torch.device):
        self.experiment, self.store, self.device = experiment, store, device
        data = load_data(experiment)
        self.inputs = checksums(experiment)
        self.images, self.labels = data.train.images.to(device), data.train.labels.to(device)
        self.validation = (data.validation.pixels.to(device), data.validation.labels.to(device))
        settings = experiment.optimization
        if steps_per_epoch(len(self.images), settings.batch_size) == 0:
            raise DataError(f"batch_size {settings.batch_size} exceeds the {len(self.images)} training images")
        self.network = build_network(experiment, len(data.train.classes)).to(device, memory_format=torch.channels_last)
        self.augmentation = torch.Generator().manual_seed(stream(experiment.seed, "fresh augmentation"))
        self.attack = torch.Generator(device).manual_seed(stream(experiment.seed, "adversarial training"))
        self.regularizer = None
        if experiment.regularizer is not None:
            self.regularizer = build_regularizer(
                self.network, experiment.regularizer, data.regularization, experiment.seed, store, self.augmentation
            ).to(device)
        self.optimizer = torch.optim.SGD(
            self._parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.losses = torch.zeros(2, device=device)  # of the task and of similarity, summed over an epoch's steps
        self.replayed: tuple[float, Replayed] | None = None  # the recorded step, and the learning rate that is in it
        self.order = torch.Generator().manual_seed(stream(experiment.seed, "order"))
        self.history: list[dict] = []
        self.best_loss, _ = self._validate()  # the untrained state counts, as released
        self.best = self._copy_of_weights()

    def finish(self, progress: Callable[[float], None]) -> None:
        self._resume()
        epochs = self.experiment.optimization.epochs
        progress(len(self.history) / epochs)
        with ThreadPoolExecutor(1) as writer:  # the next epoch does not wait for the disk
            written: Future | None = None
            while len(self.history) < epochs:
                self._epoch(len(self.history))
                if written is not None:
                    written.result()
                state = {name: tensor.to("cpu", copy=True) for name, tensor in self._state().items()}
                written = writer.submit(self.store.save_resume, self.experiment, state, list(self.history))
                progress(1 / epochs)
            if written is not None:
                written.result()
        seconds = sum(row["seconds"] for row in self.history)
        history = {"best_loss": self.best_loss, "seconds": seconds, "epochs": self.history}
        if self.inputs:
            history["inputs"] = self.inputs
        self.store.save_trained(self.experiment, self.best, history)

    def _epoch(self, epoch: int) -> None:
        settings = self.experiment.optimization
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(epoch)
        if self.regularizer is not None:
            self.regularizer.sampler.restart()  # released: all pairs are shuffled afresh each epoch
        self.network.train()
        steps = steps_per_epoch(len(self.images), settings.batch_size)
        self.losses.zero_()
        step = self._stepper(settings.learning_rate_at(epoch))
        for drawn in zip(*self._draw(steps), strict=True):
            step(*drawn)
        task_loss, similarity_loss = (self.losses / steps).tolist()  # the first time that the host waits for a GPU
        if not torch.isfinite(self.losses).all():
            raise TrainingError(
                f"training {self.experiment.key} diverged in epoch {epoch + 1}: task loss {task_loss:.3g}, similarity "
                f"loss {similarity_loss:.3g}; a smaller learning_rate or alpha may help"
            )
        self._note(epoch, task_loss, similarity_loss, started)

    def _stepper(self, learning_rate: float) -> Callable[..., None]:
        """What runs a step: on a GPU, in bfloat16, a recording of it, one for each learning rate."""
        spec = self.experiment.regularizer
        draws = self.experiment.adversarial is not None or (spec is not None and spec.augment_each is not None)
        if self.device.type != "cuda" or self.experiment.optimization.precision is None or draws:
            return self._step  # what draws random numbers inside a step cannot be recorded
        if self.replayed is None or self.replayed[0] != learning_rate:
            self.replayed = (learning_rate, Replayed(self._step))
        return self.replayed[1]

    def _draw(self, steps: int) -> tuple[Sequence, Sequence, Sequence]:
        """All random choices of an epoch, on the device before its first step: nothing waits for them later.

        Returns for each step its images [batch], their augmentation, and its pairs (rows, cols, targets) or None.
        """
        batch, how = self.experiment.optimization.batch_size, self.experiment.task.augment
        order = torch.randperm(len(self.images), generator=self.order)[: steps * batch]
        augmentation = draw_augmentation(steps * batch, how, self.order)
        pairs = None if self.regularizer is None else self._by_step(self.regularizer.draw_many(steps))
        return (
            order.to(self.device).view(steps, batch).unbind(),
            self._by_step([own.unflatten(-1, (steps, batch)).movedim(-2, 0) for own in augmentation]) or [()] * steps,
            pairs or [None] * steps,
        )

    def _by_step(self, draws: Iterable[Tensor]) -> list[tuple[Tensor, ...]]:
        """Tensors [steps, ...] as one tuple a step, on the device."""
        return list(zip(*(own.to(self.device).unbind() for own in draws), strict=True))

    def _step(self, batch: Tensor, augmentation: tuple[Tensor, ...], pairs: tuple[Tensor, ...] | None) -> None:
        """One update; adds the two losses before it to `losses`."""
        with autocast(self.experiment, self.device):
            task_loss, similarity_loss = self._losses(batch, augmentation, pairs)
        loss = task_loss
        if self.regularizer is not None and self.experiment.regularizer.alpha > 0:
            loss = loss + self.experiment.regularizer.alpha * similarity_loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses += torch.stack([task_loss.detach(), similarity_loss.detach()])

    def _losses(
        self, batch: Tensor, augmentation: tuple[Tensor, ...], pairs: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of a class batch, and L_sim of a pair batch: 0 where there is none."""
        pixels = augmented(self.images[batch].float() / 255, *augmentation)
        task_loss = self._task_loss(pixels, self.labels[batch])
        if self.regularizer is None:
            return task_loss, torch.zeros((), device=self.device)
        with torch.set_grad_enabled(self.experiment.regularizer.alpha > 0):
            return task_loss, self.regularizer(pairs)  # after the class batch, as released: batch norm sees it last

    def _task_loss(self, pixels: Tensor, labels: Tensor) -> Tensor:
        spec = self.experiment.adversarial
        if spec is not None and spec.method == "trades":
            size = 2.5 * spec.epsilon / spec.steps
            return trades_loss(self.network, pixels, labels, spec.epsilon, size, spec.steps, spec.beta, self.attack)
        if spec is not None and spec.method == "gaussian":
            pixels = noisy(pixels, spec.epsilon, self.attack)
        if spec is not None and spec.method == "pgd":
            size = 2.5 * spec.epsilon / spec.steps
            pixels = pgd_adversarial_examples(self.network, pixels, labels, spec.epsilon, size, spec.steps, self.attack)
        return F.cross_entropy(self.network(pixels).float(), labels)

    def _note(self, epoch: int, task_loss: float, similarity_loss: float, started: float) -> None:
        validation_loss, validation_accuracy = self._validate()
        if validation_loss < self.best_loss:
            self.best_loss, self.best = validation_loss, self._copy_of_weights()
        weights = None if self.regularizer is None else self.regularizer.layer_weights.tolist()
        self.history.append(
            {
                "epoch": epoch + 1,
                "task_loss": task_loss,
                "similarity_loss": similarity_loss,
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
                "layer_weights": weights,
                "seconds": time.perf_counter() - started,
            }
        )

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        self.network.eval()
        pixels, labels = self.validation
        logits = torch.cat([self.network(batch) for batch in pixels.split(VALIDATION_BATCH)])
        if self.regularizer is not None and self.experiment.regularizer.mean_in_validation:
            for _ in range(len(labels) // self.experiment.optimization.batch_size):
                rows, cols, _ = self.regularizer.draw()
                self.regularizer.layer_similarities(rows, cols)  # moves the running means, the network is in eval mode
        accuracy = (logits.argmax(dim=1) == labels).float().mean().item()
        return F.cross_entropy(logits, labels).item(), accuracy

    def _copy_of_weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def _parameters(self) -> list[nn.Parameter]:
        regularizer = [] if self.regularizer is None else list(self.regularizer.parameters())
        return [*self.network.parameters(), *regularizer]

    def _state(self) -> dict[str, Tensor]:
        """Everything that the next epoch depends on, as tensors."""
        state = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        state |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        state["best_loss"] = torch.tensor(self.best_loss, dtype=torch.float64)
        if self.inputs:
            state["inputs"] = self._inputs_as_tensor()
        for name in ("order", "augmentation", "attack"):
            state[name] = getattr(self, name).get_state()
        for index, parameter in enumerate(self._parameters()):
            state[f"momentum.{index}"] = self.optimizer.state[parameter].get("momentum_buffer", torch.zeros(0))
        if self.regularizer is not None:
            state |= {f"regularizer.{name}": tensor for name, tensor in self.regularizer.state_dict().items()}
        return state

    def _inputs_as_tensor(self) -> Tensor:
        return torch.frombuffer(bytearray("".join(self.inputs.values()).encode()), dtype=torch.uint8)

    def _resume(self) -> None:
        saved = self.store.load_resume(self.experiment)
        if saved is None:
            return
        state, history = saved
        if self.inputs and not torch.equal(state.get("inputs", torch.zeros(0)), self._inputs_as_tensor()):
            return  # begun on other images: from the start
        self.history = history
        path = self.store.resume_path(self.experiment)
        part = _parts(state)
        load_into(self.network, part["network"], path)
        self.best = {name: tensor.to(self.device) for name, tensor in part["best"].items()}
        self.best_loss = state["best_loss"].item()
        for name in ("order", "augmentation", "attack"):
            getattr(self, name).set_state(state[name])
        for index, parameter in enumerate(self._parameters()):
            momentum = part["momentum"][str(index)]
            if momentum.numel():
                # in the parameter's own memory format, or the sums round differently
                self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
        if self.regularizer is not None:
            load_into(self.regularizer, part["regularizer"], path)


def _parts(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors grouped by the part of their name before the first dot."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        group, _, rest = name.partition(".")
        parts.setdefault(group, {})[rest] = tensor
    return parts

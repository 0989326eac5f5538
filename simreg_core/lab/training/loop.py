"""The training loop: a batch's losses by name, the similarity of a pair batch, a step."""

import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.attacks.door import seeded
from simreg_core.defences.base import TASK, Stage, parameters_of
from simreg_core.lab.image_files import DataError
from simreg_core.lab.inputs import checksums
from simreg_core.lab.specs import Experiment, stream
from simreg_core.lab.store import Store
from simreg_core.lab.training.assembly import begin_stage, build_regularizer, load_data, starting_network
from simreg_core.lab.training.at_once import AtOnce
from simreg_core.lab.training.augmentation import augmented, draw_augmentation
from simreg_core.lab.training.checkpoints import Checkpoints
from simreg_core.lab.training.replay import Replayed
from simreg_core.lab.training.resume import take_up
from simreg_core.lab.training.rules import rule_of, stages_of
from simreg_core.lab.training.settings import autocast, lowered, settings_of

VALIDATION_BATCH = 500
SIMILARITY = "similarity"


class TrainingError(RuntimeError):
    """A training that cannot go on; the message says which and why."""


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Full batches in an epoch; the rest is dropped, as released."""
    return images // batch_size


def is_recorded(experiment: Experiment, device: torch.device) -> bool:
    """Whether the steps of a training are recorded and replayed: on a GPU, where all are alike."""
    spec = experiment.regularizer
    alike = rule_of(experiment.adversarial).recordable and (spec is None or spec.augment_each is None)
    return alike and device.type == "cuda"


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
        Run(experiment, store, device).finish(progress)


class Run:
    """One training under way: everything that changes, so that it can be written down and taken up again."""

    def __init__(self, experiment: Experiment, store: Store, device: torch.device):
        self.experiment, self.store, self.device = experiment, store, device
        self.rule, self.stages = rule_of(experiment.adversarial), stages_of(experiment)
        data = load_data(experiment)
        self.inputs = checksums(experiment)
        self.images, self.labels = data.train.images.to(device), data.train.labels.to(device)
        self.validation = (data.validation.pixels.to(device), data.validation.labels.to(device))
        batch_size = experiment.optimization.batch_size
        if steps_per_epoch(len(self.images), batch_size) == 0:
            raise DataError(f"batch_size {batch_size} exceeds the {len(self.images)} training images")
        self.network = starting_network(experiment, len(data.train.classes), store)
        begin_stage(experiment, 0, self.network)
        self.network.to(device, memory_format=torch.channels_last)
        self.augmentation = torch.Generator().manual_seed(stream(experiment.seed, "fresh augmentation"))
        self.attack = torch.Generator(device).manual_seed(stream(experiment.seed, "adversarial training"))
        self.order = torch.Generator().manual_seed(stream(experiment.seed, "order"))
        self.regularizer = None
        if experiment.regularizer is not None:
            self.regularizer = build_regularizer(
                self.network, experiment.regularizer, data.regularization, experiment.seed, store, self.augmentation
            ).to(device)
        self.zero = torch.zeros((), device=device)
        self.begun_on = device.type
        self.history: list[dict] = []
        self._frozen: list[nn.Parameter] = []  # by the stage, not by the rule
        self.stage = 0
        self._prepare()

    def finish(self, progress: Callable[[float], None]) -> None:
        take_up(self)
        epochs = sum(stage.epochs for stage in self.stages)
        progress(len(self.history) / epochs)
        with Checkpoints(self) as checkpoints:
            while len(self.history) < epochs:
                stage, epoch = self.place(len(self.history))
                if stage > self.stage:
                    self._load(self._result())
                    self.enter(stage)
                with seeded(stream(self.experiment.seed, f"epoch {len(self.history)}"), self.device):
                    self._epoch(epoch)
                checkpoints.after_epoch()
                progress(1 / epochs)
        seconds = sum(row["seconds"] for row in self.history)
        history = {"best_loss": self.best_loss, "seconds": seconds, "epochs": self.history}
        if self.inputs:
            history["inputs"] = self.inputs
        if self.begun_on != self.device.type:
            history["begun_on"] = self.begun_on
        self.store.save_trained(self.experiment, self._result(), history)

    # stages

    def place(self, epoch: int) -> tuple[int, int]:
        """The stage of an epoch of the training, and its number in that stage, both from 0."""
        for stage, own in enumerate(self.stages):
            if epoch < own.epochs:
                return stage, epoch
            epoch -= own.epochs
        raise IndexError("a training has no epochs after its last stage")

    def enter(self, stage: int) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        begin_stage(self.experiment, stage, self.network)
        self.network.to(self.device, memory_format=torch.channels_last)
        self.stage = stage
        self._prepare()

    def _prepare(self) -> None:
        """What a stage has of its own: what is trained, its optimizer, sums of its losses, its best weights."""
        own, method = self.stages[self.stage], self.rule.words() or "plain training"
        trained = {name for name, _ in parameters_of(self.network, own.trainable, method)}
        others = [one for name, one in self.network.named_parameters() if name not in trained]
        self._frozen = [one for one in others if one.requires_grad]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        self.confined = {
            name: [one for _, one in parameters_of(self.network, parts, method) if one.requires_grad]
            for name, parts in self.rule.gradients(self.network).items()
        }
        # a rule that passes a batch several times adds gradients in an order of its own
        alike = self.rule.recordable and not self.confined
        self.at_once = AtOnce(self.network, lowered(self.experiment)) if alike else None
        if own.optimizer is not None:
            self.optimizer = self._new_optimizer(own)
        elif [*map(id, self.optimizer.param_groups[0]["params"])] != [*map(id, self.parameters())]:
            raise ValueError(f"{method}: stage {self.stage + 1} has new parameters, so it needs a new optimizer")
        self.progress = 0.0  # place inside the stage, in [0, 1]
        self.sums: dict[str, Tensor] = {}  # of the losses by name, over an epoch's steps
        self.replayed: tuple[float, Replayed] | None = None  # the recorded step, and the learning rate that is in it
        with seeded(stream(self.experiment.seed, f"before stage {self.stage}"), self.device):
            self.best_loss, _ = self._validate()  # the untrained state counts, as released
            self._move_means_in_validation()
        self.best = self._copy_of_weights()

    def _new_optimizer(self, stage: Stage) -> torch.optim.Optimizer:
        settings = self.experiment.optimization
        common = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        if stage.optimizer == "adam":
            return torch.optim.Adam(self.parameters(), capturable=self.device.type == "cuda", **common)
        return torch.optim.SGD(self.parameters(), momentum=settings.momentum, **common)

    def _result(self) -> dict[str, Tensor]:
        """The weights that a stage ends with."""
        return self.best if self.stages[self.stage].ends_with == "best" else self._copy_of_weights()

    def _load(self, weights: dict[str, Tensor]) -> None:
        self.network.load_state_dict(weights)

    def _learning_rate(self, epoch: int) -> float:
        rates = self.stages[self.stage].rates
        return self.experiment.optimization.learning_rate_at(epoch) if rates is None else rates[epoch]

    # an epoch and its steps

    def _epoch(self, epoch: int) -> None:
        """epoch: in its stage, from 0."""
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(epoch)
        if self.regularizer is not None:
            self.regularizer.sampler.restart()  # released: all pairs are shuffled afresh each epoch
        self.network.train()
        steps = steps_per_epoch(len(self.images), self.experiment.optimization.batch_size)
        for total in self.sums.values():
            total.zero_()
        step = self.stepper(self._learning_rate(epoch))
        for number, drawn in enumerate(zip(*self.draw(steps), strict=True)):
            self.progress = (epoch + number / steps) / self.stages[self.stage].epochs
            step(*drawn)
        values = torch.stack(list(self.sums.values())) / steps
        losses = dict(zip(self.sums, values.tolist(), strict=True))  # the first time that the host waits for a GPU
        if not torch.isfinite(values).all():
            found = ", ".join(f"{name} loss {value:.3g}" for name, value in losses.items())
            raise TrainingError(
                f"training {self.experiment.key} diverged in epoch {len(self.history) + 1}: {found}; a smaller "
                "learning_rate or alpha may help"
            )
        self._note(losses, started)

    def stepper(self, learning_rate: float) -> Callable[..., None]:
        """What runs a step: where `is_recorded`, a recording of it, one for each learning rate."""
        if not is_recorded(self.experiment, self.device):
            return self._step
        if self.replayed is None or self.replayed[0] != learning_rate:
            step = weakref.WeakMethod(self._step)  # or a training held itself, and the GPU's memory with it
            self.replayed = (learning_rate, Replayed(lambda *inputs: step()(*inputs)))
        return self.replayed[1]

    def draw(self, steps: int) -> tuple[Sequence, Sequence, Sequence]:
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
        """One update; adds the losses before it to `sums`."""
        alpha = 0.0 if self.regularizer is None else self.experiment.regularizer.alpha
        with autocast(self.experiment, self.device), self.at_once.step() if self.at_once else nullcontext():
            losses = self._losses(augmented(self.images[batch].float() / 255, *augmentation), self.labels[batch])
            L_sim = self._similarity_loss(pairs, alpha)  # after the class batch, as released: batch norm sees it last
        task = sum((loss for name, loss in losses.items() if name not in self.confined), self.zero)
        loss = task + alpha * L_sim if alpha > 0 else task
        self._descend(loss, losses)
        for name, value in {**losses, SIMILARITY: L_sim}.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros((), device=self.device)
            self.sums[name] += value.detach()

    def _losses(self, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The rule's losses of a class batch by name."""
        losses = self.rule.losses(self.network, pixels, labels, self.progress, self.attack)
        if TASK not in losses or SIMILARITY in losses or self.confined.keys() - losses.keys():
            wanted = sorted({TASK, *self.confined})
            raise ValueError(
                f"{self.rule.words() or 'plain training'}: losses must be named {', '.join(wanted)}, or otherwise but "
                f"not '{SIMILARITY}'; got {', '.join(losses)}"
            )
        return losses

    def _similarity_loss(self, pairs: tuple[Tensor, ...] | None, alpha: float) -> Tensor:
        """L_sim of a pair batch: 0 where there is none, without a gradient where alpha is 0."""
        if self.regularizer is None:
            return self.zero
        with torch.set_grad_enabled(alpha > 0), self.at_once.pairs() if self.at_once else nullcontext():
            return self.regularizer(pairs)

    def _descend(self, loss: Tensor, losses: dict[str, Tensor]) -> None:
        """A step of the optimizer down `loss`, and, of what is confined, down its own loss."""
        self.optimizer.zero_grad()
        added: list[tuple[nn.Parameter, Tensor]] = []
        for name, own in self.confined.items():
            added += zip(own, torch.autograd.grad(losses[name], own, retain_graph=True), strict=True)
        if loss.requires_grad or not added:
            loss.backward()
        if self.at_once:
            self.at_once.gather()
        for parameter, gradient in added:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        self.optimizer.step()

    # what is noted, kept and taken up again

    def _note(self, losses: dict[str, float], started: float) -> None:
        validation_loss, validation_accuracy = self._validate()
        self._move_means_in_validation()
        if validation_loss < self.best_loss:
            self.best_loss, self.best = validation_loss, self._copy_of_weights()
        weights = None if self.regularizer is None else self.regularizer.layer_weights.tolist()
        of_stage = {} if len(self.stages) == 1 else {"stage": self.stage + 1}
        self.history.append(
            {
                "epoch": len(self.history) + 1,
                **of_stage,
                **{f"{name}_loss": losses[name] for name in sorted(losses, key=[TASK, SIMILARITY, *losses].index)},
                "validation_loss": validation_loss,
                "validation_accuracy": validation_accuracy,
                "layer_weights": weights,
                "seconds": time.perf_counter() - started,
            }
        )

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Loss and accuracy on the validation images."""
        self.network.eval()
        pixels, labels = self.validation
        logits = torch.cat([self.network(batch) for batch in pixels.split(VALIDATION_BATCH)])
        accuracy = (logits.argmax(dim=1) == labels).float().mean().item()
        return F.cross_entropy(logits, labels).item(), accuracy

    @torch.no_grad()
    def _move_means_in_validation(self) -> None:
        """Where the experiment says so, the running means follow in eval mode too: a quirk of the released code."""
        if self.regularizer is None or not self.experiment.regularizer.mean_in_validation:
            return
        self.network.eval()
        for _ in range(len(self.validation[1]) // self.experiment.optimization.batch_size):
            rows, cols, _ = self.regularizer.draw()
            self.regularizer.layer_similarities(rows, cols)

    def _copy_of_weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def parameters(self) -> list[nn.Parameter]:
        regularizer = [] if self.regularizer is None else list(self.regularizer.parameters())
        return [*self.network.parameters(), *regularizer]

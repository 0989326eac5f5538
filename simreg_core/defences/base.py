"""What a defence is made of: a rule by which a network is trained, and a front end through which it sees.

A rule is a frozen dataclass whose fields are what a specification may set; a front end is a module whose arguments
are. Neither knows files or configuration; the laboratory's rows for them are in `simreg_core/lab/training/rules.py`.

Planning reads the settings of every defence that a profile names. A defence may import torch at the top of its file,
at the price of loading torch then too; those that ship use `Later`, and `FrontEndSettings` for a front end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from simreg_core.later import Later

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from simreg_core.defences.front_end import FrontEnd

F = Later("torch.nn.functional")

TASK = "task"  # the loss that every rule has


@dataclass(frozen=True)
class Stage:
    """A part of a training.

    epochs: at least 1.
    optimizer: 'sgd' or 'adam', a new optimizer; None: that of the stage before, momentum and all.
    rates: learning rate of each epoch; None: the experiment's schedule from its beginning.
    trainable: parameters by name, or by the beginning of their names up to a dot ('stem', 'stage1.0'); None: all but
        those that `Rule.prepare` has frozen.
        Batch norm of a part that is not trained still follows its batches.
    ends_with: the weights that go into the next stage, or are the result: the 'best' on validation images, the state
        in which the stage begins among them, or the 'last'.
    Raises ValueError for what cannot be.
    """

    epochs: int
    optimizer: Literal["sgd", "adam"] | None = "sgd"
    rates: tuple[float, ...] | None = None
    trainable: tuple[str, ...] | None = None
    ends_with: Literal["best", "last"] = "best"

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"a stage needs at least 1 epoch, got {self.epochs}")
        if self.optimizer not in ("sgd", "adam", None):
            raise ValueError(f"a stage's optimizer must be 'sgd', 'adam' or None, got {self.optimizer!r}")
        if self.rates is not None and len(self.rates) != self.epochs:
            raise ValueError(f"a stage of {self.epochs} epochs needs as many learning rates, got {len(self.rates)}")
        if self.ends_with not in ("best", "last"):
            raise ValueError(f"a stage ends with its 'best' or its 'last' weights, got {self.ends_with!r}")


class Parent:
    """Type of a rule's field that names the experiment whose trained weights a training starts from.

    A rule does nothing with its value: the network that `Rule.network` gets has these weights.
    """


class Artefact(ABC):
    """Something that is fitted to the training images before a network is trained: a frozen dataclass of settings.

    It is fitted once for all trainings on the same images that ask for the same settings.
    """

    @abstractmethod
    def fit(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """images: [n, c, h, w] in [0, 1], not augmented.  generator: CPU generator.  Returns a float tensor."""

    @abstractmethod
    def words(self) -> str:
        """For lists: 'dictionary of 160 atoms'."""


class Rule(ABC):
    """How a network is trained; a frozen dataclass. What it leaves out is done as in plain training.

    recordable: whether every step is the same computation: no random numbers, no use of `progress`, no value read
        back to the host. On a GPU such a step may be replayed, which is faster.
    """

    recordable: ClassVar[bool] = False

    def network(self, base: nn.Module) -> nn.Module:
        """The network that is trained, made of the experiment's, or of its parent's as trained.

        Global random numbers are seeded. A network that shall be regularized keeps `features` or `layers`.
        """
        return base

    def prepare(self, network: nn.Module, images: Tensor) -> None:  # noqa: B027
        """Freeze parts of that network, or set them afresh, in place, before its first stage.

        images: [1, c, h, w], zeros of the task's size, for what only a pass through the network tells.
        Global random numbers are seeded. The network stays of the same make: an evaluation only loads weights into it.
        Raises ValueError for settings that do not fit the network; it is called before anything is trained.
        """

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """The parts of the training, in order.  epochs: of the experiment."""
        return (Stage(epochs),)

    def begin(self, stage: int, network: nn.Module) -> None:  # noqa: B027
        """Change the network in place as a stage, counted from 0, begins: set parts afresh, switch a quantizer on.

        Global random numbers are seeded. A training that was killed, and an evaluation, call it for each stage so far
        and then load weights and buffers.
        """

    @abstractmethod
    def losses(
        self, network: nn.Module, x: Tensor, y: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Losses of a batch by name, scalars that are added; 'task' is among them.

        x: [b, c, h, w] in [0, 1].  y: [b] int64.  progress: place inside the stage, in [0, 1).
        generator: on the device of x.
        """

    def gradients(self, network: nn.Module) -> dict[str, tuple[str, ...]]:
        """Losses that may move only some parameters, by name as in `Stage.trainable`; all others may move all."""
        return {}

    def artefacts(self) -> dict[str, Artefact]:
        """What must be fitted before, by the name of the network's buffer that gets it."""
        return {}

    @abstractmethod
    def passes(self) -> float:
        """For estimates: forward and backward passes of the batch in a step, beside those of plain training."""

    @abstractmethod
    def words(self) -> str:
        """For lists: 'trained on pgd images, epsilon 0.02'."""


@dataclass(frozen=True)
class Plain(Rule):
    """Cross-entropy of the images as they are."""

    recordable: ClassVar[bool] = True

    def losses(
        self, network: nn.Module, x: Tensor, y: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        return {TASK: cross_entropy(network, x, y)}

    def passes(self) -> float:
        return 0

    def words(self) -> str:
        return ""


def cross_entropy(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy in float32, also where the network computes in bfloat16."""
    return F.cross_entropy(network(x).float(), y)


def parameters_of(
    network: nn.Module, parts: tuple[str, ...] | None, whose: str = "a stage"
) -> list[tuple[str, nn.Parameter]]:
    """Parameters by name, those of the parts, see `Stage.trainable`.  Raises ValueError for a part without any."""
    named = list(network.named_parameters())
    if parts is None:
        return named
    for part in parts:
        if not any(_belongs(name, part) for name, _ in named):
            known = ", ".join(dict.fromkeys(name.partition(".")[0] for name, _ in named))
            raise ValueError(f"{whose}: the network has no parameters '{part}'; its parts: {known}")
    return [(name, parameter) for name, parameter in named if any(_belongs(name, part) for part in parts)]


def _belongs(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


class FrontEndSettings(ABC):
    """Settings of a front end: a frozen dataclass that refuses impossible values without loading torch."""

    @abstractmethod
    def build(self) -> FrontEnd:
        """The module."""

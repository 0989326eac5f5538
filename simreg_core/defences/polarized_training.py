"""Training behind a polarizing front end, in three stages (Bakiskan 2022, section 4.1); see `polarizing`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from simreg_core.defences.base import TASK, Rule, Stage, cross_entropy
from simreg_core.later import Later

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

polarizing = Later("simreg_core.defences.polarizing")

POLARIZATION = "polarization"  # the loss beside the task's
DROP_AFTER, DROP = 11 / 20, 0.1  # of stage three, when the learning rate falls; by which factor


def farthest(threshold: float) -> float:
    """How far from ±c an activation in [-1, 1] can be: no image is certified for a larger epsilon.  threshold: c."""
    return max(threshold, 1 - threshold)


CHOICES = {"filters": ("trained", "frozen", "pixels"), "freezing": ("exact", "drift"), "until": (2, 3)}


@dataclass(frozen=True)
class PolarizedTraining(Rule):
    """Cross-entropy + λ * mean of a bump loss of the filters' outputs, λ from 0 to `weight` within each stage.

    threshold: c, in (0, 1).  sigma_one, sigma_two: of B1 and B2.
    weight: λ at the end of a stage; 0: no polarization, a control. The source steps λ with the epochs, up to 0.95.
    filters: 'trained', or 'frozen', random ones, a control; or 'pixels': no filters, the quantizer sees the pixels
        themselves (levels 0 and 1, threshold c), in one stage.
    freezing: in stage three, when the quantizer is on: 'exact', or 'drift', as in the released code, where Adam's
        momentum moves the filters on for some steps.
    until: 2 leaves out stage three: the unquantized network, which an attacker may know, see
        `FrontEndEvaluation.surrogates`.
    learning_rate: of Adam, in place of the experiment's.
    width: of the classifier, see `polarizing.classifier`.
    Each stage has the experiment's epochs, and its last weights count.
    Stage one polarizes with B1, stage two with B2, stage three trains the classifier behind the quantizer.
    """

    threshold: float = 0.5
    sigma_one: float = 0.35
    sigma_two: float = 0.15
    weight: float = 1.0
    filters: Literal["trained", "frozen", "pixels"] = "trained"
    freezing: Literal["exact", "drift"] = "exact"
    until: Literal[2, 3] = 3
    learning_rate: float = 1e-3
    width: int = 32

    def __post_init__(self):
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must lie in (0, 1), no activation is larger than 1; got {self.threshold:g}")
        for name in ("sigma_one", "sigma_two", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name):g}")
        if not self.weight >= 0:
            raise ValueError(f"weight must be at least 0, got {self.weight:g}")
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown {name} '{getattr(self, name)}'; allowed: {', '.join(map(str, allowed))}")

    def network(self, base: nn.Module) -> nn.Module:
        """The front end and the source's classifier; of the experiment's network, its number of classes."""
        return polarizing.polarized_network(base, self.threshold, self.filters == "pixels", self.width)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        late = [self.learning_rate * (DROP if epoch >= DROP_AFTER * epochs else 1) for epoch in range(epochs)]
        if self.filters == "pixels":
            return (Stage(epochs, "adam", tuple(late), ends_with="last"),)
        early = (self.learning_rate,) * epochs
        fixed = ("classifier",)
        trained = fixed if self.filters == "frozen" else None
        drift = self.freezing == "drift" and trained is None
        every = (
            Stage(epochs, "adam", early, trained, "last"),
            Stage(epochs, None, early, trained, "last"),
            Stage(epochs, None, tuple(late), None if drift else fixed, "last"),
        )
        return every[: self.until]

    def begin(self, stage: int, network: nn.Module) -> None:
        network.stage = stage
        if self.filters != "pixels":
            network.front_end.remember(stage)
        if self.filters == "pixels" or stage == 2:
            network.front_end.quantizing = True

    def losses(
        self, network: nn.Module, x: Tensor, y: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        if network.front_end.quantizing:
            loss = cross_entropy(network.classifier, network.front_end(x).detach(), y)
            if self.freezing == "drift":  # a gradient of zero, not none: momentum acts on
                loss = loss + 0 * sum(one.sum() for one in network.front_end.parameters())
            return {TASK: loss}
        z = network.front_end.activations(x)
        bumps = (
            polarizing.bump_at_zero(z, self.sigma_one)
            if network.stage == 0
            else polarizing.bumps_at_thresholds(z, self.threshold, self.sigma_two)
        )
        return {TASK: cross_entropy(network, x, y), POLARIZATION: self.weight * progress * bumps.mean()}

    def passes(self) -> float:
        return 0

    def words(self) -> str:
        controls = [] if self.filters == "trained" else [f"{self.filters} filters"]
        controls += [] if self.weight else ["no polarization"]
        return ", ".join([f"polarizing front end, threshold {self.threshold:g}", *controls])

"""Training of Hebbian / anti-Hebbian networks (Bakiskan 2022, chapter 5); see `hebbian`. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from simreg_core.defences.adversarial import STEP_SIZE, check_strength, pgd_adversarial_examples
from simreg_core.defences.augmentation import check_sigma, noisy
from simreg_core.defences.base import TASK, Rule, Stage
from simreg_core.later import Later

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = Later("torch")

F, blurs, hebbian = (
    Later(name) for name in ("torch.nn.functional", "simreg_core.defences.blur", "simreg_core.defences.hebbian")
)

HEBBIAN = "hebbian"  # the loss beside the task's
ALPHAS = (4.5e-3, 2.5e-3, 1.3e-3, 1e-3, 0.8e-3, 0.5e-3)  # of the source's six blocks
FALLS, FALL = (0.6, 0.8), 0.1  # of the training, when the learning rate falls; by which factor
Normalization = Literal["pooled", "mean", "batch", "instance", "local"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
CHOICES: dict[str, tuple[str, ...]] = {
    "threshold": ("strongest", "none"),
    "flow": ("stopped", "free"),
    "images": ("clean", "noisy", "blurred", "adversarial"),
}


def check_block(normalization: str = "pooled", sigma: float = 0.1, keep: float | None = None) -> None:
    """Raises ValueError for a block that cannot be, see `hebbian.HebbianBlock`."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"unknown normalization '{normalization}'; allowed: {', '.join(NORMALIZATIONS)}")
    if not 0 <= sigma <= 1:
        raise ValueError(f"sigma must lie in [0, 1], got {sigma:g}")
    if keep is not None and not 0 < keep < 1:
        raise ValueError(f"keep, the share that a threshold keeps, must lie in (0, 1), got {keep:g}")


def check_cost(active: float, anti: float) -> None:
    """Raises ValueError for a cost that cannot be, see `hebbian.active_count` and `hebbian.hebbian_cost`."""
    if not 0 < active < 1:
        raise ValueError(
            f"active must lie in (0, 1), so that K, the filters that win, is at least 1 and not all; got {active:g}"
        )
    if not anti >= 0:
        raise ValueError(f"anti, the weight λ of filters that lose, must be at least 0, got {anti:g}")


@dataclass(frozen=True)
class HebbianTraining(Rule):
    """Cross-entropy - cost * Σ_b α_b L_b, with the network's first blocks made Hebbian; see the file `hebbian`.

    Of a network of blocks, the architectures 'unit-vgg' and 'unit-vgg16'.
    blocks: how many, from the first; 0 is the source's standard network.
    cost: of all costs, at least 0; 0: none, an ablation.  alphas: α of each block, at least as many as blocks.
    anti: λ; 0.1 in the source's text, 1 in the released code, which lost the setting: published numbers are likely
        those of 1.  active: share of the filters that win.
    normalization, sigma, keep: of `hebbian.HebbianBlock`.  threshold: 'strongest', or 'none', an ablation.
    flow: 'stopped': a cost moves its block only; 'free': earlier blocks too, a control.
    images: what the classifier is trained on: 'clean', 'noisy' (Gaussian, clamped), 'blurred' (half of each batch), or
        'adversarial' (PGD of `steps` steps). Costs are of clean images always, as in the source.
    strength: standard deviation of the noise, of the blur in pixels, or epsilon of PGD; 0 of clean images.
    learning_rate: of Adam, in place of the experiment's; a tenth after 60 % and again after 80 % of the epochs.
    The last weights count.
    """

    blocks: int = 6
    cost: float = 1.0
    alphas: tuple[float, ...] = ALPHAS
    anti: float = 0.1
    active: float = 0.1
    normalization: Literal["pooled", "mean", "batch", "instance", "local"] = "pooled"
    sigma: float = 0.1
    keep: float = 0.2
    threshold: Literal["strongest", "none"] = "strongest"
    flow: Literal["stopped", "free"] = "stopped"
    images: Literal["clean", "noisy", "blurred", "adversarial"] = "clean"
    strength: float = 0.0
    steps: int = 7
    learning_rate: float = 1e-3

    def __post_init__(self):
        check_block(self.normalization, self.sigma, self.keep)
        check_cost(self.active, self.anti)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown {name} '{getattr(self, name)}'; allowed: {', '.join(allowed)}")
        if self.blocks < 0 or self.steps < 1:
            raise ValueError(f"blocks must be at least 0 and steps at least 1, got {self.blocks} and {self.steps}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate:g}")
        if not self.cost >= 0 or not all(alpha >= 0 for alpha in self.alphas):
            raise ValueError(f"cost and alphas must be at least 0, got {self.cost:g} and {self.alphas}")
        if self.cost and self.blocks > len(self.alphas):
            raise ValueError(f"alphas must have one for each of the {self.blocks} blocks, got {len(self.alphas)}")
        self._check_images()

    def _check_images(self) -> None:
        if self.images == "clean":
            if self.strength:
                raise ValueError(f"strength goes with images other than 'clean', got {self.strength:g}")
        elif self.images == "blurred":
            check_sigma(self.strength)
        else:
            check_strength(self.strength)

    def network(self, base: nn.Module) -> nn.Module:
        keep = None if self.threshold == "none" else self.keep
        settings = {"normalization": self.normalization, "sigma": self.sigma, "keep": keep}
        return hebbian.with_hebbian_blocks(base, self.blocks, **settings)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        falls = [sum(epoch >= share * epochs for share in FALLS) for epoch in range(epochs)]
        rates = tuple(self.learning_rate * FALL**count for count in falls)
        return (Stage(epochs, "adam", rates, ends_with="last"),)

    def losses(
        self, network: nn.Module, x: Tensor, y: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        costs: list[Tensor] = []
        shown = x
        if self.images != "clean":
            shown = self._shown(network, x, y, generator)
        if not self.cost or not self.blocks:
            logits = network(shown)
        else:
            logits, costs = hebbian.logits_and_costs(network, x, self.active, self.anti, self.flow == "stopped")
            logits = logits if shown is x else network(shown)
        task = F.cross_entropy(logits.float(), y)
        weighted = [alpha * cost.float() for alpha, cost in zip(self.alphas, costs, strict=False)]
        return {TASK: task, **({HEBBIAN: -self.cost * torch.stack(weighted).sum()} if weighted else {})}

    def _shown(self, network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The images that the classifier is trained on, same shape."""
        if self.images == "noisy":
            return noisy(x, self.strength, generator)
        if self.images == "adversarial":
            step = STEP_SIZE * self.strength / self.steps
            return pgd_adversarial_examples(network, x, y, self.strength, step, self.steps, generator)
        half = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
        return torch.where(half, blurs.GaussianBlur(self.strength).to(x.device)(x), x)

    def passes(self) -> float:
        """Costs convolve once more and sort; thresholds sort too."""
        sorts = 0.2 * self.blocks * ((self.threshold == "strongest") + (self.cost > 0))
        return sorts + (self.steps if self.images == "adversarial" else 0)

    def words(self) -> str:
        what = f"{self.blocks} Hebbian blocks, λ {self.anti:g}" if self.blocks else "unit-norm filters"
        parts = [] if self.cost or not self.blocks else ["no cost"]
        parts += [] if self.threshold == "strongest" or not self.blocks else ["no threshold"]
        parts += [] if self.normalization == "pooled" or not self.blocks else [f"{self.normalization} normalization"]
        parts += [] if self.images == "clean" else [f"{self.images} images, {self.strength:g}"]
        return ", ".join([what, *parts])

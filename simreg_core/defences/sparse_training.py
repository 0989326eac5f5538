"""Training behind a sparse-coding front end (Bakiskan 2022, section 4.2 and appendix B); see `sparse_coding`.

Settings only: this file loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from simreg_core.defences.base import TASK, Artefact, Rule, Stage, cross_entropy
from simreg_core.later import Later

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

F = Later("torch.nn.functional")
sparse_coding = Later("simreg_core.defences.sparse_coding")

CHOICES = {
    "signs": ("kept", "lost"),
    "quantizer": ("on", "off"),
    "decoder": ("strided", "resized"),
    "training": ("supervised", "unsupervised"),
}


@dataclass(frozen=True)
class Dictionary(Artefact):
    """Atoms of norm 1, learned on patches of the training images by scikit-learn's MiniBatchDictionaryLearning.

    atoms: L.  patch: n, side of a square patch.  sparsity: λ of the lasso.
    batches, batch_size: `batches` calls of partial_fit with `batch_size` patches each, drawn anew: the source has
        1,000 of 5. (Today's `max_iter` of the library counts passes over the data, not batches.)
    centred: each patch's mean is taken away first, and each atom's mean is 0; the source has raw patches.
    Raises ValueError for settings out of bounds.
    """

    atoms: int = 500
    patch: int = 4
    sparsity: float = 1.0
    batches: int = 1000
    batch_size: int = 5
    centred: bool = False

    def __post_init__(self):
        for name in ("atoms", "patch", "batches", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.sparsity > 0:
            raise ValueError(f"sparsity must be positive, got {self.sparsity:g}")

    def fit(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """[atoms, c * patch * patch]."""
        return sparse_coding.learn_dictionary(images, self, generator)

    def words(self) -> str:
        centred = " without their mean" if self.centred else ""
        return f"dictionary of {self.atoms} atoms, {self.patch}x{self.patch} patches{centred}"


@dataclass(frozen=True)
class SparseCodingTraining(Rule):
    """A classifier of images that a sparse code of their patches was decoded to; clean images only.

    atoms, patch, sparsity, batches, batch_size, centred: of the `Dictionary`.
    stride: S, between patches.  kept: T, coefficients kept of each patch.
    beta, epsilon: a coefficient counts where its share of the patch is above beta * epsilon, in pixel units.
    dropout: p, each kept coefficient is dropped with this probability, in training and at test; 0: none.
    draws: of the dropout, whose softmax outputs are averaged at test.
    signs: 'kept', or 'lost' as in the released code of the random variant, whose top T are absolute values.
    quantizer: 'off' for the unquantized copy, which an attacker may train.
    decoder: 'strided' (CIFAR-10), or 'resized' (Imagenette), see `sparse_coding.Decoder`.  widths: of its layers.
    decoder_start: what the biases of the decoder's last layer begin with, in pixel units, in (0, 1); None: torch's
        own, as in the source. Where an image begins nearly black, its ReLU passes no gradient and nothing is learned.
    training: 'supervised', decoder and classifier together; 'unsupervised', first the decoder to reconstruct the
        images, then the classifier, as the surrogate of the source.
    learning_rate: of SGD, its largest: it rises from 0 and falls to 0 within a stage. The source steps it with the
        batches, here with the epochs.
    Raises ValueError for settings that cannot be.
    """

    atoms: int = 500
    patch: int = 4
    stride: int = 2
    kept: int = 15
    beta: float = 3.0
    epsilon: float = 8 / 255
    dropout: float = 0.0
    draws: int = 10
    signs: Literal["kept", "lost"] = "kept"
    quantizer: Literal["on", "off"] = "on"
    sparsity: float = 1.0
    batches: int = 1000
    batch_size: int = 5
    centred: bool = False
    decoder: Literal["strided", "resized"] = "strided"
    widths: tuple[int, int] = (300, 100)
    training: Literal["supervised", "unsupervised"] = "supervised"
    learning_rate: float = 0.02
    decoder_start: float | None = None

    def __post_init__(self):
        _ = self.dictionary
        check_coder(self.atoms, self.patch, self.stride, self.kept, self.dropout)
        for name in ("beta", "epsilon", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name):g}")
        for name, value in (("draws", self.draws), ("widths", min(self.widths))):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.decoder_start is not None and not 0 < self.decoder_start < 1:
            raise ValueError(f"decoder_start must lie in (0, 1), got {self.decoder_start:g}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown {name} '{getattr(self, name)}'; allowed: {', '.join(allowed)}")

    @property
    def dictionary(self) -> Dictionary:
        """What is fitted before."""
        return Dictionary(self.atoms, self.patch, self.sparsity, self.batches, self.batch_size, self.centred)

    def artefacts(self) -> dict[str, Artefact]:
        return {"front_end.dictionary": self.dictionary}

    def network(self, base: nn.Module) -> nn.Module:
        """The front end, with a dictionary of zeros for now, in front of the experiment's network."""
        return sparse_coding.sparse_coded(base, self)

    def prepare(self, network: nn.Module, images: Tensor) -> None:
        check_image(images.shape[2:], self.patch, self.stride)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        places = [(2 * epoch + 1) / max(epochs, 1) for epoch in range(epochs)]  # in (0, 2): rises up to 1
        rates = tuple(self.learning_rate * (1 - abs(place - 1)) for place in places)
        if self.training == "supervised":
            return (Stage(epochs, rates=rates, ends_with="last"),)
        return (
            Stage(epochs, rates=rates, trainable=("front_end.decoder",), ends_with="last"),
            Stage(epochs, rates=rates, trainable=("classifier",), ends_with="last"),
        )

    def begin(self, stage: int, network: nn.Module) -> None:
        network.reconstructing = self.training == "unsupervised" and stage == 0

    def losses(
        self, network: nn.Module, x: Tensor, y: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        if network.reconstructing:
            return {TASK: F.mse_loss(network.front_end(x).float(), x)}
        return {TASK: cross_entropy(network, x, y)}

    def passes(self) -> float:
        return 0

    def words(self) -> str:
        more = [f"dropout {self.dropout:g}"] if self.dropout else []
        more += ["signs lost"] * (self.signs == "lost") + ["no quantizer"] * (self.quantizer == "off")
        more += ["mean removed"] * self.centred + ["unsupervised"] * (self.training == "unsupervised")
        return ", ".join([f"sparse codes, {self.kept} of {self.atoms} atoms", *more])


def check_coder(atoms: int, patch: int, stride: int, kept: int, dropout: float) -> None:
    """Raises ValueError for an encoder that cannot be."""
    for name, value in (("atoms", atoms), ("patch", patch), ("stride", stride), ("kept", kept)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if kept > atoms:
        raise ValueError(f"kept must be at most the {atoms} atoms of the dictionary, got {kept}")
    if stride > patch:
        raise ValueError(f"stride must be at most the patch's {patch} pixels, or it leaves pixels out; got {stride}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1): with 1 no coefficient is left; got {dropout:g}")


def check_image(size: tuple[int, int], patch: int, stride: int) -> None:
    """Raises ValueError where patches do not cover an image of this size, (height, width), exactly."""
    h, w = size
    if patch > min(h, w):
        raise ValueError(f"patch must fit into the image, {h}x{w}; got {patch}x{patch}")
    if left := [side for side in (h, w) if (side - patch) % stride]:
        raise ValueError(
            f"stride {stride} with patches of {patch} pixels leaves {(left[0] - patch) % stride} of {left[0]} pixels "
            "a side out; (side - patch) must be a multiple of stride"
        )

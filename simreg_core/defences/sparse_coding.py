"""A sparse-coding front end (Bakiskan 2022, section 4.2 and appendix B; arXiv 2011.10867 and 2104.05353).

Each patch p of the image is projected on an overcomplete dictionary of unit atoms d, the T largest coefficients are
kept, some of them dropped at random (variant of arXiv 2011.10867), and of the rest only large signs are kept:

    x = dᵀp                                                             T largest |x|, over atoms
    z = x / ||d||_1                                                     a perturbation e moves it by at most ||e||_inf
    code = ||d||_1 (sgn(z - βε) + sgn(z + βε)) / 2                      in {0, ±||d||_1}

A decoder of transposed convolutions makes an image of the code, which a classifier sees. With β > 1/2 no perturbation
below ε turns a + into a −; it can take a coefficient away, or bring another among the T.

This file needs torch; settings that do not are in `sparse_training.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.defences.front_end import FrontEnd, replace_gradient, wants_gradient
from simreg_core.defences.polarizing import STEEPNESS, quantized, smooth_quantizer
from simreg_core.defences.sparse_training import check_coder, check_image
from simreg_core.pixels import check_pixels

if TYPE_CHECKING:
    from simreg_core.defences.sparse_training import Dictionary, SparseCodingTraining

TOP = {"top 2T": 2, "top 5T": 5, "top 10T": 10}  # ways of the selection: how many times T atoms get a gradient
SOFTNESS = 0.1  # temperature of the relaxed selection, in units of a coefficient
FLAT = 0.9  # |sum of an atom| / sqrt(size) above which it is nearly one gray value
TINY = 1e-12  # an atom of zeros gives zeros
LEARNED_WIDTH = 16  # channels of the learned surrogate


def learn_dictionary(images: Tensor, settings: Dictionary, generator: torch.Generator) -> Tensor:
    """Atoms of norm 1, [atoms, c * patch²], see `Dictionary`.

    images: [n, c, h, w] in [0, 1].  Raises ValueError for a patch that is larger than the images.
    """
    from sklearn.decomposition import MiniBatchDictionaryLearning  # here: to train and to attack needs none

    check_pixels(images)
    check_image(images.shape[2:], settings.patch, 1)
    count = settings.batches * settings.batch_size
    patches = _centred(random_patches(images, settings.patch, count, generator), settings.centred)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    learner = MiniBatchDictionaryLearning(
        settings.atoms, alpha=settings.sparsity, batch_size=settings.batch_size, random_state=seed,
        dict_init=_first_atoms(patches, settings.atoms).double().numpy(),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the lasso: near-duplicate atoms make it degenerate
        for batch in patches.split(settings.batch_size):
            learner.partial_fit(batch.double().numpy())
    atoms = _centred(torch.as_tensor(learner.components_), settings.centred)
    return F.normalize(atoms, dim=1).float()


def random_patches(images: Tensor, side: int, count: int, generator: torch.Generator) -> Tensor:
    """Square patches at random places of random images, [count, c * side²].  images: [n, c, h, w]."""
    n, _, h, w = images.shape
    which, top, left = (torch.randint(end, (count,), generator=generator) for end in (n, h - side + 1, w - side + 1))
    step = torch.arange(side)
    rows, columns = (top[:, None] + step)[:, None, :, None], (left[:, None] + step)[:, None, None, :]
    channels = torch.arange(images.shape[1])[None, :, None, None]
    return images[which[:, None, None, None], channels, rows, columns].flatten(1)


def _centred(patches: Tensor, centred: bool) -> Tensor:
    return patches - patches.mean(dim=1, keepdim=True) if centred else patches


def _first_atoms(patches: Tensor, atoms: int) -> Tensor:
    """Where the library's `fit` begins: principal directions times their singular values, then zeros, which it draws
    afresh; `partial_fit` would take those of the first batch."""
    _, singular, directions = torch.linalg.svd(patches, full_matrices=False)
    begun = (singular[:, None] * directions)[:atoms]
    return torch.cat([begun, begun.new_zeros(atoms - len(begun), begun.shape[1])])


def coherence(dictionary: Tensor) -> tuple[float, float]:
    """The largest |cosine| of two atoms, and the median over atoms of the largest.  dictionary: [atoms >= 2, d]."""
    cosines = (F.normalize(dictionary, dim=1) @ F.normalize(dictionary, dim=1).T).abs().fill_diagonal_(0)
    nearest = cosines.amax(dim=1).clamp(max=1)
    return nearest.max().item(), nearest.quantile(0.5).item()


def is_flat(dictionary: Tensor) -> Tensor:
    """Which atoms are nearly one gray value, [atoms] bool.  dictionary: [atoms, d], of norm 1."""
    return dictionary.sum(dim=1).abs() > FLAT * math.sqrt(dictionary.shape[1])


class Decoder(nn.Module):
    """Transposed convolutions from a code [b, atoms, m, m'] to an image [b, channels, h, w] in [0, 1].

    patch, stride: of the encoder; the first layer undoes them exactly.  widths: channels of the first two layers.
    resized: the first layer is 3x3 instead, and what comes of it is resized to (h + 2, w + 2), bicubic: Imagenette.
    ReLU after each layer; a border of 2 or 3 pixels is cropped.
    """

    def __init__(
        self, atoms: int, channels: int, patch: int, stride: int, widths: tuple[int, int], resized: bool = False
    ):
        super().__init__()
        first, second = widths
        self.resized = resized
        self.first = nn.ConvTranspose2d(atoms, first, *((3, 1) if resized else (patch, stride)))
        self.second = nn.ConvTranspose2d(first, second, 3)
        self.third = nn.ConvTranspose2d(second, channels, 3)

    def forward(self, code: Tensor, size: tuple[int, int]) -> Tensor:
        """Before the last ReLU, and without bounds.  size: (h, w)."""
        maps = F.relu(self.first(code))
        if self.resized:
            maps = F.interpolate(maps, [side + 2 for side in size], mode="bicubic", align_corners=False)
        image = self.third(F.relu(self.second(maps)))
        top, left = ((own - side) // 2 for own, side in zip(image.shape[2:], size, strict=True))
        return image[:, :, top : top + size[0], left : left + size[1]]


class SparseCoder(FrontEnd):
    """Encoder and decoder: [b, channels, h, w] in [0, 1] -> the same.

    dictionary: [atoms, channels * patch²], atoms of norm 1, as `learn_dictionary` gives it.
    patch, stride, kept: see `SparseCodingTraining`.  threshold: βε.  quantizing: else the coefficients themselves.
    lose_signs: the T largest are then absolute values.
    An attacker may differentiate the quantizer as the identity or a tanh; the selection through what is kept, through
    the 2T, 5T or 10T largest, through all atoms, or as a relaxed one; the decoder without its bounds; and all of the
    front end as the identity, or as a small network that was trained to do the same, see `learn`.
    Raises ValueError for settings out of bounds, and for a dictionary of other patches.
    """

    draws_random_numbers = False
    ways = {  # noqa: RUF012
        "quantizer": ("tanh4", "identity", *(name for name in STEEPNESS if name != "tanh4")),
        "selection": ("kept", *TOP, "all", "softmax"),
        "decoder": ("exact", "unbounded"),
        "coder": ("exact", "identity", "learned"),
    }

    def __init__(
        self,
        dictionary: Tensor,
        channels: int = 1,
        *,
        patch: int = 4,
        stride: int = 2,
        kept: int = 15,
        threshold: float = 3 * 8 / 255,
        quantizing: bool = True,
        lose_signs: bool = False,
        widths: tuple[int, int] = (300, 100),
        resized: bool = False,
    ):
        super().__init__()
        if dictionary.ndim != 2 or dictionary.shape[1] != channels * patch**2:
            raise ValueError(
                f"dictionary must have shape [atoms, {channels * patch**2}] for {patch}x{patch} patches of {channels} "
                f"channels, got {list(dictionary.shape)}"
            )
        check_coder(len(dictionary), patch, stride, kept, 0.0)
        if not threshold > 0:
            raise ValueError(f"threshold must be positive, got {threshold:g}")
        self.channels, self.patch, self.stride, self.kept = channels, patch, stride, kept
        self.threshold, self.quantizing, self.lose_signs = threshold, quantizing, lose_signs
        self.register_buffer("dictionary", dictionary.clone())
        self.decoder = Decoder(len(dictionary), channels, patch, stride, widths, resized)
        self.learned: nn.Module | None = None

    @property
    def sizes(self) -> Tensor:
        """L1 size of each atom, [atoms, 1, 1], in [1, sqrt(d)]."""
        return self.dictionary.abs().sum(dim=1).clamp_min(TINY)[:, None, None]

    def projections(self, x: Tensor) -> Tensor:
        """dᵀp of every atom and patch, [b, atoms, m, m'].  x: [b, c, h, w]."""
        check_image(x.shape[2:], self.patch, self.stride)
        return F.conv2d(x, self.dictionary.view(-1, self.channels, self.patch, self.patch), stride=self.stride)

    def select(self, projections: Tensor) -> Tensor:
        """The T largest by size, the others 0; with the gradient of the way in use.  [b, atoms, m, m']."""
        signed = projections.abs() if self.lose_signs else projections
        chosen = signed * top(projections, self.kept)
        way = self.way["selection"]
        if way == "kept":
            return chosen
        if way == "all":
            return replace_gradient(chosen, signed)
        if way == "softmax":
            weights = self.kept * torch.softmax(projections.abs() / SOFTNESS, dim=1)
            return replace_gradient(chosen, signed * weights.clamp(max=1))
        return replace_gradient(chosen, signed * top(projections, min(TOP[way] * self.kept, projections.shape[1])))

    def quantize(self, chosen: Tensor) -> Tensor:
        """The atom's L1 size times the three levels of z; with the gradient of the way in use."""
        if not self.quantizing:
            return chosen
        sizes = self.sizes
        z = chosen / sizes
        if not wants_gradient(z):  # as in training: the code depends on no parameter
            return sizes * quantized(z, self.threshold)
        steepness = STEEPNESS.get(self.way["quantizer"])
        smooth = z if steepness is None else smooth_quantizer(z, self.threshold, steepness)
        return sizes * replace_gradient(quantized(z, self.threshold), smooth)

    def code(self, x: Tensor) -> Tensor:
        """What the decoder sees, [b, atoms, m, m']; before a random front end drops anything."""
        return self.quantize(self.select(self.projections(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoded(self.code(x), x)

    def decoded(self, code: Tensor, x: Tensor) -> Tensor:
        """The image of a code, in the shape of x, the image that was coded."""
        image = self.decoder(code, x.shape[2:])
        bounded = image.clamp(0, 1)
        out = replace_gradient(bounded, image) if self.way["decoder"] == "unbounded" else bounded
        way = self.way["coder"]
        if way == "exact":
            return out
        if way == "identity":
            return replace_gradient(out.detach(), x)
        if self.learned is None:
            raise ValueError("coder='learned' needs a surrogate; call learn(images, ...) first")
        return replace_gradient(out.detach(), self.learned(x))

    def learn(self, images: Tensor, *, steps: int = 200, batch_size: int = 64, seed: int = 0) -> float:
        """Train the surrogate of coder='learned' to do what this front end does; the attacker's own.

        images: [n, c, h, w] in [0, 1], which the attacker has.  Returns the mean squared error of the last batch.
        """
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            layers = (self.channels, LEARNED_WIDTH, LEARNED_WIDTH, self.channels)
            parts: list[nn.Module] = []
            for inputs, outputs in pairwise(layers):
                parts += [nn.Conv2d(inputs, outputs, 5, padding=2), nn.ReLU()]
            surrogate = nn.Sequential(*parts[:-1]).to(images)
            optimizer, loss = torch.optim.Adam(surrogate.parameters(), 3e-3), images.new_zeros(())
            for _ in range(steps):
                x = images[torch.randint(len(images), (batch_size,)).to(images.device)]
                with torch.no_grad():
                    wanted = self(x)
                loss = F.mse_loss(surrogate(x), wanted)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        self.learned = surrogate.eval().requires_grad_(False)
        return loss.item()

    def extra_repr(self) -> str:
        return f"kept={self.kept}, threshold={self.threshold:.4f}, quantizing={self.quantizing}"


class RandomSparseCoder(SparseCoder):
    """A `SparseCoder` that drops each coefficient of its code with probability `dropout`, also in eval mode.

    dropout: in [0, 1); nothing is rescaled.
    An attacker may also differentiate through the mean over draws, or scale the gradient of each draw to length 1 (the
    source's sum over draws). Random numbers are those of the global state.
    """

    draws_random_numbers = True
    ways = {**SparseCoder.ways, "dropout": ("drawn", "mean"), "draw": ("plain", "unit")}  # noqa: RUF012

    def __init__(self, dictionary: Tensor, channels: int = 1, *, dropout: float, **settings: Any):
        super().__init__(dictionary, channels, **settings)
        check_coder(len(dictionary), self.patch, self.stride, self.kept, dropout)
        self.dropout, self.settings = dropout, settings

    def code(self, x: Tensor) -> Tensor:
        return self._drop(super().code(x))

    def _drop(self, whole: Tensor) -> Tensor:
        # the source drops before it quantizes: the same, since 0 stays 0
        drawn = whole * (torch.rand_like(whole) >= self.dropout)
        return replace_gradient(drawn, (1 - self.dropout) * whole) if self.way["dropout"] == "mean" else drawn

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_UnitGradient.apply(x) if self.way["draw"] == "unit" else x)

    def draw(self, x: Tensor, draws: int) -> Iterator[Tensor]:
        """So many images of x, each of its own draw; the whole code is computed once where x needs no gradient."""
        whole = None if wants_gradient(x) else super().code(x)
        for _ in range(draws):
            yield self(x) if whole is None else self.decoded(self._drop(whole), x)


class MeanSparseCoder(SparseCoder):
    """The mean over draws of a random one: (1 - p) of the whole code.  An attacker's copy, without random numbers."""

    def __init__(self, of: RandomSparseCoder):
        super().__init__(of.dictionary, of.channels, **of.settings)
        self.share = 1 - of.dropout
        self.decoder = of.decoder

    def code(self, x: Tensor) -> Tensor:
        return self.share * super().code(x)


class _UnitGradient(torch.autograd.Function):
    """The identity; the gradient of each image is scaled to length 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        length = gradient.flatten(1).norm(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        return gradient / length[:, None, None, None]


def top(projections: Tensor, count: int) -> Tensor:
    """1 at the `count` largest by size along dimension 1, else 0; ties go to either."""
    chosen = projections.detach().abs().topk(count, dim=1).indices
    return torch.zeros_like(projections).scatter_(1, chosen, 1.0)


class SparseCoded(nn.Module):
    """A front end and a classifier of its images: pixels [b, c, h, w] in [0, 1] in, logits out.

    draws: of a random front end, whose softmax outputs are averaged in eval mode: the logits are their logarithm. Since
    every pass draws anew, an attack on a network with more draws averages its gradient over as many.
    reconstructing: in training, while the decoder learns to give the images back.
    """

    def __init__(self, front_end: SparseCoder, classifier: nn.Module, draws: int = 1):
        super().__init__()
        self.front_end, self.classifier, self.reconstructing = front_end, classifier, False
        self.draws = draws if front_end.draws_random_numbers else 1

    def forward(self, x: Tensor) -> Tensor:
        coder = self.front_end
        if self.training or self.draws == 1 or not isinstance(coder, RandomSparseCoder):
            return self.classifier(coder(x))
        each = [self.classifier(image).log_softmax(dim=1) for image in coder.draw(x, self.draws)]
        return torch.stack(each).logsumexp(dim=0) - math.log(self.draws)


@contextmanager
def drawing(network: SparseCoded, draws: int) -> Iterator[None]:
    """Within it the network averages over so many draws; a network that draws nothing stays as it is."""
    before = network.draws
    network.draws = draws if network.front_end.draws_random_numbers else 1
    try:
        yield
    finally:
        network.draws = before


def without_dropout(network: SparseCoded) -> SparseCoded:
    """The network behind a `MeanSparseCoder`, with the same weights, in eval mode.

    Raises ValueError for a network whose front end draws no random numbers.
    """
    if not isinstance(network.front_end, RandomSparseCoder):
        raise ValueError(f"a {type(network.front_end).__name__} drops nothing, so there is no mean over draws")
    return SparseCoded(MeanSparseCoder(network.front_end), network.classifier).eval()


def sparse_coded(base: nn.Module, rule: SparseCodingTraining) -> SparseCoded:
    """The network of a rule, its dictionary zeros.

    Raises ValueError for a classifier that has no convolution, which tells the number of channels.
    """
    convolutions = [module for module in base.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise ValueError(f"a {type(base).__name__} has no convolution that tells the number of channels")
    channels = convolutions[0].in_channels
    settings: dict[str, Any] = {name: getattr(rule, name) for name in ("patch", "stride", "kept", "widths")}
    settings |= {"threshold": rule.beta * rule.epsilon, "quantizing": rule.quantizer == "on"}
    settings |= {"lose_signs": rule.signs == "lost", "resized": rule.decoder == "resized"}
    dictionary = torch.zeros(rule.atoms, channels * rule.patch**2)
    coder: SparseCoder
    if rule.dropout:
        coder, draws = RandomSparseCoder(dictionary, channels, dropout=rule.dropout, **settings), rule.draws
    else:
        coder, draws = SparseCoder(dictionary, channels, **settings), 1
    if rule.decoder_start is not None:
        nn.init.constant_(coder.decoder.third.bias, rule.decoder_start)
    return SparseCoded(coder, base, draws)

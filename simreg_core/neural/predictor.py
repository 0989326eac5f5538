"""A predictor of the responses of primary visual cortex (V1) to images: its form, and how it is fitted.

It has the form of Lurz et al. (2021) and the Sensorium 2022 baseline: a convolutional core that all neurons share, and
for each neuron one point of its map and a weight for each channel.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.model import in_eval_mode
from simreg_core.names import FIT_BATCH, FIT_EPOCHS, FIT_LEARNING_RATE, FIT_PATIENCE
from simreg_core.neural.similarity import response_similarity
from simreg_core.numbers import finite_numbers
from simreg_core.pixels import check_images

BATCH = 100
WARM_UP = 0.15  # of the epochs


class V1Predictor(nn.Module):
    """Expected responses of V1 neurons to gray images.

    size: (height, width) of the images.  neurons: how many.
    channels: of the core.  kernel: of its first convolution, without padding.  layers: separable convolutions after it,
    each 1x1, depth-wise of `layer_kernel` (padded), 1x1; batch norm and ELU follow each.
    mean, std: pixels in [0, 1] are normalized with them.

    forward: images [b, 1, height, width] in [0, 1]; returns rates [b, neurons] > 0, in the recording's units.
    Its `shift`, [neurons, 2], moves each neuron's point for once; the map spans [-1, 1] both ways.
    Raises ValueError for images of another shape, and for images smaller than the first kernel.
    Source: Lurz et al. (2021), Willeke et al. (2022); the predictor of the paper (Li et al. 2019) is not public.
    """

    def __init__(
        self,
        size: tuple[int, int],
        neurons: int,
        channels: int = 32,
        kernel: int = 9,
        layers: int = 2,
        layer_kernel: int = 3,
        mean: float = 0.5,
        std: float = 0.25,
    ):
        super().__init__()
        if min(size) < kernel:
            raise ValueError(f"images of {size[0]}x{size[1]} are smaller than the first kernel, {kernel}x{kernel}")
        self.size = (size[0], size[1])
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        blocks = [nn.Conv2d(1, channels, kernel, bias=False), nn.BatchNorm2d(channels), nn.ELU()]
        for _ in range(layers):
            blocks += [
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.Conv2d(channels, channels, layer_kernel, padding=layer_kernel // 2, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ELU(),
            ]
        self.core = nn.Sequential(*blocks)
        self.positions = nn.Parameter(0.6 * torch.rand(neurons, 2) - 0.3)  # (x, y) in [-1, 1], corners aligned
        self.features = nn.Parameter(torch.full((channels, neurons), 1 / channels))
        self.bias = nn.Parameter(torch.zeros(neurons))

    def forward(self, images: Tensor, shift: Tensor | None = None) -> Tensor:
        if images.ndim != 4 or tuple(images.shape[1:]) != (1, *self.size):
            raise ValueError(
                f"the predictor takes gray images [b, 1, {self.size[0]}, {self.size[1]}], got {list(images.shape)}"
            )
        maps = self.core((images - self.mean) / self.std)  # [b, channels, h, w]
        places = self.positions if shift is None else self.positions + shift
        grid = places[None, :, None, :].expand(len(images), -1, -1, -1)
        sampled = F.grid_sample(maps, grid, align_corners=True)[..., 0]  # [b, channels, neurons]
        return F.elu((sampled * self.features).sum(dim=1) + self.bias) + 1

    @property
    def neurons(self) -> int:
        """How many neurons it predicts."""
        return len(self.bias)

    @torch.no_grad()
    def rates(self, images: Tensor) -> Tensor:
        """Expected responses in evaluation mode, [images, neurons].  images: [n, 1, height, width] in [0, 1]."""
        images = check_images(images)
        with in_eval_mode(self):
            return torch.cat([self(batch.to(self.bias)) for batch in images.split(BATCH)])


@dataclass(frozen=True)
class Fit:
    """How a predictor was fitted.

    train_loss, held_out_loss: Poisson loss of each epoch, mean over neurons and images; the weights of the
    epoch with the best held-out loss were kept.
    correlations: v, [neurons], correlation of prediction and trial mean on the held-out images; 0 for neurons that do
    not vary there.  silent: [neurons] bool, neurons that never fire in the images trained on.
    """

    train_loss: list[float]
    held_out_loss: list[float]
    correlations: Tensor
    silent: Tensor


def fit_predictor(
    predictor: V1Predictor,
    images: Tensor,
    responses: Tensor,
    held_out: Tensor,
    *,
    epochs: int = FIT_EPOCHS,
    patience: int = FIT_PATIENCE,
    learning_rate: float = FIT_LEARNING_RATE,
    batch_size: int = FIT_BATCH,
    sparsity: float = 3e-4,
    jitter: float = 0.1,
    generator: torch.Generator | None = None,
) -> Fit:
    """Fit a predictor to a recording: Poisson loss, Adam, early stopping on images that are not trained on.

    predictor: changed in place; ends with the weights of the best epoch, in evaluation mode.
    images: [n, 1, h, w] in [0, 1].  responses: [trials, n, neurons], >= 0.
    held_out: [m] indices of the images, all of their trials, kept for early stopping; 3 <= m < n - 1.
    epochs: at most; the learning rate rises and then falls to 0 over them.  patience: epochs without a better held-out
    loss after which fitting ends.  sparsity: of the L1 norm of a neuron's features, mean over neurons.
    jitter: standard deviation of each neuron's point while training (the map spans [-1, 1]): a place can only be
    learned where its neighbours are seen.  generator: CPU generator of batches and jitter; None: seed 0.
    Raises ValueError for counts that differ, negative responses (a Poisson loss has no use for them), no image left.
    """
    if torch.is_inference_mode_enabled():
        raise ValueError("a predictor cannot be fitted under torch.inference_mode(), which has no gradients")
    images = check_images(images).detach()
    responses = finite_numbers(responses, "responses").detach()
    _check_recording(images, responses, held_out)
    device = predictor.bias.device
    # the Poisson loss is linear in the response: the mean over trials has the gradient of all trials
    means = responses.float().mean(dim=0).to(device)
    images, held_out = images.float().to(device), held_out.to(device)
    if images.is_inference() or means.is_inference():
        images, means = images.clone(), means.clone()  # which autograd may save
    kept = torch.ones(len(images), dtype=torch.bool, device=device)
    kept[held_out] = False
    trained = kept.nonzero().flatten()
    _start_at(predictor, means[trained])
    run = _Fitting(predictor, images, means, trained, held_out)
    run.settings(learning_rate, batch_size, sparsity, jitter, epochs, generator)
    with torch.enable_grad():  # whatever the caller has
        run.finish(epochs, patience)
    predicted = predictor.rates(images[held_out])
    return Fit(
        run.losses,
        run.held_out_losses,
        _correlations(predicted, means[held_out]).cpu(),
        (means[trained] == 0).all(dim=0).cpu(),
    )


def _check_recording(images: Tensor, responses: Tensor, held_out: Tensor) -> None:
    if responses.ndim != 3 or responses.shape[1] != len(images) or 0 in responses.shape:
        raise ValueError(
            f"responses must have shape [trials, {len(images)}, neurons] for {len(images)} images, got "
            f"{list(responses.shape)}"
        )
    if responses.min() < 0:
        raise ValueError(
            f"a Poisson loss needs responses that are not negative, the smallest is {responses.min().item():.4g}"
        )
    count = len(held_out.unique())
    if not 3 <= count < len(images) - 1:
        raise ValueError(f"held_out must name 3 to {len(images) - 2} of the {len(images)} images, got {count}")


def _start_at(predictor: V1Predictor, means: Tensor) -> None:
    """Begin with each neuron's mean rate, so that the first epochs are not spent on it."""
    with torch.no_grad():
        rate = means.mean(dim=0).clamp_min(1e-3)
        predictor.bias.copy_(torch.where(rate > 1, rate - 1, rate.log()))  # the inverse of elu + 1


class _Fitting:
    """One fit under way."""

    def __init__(self, predictor: V1Predictor, images: Tensor, means: Tensor, trained: Tensor, held_out: Tensor):
        self.predictor, self.images, self.means = predictor, images, means
        self.trained, self.held_out = trained, held_out
        self.losses: list[float] = []
        self.held_out_losses: list[float] = []

    def settings(self, learning_rate, batch_size, sparsity, jitter, epochs, generator) -> None:
        self.batch_size, self.sparsity, self.jitter = batch_size, sparsity, jitter
        generator = generator or torch.Generator().manual_seed(0)
        self.drawn = {"generator": generator, "device": generator.device}
        self.optimizer = torch.optim.Adam(self.predictor.parameters(), lr=learning_rate)
        steps = epochs * math.ceil(len(self.trained) / batch_size)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, learning_rate, steps, pct_start=WARM_UP)

    def finish(self, epochs: int, patience: int) -> None:
        """Train; the predictor ends with the weights of its best epoch."""
        best, kept = math.inf, {}
        while len(self.losses) < epochs and self._epochs_since_best() < patience:
            self.losses.append(self._epoch())
            self.held_out_losses.append(self._held_out_loss())
            if self.held_out_losses[-1] < best:
                best = self.held_out_losses[-1]
                kept = {name: tensor.clone() for name, tensor in self.predictor.state_dict().items()}
        if not kept:
            raise ValueError("fitting diverged in its first epoch; a smaller learning_rate may help")
        self.predictor.load_state_dict(kept)
        self.predictor.eval()

    def _epochs_since_best(self) -> int:
        losses = self.held_out_losses
        return len(losses) - 1 - min(range(len(losses)), key=losses.__getitem__) if losses else 0

    def _epoch(self) -> float:
        self.predictor.train()
        order = self.trained[torch.randperm(len(self.trained), **self.drawn).to(self.trained.device)]
        total = 0.0
        for batch in order.split(self.batch_size):
            total += self._step(batch) * len(batch)
        return total / len(order)

    def _step(self, batch: Tensor) -> float:
        places = self.predictor.positions
        shift = self.jitter * torch.randn(places.shape, dtype=torch.float32, **self.drawn).to(places)
        loss = _poisson(self.predictor(self.images[batch], shift), self.means[batch])
        penalty = self.sparsity * self.predictor.features.abs().sum(dim=0).mean()
        self.optimizer.zero_grad()
        (loss + penalty).backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def _held_out_loss(self) -> float:
        return _poisson(self.predictor.rates(self.images[self.held_out]), self.means[self.held_out]).item()


def _poisson(rates: Tensor, measured: Tensor) -> Tensor:
    return F.poisson_nll_loss(rates, measured, log_input=False, eps=1e-6)


def _correlations(predicted: Tensor, measured: Tensor) -> Tensor:
    """Pearson correlation over images for each neuron, [neurons]; 0 where one of the two does not vary."""
    a, b = (rates.double() - rates.double().mean(dim=0) for rates in (predicted, measured))
    scale = a.norm(dim=0) * b.norm(dim=0)
    return torch.where(scale > 0, (a * b).sum(dim=0) / scale.clamp_min(1e-30), 0.0)


def neuron_weights(reliability: Tensor | None = None, correlations: Tensor | None = None) -> Tensor | None:
    """Weights w * v of a predictor's neurons (Li et al. 2019), for `response_similarity`, [neurons].

    reliability: w.  correlations: v; a neuron that is predicted worse than by its mean (v < 0) is left out.
    None counts as 1. Returns None where both are None.
    Raises ValueError for other shapes, and values that are not finite.
    """
    named = {"reliability": reliability, "correlations": correlations}
    given = [finite_numbers(factor, name).double().clamp_min(0) for name, factor in named.items() if factor is not None]
    if len({factor.shape for factor in given}) > 1 or any(factor.ndim != 1 or not len(factor) for factor in given):
        raise ValueError(
            f"reliability and correlations must have shape [neurons], got {[list(factor.shape) for factor in given]}"
        )
    return torch.stack(given).prod(dim=0) if given else None


def predicted_similarity(predictor: V1Predictor, images: Tensor, weights: Tensor | None = None) -> Tensor:
    """Denoised similarity of any images: S^neural of a predictor's rates.

    images: [n, 1, height, width] in [0, 1].
    weights: [neurons], as `neuron_weights` gives them; None: all neurons alike.
    Returns [n, n] in [-1, 1], on the CPU.  Raises ValueError for shapes that do not fit, and where no neuron is left.
    """
    return response_similarity(predictor.rates(images).double().cpu(), weights)

"""Primary visual cortex (V1): a predictor of its responses to images, and a simulated population.

The predictor has the form of Lurz et al. (2021) and the Sensorium 2022 baseline: a convolutional core that all neurons
share, and for each neuron one point of its map and a weight for each channel.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.neural import response_similarity
from simreg_core.targets import check_images

BATCH = 100
WARM_UP = 0.15  # of the epochs
PUBLISHED_MEAN, PUBLISHED_STD = 113.5 / 255, 59.6 / 255  # assumed: the published file does not hold them
PUBLISHED_SIZE = (36, 64)


class V1Predictor(nn.Module):
    """Expected responses of V1 neurons to gray images.

    size: (height, width) of the images.  neurons: how many.
    channels: of the core.  kernel: of its first convolution, without padding.  layers: separable convolutions after it,
    each 1x1, depth-wise of `layer_kernel` (padded), 1x1; batch norm and ELU follow each.
    mean, std: pixels in [0, 1] are normalized with them.

    forward: images [b, 1, height, width] in [0, 1]; returns rates [b, neurons] > 0, in the recording's units.
    Its `shift`, [neurons, 2], moves each neuron's point for once; the map spans [-1, 1] both ways.
    Raises ValueError for images of another shape, and for images smaller than the first kernel.
    Source: Lurz et al. (2021), Willeke et al. (2022); the paper's own predictor (Li et al. 2019) is not public.
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
        self.size = tuple(size)
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
        was_training = self.training
        self.eval()
        device = self.bias.device
        predicted = torch.cat([self(batch.float().to(device)) for batch in images.split(BATCH)])
        self.train(was_training)
        return predicted

    @classmethod
    def from_published(cls, tensors: Mapping[str, Tensor]) -> "V1Predictor":
        """The predictor of the Sensorium 2022 competition, from its published tensors.

        tensors: as `torch.load(path, weights_only=True, map_location="cpu")` gives them, of the image-only model with
        one mouse (`sensorium_sota_model.pth` of github.com/sinzlab/sensorium, MIT): 36x64 images, 7,776 neurons. The
        file does not hold how pixels are normalized; (p - 113.5) / 59.6 of 0-255 pixels is assumed.
        Raises ValueError naming the first tensor that is missing, unknown, of another shape or not finite.
        Source: Willeke et al. (2022), arXiv 2206.08666.
        """
        return _from_published(tensors)


def _from_published(tensors: Mapping[str, Tensor]) -> V1Predictor:
    if not isinstance(tensors, Mapping) or not all(isinstance(one, Tensor) for one in tensors.values()):
        raise ValueError("a published predictor is a mapping from names to tensors, this is not")
    readouts = sorted({name.split(".")[1] for name in tensors if name.startswith("readout.")})
    if len(readouts) != 1:
        raise ValueError(f"a published predictor has the readout of one mouse, got {readouts or 'none'}")
    readout = f"readout.{readouts[0]}."
    found = _published_shapes(tensors, readout)
    for name in sorted(found.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"not the published predictor: tensor '{name}' is missing")
        if name not in found:
            raise ValueError(f"not the published predictor: tensor '{name}' is unknown")
        if tuple(tensors[name].shape) != found[name]:
            raise ValueError(
                f"not the published predictor: tensor '{name}' is {list(tensors[name].shape)}, expected "
                f"{list(found[name])}"
            )
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"the published predictor is damaged: tensor '{name}' holds NaN or infinite values")
    return _assembled(tensors, readout)


def _published_shapes(tensors: Mapping[str, Tensor], readout: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the published tensors; the number of neurons is free."""
    bias = tensors.get(f"{readout}bias")
    neurons = 0 if bias is None else bias.numel()
    c = 64
    shapes = {"core._input_weights_regularizer.laplace.filter": (1, 1, 3, 3)}
    shapes["core.features.layer0.conv.weight"] = (c, 1, 9, 9)
    for layer in range(4):
        at = f"core.features.layer{layer}."
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{at}norm.{name}"] = (c,)
        shapes[f"{at}norm.num_batches_tracked"] = ()
        if layer:
            shapes[f"{at}ds_conv.in_depth_conv.weight"] = (c, c, 1, 1)
            shapes[f"{at}ds_conv.spatial_conv.weight"] = (c, 1, 7, 7)
            shapes[f"{at}ds_conv.out_depth_conv.weight"] = (c, c, 1, 1)
    own = {
        "sigma": (1, neurons, 2, 2), "_features": (1, c, 1, neurons), "bias": (neurons,), "source_grid": (neurons, 2),
        "mu_transform.0.weight": (30, 2), "mu_transform.0.bias": (30,),
        "mu_transform.2.weight": (2, 30), "mu_transform.2.bias": (2,),
    }  # fmt: skip
    return shapes | {readout + name: shape for name, shape in own.items()}


def _assembled(tensors: Mapping[str, Tensor], readout: str) -> V1Predictor:
    neurons = tensors[f"{readout}bias"].numel()
    predictor = V1Predictor(PUBLISHED_SIZE, neurons, 64, 9, 3, 7, PUBLISHED_MEAN, PUBLISHED_STD)
    convolutions = [module for module in predictor.core if isinstance(module, nn.Conv2d)]
    names = ["layer0.conv"] + [
        f"layer{layer}.ds_conv.{part}_conv" for layer in (1, 2, 3) for part in ("in_depth", "spatial", "out_depth")
    ]
    norms = [module for module in predictor.core if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for convolution, name in zip(convolutions, names, strict=True):
            convolution.weight.copy_(tensors[f"core.features.{name}.weight"])
        for layer, norm in enumerate(norms):
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(norm, name).copy_(tensors[f"core.features.layer{layer}.norm.{name}"])
        # a neuron's place is a smooth function of where it lies in the cortex
        hidden = F.elu(_affine(tensors, f"{readout}mu_transform.0", tensors[f"{readout}source_grid"]))
        predictor.positions.copy_(torch.tanh(_affine(tensors, f"{readout}mu_transform.2", hidden)))
        predictor.features.copy_(tensors[f"{readout}_features"][0, :, 0])
        predictor.bias.copy_(tensors[f"{readout}bias"])
    return predictor.eval()


def _affine(tensors: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


@dataclass(frozen=True)
class Fit:
    """How a predictor was fitted.

    train_loss, held_out_loss: Poisson loss of each epoch, mean over neurons and images; the best held-out one was kept.
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
    epochs: int = 40,
    patience: int = 10,
    learning_rate: float = 0.02,
    batch_size: int = 64,
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
    learned where its neighbours are seen.  generator: CPU generator of batches and jitter; seed 0 where empty.
    Raises ValueError for counts that differ, negative responses (a Poisson loss has no use for them), no image left.
    """
    check_images(images)
    _check_recording(images, responses, held_out)
    device = predictor.bias.device
    # the Poisson loss is linear in the response: the mean over trials has the gradient of all trials
    means = responses.float().mean(dim=0).to(device)
    images, held_out = images.float().to(device), held_out.to(device)
    kept = torch.ones(len(images), dtype=torch.bool, device=device)
    kept[held_out] = False
    own = kept.nonzero().flatten()
    _start_at(predictor, means[own])
    run = _Fitting(predictor, images, means, own, held_out)
    run.settings(learning_rate, batch_size, sparsity, jitter, epochs, generator)
    run.finish(epochs, patience)
    predicted = predictor.rates(images[held_out])
    return Fit(
        run.losses,
        run.held_out_losses,
        _correlations(predicted, means[held_out]).cpu(),
        (means[own] == 0).all(dim=0).cpu(),
    )


def _check_recording(images: Tensor, responses: Tensor, held_out: Tensor) -> None:
    if responses.ndim != 3 or responses.shape[1] != len(images):
        raise ValueError(
            f"responses must have shape [trials, {len(images)}, neurons] for {len(images)} images, got "
            f"{list(responses.shape)}"
        )
    if not torch.isfinite(responses).all():
        raise ValueError("responses hold NaN or infinite values")
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

    def __init__(self, predictor: V1Predictor, images: Tensor, means: Tensor, own: Tensor, held_out: Tensor):
        self.predictor, self.images, self.means, self.own, self.held_out = predictor, images, means, own, held_out
        self.losses: list[float] = []
        self.held_out_losses: list[float] = []

    def settings(self, learning_rate, batch_size, sparsity, jitter, epochs, generator) -> None:
        self.batch_size, self.sparsity, self.jitter = batch_size, sparsity, jitter
        self.generator = generator or torch.Generator().manual_seed(0)
        self.optimizer = torch.optim.Adam(self.predictor.parameters(), lr=learning_rate)
        steps = epochs * math.ceil(len(self.own) / batch_size)
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
        order = self.own[torch.randperm(len(self.own), generator=self.generator).to(self.own.device)]
        total = 0.0
        for batch in order.split(self.batch_size):
            total += self._step(batch) * len(batch)
        return total / len(order)

    def _step(self, batch: Tensor) -> float:
        places = self.predictor.positions
        shift = self.jitter * torch.randn(places.shape, generator=self.generator).to(places)
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
    a, b = (one.double() - one.double().mean(dim=0) for one in (predicted, measured))
    scale = a.norm(dim=0) * b.norm(dim=0)
    return torch.where(scale > 0, (a * b).sum(dim=0) / scale.clamp_min(1e-30), 0.0)


def neuron_weights(reliability: Tensor | None = None, correlations: Tensor | None = None) -> Tensor | None:
    """Weights w * v of a predictor's neurons (Li et al. 2019), for `response_similarity`, [neurons].

    reliability: w.  correlations: v; a neuron that is predicted worse than by its mean (v < 0) is left out.
    What is empty counts as 1; None where both are.
    """
    given = [one.double().clamp_min(0) for one in (reliability, correlations) if one is not None]
    return torch.stack(given).prod(dim=0) if given else None


def predicted_similarity(predictor: V1Predictor, images: Tensor, weights: Tensor | None = None) -> Tensor:
    """Denoised similarity of any images: S^neural of a predictor's rates.

    images: [n, 1, height, width] in [0, 1].  weights: [neurons], as `neuron_weights` gives them; alike where empty.
    Returns [n, n] in [-1, 1], on the CPU.  Raises ValueError for shapes that do not fit, and where no neuron is left.
    """
    return response_similarity(predictor.rates(images).double().cpu(), weights)


# A simulated population


CELLS = ("v1", "linear", "luminance")
PERIODS = (0.3, 1.2)  # of the Gabors, in shorter sides of the image: mouse V1 prefers low frequencies
ENVELOPE = 0.35  # standard deviation of a receptive field, in periods
SEMI_SATURATION = 0.05  # drive at which normalization sets in, where 1 is a grating of full contrast


class GaborPopulation:
    """Simple and complex cells on gray images, with divisive normalization; a stand-in for V1 where there are no data.

    size: (height, width) of the images, at least 8 each.  neurons: >= 2; half of them simple, half complex.
    seed: of the cells' places, orientations and frequencies: another seed is another animal.
    mean_rate: scale of the responses to one trial, about twice their mean.  gain: standard deviation of the log of a
    gain that all cells share on a trial.
    cells: 'v1', or a control whose rates are affine in the pixels: 'linear' Gabors, or 'luminance', the Gabors'
    envelopes without their waves.

    A simple cell's drive is its half-rectified Gabor response, a complex cell's the root of the summed squares of a
    pair in quadrature; each squared drive is divided by a constant plus the mean squared drive of the population.
    Raises ValueError for anything outside these bounds.
    Source: the standard model (Carandini & Heeger 2012); no value is fitted to a recording.
    """

    def __init__(
        self,
        size: tuple[int, int],
        neurons: int = 100,
        seed: int = 0,
        mean_rate: float = 0.15,
        gain: float = 0.3,
        cells: str = "v1",
    ):
        if neurons < 2:
            raise ValueError(f"neurons must be at least 2, a simple and a complex cell, got {neurons}")
        if min(size) < 8:
            raise ValueError(f"images must have at least 8 pixels a side, got {size[0]}x{size[1]}")
        if cells not in CELLS:
            raise ValueError(f"unknown cells '{cells}'; allowed: {', '.join(CELLS)}")
        if not (mean_rate > 0 and gain >= 0):
            raise ValueError(f"mean_rate must be positive and gain not negative, got {mean_rate} and {gain}")
        self.size, self.neurons, self.mean_rate, self.gain, self.cells = tuple(size), neurons, mean_rate, gain, cells
        self.simple = torch.arange(neurons) < neurons / 2
        self.envelope, self.even, self.odd = _gabors(size, neurons, torch.Generator().manual_seed(seed))

    def rates(self, images: Tensor) -> Tensor:
        """Noise-free responses, [images, neurons], >= 0, float64.

        images: [n, 1, height, width] in [0, 1].  Raises ValueError for other shapes or ranges.
        """
        images = check_images(images)
        if tuple(images.shape[1:]) != (1, *self.size):
            raise ValueError(f"images must be gray, {self.size[0]}x{self.size[1]}, got {list(images.shape)}")
        contrast = 2 * images.double().flatten(1) - 1  # of each pixel, in [-1, 1]
        if self.cells != "v1":
            return self.mean_rate * (1 + contrast @ (self.even if self.cells == "linear" else self.envelope).T)
        even, odd = contrast @ self.even.T, contrast @ self.odd.T
        squared = torch.where(self.simple, 2 * even.clamp_min(0).square(), (even.square() + odd.square()) / 2)
        pool = squared.mean(dim=1, keepdim=True)
        return self.mean_rate * squared / (SEMI_SATURATION**2 + pool)

    def trials(self, images: Tensor, trials: int, generator: torch.Generator) -> Tensor:
        """Poisson responses, [trials, images, neurons].  trials: >= 1."""
        if trials < 1:
            raise ValueError(f"trials must be at least 1, got {trials}")
        rates = self.rates(images)
        gains = (self.gain * torch.randn(trials, len(images), 1, generator=generator, dtype=torch.float64)).exp()
        return torch.poisson(rates * gains, generator=generator).float()


def _gabors(size: tuple[int, int], neurons: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Envelopes, and pairs of Gabors in quadrature that give nothing to uniform light; [neurons, pixels], L1 norm 1."""
    height, width = size
    place_y, place_x, angle, phase, octave = torch.rand(5, neurons, 1, generator=generator, dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    # cells look at the middle two thirds
    dy = y.flatten() - height * (1 / 6 + place_y * 2 / 3) + 0.5
    dx = x.flatten() - width * (1 / 6 + place_x * 2 / 3) + 0.5
    period = min(size) * PERIODS[0] * (PERIODS[1] / PERIODS[0]) ** octave
    envelope = torch.exp(-(dx**2 + dy**2) / (2 * (ENVELOPE * period) ** 2))
    along = dx * (math.pi * angle).cos() + dy * (math.pi * angle).sin()
    waves = [envelope * torch.cos(2 * math.pi * (along / period + phase) + shift) for shift in (0, -math.pi / 2)]
    # without a mean under the envelope
    waves = [wave - envelope * wave.sum(dim=1, keepdim=True) / envelope.sum(dim=1, keepdim=True) for wave in waves]
    return tuple(one / one.abs().sum(dim=1, keepdim=True) for one in (envelope, *waves))

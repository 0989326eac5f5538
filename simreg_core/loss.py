"""The similarity loss, and the regularizer that adds it to any training loop."""

import warnings
import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.batch_norm import PAIR_STATISTICS, normalized_by_part
from simreg_core.model import (
    FeatureMaps,
    FeatureTaps,
    PointwiseConv2d,
    as_maps,
    onednn_corrupts,
    probe_features,
    trains,
)
from simreg_core.targets import PairSampler, check_images, pixel_similarity, threshold_targets

PAIR_STATE = "pair_state"  # in a state dict: where the regularizer is in the order of its pairs
OLD_STATE = "_extra_state"
CHECKSUM_BYTES = 4
PROBED = 2  # images that the network is probed with: one could not tell the batch axis from an axis of length 1


def similarity_loss(predicted: Tensor, target: Tensor, eps: float = 1e-5) -> Tensor:
    """Mean squared difference of transformed similarities, L_sim as released.

    predicted, target: [k], similarities in [-1, 1].
    eps: > 0, keeps the logarithms finite; a target of 1 becomes 12.206 with the default.
    Returns a scalar: mean over pairs of (phi(s) - phi(t))^2, phi(x) = ln(1+x+eps) - ln(1-x+eps).
    phi is 2 arctanh as eps -> 0, so this is FOUR times the paper's printed formula taken as a mean.
    Raises ValueError for different shapes, no pairs, or eps <= 0.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"predicted {list(predicted.shape)} and target {list(target.shape)} differ in shape")
    if predicted.numel() == 0:
        raise ValueError("similarity_loss needs at least one pair, got none")
    if not eps > 0:
        raise ValueError(f"eps must be positive, got {eps}")
    return (_phi(predicted, eps) - _phi(target.to(predicted), eps)).square().mean()


def _phi(x: Tensor, eps: float) -> Tensor:
    return torch.log(1 + x + eps) - torch.log(1 - x + eps)


class SimilarityRegularizer(nn.Module):
    """L_sim for any network, in three lines of your own training loop:

        regularizer = SimilarityRegularizer(model, layers=["relu", "layer1", "layer2"],
                                            images=reg_images, threshold=0.8)
        optimizer = torch.optim.SGD([*model.parameters(), *regularizer.parameters()], lr=0.1)
        loss = cross_entropy(model(x), y) + 0.05 * regularizer()    # every step

    Each call draws `batch_pairs` pairs of the regularization images, passes both halves through the
    network (in the mode that it is in: batch norm in training mode sees them, each half by itself, as in the
    released code), and compares S^CNN = sum_l gamma_l cos(map_l - mean_l) with the target of each pair.

    model: any nn.Module whose forward takes a batch of images. It is not registered here: its weights
        are in `model.parameters()` alone, and `regularizer.to(device)` does not move it.
    layers: names as in `model.named_modules()`, or a callable images -> sequence (or dict) of feature maps, or one.
        A map is [b, channels, ...], or [b, tokens, channels] where it has three axes; see `channel_axis`.
    images: [n, c, h, w], float in [0, 1]; need not be labelled nor come from the task's own set. They are kept on
        the network's device, in the precision of its first floating-point parameter.
    threshold: Th in (0, 1); 0.8 is the paper's choice for CIFAR-10, with alpha 10 for ResNet18 and 40 epochs. A small
        network or a short training wants a smaller alpha; choose both on validation images.
    targets: 'threshold' for S^Th, 'pixel' for S^pixel, or your own [n, n] matrix in [-1, 1].
    pairs: 'all', 'high', 'low', 'double', 'positive' or 'negative', see `PairSampler`.
    low_threshold: for pairs='double' alone.
    batch_pairs: k, pairs per call; 16 in the released code.
    momentum: of the per-channel running means, updated before use, in training mode only.
    eps: of `similarity_loss`.
    pair_statistics: what batch norm in training mode makes of the pairs: 'shared', 'separate' or 'frozen', see
        `batch_norm.normalized_by_part`.
    preprocess: applied to a batch of pixels before the network, where the network does not normalize
        inside (for example torchvision.transforms.Normalize).
    seed: of the order in which pairs are drawn.
    channel_axis: of every map, where it is not the one above: -1 for [b, h, w, channels], as in Swin transformers.

    `regularizer.layer_weights` is gamma, softmax of trained logits, [layers]. `state_dict()` holds tensors only: the
    logits, the running means and `pair_state` (not the images), so a loaded regularizer draws the same pairs.
    `train()`/`eval()` decide whether the running means follow.
    Warns where a threshold makes every target 0, which only makes all images dissimilar; and, once each, where the
    network trains but no gradient reaches it from a layer, and where it meets a fault of oneDNN (see
    `model.onednn_corrupts`). Activation checkpointing needs use_reentrant=False, and no batch norm in training mode
    inside what is checkpointed.
    Raises ValueError for anything outside these bounds, naming it; for an unknown layer it lists those there are; for
    maps whose axis 0 is not the images, and maps that look like [b, h, w, channels] where no channel_axis is given.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | FeatureMaps,
        images: Tensor | list[Tensor],
        threshold: float = 0.8,
        *,
        targets: str | Tensor = "threshold",
        pairs: str = "all",
        low_threshold: float | None = None,
        batch_pairs: int = 16,
        momentum: float = 0.9,
        eps: float = 1e-5,
        pair_statistics: str = "shared",
        preprocess: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
        channel_axis: int | None = None,
    ):
        super().__init__()
        _check_options(model, layers, momentum, pair_statistics, channel_axis)
        # in a tuple, so that modules are not registered here: their weights are the model's
        self._network = (model, layers if callable(layers) else FeatureTaps(model, layers))
        self._preprocess = preprocess
        self.momentum, self.eps, self.pair_statistics = momentum, eps, pair_statistics
        self.batch_pairs, self.channel_axis = batch_pairs, channel_axis
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self._formats_checked = self._warned_of_gradients = False

        images = check_images(images).detach()
        similarity = pixel_similarity(images)
        self.sampler = PairSampler(
            similarity, _target_matrix(targets, similarity, threshold), pairs, threshold, low_threshold
        )
        if not 1 <= batch_pairs <= len(self.sampler):
            raise ValueError(
                f"batch_pairs must lie in [1, {len(self.sampler)}], the pairs in range '{pairs}', got {batch_pairs}"
            )
        if isinstance(targets, str):
            _warn_of_zero_targets(self.sampler.targets, similarity, threshold)
        device = next(model.parameters(), images).device
        self.register_buffer("images", images.to(device, _precision(model, images)), persistent=False)
        maps = probe_features(model, self._probe, self.images[:1])
        self.layer_logits = nn.Parameter(torch.zeros(len(maps), device=device))
        for index, feature_map in enumerate(maps):
            channels = feature_map.shape[_channel_axis(feature_map, channel_axis)]
            self.register_buffer(f"mean{index}", torch.zeros(channels, device=device))
        _warn_of_corruption(model, self.images)

    @property
    def layer_weights(self) -> Tensor:
        """gamma, [layers]: the share of each layer in S^CNN; positive, sums to 1."""
        return self.layer_logits.softmax(dim=0)

    def forward(self, pairs: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """L_sim of k pairs: a scalar to be multiplied by alpha and added to the task's loss.

        pairs: rows, cols and targets that `draw` gave, wherever they lie now; the next k pairs where empty.
        """
        rows, cols, target = self.draw() if pairs is None else pairs
        return similarity_loss(self.similarity(rows, cols), target.to(self.images.device), self.eps)

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next k pairs: rows [k], cols [k] and targets [k], on the CPU."""
        return self.sampler.draw(self.batch_pairs, self.generator)

    def draw_many(self, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """The pairs of the next steps, stacked: rows, cols and targets, [steps, k] each, on the CPU."""
        return self.sampler.draw_many(steps, self.batch_pairs, self.generator)

    def similarity(self, rows: Tensor, cols: Tensor) -> Tensor:
        """S^CNN of given pairs.  rows, cols: [k] indices into the images.  Returns [k] in [-1, 1]."""
        # elementwise, not a matrix product: autocast would take that to half precision
        return (self.layer_weights[:, None] * self.layer_similarities(rows, cols)).sum(dim=0)

    def layer_similarities(self, rows: Tensor, cols: Tensor) -> Tensor:
        """S^CNN-l: cosine of the mean-subtracted feature maps of given pairs, [layers, k]."""
        maps = self._maps_of_halves(rows.to(self.images.device), cols.to(self.images.device))
        with torch.autocast(self.images.device.type, enabled=False):  # 1 - s is lost in half precision
            return torch.stack([self._cosine(index, both.float()) for index, both in enumerate(maps)])

    def _maps_of_halves(self, rows: Tensor, cols: Tensor) -> Sequence[Tensor]:
        """The maps of the first images, then of the second, in one tensor a layer."""
        model, _ = self._network
        if hasattr(model, "_orig_mod"):  # compiled: its batch norm cannot be told of parts
            halves = zip(self._maps(self.images[rows]), self._maps(self.images[cols]), strict=True)
            maps = [torch.cat(both) for both in halves]
        else:
            with normalized_by_part(model, [len(rows), len(cols)], self.pair_statistics):
                maps = self._maps(self.images[torch.cat([rows, cols])])
        if len(maps) != len(self.layer_logits):
            raise ValueError(f"layers gave {len(maps)} feature maps, but {len(self.layer_logits)} at first")
        if torch.is_grad_enabled():
            self._check_training(maps)
        return maps

    def _cosine(self, index: int, both: Tensor) -> Tensor:
        """Similarity of the two halves of a layer's maps, [k]."""
        mean, axis = getattr(self, f"mean{index}"), _channel_axis(both, self.channel_axis)
        if self.training:
            # before use, as the released code does: a batch takes part in its own mean
            batch_mean = both.detach().mean(dim=[other for other in range(both.ndim) if other != axis])
            mean.lerp_(batch_mean.to(mean), 1 - self.momentum)
        # a copy: the next call changes the mean before backward may run
        centre = mean.clone().reshape([-1 if other == axis else 1 for other in range(both.ndim)])
        first, second = _flat(both - centre).chunk(2)
        return F.cosine_similarity(first, second, dim=1)

    @property
    def pair_state(self) -> Tensor:
        """Where the regularizer is in the order of its pairs: [bytes] uint8 on the CPU, an entry of `state_dict()`.

        Bytes survive a change of precision; a checksum at their end tells a state that was averaged (EMA).
        """
        content = torch.cat([self.generator.get_state(), self.sampler.state().view(torch.uint8)])
        return torch.cat([content, _checksum(content)])

    def _set_pair_state(self, state: Tensor) -> None:
        """Go on where `pair_state` was taken.  Raises ValueError for anything else."""
        own = self.pair_state
        if state.shape == own.shape:
            own = state.detach().cpu().double().round().clamp(0, 255).to(torch.uint8)
        content = own[:-CHECKSUM_BYTES]
        if state.shape != own.shape or not torch.equal(own[-CHECKSUM_BYTES:], _checksum(content)):
            raise ValueError(
                f"'{PAIR_STATE}', {state.dtype} {list(state.shape)}, is not what a regularizer wrote; an average of "
                "state dicts must copy this entry from one of them"
            )
        places = self.sampler.state().nbytes
        self.generator.set_state(content[:-places].clone())
        self.sampler.load_state(content[-places:].clone().view(torch.int64))

    # not a buffer: averages of a module's buffers, as of AveragedModel, would leave a state that never was
    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + PAIR_STATE] = self.pair_state

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Tensor],
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = {name: one for name, one in state_dict.items() if name not in (prefix + PAIR_STATE, prefix + OLD_STATE)}
        super()._load_from_state_dict(own, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        if prefix + OLD_STATE in state_dict:
            error_msgs.append(
                f"'{prefix}{OLD_STATE}' is of an earlier version of simreg and cannot be loaded: begin the training "
                "again, or remove this entry and load the others with strict=False"
            )
        elif prefix + PAIR_STATE not in state_dict:
            missing_keys.append(prefix + PAIR_STATE)
        else:
            try:
                self._set_pair_state(state_dict[prefix + PAIR_STATE])
            except ValueError as error:
                error_msgs.append(str(error))

    def extra_repr(self) -> str:
        return f"{len(self.images)} images, {len(self.sampler)} pairs, k={self.batch_pairs}"

    def _maps(self, images: Tensor) -> list[Tensor]:
        return self._maps_of_pixels(images if self._preprocess is None else self._preprocess(images))

    def _maps_of_pixels(self, pixels: Tensor) -> list[Tensor]:
        """The maps of preprocessed images.  Raises ValueError where axis 0 of a map is not the images."""
        _, features = self._network
        maps = as_maps(features(pixels))
        for index, feature_map in enumerate(maps):
            _check_batch_axis(self._name(index), feature_map, len(pixels))
        return maps

    def _probe(self, image: Tensor) -> list[Tensor]:
        """Maps of one image, given twice, whose axes are checked."""
        pixels = image if self._preprocess is None else self._preprocess(image)
        pixels = torch.cat([pixels] * PROBED)
        maps = self._maps_of_pixels(pixels)
        for index, feature_map in enumerate(maps):
            _check_channel_axis(self._name(index), feature_map, pixels.shape, self.channel_axis)
        return maps

    def _name(self, index: int) -> str:
        _, features = self._network
        return f"layer '{features.layers[index]}'" if isinstance(features, FeatureTaps) else f"feature map {index}"

    def _check_training(self, maps: Sequence[Tensor]) -> None:
        """Warn, once, of what makes a training pass wrong without an error."""
        model, features = self._network
        if not self._formats_checked:  # again: the network may have moved since the regularizer was made
            self._formats_checked = True
            _warn_of_corruption(model, self.images)
        cut = features.cut if isinstance(features, FeatureTaps) else []
        without_any = not any(one.requires_grad for one in maps) and trains(model)
        if self._warned_of_gradients or not (cut or without_any):
            return
        self._warned_of_gradients = True
        names = [f"layer '{name}'" for name in cut] or [self._name(index) for index in range(len(maps))]
        warnings.warn(
            f"no gradient reaches the network from {', '.join(names)}, although its parameters require one: the loss "
            "cannot change what lies before. Usual causes: torch.utils.checkpoint with use_reentrant=True (with False "
            "there is a gradient), detach() or no_grad() in the network, or frozen parameters up to there",
            stacklevel=2,
        )


def _check_options(
    model: nn.Module, layers: object, momentum: float, pair_statistics: str, channel_axis: int | None
) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names or a callable, got the string '{layers}'")
    if channel_axis is not None and not isinstance(channel_axis, int):
        raise ValueError(f"channel_axis must be a whole number or None, got {channel_axis!r}")
    if pair_statistics not in PAIR_STATISTICS:
        raise ValueError(f"unknown pair_statistics '{pair_statistics}'; allowed: {', '.join(PAIR_STATISTICS)}")


def _warn_of_zero_targets(targets: Tensor, similarity: Tensor, threshold: float) -> None:
    if targets.count_nonzero() == targets.diagonal().count_nonzero():
        warnings.warn(
            f"every target is 0: no pair of the images has |S| above the threshold {threshold}; the largest is "
            f"{similarity.abs().fill_diagonal_(0).max():.4f}",
            stacklevel=3,
        )


def _warn_of_corruption(model: nn.Module, images: Tensor) -> None:
    """Say that a layer meets a fault of oneDNN, where the network or its images lie channels last."""
    last = torch.channels_last
    if not any(
        one.ndim == 4 and one.is_contiguous(memory_format=last) and not one.is_contiguous()
        for one in (images, *model.parameters())
    ):
        return
    layers = model.named_modules()
    unsound = [name for name, one in layers if onednn_corrupts(one) and not isinstance(one, PointwiseConv2d)]
    if unsound:
        warnings.warn(
            f"layer '{unsound[0]}' is a strided 1x1 convolution of few input channels: in channels_last on the CPU "
            "oneDNN may corrupt memory or give a wrong gradient there (uxlfoundation/oneDNN#6035); use "
            "torch.contiguous_format, simreg_core.model.PointwiseConv2d, or a GPU",
            stacklevel=3,
        )


def _precision(model: nn.Module, images: Tensor) -> torch.dtype:
    """Of the network's first floating-point parameter; weights packed into bytes are none, whatever their type says."""
    wide = (one.dtype for one in model.parameters() if one.is_floating_point() and one.element_size() > 1)
    return next(wide, images.dtype)


def _checksum(content: Tensor) -> Tensor:
    check = zlib.crc32(bytes(content.tolist())).to_bytes(CHECKSUM_BYTES)
    return torch.tensor(list(check), dtype=torch.uint8, device="cpu")


def _target_matrix(targets: str | Tensor, similarity: Tensor, threshold: float) -> Tensor:
    if isinstance(targets, Tensor):
        return targets
    if targets == "threshold":
        return threshold_targets(similarity, threshold)
    if targets == "pixel":
        return similarity
    raise ValueError(f"unknown targets '{targets}'; allowed: 'threshold', 'pixel' or an [n, n] matrix")


def _channel_axis(feature_map: Tensor, asked: int | None) -> int:
    """The one asked for, or that of a map [b, c], [b, tokens, c] or [b, c, ...]."""
    if asked is not None:
        return asked % feature_map.ndim
    return 2 if feature_map.ndim == 3 else 1


def _check_batch_axis(name: str, feature_map: Tensor, images: int) -> None:
    shape = list(feature_map.shape)
    if len(shape) < 2:
        raise ValueError(f"a feature map must have shape [b, channels, ...], got {shape} from {name}")
    if shape[0] != images:
        found = f"; axis {shape.index(images)} seems to be" if images in shape else ""
        raise ValueError(
            f"{name} gave a map {shape} for {images} images, whose axis 0 is not the images{found}: give a callable as "
            "`layers` that moves them there"
        )


def _check_channel_axis(name: str, feature_map: Tensor, pixels: Sequence[int], asked: int | None) -> None:
    """pixels: shape of what the network was given, [b, c, h, w] as a rule."""
    shape = list(feature_map.shape)
    if asked is not None:
        if not -len(shape) <= asked < len(shape) or asked % len(shape) == 0:
            raise ValueError(
                f"channel_axis must be an axis of the map {shape} of {name} other than 0, the images'; got {asked}"
            )
    elif len(shape) == len(pixels) == 4:
        h, w = pixels[2:]
        first, second, last = shape[1:]
        # a map has the proportions of its image
        if first * w == second * h and second * w != last * h:
            raise ValueError(
                f"{name} gave a map {shape} that looks like [b, h, w, channels]: give channel_axis=-1 if it is, "
                "channel_axis=1 if it is [b, channels, h, w]"
            )


def _flat(maps: Tensor) -> Tensor:
    """[b, all else], in the order in which it lies in memory: a cosine does not care, and nothing is copied."""
    if maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last):
        maps = maps.permute(0, 2, 3, 1)
    return maps.flatten(1)

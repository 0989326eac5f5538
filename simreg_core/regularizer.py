"""The regularizer that adds the similarity loss to any training loop."""

import warnings
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module

import torch
from torch import Tensor, nn

from simreg_core.batch_norm import PAIR_STATISTICS, normalized_by_part
from simreg_core.features import (
    FeatureMaps,
    FeatureTaps,
    as_maps,
    channel_axis_of,
    check_batch_axis,
    check_channel_axis,
    flattened,
    probe_features,
    trains,
)
from simreg_core.model import PointwiseConv2d, onednn_corrupts, precision_of
from simreg_core.names import LOSS_EPS, PAIRS_PER_STEP, SIMILARITIES, THRESHOLD
from simreg_core.numbers import as_numbers, check_number, check_whole_number, seeded
from simreg_core.pairs import GroupSampler, PairSampler
from simreg_core.pixels import check_images
from simreg_core.similarity import Cosine, Similarity
from simreg_core.targets import pixel_similarity, threshold_targets

PAIR_STATE = "pair_state"  # in a state dict: where the regularizer is in the order of its pairs
OLD_STATE = "_extra_state"
CHECKSUM_BYTES = 4
PROBED = 2  # images that the network is probed with: a single image could not tell the batch axis from another


class SimilarityRegularizer(nn.Module):
    """L_sim for any network, in three lines of any training loop:

        regularizer = SimilarityRegularizer(model, layers=["relu", "layer1", "layer2"],
                                            images=reg_images, threshold=0.8)
        optimizer = torch.optim.SGD([*model.parameters(), *regularizer.parameters()], lr=0.1)
        loss = cross_entropy(model(x), y) + 0.05 * regularizer()    # every step

    Each call draws `pairs_per_step` pairs of the regularization images, passes both halves through the
    network (in the mode that it is in: batch norm in training mode sees them, each half by itself, as in the
    released code), and compares S^CNN = sum_l gamma_l cos(map_l - mean_l) with the target of each pair.
    Another `similarity` replaces the cosine and this comparison.

    model: any nn.Module whose forward takes a batch of images, whatever that returns. It is not registered here: its
        weights are in `model.parameters()` only, and `regularizer.to(device)` does not move it. It may be wrapped in
        torch.compile or DistributedDataParallel; docs/using.md says how to train in several processes.
    layers: names as in `model.named_modules()`, each once, or a callable images -> sequence or dict of feature maps, or
        one map. Of a layer that gives a tuple or dict its first tensor is taken. A map is [b, channels, ...], or
        [b, tokens, channels] where it has three axes; see `channel_axis`.
    images: [n, c, h, w], float in [0, 1]; need not be labelled nor come from the task's image set. They are kept on
        the network's device, in the precision of its first floating-point parameter.
    threshold: Th in (0, 1); 0.8 is the paper's choice for CIFAR-10, with alpha 10 for ResNet18 and 40 epochs. A small
        network or a short training wants a smaller alpha; choose both on validation images.
    targets: 'threshold' for S^Th, 'pixel' for S^pixel, or a given [n, n] matrix in [-1, 1].
    pairs: 'all', 'high', 'low', 'double', 'positive' or 'negative', see `PairSampler`.
    low_threshold: for pairs='double' only.
    pairs_per_step: k, pairs per call; 16 in the released code. A single one cannot be normalized by batch norm in
        training mode where maps are 1x1.
    momentum: of the per-channel running means, updated before use, in training mode only.
    eps: of `similarity_loss`, for the similarity 'cosine' only.
    similarity: 'cosine', the paper's; 'linear_cka', 1 - debiased linear CKA of the 2k images of a step with their
        [2k, 2k] targets, for pairs='all' only, and 4 <= 2k <= n; or an object, see `similarity.Similarity`.
    pair_statistics: what batch norm in training mode makes of the pairs: 'shared', 'separate' or 'frozen', see
        `batch_norm.normalized_by_part`.
    preprocess: applied to a batch of pixels before the network, where the network does not normalize
        inside (for example torchvision.transforms.Normalize).
    seed: of the order in which pairs are drawn.
    channel_axis: of every map, in place of the axis said above: -1 for [b, h, w, channels], as in Swin transformers.

    `regularizer.layer_weights` is gamma, softmax of trained logits, [layers]. `state_dict()` holds tensors only: the
    logits, the running means and `pair_state` (not the images), so a loaded regularizer draws the same pairs.
    `train()`/`eval()` decide whether the running means follow.
    Warns where a threshold makes every target 0, which only makes all images dissimilar; and, once each, where the
    network trains but no gradient reaches it from a layer, and where it meets a fault of oneDNN (see
    `model.onednn_corrupts`). Of another fault it knows nothing: on CPUs with AVX-512 or AMX a strided convolution in
    bfloat16 whose input has fewer columns than its stride (oneDNN 3.13.3) has a wrong weight gradient; float32 is
    right. Activation checkpointing needs use_reentrant=False; batch norm in training mode inside
    what is checkpointed is a ValueError.
    Raises ValueError for anything outside these bounds, naming it; for an unknown layer it lists those there are; for
    maps whose axis 0 is not the images, and maps that look like [b, h, w, channels] where no channel_axis is given
    (sides may be rounded; a map whose axes fit the image both ways, as [b, 7, 7, 7], counts as [b, channels, h, w]).
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | FeatureMaps,
        images: Tensor | list[Tensor],
        threshold: float = THRESHOLD,
        *,
        targets: str | Tensor = "threshold",
        pairs: str = "all",
        low_threshold: float | None = None,
        pairs_per_step: int = PAIRS_PER_STEP,
        momentum: float = 0.9,
        eps: float = LOSS_EPS,
        similarity: str | Similarity = "cosine",
        pair_statistics: str = "shared",
        preprocess: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
        channel_axis: int | None = None,
    ):
        super().__init__()
        _check_options(model, layers, momentum, pair_statistics, preprocess, channel_axis)
        # in a tuple, so that modules are not registered here: their weights are the model's
        self._network = (model, layers if callable(layers) else FeatureTaps(model, layers))
        self._preprocess = preprocess
        self.momentum, self.pair_statistics, self.measure = momentum, pair_statistics, _measure(similarity, eps)
        self.pairs_per_step, self.channel_axis = pairs_per_step, channel_axis
        self.generator = seeded(seed)
        self._formats_checked = self._warned_of_gradients = False

        images = check_images(images).detach()
        pixels = pixel_similarity(images)
        matrix = target_matrix(targets, pixels, threshold)
        if self.measure.whole:
            _check_whole(similarity, pairs, matrix, pixels)
            self.sampler: GroupSampler | PairSampler = GroupSampler(matrix)
        else:
            self.sampler = PairSampler(pixels, matrix, pairs, threshold, low_threshold)
        self.sampler.check(pairs_per_step, "pairs_per_step")
        if isinstance(targets, str):
            _warn_of_zero_targets(self.sampler.targets, pixels, threshold)
        device = next(model.parameters(), images).device
        self.register_buffer("images", images.to(device, precision_of(model, images)), persistent=False)
        maps = probe_features(model, self._probe, self.images[:1])
        self.layer_logits = nn.Parameter(torch.zeros(len(maps), device=device))
        for index, feature_map in enumerate(maps):
            channels = feature_map.shape[channel_axis_of(feature_map, channel_axis)]
            self.register_buffer(f"mean{index}", torch.zeros(channels, device=device))
        _warn_of_corruption(model, self.images)

    @property
    def layer_weights(self) -> Tensor:
        """gamma, [layers]: the share of each layer in S^CNN; positive, sums to 1."""
        return self.layer_logits.softmax(dim=0)

    def forward(self, pairs: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """L_sim of k pairs: a scalar to be multiplied by alpha and added to the task's loss.

        pairs: the result of `draw()`, on any device. None draws the next k pairs.
        """
        rows, cols, target = self.draw() if pairs is None else pairs
        return self.measure.loss(self.similarity(rows, cols), target.to(self.images.device))

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next k pairs: rows [k], cols [k] and their targets, [k] or [2k, 2k] (see `Similarity`), on the CPU."""
        return self.sampler.draw(self.pairs_per_step, self.generator)

    def draw_many(self, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """The pairs of the next steps, stacked: rows, cols and targets, [steps, ...] each, on the CPU."""
        return self.sampler.draw_many(steps, self.pairs_per_step, self.generator)

    def similarity(self, rows: Tensor, cols: Tensor) -> Tensor:
        """S^CNN of given pairs.  rows, cols: [k] indices into the images.

        Returns [k] in [-1, 1] for the cosine; for another measure the weighted mean of its `of_layer`.
        """
        layers = self.layer_similarities(rows, cols)
        # elementwise, not a matrix product: autocast would take that to half precision
        return (self.layer_weights.reshape(-1, *[1] * (layers.ndim - 1)) * layers).sum(dim=0)

    def layer_similarities(self, rows: Tensor, cols: Tensor) -> Tensor:
        """S^CNN-l: the measure's similarities of the mean-subtracted feature maps of given pairs, [layers, ...]."""
        maps = self._maps_of_step(rows.to(self.images.device), cols.to(self.images.device))
        with torch.autocast(self.images.device.type, enabled=False):  # 1 - s is lost in half precision
            if self.training:
                # before use, as the released code does: a batch takes part in the mean that is subtracted from it
                self._follow(maps)
            return torch.stack([self.measure.of_layer(self._centred(index, both)) for index, both in enumerate(maps)])

    def _maps_of_step(self, rows: Tensor, cols: Tensor) -> Sequence[Tensor]:
        """The maps of the first images, then of the second, in one tensor per layer."""
        model, features = self._network
        both = torch.cat([rows, cols])
        parts = [both] if self.measure.whole else [rows, cols]  # what batch norm takes as one batch
        # a callable may run compiled code, whose batch norm cannot be told of parts
        if hasattr(model, "_orig_mod") and not isinstance(features, FeatureTaps):
            of_parts = zip(*(self._maps(self.images[part]) for part in parts), strict=True)
            maps = [torch.cat(of_layer) for of_layer in of_parts]
        else:
            with normalized_by_part(model, [len(part) for part in parts], self.pair_statistics):
                maps = self._maps(self.images[both])
        if len(maps) != len(self.layer_logits):
            raise ValueError(f"layers gave {len(maps)} feature maps, but {len(self.layer_logits)} at first")
        if torch.is_grad_enabled():
            self._check_training(maps)
        return maps

    def _follow(self, maps: Sequence[Tensor]) -> None:
        """Move the running means of all layers' channels towards those of a batch."""
        means = [getattr(self, f"mean{index}") for index in range(len(maps))]
        of_batch = []
        for mean, own in zip(means, maps, strict=True):
            axis = channel_axis_of(own, self.channel_axis)
            others = [other for other in range(own.ndim) if other != axis]
            of_batch.append(own.detach().mean(dim=others, dtype=torch.float32).to(mean))
        torch._foreach_lerp_(means, of_batch, 1 - self.momentum)

    def _centred(self, index: int, maps: Tensor) -> Tensor:
        """A layer's maps without the running mean of each channel, [2k, values] float32."""
        axis = channel_axis_of(maps, self.channel_axis)
        # a difference needs neither of the two backward: the next call may change the mean before
        centre = getattr(self, f"mean{index}").float().reshape([-1 if each == axis else 1 for each in range(maps.ndim)])
        return flattened((maps - centre).float())  # float32 also of half precision, without a copy of the maps

    @property
    def pair_state(self) -> Tensor:
        """Where the regularizer is in the order of its pairs: [bytes] uint8 on the CPU, an entry of `state_dict()`.

        Bytes survive a change of precision; a checksum at their end tells a state that was averaged (EMA).
        """
        content = torch.cat([self.generator.get_state(), self.sampler.state().view(torch.uint8)])
        return torch.cat([content, _checksum(content)])

    def _set_pair_state(self, state: Tensor) -> None:
        """Continue where `pair_state` was taken.  Raises ValueError for anything else."""
        given = state.detach().cpu().double().round().clamp(0, 255).to(torch.uint8)
        content = given[:-CHECKSUM_BYTES]
        if state.shape != self.pair_state.shape or not torch.equal(given[-CHECKSUM_BYTES:], _checksum(content)):
            raise ValueError(
                f"'{PAIR_STATE}', {state.dtype} {list(state.shape)}, is not what a regularizer wrote; an average of "
                "state dicts must copy this entry from a single one"
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
        ours = (prefix + PAIR_STATE, prefix + OLD_STATE)
        others = {name: tensor for name, tensor in state_dict.items() if name not in ours}
        super()._load_from_state_dict(others, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
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
        return f"{len(self.images)} images, {len(self.sampler)} pairs, k={self.pairs_per_step}"

    def _maps(self, images: Tensor) -> list[Tensor]:
        return self._maps_of_pixels(images if self._preprocess is None else self._preprocess(images))

    def _maps_of_pixels(self, pixels: Tensor) -> list[Tensor]:
        """The maps of preprocessed images.  Raises ValueError where axis 0 of a map is not the images."""
        _, features = self._network
        maps = as_maps(features(pixels))
        for index, feature_map in enumerate(maps):
            check_batch_axis(self._name(index), feature_map, len(pixels))
        return maps

    def _probe(self, image: Tensor) -> list[Tensor]:
        """Maps of one image, given twice, whose axes are checked."""
        pixels = image if self._preprocess is None else self._preprocess(image)
        pixels = torch.cat([pixels] * PROBED)
        maps = self._maps_of_pixels(pixels)
        for index, feature_map in enumerate(maps):
            check_channel_axis(self._name(index), feature_map, pixels.shape, self.channel_axis)
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
        without_any = not any(feature_map.requires_grad for feature_map in maps) and trains(model)
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
    model: object, layers: object, momentum: float, statistics: str, preprocess: object, channel_axis: int | None
) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    check_number(momentum, "momentum", "in [0, 1)")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names or a callable, got the string '{layers}'")
    if preprocess is not None and not callable(preprocess):
        raise ValueError(f"preprocess must be a function of a batch of pixels or None, got {preprocess!r}")
    if channel_axis is not None:
        check_whole_number(channel_axis, "channel_axis", "or None")
    if statistics not in PAIR_STATISTICS:
        raise ValueError(f"unknown pair_statistics '{statistics}'; allowed: {', '.join(PAIR_STATISTICS)}")


def _measure(similarity: str | Similarity, eps: float) -> Similarity:
    if isinstance(similarity, Similarity):
        return similarity
    if similarity not in SIMILARITIES:
        raise ValueError(
            f"unknown similarity {similarity!r}; allowed: {', '.join(SIMILARITIES)}, or an object of a class that "
            "derives from simreg_core.similarity.Similarity"
        )
    module, _, name = SIMILARITIES[similarity].place.partition(":")
    kind = getattr(import_module(module), name)
    return kind(eps) if kind is Cosine else kind()


def _check_whole(similarity: str | Similarity, pairs: str, matrix: Tensor, pixels: Tensor) -> None:
    name = similarity if isinstance(similarity, str) else type(similarity).__name__
    if pairs != "all":
        raise ValueError(
            f"similarity '{name}' compares all images of a step with each other: pairs must be 'all', got '{pairs}'"
        )
    if matrix.shape != pixels.shape:
        raise ValueError(f"targets must have shape {list(pixels.shape)}, got {list(matrix.shape)}")


def _warn_of_zero_targets(targets: Tensor, similarity: Tensor, threshold: float) -> None:
    if targets.count_nonzero() == targets.diagonal().count_nonzero():
        warnings.warn(
            f"every target is 0: no pair of the images has |S| above the threshold {threshold}; the largest is "
            f"{similarity.abs().fill_diagonal_(0).max():.4f}",
            stacklevel=3,
        )


def _warn_of_corruption(model: nn.Module, images: Tensor) -> None:
    """Warn of a layer that meets a fault of oneDNN, where the network or its images lie channels last."""
    last = torch.channels_last
    if not any(
        tensor.ndim == 4 and tensor.is_contiguous(memory_format=last) and not tensor.is_contiguous()
        for tensor in (images, *model.parameters())
    ):
        return
    layers = model.named_modules()
    unsound = [name for name, layer in layers if onednn_corrupts(layer) and not isinstance(layer, PointwiseConv2d)]
    if unsound:
        warnings.warn(
            f"layer '{unsound[0]}' is a strided 1x1 convolution of few input channels: in channels_last on the CPU "
            "oneDNN may corrupt memory or give a wrong gradient there (uxlfoundation/oneDNN#6035); use "
            "torch.contiguous_format, simreg_core.model.PointwiseConv2d, or a GPU",
            stacklevel=3,
        )


def _checksum(content: Tensor) -> Tensor:
    check = zlib.crc32(bytes(content.tolist())).to_bytes(CHECKSUM_BYTES)
    return torch.tensor(list(check), dtype=torch.uint8, device="cpu")


def target_matrix(targets: str | Tensor, similarity: Tensor, threshold: float) -> Tensor:
    """What `SimilarityRegularizer` makes of its targets, [n, n].  similarity: S^pixel of its images, [n, n].

    Raises ValueError for an unknown name, and for a matrix that holds no numbers.
    """
    if not isinstance(targets, str):
        return as_numbers(targets, "targets")
    if targets == "threshold":
        return threshold_targets(similarity, threshold)
    if targets == "pixel":
        return similarity
    raise ValueError(f"unknown targets '{targets}'; allowed: 'threshold', 'pixel' or an [n, n] matrix")

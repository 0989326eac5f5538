"""The similarity loss, and the regularizer that adds it to any training loop."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.batch_norm import PAIR_STATISTICS, normalized_by_part
from simreg_core.model import FeatureMaps, FeatureTaps, probe_features
from simreg_core.targets import PairSampler, check_images, pixel_similarity, threshold_targets


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
        loss = cross_entropy(model(x), y) + 10 * regularizer()      # every step

    Each call draws `batch_pairs` pairs of the regularization images, passes both halves through the
    network (in the mode that it is in: batch norm in training mode sees them, each half by itself, as in the
    released code), and compares S^CNN = sum_l gamma_l cos(map_l - mean_l) with the target of each pair.

    model: any nn.Module whose forward takes a batch of images. It is not registered here: its weights
        are in `model.parameters()` alone, and `regularizer.to(device)` does not move it.
    layers: names as in `model.named_modules()`, or a callable images -> sequence of feature maps. A map is
        [b, channels, ...], or [b, tokens, channels] where it has three axes.
    images: [n, c, h, w], float in [0, 1]; need not be labelled nor come from the task's own set.
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

    `regularizer.layer_weights` is gamma, softmax of trained logits, [layers]. `state_dict()` holds the logits,
    the running means and the sampler's state (not the images), so a loaded regularizer draws the same pairs.
    `train()`/`eval()` decide whether the running means follow.
    Warns where a threshold makes every target 0, which only makes all images dissimilar.
    Raises ValueError for anything outside these bounds, naming it; for an unknown layer it lists those there are.
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
    ):
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
        if isinstance(layers, str):
            raise ValueError(f"layers must be a list of names or a callable, got the string '{layers}'")
        if pair_statistics not in PAIR_STATISTICS:
            raise ValueError(f"unknown pair_statistics '{pair_statistics}'; allowed: {', '.join(PAIR_STATISTICS)}")
        # in a tuple, so that modules are not registered here: their weights are the model's
        self._network = (model, layers if callable(layers) else FeatureTaps(model, layers))
        self._preprocess = preprocess
        self.momentum, self.eps, self.pair_statistics = momentum, eps, pair_statistics
        self.batch_pairs = batch_pairs
        self.generator = torch.Generator().manual_seed(seed)

        images = check_images(images)
        similarity = pixel_similarity(images)
        self.sampler = PairSampler(
            similarity, _target_matrix(targets, similarity, threshold), pairs, threshold, low_threshold
        )
        if not 1 <= batch_pairs <= len(self.sampler):
            raise ValueError(
                f"batch_pairs must lie in [1, {len(self.sampler)}], the pairs in range '{pairs}', got {batch_pairs}"
            )
        matrix = self.sampler.targets
        if isinstance(targets, str) and matrix.count_nonzero() == matrix.diagonal().count_nonzero():
            warnings.warn(
                f"every target is 0: no pair of the images has |S| above the threshold {threshold}; the largest is "
                f"{similarity.abs().fill_diagonal_(0).max():.4f}",
                stacklevel=2,
            )
        parameter = next(model.parameters(), images)
        self.register_buffer("images", images.to(parameter), persistent=False)  # its device and precision
        maps = probe_features(model, self._maps, self.images[:1])
        if not maps:
            raise ValueError("layers gave no feature map; at least one is needed")
        self.layer_logits = nn.Parameter(torch.zeros(len(maps), device=parameter.device))
        for index, feature_map in enumerate(maps):
            self.register_buffer(f"mean{index}", torch.zeros(_channels(feature_map), device=parameter.device))

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
            return [torch.cat(both) for both in halves]
        with normalized_by_part(model, [len(rows), len(cols)], self.pair_statistics):
            return self._maps(self.images[torch.cat([rows, cols])])

    def _cosine(self, index: int, both: Tensor) -> Tensor:
        """Similarity of the two halves of a layer's maps, [k]."""
        mean, axis = getattr(self, f"mean{index}"), _channel_axis(both)
        if self.training:
            # before use, as the released code does: a batch takes part in its own mean
            batch_mean = both.detach().mean(dim=[other for other in range(both.ndim) if other != axis])
            mean.lerp_(batch_mean, 1 - self.momentum)
        # a copy: the next call changes the mean before backward may run
        centre = mean.clone().reshape([-1 if other == axis else 1 for other in range(both.ndim)])
        first, second = _flat(both - centre).chunk(2)
        return F.cosine_similarity(first, second, dim=1)

    def get_extra_state(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state(), **self.sampler.state()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        self.generator.set_state(state["generator"].cpu())
        self.sampler.load_state(state)

    def extra_repr(self) -> str:
        return f"{len(self.images)} images, {len(self.sampler)} pairs, k={self.batch_pairs}"

    def _maps(self, images: Tensor) -> Sequence[Tensor]:
        _, features = self._network
        return features(images if self._preprocess is None else self._preprocess(images))


def _target_matrix(targets: str | Tensor, similarity: Tensor, threshold: float) -> Tensor:
    if isinstance(targets, Tensor):
        return targets
    if targets == "threshold":
        return threshold_targets(similarity, threshold)
    if targets == "pixel":
        return similarity
    raise ValueError(f"unknown targets '{targets}'; allowed: 'threshold', 'pixel' or an [n, n] matrix")


def _channel_axis(feature_map: Tensor) -> int:
    """Of a map [b, c], [b, tokens, c] or [b, c, ...]."""
    if feature_map.ndim < 2:
        raise ValueError(f"a feature map must have shape [b, channels, ...], got {list(feature_map.shape)}")
    return 2 if feature_map.ndim == 3 else 1


def _channels(feature_map: Tensor) -> int:
    return feature_map.shape[_channel_axis(feature_map)]


def _flat(maps: Tensor) -> Tensor:
    """[b, all else], in the order in which it lies in memory: a cosine does not care, and nothing is copied."""
    if maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last):
        maps = maps.permute(0, 2, 3, 1)
    return maps.flatten(1)

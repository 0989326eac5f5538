"""What is drawn in each step without replacement: image pairs, or whole groups of images."""

import math

import torch
from torch import Tensor

from simreg_core.numbers import check_number, check_whole_number
from simreg_core.targets import BLOCK, SYMMETRY_TOLERANCE

PAIR_RANGES = ("all", "high", "low", "double", "positive", "negative")
DRAWN_AHEAD = 256


class RandomOrder:
    """The numbers below `count` in a random order, a few at a time; a new order, an epoch, when too few are left.

    `len(order)` is the count. The order is computed, not stored.
    """

    def __init__(self, count: int):
        self._count = count
        self._keys: Tensor | None = None
        self._position = 0
        # the next numbers of this epoch, from `_position` on
        self._ahead = torch.empty(0, dtype=torch.int64, device="cpu")

    def __len__(self) -> int:
        return self._count

    def numbers(self, k: int, generator: torch.Generator) -> Tensor:
        """The next k numbers of this epoch, [k] int64 on the CPU; a new epoch starts when fewer than k are left.

        generator: CPU generator; read once per epoch, to order the numbers anew.
        """
        if self._keys is None or self._position + k > self._count:
            self._keys = torch.randint(0, 2**31, (ROUNDS,), generator=generator, device="cpu")
            self._position = 0
            self._ahead = self._ahead[:0]
        if len(self._ahead) < k:  # many at once: a hundred small operations per draw would cost more than the pairs
            end = min(self._position + max(k, DRAWN_AHEAD), self._count)
            order = torch.arange(self._position, end, device="cpu")
            self._ahead = _permute(order, self._count, self._keys)
        numbers, self._ahead = self._ahead[:k], self._ahead[k:]
        self._position += k
        return numbers

    def numbers_of_steps(self, steps: int, k: int, generator: torch.Generator) -> Tensor:
        """What so many calls of `numbers` give, stacked, [steps, k]; far faster than those."""
        parts = []
        while steps > 0:
            left = self._count if self._keys is None else self._count - self._position
            at_once = min(steps, max(1, left // k))  # no draw crosses the end of an epoch
            parts.append(self.numbers(at_once * k, generator).view(at_once, k))
            steps -= at_once
        return torch.cat(parts)

    def restart(self) -> None:
        """Start a new epoch at the next draw."""
        self._keys = None

    def state(self) -> Tensor:
        """What `load_state` needs to go on in the same order, [7] int64: the position in the epoch, and its keys.

        The position is -1 where the next draw starts a new epoch.
        """
        state = torch.full((1 + ROUNDS,), -1, dtype=torch.int64, device="cpu")
        if self._keys is not None:
            state[0], state[1:] = self._position, self._keys
        return state

    def load_state(self, state: Tensor) -> None:
        """Continue where `state()` was taken.  Raises ValueError for another shape."""
        if state.shape != (1 + ROUNDS,):
            raise ValueError(f"the state of a sampler has shape [{1 + ROUNDS}], got {list(state.shape)}")
        position, self._keys = int(state[0]), None
        if position >= 0:
            self._position, self._keys = position, state[1:].to("cpu", torch.int64, copy=True)
        self._ahead = self._ahead[:0]


class PairSampler(RandomOrder):
    """Draws image pairs i < j uniformly, without replacement within an epoch.

    similarity: [n, n], S^pixel; decides which pairs a range keeps (released code, `--reg_range`).
    targets: [n, n] in [-1, 1]; the value that goes with each pair.
    pairs: which pairs are drawn
        'all'       every pair
        'high'      |S| > threshold
        'low'       |S| < threshold
        'double'    |S| > threshold or |S| < low_threshold (the band between is dropped)
        'positive'  S > threshold or |S| < threshold
        'negative'  S < -threshold or |S| < threshold
    threshold: in (0, 1); needed by every range except 'all'.
    low_threshold: in (0, threshold); needed by 'double' only.

    `len(sampler)` is the number of pairs in the range. Memory: one matrix, of one byte per value where all targets are
    -1, 0 or +1, and 4 bytes per pair for a range other than 'all'.
    Raises ValueError for an unknown range, a threshold missing or outside its bounds, matrices that do not fit, NaN,
    targets outside [-1, 1] or not symmetric, and a range without pairs (and says which threshold has some).
    """

    def __init__(
        self,
        similarity: Tensor,
        targets: Tensor,
        pairs: str = "all",
        threshold: float | None = None,
        low_threshold: float | None = None,
    ):
        _check_matrices(similarity, targets)
        _check_range(pairs, threshold, low_threshold)
        self.pairs = pairs
        self.targets = _small(targets.detach().cpu())
        self._dtype = targets.dtype
        self._kept = None
        if pairs != "all":
            assert threshold is not None  # `_check_range` has seen to it
            self._kept = _pairs_in_range(similarity.detach().cpu(), pairs, threshold, low_threshold)
            if len(self._kept) == 0:
                raise ValueError(_no_pairs_message(similarity, pairs, threshold, low_threshold))
        n = len(similarity)
        super().__init__(n * (n - 1) // 2 if self._kept is None else len(self._kept))

    def draw(self, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The next k pairs of this epoch; a new epoch starts when fewer than k are left.

        k: number of pairs, 1 <= k <= len(self).
        generator: CPU generator; read once per epoch, to order the pairs anew.
        Returns rows [k] int64, cols [k] int64 with rows < cols, and target [k], all on the CPU.
        Raises ValueError for a k outside its bounds.
        """
        self.check(k)
        return self._pairs_of(self.numbers(k, generator))

    def draw_many(self, steps: int, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What so many calls of `draw` give, stacked: rows, cols and target, each [steps, k]; far faster than those."""
        self.check(k)
        return self._pairs_of(self.numbers_of_steps(steps, k, generator))

    def check(self, k: int, name: str = "k") -> None:
        """Raises ValueError for a k that `draw` cannot give."""
        check_whole_number(k, name, f"in [1, {len(self)}]")
        if not 1 <= k <= len(self):
            raise ValueError(
                f"{name} must lie in [1, {len(self)}], the number of pairs in range '{self.pairs}', got {k}"
            )

    def _pairs_of(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self._kept is not None:
            index = self._kept[index].long()
        rows, cols = _pair_of_index(index)
        return rows, cols, self.targets[rows, cols].to(self._dtype)


class GroupSampler(RandomOrder):
    """Draws groups of 2k different images, without replacement within an epoch, for measures that compare them all.

    targets: [n, n] in [-1, 1], symmetric, n >= 4; the diagonal has no part.
    `len(sampler)` is the number of images. Memory: one matrix, as `PairSampler`.
    Raises ValueError for targets out of bounds or that are all the same, which leaves nothing to be followed.
    """

    def __init__(self, targets: Tensor):
        _check_matrices(targets, targets)
        if _do_not_vary(targets):
            raise ValueError(
                f"targets must differ from pair to pair for images that are compared all with all; they are all "
                f"{targets[0, 1].item():.4g}"
            )
        self.targets = _small(targets.detach().cpu())
        self._dtype = targets.dtype
        super().__init__(len(targets))

    def draw(self, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The next 2k images of this epoch, 2 <= k <= n / 2.

        Returns rows [k] int64, cols [k] int64, and the targets of all 2k, rows first, [2k, 2k]; all on the CPU.
        Raises ValueError for a k outside its bounds.
        """
        return tuple(drawn[0] for drawn in self.draw_many(1, k, generator))

    def draw_many(self, steps: int, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What so many calls of `draw` give, stacked: rows and cols [steps, k], and targets [steps, 2k, 2k]."""
        self.check(k)
        index = self.numbers_of_steps(steps, 2 * k, generator)
        targets = self.targets[index[:, :, None], index[:, None, :]].to(self._dtype)
        return index[:, :k], index[:, k:], targets

    def check(self, k: int, name: str = "k") -> None:
        """Raises ValueError for a k that `draw` cannot give."""
        check_whole_number(k, name, f"in [2, {len(self) // 2}]")
        if not 2 <= k <= len(self) // 2:
            raise ValueError(
                f"{name} must lie in [2, {len(self) // 2}] where the 2k images of a step are compared all with all, "
                f"of {len(self)} images; got {k}"
            )


def _check_matrices(similarity: Tensor, targets: Tensor) -> None:
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"similarity must have shape [n, n], got {list(similarity.shape)}")
    if len(similarity) < 2:
        raise ValueError(f"at least two images are needed to draw pairs, got {len(similarity)}")
    if targets.shape != similarity.shape:
        raise ValueError(
            f"targets must have the shape of similarity, {list(similarity.shape)}, got {list(targets.shape)}"
        )
    if not all(torch.isfinite(block).all() for block in targets.split(BLOCK)):
        raise ValueError("targets hold values that are NaN or infinite; they must lie in [-1, 1]")
    if any(torch.isnan(block).any() for block in similarity.split(BLOCK)):
        raise ValueError("similarity holds NaN; its values must lie in [-1, 1]")
    low, high = targets.min().item(), targets.max().item()
    if not (low >= -1 and high <= 1):
        raise ValueError(f"targets must lie in [-1, 1], got [{low:.6g}, {high:.6g}]")
    for start in range(0, len(targets), BLOCK):  # in blocks, so that no second matrix is needed
        apart = (targets[start : start + BLOCK] - targets[:, start : start + BLOCK].T).abs().max().item()
        if apart > SYMMETRY_TOLERANCE:
            raise ValueError(f"targets must be symmetric; entries across the diagonal differ by up to {apart:.4g}")


def _do_not_vary(targets: Tensor) -> bool:
    """Whether all entries off the diagonal are the same."""
    first = targets[0, 1]
    same = sum(int((block == first).count_nonzero()) for block in targets.split(BLOCK))
    return same - int((targets.diagonal() == first).count_nonzero()) == len(targets) * (len(targets) - 1)


def _small(targets: Tensor) -> Tensor:
    """Ternary targets in one byte each: of 20,000 images they are 0.4 GB, not 1.6."""
    small = torch.empty(targets.shape, dtype=torch.int8, device="cpu")
    for block, given in zip(small.split(BLOCK), targets.split(BLOCK), strict=True):
        block.copy_(given)
        if not torch.equal(block.to(given), given):
            return targets
    return small


def _check_range(pairs: str, threshold: float | None, low_threshold: float | None) -> None:
    if pairs not in PAIR_RANGES:
        raise ValueError(f"unknown pair range '{pairs}'; allowed: {', '.join(PAIR_RANGES)}")
    if pairs == "all":
        return
    for name, value in (("threshold", threshold), ("low_threshold", low_threshold)):
        if value is not None:
            check_number(value, name, "in (0, 1)")
    if threshold is None or not 0 < threshold < 1:
        raise ValueError(f"pair range '{pairs}' needs a threshold in (0, 1), got {threshold}")
    if pairs == "double" and (low_threshold is None or not 0 < low_threshold < threshold):
        raise ValueError(f"pair range 'double' needs a low_threshold in (0, {threshold}), got {low_threshold}")


def _in_range(s: Tensor, pairs: str, threshold: float, low_threshold: float | None) -> Tensor:
    if pairs == "high":
        return s.abs() > threshold
    if pairs == "low":
        return s.abs() < threshold
    if pairs == "double":
        return (s.abs() > threshold) | (s.abs() < low_threshold)
    if pairs == "positive":
        return (s > threshold) | (s.abs() < threshold)
    return (s < -threshold) | (s.abs() < threshold)


def _pairs_in_range(similarity: Tensor, pairs: str, threshold: float, low_threshold: float | None) -> Tensor:
    """Indices (see `_pair_of_index`) of the pairs in a range, int32 where they fit."""
    n = len(similarity)
    dtype = torch.int32 if n * (n - 1) // 2 < 2**31 else torch.int64

    # counted first and in blocks, so that the memory stays near that of the result
    height = max(1, BLOCK**2 // n)

    def inside(start: int) -> Tensor:
        return _in_range(similarity[start : start + height], pairs, threshold, low_threshold).tril(start - 1)

    count = sum(int(inside(start).count_nonzero()) for start in range(0, n, height))
    result = torch.empty(count, dtype=dtype, device="cpu")
    filled = 0
    for start in range(0, n, height):
        larger, smaller = inside(start).nonzero(as_tuple=True)
        larger += start
        result[filled : filled + len(larger)] = larger * (larger - 1) // 2 + smaller
        filled += len(larger)
    return result


def _no_pairs_message(similarity: Tensor, pairs: str, threshold: float, low_threshold: float | None) -> str:
    """For an empty range: what was asked, and a threshold that would give pairs."""
    off_diagonal = similarity.detach().abs().clone().fill_diagonal_(-1)
    largest = off_diagonal.max().item()
    smallest = off_diagonal.fill_diagonal_(2).min().item()
    asked = f"no pair of images lies in range '{pairs}' at threshold {threshold}"
    if pairs == "high":
        return f"{asked}: the largest |S| is {largest:.4f}; a threshold below that would give pairs"
    if pairs == "double":
        return (
            f"{asked} and low_threshold {low_threshold}: |S| lies in [{smallest:.4f}, {largest:.4f}]; a low_threshold "
            f"above {smallest:.4f} or a threshold below {largest:.4f} would give pairs"
        )
    return f"{asked}: |S| lies in [{smallest:.4f}, {largest:.4f}]; a threshold above {smallest:.4f} would give pairs"


def _pair_of_index(index: Tensor) -> tuple[Tensor, Tensor]:
    """Pair (i, j), i < j, number index = j(j-1)/2 + i in the list (0,1), (0,2), (1,2), (0,3), ..."""
    j = ((1 + (1 + 8 * index.double()).sqrt()) / 2).long()
    j -= (j * (j - 1) // 2 > index).long()  # float64 rounds at large indices
    j += (j * (j + 1) // 2 <= index).long()
    return index - j * (j - 1) // 2, j


# An epoch uses a few thousand of up to 10^8 pairs: their random order is not worth storing.
# A Feistel network is a permutation of 0 .. 4^b - 1 for any round function; applying it again until
# the value falls below `count` makes it one of 0 .. count - 1 (Black & Rogaway 2002, cycle walking).
ROUNDS = 6


def _permute(values: Tensor, count: int, keys: Tensor) -> Tensor:
    half_bits = max(1, math.ceil((count - 1).bit_length() / 2))
    values = _feistel(values, half_bits, keys)
    while (outside := values >= count).any():
        values[outside] = _feistel(values[outside], half_bits, keys)
    return values


def _feistel(values: Tensor, half_bits: int, keys: Tensor) -> Tensor:
    mask = (1 << half_bits) - 1
    left, right = values >> half_bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << half_bits) | right


def _mix(x: Tensor) -> Tensor:
    """A 32-bit integer hash; each product stays below 2^63, so int64 never overflows."""
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    return x ^ (x >> 15)

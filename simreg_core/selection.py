"""Choosing alpha for a network and images of one's own, by the paper's criterion on validation images."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from simreg_core.attacks.noise import gaussian_noise
from simreg_core.features import first_tensor
from simreg_core.model import in_eval_mode, precision_of
from simreg_core.names import ACCEPTED_CLEAN_RATIO
from simreg_core.numbers import check_whole_number, seeded
from simreg_core.pixels import check_pixels

COLUMNS = ("alpha", "clean", "noisy", "clean_ratio", "noisy_ratio", "accepted", "chosen")


def accuracies(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | Iterable[int],
    noise: float,
    *,
    seed: int = 0,
    batch_size: int = 256,
    preprocess: Callable[[Tensor], Tensor] | None = None,
) -> tuple[float, float]:
    """Accuracy without noise and under Gaussian noise, both in [0, 1]: (clean, noisy).

    model: returns logits [b, classes], or a tuple or dict whose first tensor they are; asked in eval mode, on its
        device and in the precision of its first floating-point parameter, and left in the mode in which it was.
    images: [n, c, h, w], float in [0, 1].
    labels: [n] integers in [0, classes), or what torch.as_tensor makes such a tensor of.
    noise: standard deviation in pixel units, in [0, 1]; noisy pixels are cut to [0, 1].  seed: of the noise.
    batch_size: images in a pass, at least 1.
    preprocess: applied to a batch of pixels, with noise or without, before the network, as in `SimilarityRegularizer`.
    Raises ValueError for arguments outside these bounds, and for labels that the network has no logit for.
    """
    check_pixels(images)
    labels = _as_labels(labels, len(images))
    check_whole_number(batch_size, "batch_size", "of at least 1")
    if batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size}")
    # drawn on the CPU: the same noise on every device
    noisy = gaussian_noise(images.cpu(), noise, protocol="strict", generator=seeded(seed)).adversarial
    with in_eval_mode(model), torch.no_grad():
        clean, attacked = (_right(model, pixels, labels, batch_size, preprocess) for pixels in (images, noisy))
    return clean, attacked


def _as_labels(labels: object, count: int) -> Tensor:
    """Labels as [count] integers.  Raises ValueError for what cannot be such."""
    try:
        found = torch.as_tensor(labels, device="cpu")  # whatever the default device is
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels must be [{count}] integers, got a {type(labels).__name__}: {error}") from error
    if found.shape != (count,) or found.is_floating_point() or found.is_complex():
        raise ValueError(f"labels must be [{count}] integers, got {found.dtype} {list(found.shape)}")
    return found.long()


def _right(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    batch_size: int,
    preprocess: Callable[[Tensor], Tensor] | None,
) -> float:
    device, dtype = next(model.parameters(), pixels).device, precision_of(model, pixels)
    low, high = int(labels.min()), int(labels.max())
    found = 0
    for x, y in zip(pixels.split(batch_size), labels.split(batch_size), strict=True):
        x = x.to(device, dtype)
        logits = first_tensor(model(x if preprocess is None else preprocess(x)))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
            shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"the network must return logits [{len(x)}, classes], got {shape}")
        classes = logits.shape[1]
        if low < 0 or high >= classes:  # all labels are looked at with the first batch
            raise ValueError(
                f"labels must lie in [0, {classes - 1}], as the network gives {classes} logits; got label "
                f"{low if low < 0 else high}"
            )
        found += int((logits.argmax(dim=1).cpu() == y).sum())
    return found / len(labels)


class NothingToCompare(ValueError):
    """The unregularized network is right on no image.  clean: also without noise."""

    def __init__(self, clean: bool):
        what = "clean accuracy" if clean else "accuracy under noise"
        super().__init__(f"the {what} of the unregularized network is 0, so there is nothing to compare with")
        self.clean = clean


@dataclass(frozen=True)
class AlphaChoice:
    """What `choose_alpha` found; `print` shows the table and the choice.

    alpha: the chosen one; None where none is accepted.
    grid: a row for each alpha, the unregularized network's (alpha 0) first, with the keys COLUMNS: clean and noisy are
        mean accuracies over seeds, the ratios are to those of the unregularized network.  `pandas.DataFrame(grid)`.
    """

    alpha: float | None
    grid: tuple[dict[str, Any], ...]

    @property
    def advice(self) -> str:
        """What follows from the table, in words."""
        alphas = [row["alpha"] for row in self.grid[1:]]
        if self.alpha is None:
            if all(row["clean_ratio"] < ACCEPTED_CLEAN_RATIO for row in self.grid[1:]):
                return f"none accepted: each costs too much clean accuracy; try smaller ones than {min(alphas):g}"
            return (
                "none accepted: none that keeps clean accuracy raises accuracy under noise; try others, or do without"
            )
        line = f"chosen: alpha = {self.alpha:g}"
        if self.alpha in (min(alphas), max(alphas)):
            side, further = ("smallest", "smaller") if self.alpha == min(alphas) else ("largest", "larger")
            line += f", the {side} that was tried: try {further} ones too"
        return line

    def __str__(self) -> str:
        head = f"{'alpha':>8} {'clean':>7} {'noisy':>7} {'clean ratio':>12} {'noisy ratio':>12}"
        words = ["  chosen" if row["chosen"] else "  accepted" if row["accepted"] else "" for row in self.grid]
        lines = [
            f"{row['alpha']:>8g} {row['clean']:>7.3f} {row['noisy']:>7.3f} {row['clean_ratio']:>12.3f} "
            f"{row['noisy_ratio']:>12.3f}{word}"
            for row, word in zip(self.grid, words, strict=True)
        ]
        return "\n".join([head, *lines, self.advice])


def choose_alpha(
    train: Callable[[float, int], nn.Module],
    evaluate: Callable[[nn.Module], tuple[float, float]],
    alphas: Iterable[float],
    seeds: int = 1,
) -> AlphaChoice:
    """The alpha that the paper's criterion chooses on your data, with the grid that it was chosen from.

    Of the alphas whose clean accuracy is at least 0.9 of the unregularized network's, and whose accuracy under noise is
    no lower than its, the one with the highest accuracy under noise is chosen.

    train: (alpha, seed) -> a trained network; called with alpha 0 too, for the unregularized network. Networks of the
        same seed should start alike and see the same batches.
    evaluate: a network -> (clean accuracy, accuracy under noise), both in [0, 1], on VALIDATION images: test images
        that had a part in the choice say too much afterwards. `accuracies` does it.
    alphas: positive and different, at least one; in steps of two or three. A list, a generator, or a tensor.
    seeds: networks trained with each alpha, seeds 0 to `seeds` - 1; their accuracies are averaged.
    Trains `seeds` networks for each alpha and `seeds` without the loss.
    Raises ValueError for anything outside these bounds, before it trains where that can be told before.
    Source: the paper, v2 Fig. 4.
    """
    _check(train, evaluate, seeds)
    tried = _as_alphas(alphas)
    found = {alpha: _means(train, evaluate, alpha, seeds) for alpha in (0.0, *tried)}
    clean, noisy = found[0.0]
    if clean == 0 or noisy == 0:
        raise NothingToCompare(clean == 0)
    rows = [
        {"alpha": alpha, "clean": own[0], "noisy": own[1], "clean_ratio": own[0] / clean, "noisy_ratio": own[1] / noisy}
        for alpha, own in found.items()
    ]
    for row in rows:
        row["accepted"] = row["alpha"] > 0 and row["clean_ratio"] >= ACCEPTED_CLEAN_RATIO and row["noisy_ratio"] >= 1
    best = max((row for row in rows if row["accepted"]), key=lambda row: row["noisy"], default=None)
    return AlphaChoice(None if best is None else best["alpha"], tuple({**row, "chosen": row is best} for row in rows))


def _as_alphas(alphas: Any) -> list[float]:
    """The numbers in a list, a generator, a tensor or an array.  Raises ValueError for any that cannot be tried."""
    given = alphas.tolist() if hasattr(alphas, "tolist") else alphas
    listed: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else []
    if not listed:
        raise ValueError(f"alphas must be a list of at least one number, got {alphas!r}")
    found: list[float] = [one.item() if isinstance(one, Tensor) and one.ndim == 0 else one for one in listed]
    for alpha in found:
        if not isinstance(alpha, Real) or not 0 < alpha < math.inf:
            raise ValueError(f"alphas must be positive numbers, got {alpha!r}; 0 is always trained")
    if len(set(found)) < len(found):
        raise ValueError(f"alphas must all differ, got {found}")
    return [float(alpha) for alpha in found]


def _check(train: object, evaluate: object, seeds: int) -> None:
    for name, given in (("train", train), ("evaluate", evaluate)):
        if not callable(given) or isinstance(given, nn.Module):
            raise ValueError(f"{name} must be a function, got {type(given).__name__}")
    if not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"seeds must be a whole number of at least 1, got {seeds!r}")


def _means(train: Callable, evaluate: Callable, alpha: float, seeds: int) -> tuple[float, float]:
    pairs = [_measured(train(alpha, seed), evaluate, alpha, seed) for seed in range(seeds)]
    clean, noisy = (sum(each) / seeds for each in zip(*pairs, strict=True))
    return clean, noisy


def _measured(network: object, evaluate: Callable, alpha: float, seed: int) -> tuple[float, float]:
    if network is None:
        raise ValueError(f"train({alpha:g}, {seed}) returned None; it must return the trained network")
    found = evaluate(network)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise ValueError(f"evaluate must return two numbers, clean accuracy and accuracy under noise, got {found!r}")
    clean, noisy = map(float, found)
    for value in (clean, noisy):
        if not 0 <= value <= 1:
            hint = "; divide per cent by 100" if 1 < value <= 100 else ""
            raise ValueError(f"evaluate must return accuracies in [0, 1], got {value:g} for alpha {alpha:g}{hint}")
    return clean, noisy

"""Checks that a measured robustness is not an attack that failed (in the spirit of Carlini et al. 2019 and AutoAttack).

Each check takes what was measured (tensors, arrays or lists), and returns None or a warning of one line. `fooled` is
always [n] bool: which of the n images were misclassified after the attack. Two such arrays of one check are of the
same images in the same order.

Each check is a significance test: it warns only if its finding, or one further out, would occur by chance with
probability below `LEVEL`. Ten checks of an honest network so raise a false alarm in less
than one in ten reports.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

LEVEL = 0.01
# A stronger attack is a heuristic too, and random: on an image near the border of the ball it may miss what a weaker
# one finds. A share of 0.01 is more than we saw on honest networks.
SPARED = 0.01
# An honest network can be so sure of an image that float32 rounds its whole gradient to zero.
ZERO_GRADIENTS = 0.01
# A GPU adds up in any order; its logits then differ by about 1e-6 of their size.
LOGIT_NOISE = 1e-4


def black_box_beats_white_box(white_box: ArrayLike, black_box: ArrayLike) -> str | None:
    """Images fooled without gradients and not with them: there should be none, as gradients only add knowledge.

    white_box, black_box: [n] fooled, within the same epsilon.
    Warns where they are more than `SPARED` of the images, by a binomial test.
    """
    white_box, black_box = _paired(white_box, black_box)
    missed = int((black_box & ~white_box).sum())
    if _chance_of(missed, len(white_box), SPARED) >= LEVEL:
        return None
    return f"a black-box attack fools {missed} of {len(white_box)} images that the white-box attack does not"


def single_step_beats_iterative(single_step: ArrayLike, iterative: ArrayLike) -> str | None:
    """One step along the gradient should not fool more images than many steps from the same knowledge.

    single_step, iterative: [n] fooled, within the same epsilon.
    A sign test on the images where the two differ: an honest network may go either way on single images.
    """
    single_step, iterative = _paired(single_step, iterative)
    if not _more_often(single_step, iterative, LEVEL):
        return None
    return f"one step fools {single_step.sum()} of {len(iterative)} images, the iterative attack {iterative.sum()}"


def more_steps_help_defence(by_steps: Mapping[int, ArrayLike]) -> str | None:
    """An attack with more steps should not fool fewer images.

    by_steps: number of steps -> [n] fooled, at least two.
    A sign test for each pair of numbers of steps, `LEVEL` divided by the number of pairs.
    """
    if len(by_steps) < 2:
        raise ValueError(f"more_steps_help_defence compares at least two numbers of steps, got {len(by_steps)}")
    pairs = list(combinations(sorted(by_steps), 2))
    for fewer, more in pairs:
        with_fewer, with_more = _paired(by_steps[fewer], by_steps[more])
        if _more_often(with_fewer, with_more, LEVEL / len(pairs)):
            return (
                f"{more} steps fool {with_more.sum()} of {len(with_more)} images, only {fewer} fool {with_fewer.sum()}"
            )
    return None


def large_epsilon_above_chance(fooled: ArrayLike, epsilon: float, chance: float) -> str | None:
    """Where every image can be made the same gray image, no network beats chance.

    fooled: [n] under an L-infinity attack of this epsilon, at least 0.5.
    chance: accuracy of the best constant answer: the share of the most frequent class, in (0, 1).
    Warns where the accuracy is above chance by a binomial test.
    """
    fooled = _bools(fooled)
    if not 0.5 <= epsilon <= 1:
        raise ValueError(f"epsilon must lie in [0.5, 1], where any image can become gray, got {epsilon:g}")
    if not 0 < chance < 1:
        raise ValueError(f"chance must lie in (0, 1), got {chance:g}")
    right = int((~fooled).sum())
    if _chance_of(right, len(fooled), chance) >= LEVEL:
        return None
    return (
        f"at epsilon {epsilon:g} the accuracy is {right / len(fooled):.3f}, above the {chance:.3f} of a constant answer"
    )


def masked_gradients(zero: float, nan: float) -> str | None:
    """zero, nan: shares of the gradients that an attack followed which were zero everywhere, or not finite."""
    for name, share in (("zero", zero), ("nan", nan)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be a share in [0, 1], got {share}")
    if nan > 0:
        return f"{nan:.2%} of the attack's gradients are not finite"
    if zero > ZERO_GRADIENTS:
        return f"{zero:.2%} of the attack's gradients are zero in every pixel"
    return None


def random_logits(first: Tensor, second: Tensor) -> str | None:
    """first, second: [n, classes] logits of the same images, one pass after the other, without a new seed."""
    if first.shape != second.shape:
        raise ValueError(f"first {list(first.shape)} and second {list(second.shape)} differ in shape")
    size = first.abs().max().item()
    apart = (first - second).abs().max().item()
    if apart <= LOGIT_NOISE * size:
        return None
    return f"the same images give other logits the second time, by up to {apart:.3g} (the largest is {size:.3g})"


def loss_does_not_increase(loss: ArrayLike, fooled: ArrayLike) -> str | None:
    """An attack that climbs a loss should end higher than it began.

    loss: [steps + 1] mean loss at the start and after each step.  fooled: [n] by that attack; where it fooled every
    image, perhaps at its start already, the loss may stand still.
    No tolerance: on a network whose gradient can be followed the first step already raises it by far more than noise.
    """
    loss = np.asarray(_cpu(loss), dtype=float)
    if loss.ndim != 1 or len(loss) < 2:
        raise ValueError(f"loss must have shape [steps + 1] with steps >= 1, got {list(loss.shape)}")
    if _bools(fooled).all() or loss[-1] > loss[0]:
        return None
    return f"the loss does not increase along the attack: {loss[0]:.4g} at its start, {loss[-1]:.4g} at its end"


def suspicions(
    *,
    white_box: ArrayLike | None = None,
    black_box: ArrayLike | None = None,
    single_step: ArrayLike | None = None,
    by_steps: Mapping[int, ArrayLike] | None = None,
    large_epsilon: tuple[ArrayLike, float, float] | None = None,
    gradients: tuple[float, float] | None = None,
    logits: tuple[Tensor, Tensor] | None = None,
    loss: ArrayLike | None = None,
) -> tuple[str, ...]:
    """The warnings of all checks for which there is data, in the order above; an empty tuple where nothing is suspect.

    white_box: [n] fooled by the iterative white-box attack; what black_box, single_step and loss are held against.
    large_epsilon: arguments of `large_epsilon_above_chance`.  gradients: shares of zero and of not finite ones.
    logits: of two passes.
    Raises ValueError where there is nothing to check, or black_box, single_step or loss come without white_box.
    """
    unpaired = [
        name
        for name, value in (("black_box", black_box), ("single_step", single_step), ("loss", loss))
        if value is not None and white_box is None
    ]
    if unpaired:
        raise ValueError(f"{', '.join(unpaired)} can only be judged beside white_box")
    checks: Sequence[tuple] = (
        (black_box_beats_white_box, black_box, lambda: (white_box, black_box)),
        (single_step_beats_iterative, single_step, lambda: (single_step, white_box)),
        (more_steps_help_defence, by_steps, lambda: (by_steps,)),
        (large_epsilon_above_chance, large_epsilon, lambda: large_epsilon),
        (masked_gradients, gradients, lambda: gradients),
        (random_logits, logits, lambda: logits),
        (loss_does_not_increase, loss, lambda: (loss, white_box)),
    )
    todo = [(check, arguments()) for check, data, arguments in checks if data is not None]
    if not todo:
        raise ValueError("nothing to check: no measurement was given")
    warnings = [check(*arguments) for check, arguments in todo]
    return tuple(warning for warning in warnings if warning is not None)


def _chance_of(successes: int, trials: int, share: float) -> float:
    """Probability of as many successes or more, each with probability `share`."""
    from scipy.stats import binom  # here: it takes longer than all else that the attacks import but torch

    return binom.sf(successes - 1, trials, share)


def _more_often(first: np.ndarray, second: np.ndarray, level: float) -> bool:
    """One-sided sign test: whether the first is true more often than the second where the two differ."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return _chance_of(only_first, only_first + only_second, 0.5) < level


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = _bools(first), _bools(second)
    if len(first) != len(second):
        raise ValueError(f"the two attacks must be of the same images, got {len(first)} and {len(second)}")
    return first, second


def _bools(values: ArrayLike) -> np.ndarray:
    values = np.asarray(_cpu(values))
    if values.ndim != 1 or len(values) == 0 or not np.isin(values, (0, 1)).all():
        raise ValueError(f"fooled must be [n] true or false, n >= 1, got {values.dtype} of shape {list(values.shape)}")
    return values.astype(bool)


def _cpu(values: ArrayLike) -> ArrayLike:
    return values.detach().cpu() if isinstance(values, torch.Tensor) else values

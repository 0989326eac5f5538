"""What batch norm does with the pair batches: one pass for several groups of images, and whose statistics count."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAIR_STATISTICS = ("shared", "separate", "frozen")
# attribute of a batch norm: a weight and a bias for each part, where their gradients are wanted apart
WEIGHTS_OF_PARTS = "weights_of_parts"
SINGLE_VALUE = (
    "batch norm in training mode has a single value per channel of a single image, and cannot normalize it: take a "
    "pairs_per_step of at least 2 or pair_statistics='frozen', or put batch norm into eval mode"
)


@contextmanager
def normalized_by_part(model: nn.Module, sizes: Sequence[int], statistics: str = "shared") -> Iterator[None]:
    """Inside, every batch norm in training mode normalizes each part of a batch by itself.

    One pass over a batch of parts then equals a pass per part, in order, at less overhead. Batch norm in eval mode
    is left as it is.
    sizes: how many images each part has; together the whole batch.
    statistics: 'shared', each part by the statistics of that part, which move the running ones (the released code, for
        its pair batches); 'separate', likewise, but the running ones stay; 'frozen', all by the running ones.
    Raises ValueError for other statistics, for batch norm in training mode inside activation checkpointing, and where
        it has a single value per channel of a part, because that part is a single image.
    """
    if statistics not in PAIR_STATISTICS:
        raise ValueError(f"unknown pair statistics '{statistics}'; allowed: {', '.join(PAIR_STATISTICS)}")
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm) and each.training]
    for norm in norms:
        norm.forward = partial(_by_part, norm, list(sizes), statistics)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward  # the class's again


def _by_part(norm: nn.Module, sizes: list[int], statistics: str, x: Tensor) -> Tensor:
    if _is_checkpointed():
        raise ValueError(
            "batch norm in training mode inside activation checkpointing: backward would normalize the pairs again, "
            "all in one batch; leave it out of the checkpointed part, or put it into eval mode"
        )
    if statistics == "frozen":
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    if len(x) == sum(sizes) and x.ndim > 1 and min(sizes) * x[0, 0].numel() == 1:
        raise ValueError(SINGLE_VALUE)
    if _is_plain(norm, sizes, x):
        return _each_by_itself(norm, sizes, statistics, x)
    if statistics == "separate":
        return torch.cat(
            [F.batch_norm(part, None, None, norm.weight, norm.bias, True, 0.0, norm.eps) for part in x.split(sizes)]
        )
    return torch.cat([type(norm).forward(norm, part) for part in x.split(sizes)])


def _is_plain(norm: nn.Module, sizes: list[int], x: Tensor) -> bool:
    """Whether it is torch's batch norm with all that this can have, on images that it takes, run as it is written."""
    kept = norm.affine and norm.track_running_stats and norm.momentum is not None and norm.weight.dtype == torch.float32
    enough = x.ndim > 1 and min(sizes) * x[0, 0].numel() > 1  # of torch's own errors
    there = type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) and x.device.type in ("cpu", "cuda")
    return kept and enough and there and not torch.compiler.is_compiling()


def _each_by_itself(norm: nn.Module, sizes: list[int], statistics: str, x: Tensor) -> Tensor:
    """What torch's forward gives of each part, bit for bit, in fewer operations; 'frozen' is not among them."""
    norm._check_input_dim(x)
    running: tuple[Tensor | None, Tensor | None] = (None, None)
    if statistics == "shared":
        running = (norm.running_mean, norm.running_var)
        norm.num_batches_tracked.add_(len(sizes))
    of_parts = getattr(norm, WEIGHTS_OF_PARTS, [(norm.weight, norm.bias)] * len(sizes))
    weights = [one for of_part in of_parts[: len(sizes)] for one in of_part]
    return _NormalizedParts.apply(x, running, sizes, norm.momentum, norm.eps, *weights)


class _NormalizedParts(torch.autograd.Function):
    """Batch norm in training mode of each part of [b, c, ...]; each is written into its place, so none is copied.

    running: mean and variance that follow, [c] each, or a pair of None.
    weights: weight and bias of each part, [c] float32: the same for all, but their gradients may be wanted apart.
    """

    @staticmethod
    def forward(ctx, x, running, sizes, momentum, eps, *weights):
        out = torch.empty_like(x)
        saved: list[Tensor] = []
        for part, place, weight, bias in zip(
            x.split(sizes), out.split(sizes), weights[::2], weights[1::2], strict=True
        ):
            # mean and deviation, for backward
            own = tuple(torch.empty(0, dtype=weight.dtype, device=x.device) for _ in range(2))
            torch.native_batch_norm(part, weight, bias, *running, True, momentum, eps, out=(place, *own))
            saved += own
        ctx.save_for_backward(x, *weights, *saved)
        ctx.sizes, ctx.eps = sizes, eps
        return out

    @staticmethod
    def backward(ctx, gradient):
        x, *others = ctx.saved_tensors
        weights, saved = others[: len(others) // 2], others[len(others) // 2 :]
        parts, gradients, eps = x.split(ctx.sizes), gradient.split(ctx.sizes), ctx.eps
        needed = (ctx.needs_input_grad[0], *ctx.needs_input_grad[5:7])  # of weights alike in all parts
        each = zip(gradients, parts, weights[::2], weights[1::2], saved[::2], saved[1::2], strict=True)
        if torch.is_grad_enabled():  # to be differentiated again, which torch's own can
            found = [_differentiable(one, part, weight, bias, eps, needed) for one, part, weight, bias, _, _ in each]
        else:
            found = [
                torch.ops.aten.native_batch_norm_backward(
                    one, part, weight, None, None, mean, deviation, True, eps, needed
                )
                for one, part, weight, _, mean, deviation in each
            ]
        of_x = torch.cat([one for one, _, _ in found]) if needed[0] else None
        return of_x, *(None,) * 4, *(one for _, *of_weights in found for one in of_weights)


def _differentiable(gradient, part, weight, bias, eps, needed) -> list[Tensor | None]:
    out = F.batch_norm(part, None, None, weight, bias, True, 0.0, eps)
    wanted = [one for one, need in zip((part, weight, bias), needed, strict=True) if need]
    found = iter(torch.autograd.grad(out, wanted, gradient, create_graph=True))
    return [next(found) if need else None for need in needed]


def _is_checkpointed() -> bool:
    """Whether what runs now is run again in backward, by torch.utils.checkpoint with use_reentrant=False."""
    if torch.compiler.is_compiling():
        return False
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda ignore_is_tracing: None)(True)
    return hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint"

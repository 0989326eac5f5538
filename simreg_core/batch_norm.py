"""What batch norm does with the pair batches: one pass for several groups of images, and whose statistics count."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAIR_STATISTICS = ("shared", "separate", "frozen")


@contextmanager
def normalized_by_part(model: nn.Module, sizes: Sequence[int], statistics: str = "shared") -> Iterator[None]:
    """Inside, every batch norm in training mode normalizes each part of a batch by itself.

    One pass over a batch of parts then equals a pass per part, in order, at less overhead. Batch norm in eval mode
    is left as it is.
    sizes: how many images each part has; together the whole batch.
    statistics: 'shared', each part by the statistics of that part, which move the running ones (the released code, for
        its pair batches); 'separate', likewise, but the running ones stay; 'frozen', all by the running ones.
    Raises ValueError for other statistics, and for batch norm in training mode inside activation checkpointing.
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
    if statistics == "separate":
        return torch.cat(
            [F.batch_norm(part, None, None, norm.weight, norm.bias, True, 0.0, norm.eps) for part in x.split(sizes)]
        )
    return torch.cat([type(norm).forward(norm, part) for part in x.split(sizes)])


def _is_checkpointed() -> bool:
    """Whether what runs now is run again in backward, by torch.utils.checkpoint with use_reentrant=False."""
    if torch.compiler.is_compiling():
        return False
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda ignore_is_tracing: None)(True)
    return hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint"

"""What a step does for all weights at once, where torch would do it for one after another.

At batch 64 a GPU's time is that of launching, and the paper's network has 62 weights and 20 batch norms. The numbers
are the same, bit for bit.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from simreg_core.batch_norm import WEIGHTS_OF_PARTS

COUNTER = "num_batches_tracked"
CAST = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)  # autocast lowers the precision of their weights


class AtOnce:
    """The two passes of a step through a network, of labelled images and of a pair batch, and what follows backward.

    Each pass gets leaves of autograd of its own for the weights, so that autograd does not add their gradients one
    weight at a time, nor cast them: `gather` does. The counters of batch norm are moved together.
    lower: precision in which convolutions and linear layers compute under autocast; None: that of their weights.
    """

    def __init__(self, network: nn.Module, lower: torch.dtype | None = None):
        self._lower = lower
        self._places = [(module, name) for module in network.modules() for name in module._parameters]
        norms = (module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
        self._norms = [norm for norm in norms if norm.momentum is not None and norm.num_batches_tracked is not None]
        self._cast: list[tuple[Tensor, Tensor]] = []  # weight, and its leaf of lower precision
        self._of_pairs: list[tuple[Tensor, Tensor]] = []  # leaf of the first pass, and that of the pairs
        self._of_parts: list[tuple[Tensor, Tensor]] = []  # leaf of the first images, and that of the second ones

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around both passes, not around the backward pass."""
        with self._counted():
            if self._lower is None:
                yield
                return
            with self._leaves(self._lowered, CAST) as self._cast:
                yield

    @contextmanager
    def pairs(self) -> Iterator[None]:
        """Around the pass of the pairs."""
        if not torch.is_grad_enabled():
            yield
            return
        norms = [norm for norm in self._norms if norm.affine and norm.weight.requires_grad and norm.bias.requires_grad]
        with self._leaves(_leaves_of, nn.Module) as self._of_pairs, ExitStack() as stack:
            first = [one for norm in norms for one in (norm.weight, norm.bias)]
            second = _leaves_of(first)
            self._of_parts = list(zip(first, second, strict=True))
            for norm, weight, bias in zip(norms, second[::2], second[1::2], strict=True):
                setattr(norm, WEIGHTS_OF_PARTS, ((norm.weight, norm.bias), (weight, bias)))
                stack.callback(delattr, norm, WEIGHTS_OF_PARTS)
            yield

    @torch.no_grad()
    def gather(self) -> None:
        """After the backward pass: every weight gets its whole gradient."""
        _add_gradients(self._of_parts)
        _add_gradients(self._of_pairs)
        cast = [(weight, leaf) for weight, leaf in self._cast if leaf.grad is not None]
        if cast:
            wide = [torch.empty_like(weight) for weight, _ in cast]
            torch._foreach_copy_(wide, [leaf.grad for _, leaf in cast])
            for (weight, _), gradient in zip(cast, wide, strict=True):
                weight.grad = gradient
        self._cast, self._of_pairs, self._of_parts = [], [], []  # or their gradients stayed until the next step

    @contextmanager
    def _leaves(self, made, kinds) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Within it modules of these kinds have leaves in place of weights; yields (weight, leaf) of those trained."""
        places = [
            (module, name, module._parameters[name]) for module, name in self._places if isinstance(module, kinds)
        ]
        places = [place for place in places if place[2] is not None and place[2].requires_grad]
        weights = list({id(weight): weight for *_, weight in places}.values())  # once, where modules share it
        leaves = made(weights)
        leaf_of = dict(zip(map(id, weights), leaves, strict=True))
        for module, name, weight in places:
            module._parameters[name] = leaf_of[id(weight)]
        try:
            yield list(zip(weights, leaves, strict=True))
        finally:
            for module, name, weight in places:
                module._parameters[name] = weight

    @torch.no_grad()
    def _lowered(self, weights: Sequence[Tensor]) -> list[Tensor]:
        leaves = [torch.empty_like(weight, dtype=self._lower, requires_grad=False) for weight in weights]
        torch._foreach_copy_(leaves, list(weights))
        return [leaf.requires_grad_() for leaf in leaves]

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Batch norms count their batches in Python; at the end all counters are moved."""
        norms = [norm for norm in self._norms if norm.training]
        counters = [norm._buffers[COUNTER] for norm in norms]
        counts = [_Count() for _ in norms]
        for norm, count in zip(norms, counts, strict=True):
            norm._buffers[COUNTER] = count  # torch's forward only calls its add_
        try:
            yield
        finally:
            for norm, counter in zip(norms, counters, strict=True):
                norm._buffers[COUNTER] = counter
        if norms:
            torch._foreach_add_(counters, [count.batches for count in counts])


class _Count:
    """Stands for the counter of a batch norm."""

    def __init__(self) -> None:
        self.batches = 0

    def add_(self, batches: int) -> None:
        self.batches += batches


def _leaves_of(weights: Iterable[Tensor]) -> list[Tensor]:
    """Leaves that share the memory of weights."""
    return [weight.detach().requires_grad_() for weight in weights]


def _add_gradients(of: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Add to the gradient of each first tensor that of the second."""
    together: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}  # only those of a kind are added at once
    for one, other in of:
        if one.grad is None:
            one.grad = other.grad
        elif other.grad is not None:
            together.setdefault(one.grad.dtype, []).append((one.grad, other.grad))
    for alike in together.values():
        torch._foreach_add_(*map(list, zip(*alike, strict=True)))

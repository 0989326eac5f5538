"""A training step recorded as a CUDA graph and replayed: the GPU never waits for Python between two of its kernels.

At batch 64 launching a step's thousand small kernels takes longer than computing them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # calls before the recording: what is allocated once, momentum for one, must be there by then

Inputs = Any  # a tensor, None, or a tuple of these


class Replayed:
    """Runs a step with new inputs each time; after a few calls by replaying what was recorded of it.

    step: a function of tensors, tuples of them and None, of the same shapes at every call. It may change tensors that
        live on, such as weights, but must neither read a value back to the host nor return anything.
    record: runs a function under recording and returns what replays it; `cuda_graph` where empty.
    Numbers that the step takes from Python, such as a learning rate, stay what they were when it was recorded.
    """

    def __init__(self, step: Callable[..., None], record: Callable[[Callable], Callable] | None = None):
        self._step, self._record = step, record or cuda_graph
        self._calls = 0
        self._inputs: tuple[Inputs, ...] | None = None  # where the recorded step reads
        self._replay: Callable[[], None] | None = None

    def __call__(self, *inputs: Inputs) -> None:
        self._calls += 1
        if self._calls <= WARM_UP:
            self._step(*inputs)
            return
        if self._replay is None:
            self._inputs = _map(torch.clone, inputs)
            # recording runs nothing, so it is replayed for this call too
            self._replay = self._record(lambda: self._step(*self._inputs))
        _copy_into(self._inputs, inputs)
        self._replay()


def cuda_graph(run: Callable[[], None]) -> Callable[[], None]:
    """Record a function's kernels on the current GPU.  Returns what replays them."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _map(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    if isinstance(inputs, tuple):
        return tuple(_map(function, one) for one in inputs)
    return None if inputs is None else function(inputs)


def _copy_into(places: Inputs, inputs: Inputs) -> None:
    if isinstance(places, tuple):
        for place, one in zip(places, inputs, strict=True):
            _copy_into(place, one)
    elif places is not None:
        places.copy_(inputs)

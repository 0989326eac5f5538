"""A training step recorded as a CUDA graph and replayed: the GPU never waits for Python between two of its kernels.

At batch 64 launching a step's thousand small kernels takes longer than computing them.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor

from simreg_core.lab.devices import out_of_memory

WARM_UP = 3  # calls before the recording: what is allocated once, momentum for one, must be there by then

Inputs = Any  # a tensor, None, or a tuple of these


class Recorder(Protocol):
    """Runs a function as it is, or records it."""

    def warm_up(self, run: Callable[[], None]) -> None:
        """Run a function that is to be recorded later."""

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """Record a function, which runs nothing.  Returns what replays it."""


class Replayed:
    """Runs a step with new inputs each time; after a few calls by replaying what was recorded of it.

    step: a function of tensors, tuples of them and None, of the same shapes at every call. It may change tensors that
        live on, such as weights, but must neither read a value back to the host nor return anything.
    recorder: None: a `CudaRecorder`.
    Numbers that the step takes from Python, such as a learning rate, stay what they were when it was recorded.
    A step that cannot be recorded is run as it is, with a warning.
    Raises torch.OutOfMemoryError where the GPU's memory does not suffice for the recording.
    """

    def __init__(self, step: Callable[..., None], recorder: Recorder | None = None):
        self._step, self._recorder = step, recorder or CudaRecorder()
        self._calls = 0
        self._inputs: tuple[Inputs, ...] | None = None  # where the recorded step reads
        self._replay: Callable[[], None] | None = None

    def __call__(self, *inputs: Inputs) -> None:
        self._calls += 1
        if self._calls <= WARM_UP:
            self._recorder.warm_up(lambda: self._step(*inputs))
            return
        if self._replay is None:
            self._inputs = _map(torch.clone, inputs)
            self._replay = self._recorded(self._inputs)
        _copy_into(self._inputs, inputs)
        self._replay()  # of this call too: recording has run nothing

    def _recorded(self, inputs: tuple[Inputs, ...]) -> Callable[[], None]:
        step = self._step  # not self: what is returned is kept there, and a cycle would keep the GPU's memory

        def run() -> None:
            step(*inputs)

        try:
            return self._recorder.record(run)
        except Exception as error:
            if full := out_of_memory(error):
                raise torch.OutOfMemoryError(str(full)) from error
            warnings.warn(
                "a training step could not be recorded and runs kernel by kernel, which is several times slower: "
                f"{type(error).__name__}: {' '.join(str(error).split())}",
                stacklevel=3,
            )
        return run


class CudaRecorder:
    """Records CUDA graphs on a stream of its own of the current GPU, on which functions are warmed up too.

    A weight's gradient belongs, for autograd, to the stream that it was first computed on; on the default one nothing
    can be recorded.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def warm_up(self, run: Callable[[], None]) -> None:
        """See `Recorder`."""
        before = torch.cuda.current_stream()
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            run()
        before.wait_stream(self._stream)

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """See `Recorder`."""
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # thread_local: what other threads do, such as pinning memory, does not end a recording
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                run()
        except Exception:
            with suppress(RuntimeError):  # of what failed, which is raised anyway
                torch.cuda.synchronize()  # before the step is run kernel by kernel
            raise
        return graph.replay


def _map(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    if isinstance(inputs, tuple):
        return tuple(_map(function, one) for one in inputs)
    return None if inputs is None else function(inputs)


def _copy_into(places: Inputs, inputs: Inputs) -> None:
    """Copy each tensor into its place, those of a type at once: a launch for each would be a launch too many."""
    alike: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for place, given in zip(_tensors(places), _tensors(inputs), strict=True):
        for one, of_type in zip((place, given), alike.setdefault(place.dtype, ([], [])), strict=True):
            of_type.append(one)
    for own, given in alike.values():
        torch._foreach_copy_(own, given)


def _tensors(inputs: Inputs) -> Iterator[Tensor]:
    if isinstance(inputs, tuple):
        for one in inputs:
            yield from _tensors(one)
    elif inputs is not None:
        yield inputs

"""A GPU that is none: tensors with a CPU's numbers that say they lie on cuda:0, watched as if they did.

Within `fake_gpu()` whatever asks for cuda gets such tensors, and all that a GPU would refuse raises `DeviceFault`: an
operation on tensors of both devices, a generator of the other one, NumPy on a tensor of the GPU. `torch.cuda.graph`
records the operations and undoes what they did, as recording runs nothing; its replay runs them again on the same
memory. While it records, what a CUDA graph cannot hold is a fault too: a value that the host reads, a copy between the
devices, a random draw. A GPU's own kernels are not tried: its rounding, its speed and its memory need a GPU.
"""

import contextlib
import traceback
from collections.abc import Iterator
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from simreg_core import model

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
FROM_HOST = {"aten.copy_", "aten._to_copy"}  # may meet tensors of both devices
INDEXING = {"aten.index", "aten.index_put", "aten.index_put_", "aten._index_put_impl_"}
# the host waits for their result, or for the size of it
READ_BY_HOST = {
    *("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten.is_nonzero", "aten.masked_select"),
    *("aten._unique2", "aten.unique_dim", "aten.bincount", "aten.repeat_interleave"),
}
DRAWS = {
    *("aten.rand", "aten.randn", "aten.randint", "aten.randperm", "aten.rand_like", "aten.randn_like"),
    *("aten.bernoulli", "aten.bernoulli_", "aten.normal_", "aten.uniform_", "aten.random_", "aten.native_dropout"),
    *("aten.multinomial", "aten.exponential_", "aten.randint_like"),
}
WRITES_UNSAID = {"aten.native_batch_norm"}  # changes its running statistics, which its schema does not say


class DeviceFault(AssertionError):
    """What a GPU would refuse, or what a recorded step must not do."""


class FakeGPU:
    """What was seen.  reads: by the host.  moves: between the devices.  Each as (what, places in simreg_core)."""

    def __init__(self) -> None:
        self.reads: list[tuple[str, tuple[str, ...]]] = []
        self.moves: list[tuple[str, tuple[str, ...]]] = []
        self.recordings = 0
        self.recording = False
        self.stream = Stream("default")

    def note(self, seen: list, what: str) -> None:
        where = tuple(
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
            for frame in traceback.extract_stack()
            if "simreg_core" in frame.filename
        )[-3:]
        seen.append((what, where))
        if self.recording:
            raise DeviceFault(f"{what} while a step is recorded, at {', '.join(where)}")


class Stream:
    """Stands for torch.cuda.Stream."""

    def __init__(self, name: str = "side"):
        self.name = name
        self.waited_for: list[str] = []

    def wait_stream(self, other: "Stream") -> None:
        self.waited_for.append(other.name)


def on_gpu(tensor: torch.Tensor) -> bool:
    return getattr(tensor.untyped_storage(), "fake_gpu", False)


def _put(tensor: torch.Tensor, on: bool) -> torch.Tensor:
    tensor.untyped_storage().fake_gpu = on
    return tensor


def _tensors(*structures) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(structures) if isinstance(leaf, torch.Tensor)]


def _asks_for_gpu(device) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class _Generator(torch.Generator):
    """A CPU generator that says where it is; its draws are a CPU's."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu")
        made.fake_gpu = _asks_for_gpu(device)
        return made

    def __init__(self, device="cpu"):
        pass

    @property
    def device(self) -> torch.device:
        return GPU if self.fake_gpu else CPU


class _Watch(TorchDispatchMode):
    """Every operation: are its tensors on one device, and does the host wait for it?"""

    def __init__(self, gpu: FakeGPU):
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name, tensors = str(func).rpartition(".")[0], _tensors(args, kwargs)
        there = [on_gpu(tensor) for tensor in tensors]
        self._check(name, tensors, there)
        if self.gpu.recording and name in DRAWS:
            raise DeviceFault(f"{name} draws random numbers while a step is recorded")
        out = func(*args, **kwargs)
        if any(there) and name != "aten.copy_":
            for made in _tensors(out):
                _put(made, True)
        return out

    def _check(self, name: str, tensors: list[torch.Tensor], there: list[bool]) -> None:
        if not any(there):
            return
        if name in READ_BY_HOST or (name in INDEXING and any(one.dtype == torch.bool for one in tensors[1:])):
            self.gpu.note(self.gpu.reads, name)
        if all(there):
            return
        if name in FROM_HOST:
            if tensors[-1].ndim > 0 or there[-1]:
                self.gpu.note(self.gpu.moves, f"{name} between devices")
        elif name in INDEXING and there[0]:
            self.gpu.note(self.gpu.moves, f"{name} by an index on the CPU")
        elif not all(one.ndim == 0 for one, on in zip(tensors, there, strict=True) if not on):
            shown = ", ".join(
                f"{'gpu' if on else 'cpu'} {list(one.shape)}" for one, on in zip(tensors, there, strict=True)
            )
            raise DeviceFault(f"{name} of tensors on two devices: {shown}")


class _Lies(TorchFunctionMode):
    """Answers `.device`, `.to` and the functions that make tensors as if there were a GPU."""

    def __init__(self, gpu: FakeGPU):
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name, owner = getattr(func, "__name__", ""), getattr(func, "__self__", None)
        if name == "__get__" and owner is torch.Tensor.device and on_gpu(args[0]):
            return GPU
        if name == "__get__" and owner is torch.Tensor.is_cuda:
            return on_gpu(args[0])
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and on_gpu(args[0]):
            raise DeviceFault("numpy() of a tensor on the GPU")
        if func is torch.Tensor.tolist and on_gpu(args[0]):
            self.gpu.note(self.gpu.reads, "tolist")
        if func is torch.Tensor.cpu:
            return self._moved(args[0], CPU)
        if func is torch.Tensor.cuda:
            return self._moved(args[0], GPU)
        if func is torch.Tensor.to:
            return self._moved(*args, **kwargs)
        self._check_generator(name, args, kwargs)
        if kwargs.get("device") is None:
            return func(*args, **kwargs)
        return self._made(func, name, args, kwargs)

    def _check_generator(self, name: str, args: tuple, kwargs: dict) -> None:
        generator = kwargs.get("generator")
        if not isinstance(generator, _Generator):
            return
        where = args[0] if args and isinstance(args[0], torch.Tensor) else None
        wanted = _asks_for_gpu(kwargs.get("device")) if where is None else on_gpu(where)
        if wanted != generator.fake_gpu:
            raise DeviceFault(f"{name}: a generator on {generator.device} for numbers on {GPU if wanted else CPU}")

    def _made(self, func, name: str, args: tuple, kwargs: dict):
        """What makes a tensor on a device."""
        on = _asks_for_gpu(kwargs["device"])
        if not on and torch.device(kwargs["device"]).type != "cpu":  # meta
            return func(*args, **kwargs)
        made = func(*args, **{**kwargs, "device": CPU})
        if not isinstance(made, torch.Tensor):
            return made
        if name in ("as_tensor", "tensor", "asarray"):
            made = made.clone()  # it may share memory with what was given
            if on and made.ndim > 0:
                self.gpu.note(self.gpu.moves, name)
        return _put(made, on)

    def _moved(self, tensor: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        """`Tensor.to`, whichever way it is called."""
        args, device = list(args), kwargs.pop("device", None)
        if args and isinstance(args[0], torch.Tensor):
            other = args.pop(0)
            device, args = (GPU if on_gpu(other) else CPU), [other.dtype, *args]
        elif args and (args[0] is None or isinstance(args[0], torch.device | str)):
            device = args.pop(0)
        dtypes = [one for one in (*args, kwargs.get("dtype")) if isinstance(one, torch.dtype)]
        plain = {name: kwargs[name] for name in ("memory_format", "copy") if kwargs.get(name)}
        if dtypes:
            plain["dtype"] = dtypes[0]
        if device is None or _asks_for_gpu(device) == on_gpu(tensor):
            return torch.Tensor.to(tensor, **plain) if plain else tensor
        on = _asks_for_gpu(device)
        self.gpu.note(self.gpu.moves, f"{list(tensor.shape)} to the {'GPU' if on else 'CPU'}")
        return _put(torch.Tensor.to(tensor, **{"dtype": tensor.dtype, **plain, "copy": True}), on)


class _Tape(TorchDispatchMode):
    """Operations with their tensors, to be run again into the same memory; what they write meanwhile is undone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []
        self._before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # what was there when recording began
        self._made: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = {one.untyped_storage()._cdata for one in _tensors(args, kwargs)}
        if func._schema.is_mutable or str(func).rpartition(".")[0] in WRITES_UNSAID:
            for one in _tensors(args, kwargs):  # those that are only read too: that does no harm
                self._keep(one)
        out = func(*args, **kwargs)
        made = _tensors(out)
        new = [one for one in made if one.untyped_storage()._cdata not in given]
        self._made |= {one.untyped_storage()._cdata for one in new}
        if func._schema.is_mutable or new:  # else it gives views only
            self.calls.append((func, args, kwargs, None if func._schema.is_mutable else made))
        return out

    def _keep(self, tensor: torch.Tensor) -> None:
        place = tensor.untyped_storage()._cdata
        if place not in self._made and place not in self._before:
            whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
            self._before[place] = (whole, whole.clone())

    def undo(self) -> None:
        for whole, before in self._before.values():
            whole.copy_(before)
        self._before.clear()

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, outs in self.calls:
            again = func(*args, **kwargs)
            for place, value in zip(outs or (), _tensors(again) if outs else (), strict=True):
                place.copy_(value)


class Graph:
    """Stands for torch.cuda.CUDAGraph."""

    tape: _Tape

    def replay(self) -> None:
        self.tape.replay()


@contextlib.contextmanager
def fake_gpu() -> Iterator[FakeGPU]:
    """Within it there is a GPU, as said at the top; `torch.cuda.is_available()` says what it said before."""
    gpu, fork = FakeGPU(), torch.random.fork_rng

    class Autocast(torch.autocast):
        def __init__(self, device_type, *args, **kwargs):
            super().__init__("cpu", *args, **kwargs)

    @contextlib.contextmanager
    def streamed(stream):
        before, gpu.stream = gpu.stream, stream
        try:
            yield
        finally:
            gpu.stream = before

    @contextlib.contextmanager
    def recorded(graph, stream=None, capture_error_mode="global"):
        gpu.recordings += 1
        gpu.recording, graph.tape = True, _Tape()
        try:
            with streamed(stream or Stream("of graphs")), graph.tape:
                yield
        finally:
            gpu.recording = False
            graph.tape.undo()

    corrupts = model.onednn_corrupts

    def truly_corrupts(conv) -> bool:
        with torch._C.DisableTorchFunction():  # the CPU that really computes must be kept from its fault
            return corrupts(conv)

    changed = {
        "simreg_core.model.onednn_corrupts": truly_corrupts,
        "torch.random.fork_rng": lambda devices=None, *args, **kwargs: fork(devices=[]),
        "torch.autocast": Autocast,
        "torch.Generator": _Generator,
        "torch.cuda.Stream": Stream,
        "torch.cuda.current_stream": lambda *device: gpu.stream,
        "torch.cuda.stream": streamed,
        "torch.cuda.synchronize": lambda *device: None,
        "torch.cuda.empty_cache": lambda: None,
        "torch.cuda.get_device_name": lambda *device: "a fake one",
        "torch.cuda.CUDAGraph": Graph,
        "torch.cuda.graph": recorded,
    }
    with contextlib.ExitStack() as stack:
        for name, value in changed.items():
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(_Watch(gpu))
        stack.enter_context(_Lies(gpu))
        yield gpu

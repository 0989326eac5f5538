"""The settings of a GPU under which networks are attacked and trained, and the precision of their passes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from simreg_core.lab.specs import Experiment


@contextmanager
def repeatable() -> Iterator[None]:
    """The settings under which all is attacked and, in float32, trained: on a GPU, the same numbers on every run.

    No algorithm is chosen by timing, none adds in any order, and none has reduced precision. What torch cannot compute
    so on a GPU it computes otherwise and warns. Not promised: networks with max pools that overlap
    (torchvision-resnet18), whose gradients a GPU may add in any order, of which torch does not warn. On a CPU, which
    repeats itself anyway, nothing is changed.
    """
    if not torch.cuda.is_available():
        with _full_precision(benchmark=False, deterministic=True):
            yield
        return
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # it costs time, and finds what is read too early
    try:
        # the plain attention: the fast kernels add in any order
        with _full_precision(benchmark=False, deterministic=True), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        torch.utils.deterministic.fill_uninitialized_memory = fills


def settings_of(experiment: Experiment) -> AbstractContextManager:
    """The settings under which an experiment is trained and timed: a GPU's fastest ones where bfloat16 allows."""
    if experiment.optimization.precision is None:
        return repeatable()
    return _full_precision(benchmark=True, deterministic=False)


@contextmanager
def _full_precision(benchmark: bool, deterministic: bool) -> Iterator[None]:
    """cuDNN's settings; float32 is never TF32, whatever the environment says, as NVIDIA's containers do."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=benchmark, deterministic=deterministic, allow_tf32=False
        ):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def autocast(experiment: Experiment, device: torch.device) -> AbstractContextManager:
    """The precision of an experiment's passes; similarities and losses stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=lowered(experiment) is not None)


def lowered(experiment: Experiment) -> torch.dtype | None:
    """The precision of an experiment's passes; None: float32."""
    return torch.bfloat16 if experiment.optimization.precision == "bfloat16" else None

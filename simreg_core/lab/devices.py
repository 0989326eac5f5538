"""The GPU or the processor that computes, its name in records, and what it says when its memory is full."""

import gc
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CUBLAS_WORKSPACE = ":4096:8"  # memory enough for cuBLAS to add in the same order on every run
# what CUDA and its libraries say: not all of them raise torch.OutOfMemoryError
FULL_MEMORY = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
)


def default_device() -> "torch.device":
    """The GPU where there is one.  Asked before it computes: cuBLAS, which reads its setting then, repeats itself."""
    import torch  # here, as below: to read the records of a device it is not needed

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: "torch.device") -> str:
    """'cuda (its model)' or 'cpu (its model)'."""
    if device.type != "cuda":
        return f"{device.type} ({_processor()})"
    import torch

    return f"cuda ({torch.cuda.get_device_name(device)})"


def out_of_memory(error: BaseException) -> BaseException | None:
    """What says that a GPU's memory was full: the error, or one that it arose from; None where none says so."""
    import torch

    one: BaseException | None = error
    while one is not None:
        said = isinstance(one, RuntimeError) and any(words in str(one) for words in FULL_MEMORY)
        if said or isinstance(one, torch.OutOfMemoryError):
            return one
        one = one.__cause__ or one.__context__
    return None


def leave_memory() -> None:
    """Give the GPU's memory that nothing here uses any more to other processes; torch would keep it for itself."""
    import torch

    if torch.cuda.is_available():
        gc.collect()  # what lies in cycles is in use until then
        torch.cuda.empty_cache()


def _processor() -> str:
    """The processor's model where the system tells, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()

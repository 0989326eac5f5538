"""What counts as a full GPU, and how its memory is left."""

import gc
import os
import subprocess
import sys
import weakref

import pytest
import torch

from simreg_core.lab.devices import default_device, leave_memory, out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("AcceleratorError: CUDA error: out of memory"),  # as it comes out of another process
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_full_memory_is_known_by_whatever_says_it(error):
    assert out_of_memory(error) is error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: an illegal memory access"), ValueError("out of memory"), MemoryError("all of it")],
)
def test_other_errors_are_none_of_a_full_gpu(error):
    assert out_of_memory(error) is None


def test_full_memory_is_found_behind_what_it_led_to():
    """A recording that runs out of memory ends with another error."""
    error = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    error.__context__ = torch.OutOfMemoryError("CUDA out of memory")
    assert out_of_memory(error) is error.__context__


def test_memory_in_cycles_is_left_too(monkeypatch):
    class Held:
        pass

    one = Held()
    one.itself, alive, seen = one, weakref.ref(one), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: seen.append(alive() is None))
    gc.disable()
    try:
        del one
        leave_memory()
    finally:
        gc.enable()
    assert seen == [True]


def test_cublas_is_told_to_repeat_itself_before_it_starts(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    default_device()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    default_device()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_products_are_float32_whatever_a_container_says():
    code = """
import torch
from simreg_core.lab.training import repeatable
before = torch.backends.cuda.matmul.allow_tf32
with repeatable():
    print(before, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
"""
    environment = {**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout == "True False False\n"

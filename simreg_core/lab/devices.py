"""The GPU or the processor that computes, and its name in records."""

import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def default_device() -> "torch.device":
    """The GPU where there is one."""
    import torch  # here, as below: to read the records of a device it is not needed

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: "torch.device") -> str:
    """'cuda (its model)' or 'cpu (its model)'."""
    if device.type != "cuda":
        return f"{device.type} ({_processor()})"
    import torch

    return f"cuda ({torch.cuda.get_device_name(device)})"


def _processor() -> str:
    """The processor's model where the system tells, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()

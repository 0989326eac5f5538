"""The GPU or the processor that computes, and its name in records."""

import platform
from pathlib import Path

import torch


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """'cuda (its model)' or 'cpu (its model)'."""
    return f"{device.type} ({torch.cuda.get_device_name(device) if device.type == 'cuda' else _processor()})"


def _processor() -> str:
    """The processor's model where the system tells, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()

"""Tensors of numbers that the method is given, as floating point; and those that are made without saying how."""

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real

import torch
from torch import Tensor


def as_numbers(values: Tensor, name: str) -> Tensor:
    """A tensor in at least single precision: counts of spikes are integers, and half precision rounds sums away.

    name: of the argument, for the message.  Raises ValueError for what is no tensor of real numbers.
    """
    if not isinstance(values, Tensor):
        kind = type(values).__name__
        raise ValueError(f"{name} must be a torch tensor, got {kind}; torch.as_tensor makes one of an array")
    if values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} must hold real numbers, got {values.dtype}")
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def finite_numbers(values: Tensor, name: str) -> Tensor:
    """As `as_numbers`; raises ValueError for NaN and infinity too."""
    values = as_numbers(values, name)
    if count := int((~torch.isfinite(values)).sum()):
        verb = "hold" if name in ("responses", "weights") else "holds"
        raise ValueError(f"{name} {verb} {count} values that are NaN or infinite")
    return values


def check_number(value: object, name: str, allowed: str) -> None:
    """Raises ValueError for what is no number, or tensor of one: text, None.  allowed: in words, for the message."""
    if not (isinstance(value, Real) or (isinstance(value, Tensor) and value.ndim == 0)):
        raise ValueError(f"{name} must be a number {allowed}, got {value!r}")


def check_whole_number(value: object, name: str, allowed: str = "") -> None:
    """Raises ValueError for what is no whole number: text, None, 2.5.  allowed: in words, for the message."""
    if not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number{allowed and ' ' + allowed}, got {value!r}")


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU.  Raises ValueError for a seed that is no whole number, or that torch cannot take."""
    check_whole_number(seed, "seed")
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must lie in [-2^63, 2^64), got {seed}")
    return torch.Generator("cpu").manual_seed(int(seed))


@contextmanager
def torchs_defaults(device: torch.device) -> Iterator[None]:
    """Within it tensors are made on this device, in float32, where nothing is said, whatever the user has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)

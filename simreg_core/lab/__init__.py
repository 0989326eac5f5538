"""The laboratory: everything that touches disk, time or configuration."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simreg_core.lab.weights import pretrained

__all__ = ["pretrained"]


def __getattr__(name: str) -> Any:
    if name != "pretrained":
        raise AttributeError(f"module 'simreg_core.lab' has no attribute '{name}'")
    from simreg_core.lab.weights import pretrained  # here: it needs torch, and to plan and to draw needs none

    return pretrained

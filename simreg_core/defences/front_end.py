"""Front ends: modules in front of a network, and how an attacker may differentiate them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class FrontEnd(nn.Module):
    """A module in front of a network, pixels in, or a block in it; its class says what an attacker must know of it.

    draws_random_numbers: whether it does so in eval mode; attacks then average over draws.
    ways: for each of its parts the ways in which an attacker may differentiate it, the first as in training:
        'exact', 'identity', 'smooth' and the like. `way` holds the way in use, see `differentiated`.
    A class that lacks either of the two is refused with TypeError when it is defined.
    """

    draws_random_numbers: ClassVar[bool]
    ways: ClassVar[dict[str, tuple[str, ...]]]

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        for facet in ("draws_random_numbers", "ways"):
            if not hasattr(cls, facet):
                raise TypeError(f"front end {cls.__name__} lacks '{facet}'")
        if not cls.ways or not all(cls.ways.values()):
            raise TypeError(
                f"front end {cls.__name__}: 'ways' must name at least one way for each part, got {cls.ways}"
            )

    def __init__(self):
        super().__init__()
        self.way = {part: ways[0] for part, ways in self.ways.items()}


@contextmanager
def differentiated(network: nn.Module, **ways: str) -> Iterator[None]:
    """Within it, parts of the network's front ends are differentiated otherwise; forward they do the same.

    ways: by part, for example quantizer='smooth'.
    Raises ValueError for a part that no front end of the network has, or a way that it does not know.
    """
    front_ends = [module for module in network.modules() if isinstance(module, FrontEnd)]
    for part, way in ways.items():
        owners = [front_end for front_end in front_ends if part in front_end.ways]
        if not owners:
            parts = sorted({part for front_end in front_ends for part in front_end.ways})
            raise ValueError(f"no front end has a part '{part}'; parts of this network: {', '.join(parts) or 'none'}")
        for owner in owners:
            if way not in owner.ways[part]:
                known = " or ".join(map(repr, owner.ways[part]))
                raise ValueError(f"'{part}' is differentiated as {known}, not '{way}'")
    before = [dict(front_end.way) for front_end in front_ends]
    try:
        for front_end in front_ends:
            front_end.way.update({part: way for part, way in ways.items() if part in front_end.ways})
        yield
    finally:
        for front_end, ways_before in zip(front_ends, before, strict=True):
            front_end.way = ways_before


def replace_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """`value`, bit for bit, with the gradient of `surrogate`, a tensor of the same shape."""
    return _ReplacedGradient.apply(value, surrogate) if wants_gradient(surrogate) else value.detach()


def wants_gradient(x: Tensor) -> bool:
    """Whether what is computed from x now may be asked for its gradient; else its surrogates need not be computed."""
    return x.requires_grad and torch.is_grad_enabled()


class _ReplacedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor, surrogate: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient

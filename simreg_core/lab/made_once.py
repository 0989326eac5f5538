"""Tensors that take minutes to make and depend on few things: made once for all networks of a run directory."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simreg_core.lab.files import StoreError
from simreg_core.lab.specs.base import COMPUTATION_VERSION
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import read_tensors, write_tensors

MADE = "made"  # the tensor of a file, and the folder of all


def made_once(store: Store, what: str, depends_on: dict[str, Any], make: Callable[[], Tensor]) -> Tensor:
    """What `make` gives, from the store where it was made before, with the same bits.

    what: of which kind it is, 'corrupted images'.  depends_on: all that it depends on, as JSON, beside the versions of
        torch, numpy and of what is computed.
    A file that is damaged is made again. Processes that need the same thing at once each make it and write it, whole,
    one over the other: the same bits. A lock would save no time, since the others would only wait.
    """
    versions = [COMPUTATION_VERSION, torch.__version__, np.__version__]
    whole = json.dumps([what, depends_on, versions], sort_keys=True)
    key = hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()
    path = store.root / MADE / what.replace(" ", "-") / f"{key}.safetensors"
    if path.is_file():
        try:
            return read_tensors(path)[0][MADE]
        except StoreError:
            pass
    made = make()
    write_tensors(path, {MADE: made}, {"of": whole})
    return made


def digest(tensor: Tensor) -> str:
    """Of the type, shape and values of a tensor on the CPU."""
    found = hashlib.blake2b(f"{tensor.dtype} {list(tensor.shape)}".encode(), digest_size=16)
    found.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()

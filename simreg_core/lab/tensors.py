"""Files of tensors with a checksum, and weights that are put into a network."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from simreg_core.lab.files import StoreError, written_whole, wrong_checksum


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and notes that `write_tensors` wrote.  Raises StoreError where they are missing, corrupt or changed."""
    if not path.is_file():
        raise StoreError(f"checkpoint {path} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            notes = dict(json.loads((file.metadata() or {}).get("notes", "{}")))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise StoreError(f"checkpoint {path} is corrupt: {error}; delete it to compute it again") from error
    checksum = notes.pop("checksum", None)
    if checksum != _checksum_of_tensors(tensors, notes):
        problem = wrong_checksum(checksum)
        raise StoreError(f"checkpoint {path} is corrupt or edited: {problem}; delete it to compute it again")
    return tensors, notes


def write_tensors(path: Path, tensors: dict[str, Tensor], notes: dict[str, str]) -> None:
    """Write a safetensors file with its checksum, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # in one entry: safetensors writes several in any order, and equal networks shall have equal files
    sealed_notes = json.dumps({**notes, "checksum": _checksum_of_tensors(plain, notes)}, sort_keys=True)
    with written_whole(path) as temporary:
        save_file(plain, temporary, metadata={"notes": sealed_notes})


def _checksum_of_tensors(tensors: dict[str, Tensor], notes: dict[str, str]) -> str:
    """Of names, types, shapes and bytes, and of the notes beside them."""
    digest = hashlib.blake2b(json.dumps(notes, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of a tensor that holds NaN or infinity; None where all are finite."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)


def load_into(network: torch.nn.Module, weights: dict[str, Tensor], path: Path) -> torch.nn.Module:
    """Load weights read from `path`.  Raises StoreError naming the first tensor that does not fit."""
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        have, want = weights.get(name), wanted.get(name)
        if have is None or want is None or have.shape != want.shape:
            raise StoreError(
                f"checkpoint {path} is of another network: '{name}' is {_shape(have)} there and {_shape(want)} here"
            )
    network.load_state_dict(weights)
    return network


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else str(list(tensor.shape))

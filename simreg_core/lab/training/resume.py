"""Everything that the next epoch of a training depends on, as tensors, and a training that continues from them."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simreg_core.lab.files import StoreError
from simreg_core.lab.tensors import load_into

if TYPE_CHECKING:
    from simreg_core.lab.training.loop import Run

STATE_FORMAT = 2  # of resume files


def state_of(run: "Run") -> dict[str, Tensor]:
    """The state of a training between two epochs, by name."""
    state = {f"network.{name}": tensor for name, tensor in run.network.state_dict().items()}
    state |= {f"best.{name}": tensor for name, tensor in run.best.items()}
    state["format"] = torch.tensor(STATE_FORMAT)
    state["best_loss"] = torch.tensor(run.best_loss, dtype=torch.float64)
    state["begun_on"] = _as_tensor(run.begun_on)
    if run.inputs:
        state["inputs"] = _inputs_of(run)
    for name, generator in _generators_of(run).items():
        state[name] = generator.get_state()
    for index, parameter in enumerate(run.parameters()):
        for name, value in run.optimizer.state[parameter].items():
            if value is not None:
                state[f"optimizer.{index}.{name}"] = value
    if run.regularizer is not None:
        state |= {f"regularizer.{name}": tensor for name, tensor in run.regularizer.state_dict().items()}
    return state


def take_up(run: "Run") -> None:
    """Go on with a training from what the store holds of it: nothing, where it has not begun or on other images.

    Warns where it was begun on another kind of device. Raises StoreError for a state that is corrupt, of another
    version, or that cannot continue on this kind of device.
    """
    saved = run.store.load_resume(run.experiment)
    if saved is None:
        return
    state, history = saved
    if run.inputs and not torch.equal(state.get("inputs", torch.zeros(0)), _inputs_of(run)):
        return  # begun on other images: from the start
    path = run.store.resume_path(run.experiment)
    if state.get("format") != STATE_FORMAT:
        raise StoreError(f"{path} is of an earlier version of simreg and cannot go on; delete it to train again")
    _check_device(run, state, path)
    stage, _ = run.place(len(history) - 1)
    while run.stage < stage:
        run.enter(run.stage + 1)
    run.history = history
    part = _parts(state)
    load_into(run.network, part["network"], path)
    run.best = {name: tensor.to(run.device) for name, tensor in part["best"].items()}
    run.best_loss = state["best_loss"].item()
    for name, generator in _generators_of(run).items():
        generator.set_state(state[name])
    _take_up_optimizer(run, part.get("optimizer", {}))
    if run.regularizer is not None:
        load_into(run.regularizer, part["regularizer"], path)


def _check_device(run: "Run", state: dict[str, Tensor], path: Path) -> None:
    """Of a training that was begun on another kind of device: it goes on with a warning, or not at all."""
    if "begun_on" in state:
        run.begun_on = bytes(state["begun_on"].tolist()).decode()
    begun = f"training {run.experiment.key} was begun on another kind of device than {run.device.type}"
    generators = _generators_of(run)
    if "attack" in generators and state["attack"].shape != generators["attack"].get_state().shape:
        raise StoreError(f"{begun}, whose random numbers cannot go on here; delete {path} to train again")
    if run.begun_on != run.device.type:
        warnings.warn(f"{begun}, on {run.begun_on}, and goes on here: its numbers are neither's", stacklevel=4)


def _generators_of(run: "Run") -> dict[str, torch.Generator]:
    """Those that the next epoch draws from. That of attacks is the device's: no other kind of device can take it up."""
    both = {"order": run.order, "augmentation": run.augmentation}
    return both if run.experiment.adversarial is None else {**both, "attack": run.attack}


def _take_up_optimizer(run: "Run", part: dict[str, Tensor]) -> None:
    parameters = run.parameters()
    for name, value in part.items():
        index, _, kind = name.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # in the parameter's own memory format, or the sums round differently
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        elif run.optimizer.defaults.get("capturable"):
            value = value.to(parameter.device)
        run.optimizer.state[parameter][kind] = value


def _inputs_of(run: "Run") -> Tensor:
    return _as_tensor("".join(run.inputs.values()))


def _as_tensor(words: str) -> Tensor:
    return torch.frombuffer(bytearray(words.encode()), dtype=torch.uint8)


def _parts(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors grouped by the part of their name before the first dot."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        group, _, rest = name.partition(".")
        parts.setdefault(group, {})[rest] = tensor
    return parts

"""What a user gives: a network by name, images, settings. Each is checked, and an error says what to change."""

import inspect
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from simreg_core.attacks import door
from simreg_core.features import first_tensor
from simreg_core.lab.image_files import SETS, DataError, has_split
from simreg_core.lab.images import ImageSet, load_image_set, spread
from simreg_core.lab.specs import Count, Float, Size, Spec, SpecError, stream
from simreg_core.model import in_eval_mode

COMPARED_LAYERS = 5
FEWEST_LAYERS = 3  # of one depth, before those inside them are looked at
FEWEST_IMAGES = 2  # to train on: a pair
TEST_SHARE, VALIDATION_SHARE = 0.25, 0.2  # of a folder's images, where it has no such split
Strength = Annotated[Float, Field(gt=0, le=1)]
Several = Annotated[tuple[Strength, ...], Field(min_length=1)]


def small_network(num_classes: int) -> nn.Module:
    """The network of notebook 90 unless another is named: gray images of any size from 8x8 on."""
    body = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    body += [nn.Conv2d(16, 32, 3, 2, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, num_classes))


class Settings(Spec):
    """What notebook 90 may set.

    network: 'module:function', of a function that is called with num_classes=... and returns an untrained network.
    images: a bundled image set, or a folder of class folders.
    size: (height, width) to which images are resized; None leaves them as they are.  channels: 1 (gray) or 3.
    layers: names of those that are compared; None: up to five of the outer ones.
    alpha: None: chosen of `alphas` on validation images.  threshold: Th.  count: regularization images, of the
        training images.
    steps, batch_size, learning_rate: of Adam.  seeds: networks with and without the loss.
    test_images: that are attacked, at most.  noise: standard deviations, the largest decides in the choice of alpha.
    epsilons: of FGSM and PGD, L-infinity.  epsilon: one of them, at which attacks are set side by side.
    attack_steps: of PGD.  queries: of Square.
    """

    network: str = "simreg_core.lab.own_inputs:small_network"
    images: str = "digits"
    size: Size | None = None
    channels: Annotated[int, Field(ge=1)] = 1
    layers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    alpha: Annotated[Float, Field(gt=0)] | None = None
    alphas: Annotated[tuple[Annotated[Float, Field(gt=0)], ...], Field(min_length=1)] = (0.03, 0.1, 0.3)
    threshold: Annotated[Float, Field(gt=0, lt=1)] = 0.6
    count: Annotated[int, Field(ge=8)] = 500
    steps: Count = 200
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[Float, Field(gt=0)] = 0.002
    seeds: Count = 3
    test_images: Annotated[int, Field(ge=2)] = 200
    noise: Several = (0.1, 0.2, 0.3, 0.5)
    epsilons: Several = (0.02, 0.05, 0.1, 0.2)
    epsilon: Strength = 0.05
    attack_steps: Count = 10
    queries: Count = 100

    def faults(self) -> Iterator[str]:
        if self.epsilon not in self.epsilons:
            allowed = ", ".join(f"{each:g}" for each in self.epsilons)
            yield f"epsilon {self.epsilon:g} must be one of epsilons, {allowed}"


@dataclass(frozen=True)
class Sets:
    """The images of each part."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes


class Logits(nn.Module):
    """A network's logits, where it returns them in a tuple or dict."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> object:
        return first_tensor(self.network(x))


def network_maker(name: str) -> Callable[..., nn.Module]:
    """The function of 'module:function'.  Raises SpecError where it cannot be had."""
    module_name, colon, function = name.partition(":")
    if not (module_name and colon and function):
        raise SpecError(f"network '{name}' must be 'module:function', as 'my_networks:small'")
    try:
        module = import_module(module_name)
    except Exception as error:  # whatever the user's file raises
        if isinstance(error, ModuleNotFoundError) and error.name == module_name.partition(".")[0]:
            raise SpecError(
                f"network '{name}': there is no module '{error.name}'; put {error.name}.py beside the notebook, or "
                "into a folder of PYTHONPATH"
            ) from error
        raise SpecError(f"network '{name}': its module cannot be imported: {_in_a_line(error)}") from error
    make = getattr(module, function, None)
    if not callable(make):
        there = [one for one in dir(module) if not one.startswith("_") and callable(getattr(module, one))]
        raise SpecError(f"network '{name}': {module_name} has no function '{function}'; it has {', '.join(there[:20])}")
    try:
        inspect.signature(make).bind(num_classes=2)
    except TypeError as error:
        raise SpecError(f"network '{name}': call {function}(num_classes=...) must be possible, but {error}") from error
    except ValueError:  # a builtin, whose arguments are not known
        pass
    return make


def made(make: Callable[..., nn.Module], settings: Settings, sets: Sets) -> nn.Module:
    """A new network for these classes.  Raises SpecError where the function gives none."""
    try:
        network = make(num_classes=len(sets.classes))
    except Exception as error:
        raise SpecError(f"network '{settings.network}' cannot be made: {_in_a_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise SpecError(f"network '{settings.network}' must return a torch.nn.Module, got {type(network).__name__}")
    return network


def _in_a_line(error: Exception) -> str:
    """An error of a user's code: its kind, the first line of what it says, and where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    reason = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {reason} ({Path(place.filename).name}, line {place.lineno})"


def check_fit(network: nn.Module, settings: Settings, sets: Sets) -> None:
    """Raises SpecError for a network that takes other images, or has another number of classes."""
    pixels = sets.train.pixels[:2]
    shape = "x".join(map(str, pixels.shape[1:]))
    try:
        with in_eval_mode(network):
            classes = door.classifier(Logits(network).eval(), pixels).classes
    except ValueError as error:
        raise SpecError(
            f"network '{settings.network}' does not take images of {shape} (channels x height x width): {error}; give "
            "size=(height, width) or channels=1 or 3 that suit it"
        ) from error
    if classes != len(sets.classes):
        raise SpecError(
            f"network '{settings.network}' gives {classes} logits, but '{settings.images}' has {len(sets.classes)} "
            "classes: make its last layer of num_classes units"
        )


def sets_of(settings: Settings) -> Sets:
    """The images; a folder's own splits where it has them, else parts of its training images.

    Raises DataError for a folder that is missing, has no class folders, too few images, or fewer than two classes.
    """
    name, size, channels = _set_name(settings.images), settings.size, settings.channels
    train = load_image_set(name, "train", size, channels)
    if len(train.classes) < 2:
        raise DataError(f"'{settings.images}' has one class, '{train.classes[0]}'; a classifier needs at least two")
    parts = {}
    for split, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE)):
        if has_split(name, split):
            parts[split] = load_image_set(name, split, size, channels)
        else:
            train, parts[split] = _divided(train, share, split)
    if len(train) < FEWEST_IMAGES:
        raise DataError(f"'{settings.images}' has too few images: {len(train)} are left to train on; put more there")
    return Sets(train, **parts)


def _set_name(images: str) -> str:
    """A bundled set's name, or a folder's path, which must hold class folders."""
    path = Path(images).expanduser()
    if images in SETS or not (path.is_dir() or any(mark in images for mark in "/\\~")):
        return images
    if not path.is_dir():
        raise DataError(
            f"folder {path.absolute()} does not exist; give a folder of class folders, or a bundled image set"
        )
    if not any(one.is_dir() and not one.name.startswith(".") for one in path.iterdir()):
        raise DataError(
            f"folder {path.absolute()} has no class folders: put its images into {path.name}/CLASS/, a folder for each "
            f"class, or into {path.name}/train/CLASS/ and {path.name}/test/CLASS/"
        )
    return str(path.absolute())


def _divided(images: ImageSet, share: float, split: str) -> tuple[ImageSet, ImageSet]:
    """What is left, and a random share."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(stream(0, split)))
    count = max(1, round(share * len(images)))
    return images.take(order[count:].sort().values), images.take(order[:count])


@torch.no_grad()
def default_layers(network: nn.Module, pixels: Tensor) -> tuple[str, ...]:
    """Up to five layers, early to late: those nearest to the outside of which at least three give maps.

    A map has channels and more than one place.  Raises SpecError where no layer gives one.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: object) -> None:
        found = first_tensor(output)
        if isinstance(found, Tensor):
            shapes[name] = tuple(found.shape)

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in network.named_modules()
        if name
    ]
    try:
        with in_eval_mode(network):
            network(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    maps = [name for name, shape in shapes.items() if _is_map(shape, len(pixels))]
    for depth in range(max((name.count(".") for name in maps), default=0) + 1):
        found = [name for name in maps if name.count(".") == depth]
        if len(found) >= FEWEST_LAYERS:
            return tuple(found[index] for index in spread(len(found), min(len(found), COMPARED_LAYERS)).tolist())
    if not maps:
        raise SpecError("no layer of the network gives maps of at least two places; name the layers to be compared")
    return tuple(maps[:COMPARED_LAYERS])


def _is_map(shape: tuple[int, ...], images: int) -> bool:
    places = torch.Size(shape[2:]).numel()
    return len(shape) >= 3 and shape[0] == images and places > 1

"""What a user gives: a network by name, images, settings. Each is checked, and an error says what to change."""

import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor, nn

from simreg_core.attacks import door
from simreg_core.features import channel_axis_of, check_channel_axis, first_tensor
from simreg_core.lab.image_files import SETS, DataError, data_folder, has_split
from simreg_core.lab.images import ImageSet, load_image_set, spread
from simreg_core.lab.specs import Count, Float, Int, Size, Spec, SpecError, stream
from simreg_core.model import in_eval_mode

COMPARED_LAYERS = 5
FEWEST_LAYERS = 3  # of one depth, before those inside them are looked at
FEWEST_IMAGES = 2  # of each class to train on: a pair
TEST_SHARE, VALIDATION_SHARE = 0.25, 0.2  # of each class of a folder, where it has no such split
SHORT_OF = 3  # classes that have too few images and are named
SMALLEST_SIDE = 8
MOST_STRETCHED = 2  # a map, against the images


def _strength(value: float) -> float:
    if not 0 < value <= 1:
        hint = f"; did you mean {value:g}/255?" if value > 1 else ""
        raise ValueError(f"must be above 0 and at most 1, since pixels lie in [0, 1]{hint}")
    return value


def _sides(value: Any) -> Any:
    """Both sides in one problem, of which `Size` makes two."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(side, Real) for side in value):
        height, width = value
        too_low = height < SMALLEST_SIDE and height != 1  # a table has the height 1
        if too_low or width < SMALLEST_SIDE or height % 1 or width % 1:
            raise ValueError("must be [height, width], two whole numbers of at least 8")
    return value


Strength = Annotated[Float, AfterValidator(_strength)]
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
    layers: names of those that are compared; None: up to five, early to late (`default_layers`).
    channel_axis: of the layers' maps, as `SimilarityRegularizer` has it: -1 for [b, height, width, channels].
    alpha: None: chosen of `alphas` on validation images, with all seeds.  threshold: Th.  count: regularization
        images, of the training images.
    steps, batch_size, learning_rate: of Adam.  seeds: networks with and without the loss.
    test_images: that are attacked, at most.  noise: standard deviations, the largest decides in the choice of alpha.
    epsilons: of FGSM and PGD, L-infinity.  epsilon: one of them, at which attacks are set side by side.
    attack_steps: of PGD.  queries: of Square.
    """

    network: str = "simreg_core.lab.own_inputs:small_network"
    images: str = "digits"
    size: Annotated[Size, BeforeValidator(_sides)] | None = None
    channels: Annotated[int, Field(ge=1)] = 1
    layers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    channel_axis: Int | None = None
    alpha: Annotated[Float, Field(gt=0)] | None = None
    alphas: Annotated[tuple[Annotated[Float, Field(gt=0)], ...], Field(min_length=1)] = (0.03, 0.1, 0.3)
    threshold: Annotated[Float, Field(gt=0, lt=1)] = 0.6
    count: Annotated[int, Field(ge=8)] = 500
    steps: Count = 150
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

    @property
    def chance(self) -> float:
        """The level of chance: the largest class's share of the test images, which naming it always would reach."""
        return largest_share(self.test)


def largest_share(images: ImageSet) -> float:
    """The share of the largest class, in [0, 1]."""
    return images.labels.bincount().max().item() / len(images)


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
    given: list[object] = []
    hook = network.register_forward_hook(lambda _, __, output: given.append(output))
    try:
        with in_eval_mode(network):
            classes = door.classifier(Logits(network).eval(), pixels).classes
    except ValueError as error:
        taken = _taken(given[-1]) if given else ""
        raise SpecError(
            f"network '{settings.network}' does not take images of {shape} (channels x height x width): {error}; "
            f"{taken or 'give size=(height, width) or channels=1 or 3 that suit it'}"
        ) from error
    finally:
        hook.remove()
    if classes != len(sets.classes):
        raise SpecError(
            f"network '{settings.network}' gives {classes} logits, but '{settings.images}' has {len(sets.classes)} "
            f"classes: {_taken(given[-1]) or 'make its last layer of num_classes units'}"
        )


def _taken(output: object) -> str:
    """What was taken for the logits of several tensors, in words; nothing of a single one."""
    if isinstance(output, Mapping):
        key = next((key for key, value in output.items() if isinstance(value, Tensor)), "none")
        return f"of the dict that it returns the first tensor is taken, {key!r}; return the logits, or put them first"
    if isinstance(output, tuple | list):
        return f"of the {type(output).__name__} that it returns the first tensor is taken; put the logits first"
    return ""


def sets_of(settings: Settings) -> Sets:
    """The images; a folder's own splits where it has them, else parts of its training images, the same of each class.

    Raises DataError for a folder that is missing, has no class folders, fewer than two classes, or a class with too few
    images.
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
    sets = Sets(train, **parts)
    _check_numbers(settings.images, sets)
    return sets


def _check_numbers(name: str, sets: Sets) -> None:
    """Raises DataError where a class has too few images to train on, with the numbers of all parts."""
    numbers = [part.labels.bincount(minlength=len(sets.classes)) for part in (sets.train, sets.validation, sets.test)]
    short = [label for label, count in enumerate(numbers[0]) if count < FEWEST_IMAGES]
    if short:
        named = "; ".join(
            f"'{sets.classes[label]}' {' + '.join(str(int(one[label])) for one in numbers)}"
            for label in short[:SHORT_OF]
        )
        more = f"; and {len(short) - SHORT_OF} more classes" if len(short) > SHORT_OF else ""
        raise DataError(
            f"'{name}' has too few images: {len(sets.train)} are left to train on; put more there: each class needs "
            f"at least {FEWEST_IMAGES} + 1 + 1 for training, validation and test, and should have dozens; there are "
            f"{named}{more}"
        )


def _set_name(images: str) -> str:
    """A bundled set's name, or a folder's path, which must hold class folders."""
    path = Path(images).expanduser()
    if images in SETS:
        return images
    if path.is_file() and not (data_folder() / images).is_dir():
        raise DataError(
            f"images '{images}' is a file, but a folder is wanted: the one that holds a folder of images for each class"
        )
    if not (path.is_dir() or any(mark in images for mark in "/\\~")):
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
    """What is left, and a random share of each class, at least one image."""
    generator = torch.Generator().manual_seed(stream(0, split))
    order = torch.randperm(len(images), generator=generator)
    of_class = [order[images.labels[order] == label] for label in range(len(images.classes))]
    counts = [max(1, round(share * len(one))) for one in of_class]
    taken = torch.cat([one[:count] for one, count in zip(of_class, counts, strict=True)])
    left = torch.cat([one[count:] for one, count in zip(of_class, counts, strict=True)])
    return images.take(left.sort().values), images.take(taken[torch.randperm(len(taken), generator=generator)])


@torch.no_grad()
def default_layers(network: nn.Module, pixels: Tensor, channel_axis: int | None = None) -> tuple[str, ...]:
    """Up to five layers, early to late: those nearest to the outside of which at least three give maps.

    Where most blocks lie in one Sequential or ModuleList, as those of a transformer, they are taken instead of it.
    A map has channels and more than one place, and can be read by the regularizer with this channel_axis.
    Raises SpecError where no layer gives one; warns where those that can be read are few.
    """
    shapes = _shapes(network, pixels)
    maps = [name for name, shape in shapes.items() if _is_map(shape, len(pixels), channel_axis)]
    readable = [name for name in maps if _is_readable(name, shapes[name], pixels, channel_axis)]
    for depth in range(max((name.count(".") for name in readable), default=0) + 1):
        found = [name for name in readable if name.count(".") == depth]
        if len(found) >= FEWEST_LAYERS:
            found = _with_blocks(network, readable, found)
            return tuple(found[index] for index in spread(len(found), min(len(found), COMPARED_LAYERS)).tolist())
    if not maps:
        raise SpecError("no layer of the network gives maps of at least two places; name the layers to be compared")
    if not readable:
        how = (
            "look like [b, height, width, channels]"
            if channel_axis is None
            else f"do not suit channel_axis={channel_axis}"
        )
        raise SpecError(
            f"the maps of all layers {how}, such as {list(shapes[maps[0]])} of '{maps[0]}': give channel_axis, -1 "
            "where channels are the last axis, or layers, the names of those to be compared"
        )
    if skipped := len(maps) - len(readable):
        warnings.warn(
            f"maps of {skipped} layers cannot be read and are left out, so that only {', '.join(readable)} are "
            "compared: give channel_axis, -1 where channels are the last axis, or layers",
            stacklevel=3,
        )
    return tuple(readable[:COMPARED_LAYERS])


def _shapes(network: nn.Module, pixels: Tensor) -> dict[str, tuple[int, ...]]:
    """Shapes of what the layers give, by name, in the order in which they end."""
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
    return shapes


def _with_blocks(network: nn.Module, maps: list[str], found: list[str]) -> list[str]:
    """The layers, and in place of the only deep stack of blocks those blocks, where they are most of what there is."""
    stacks: dict[str, list[str]] = {}
    for name, module in network.named_modules():
        if name and isinstance(module, nn.Sequential | nn.ModuleList) and not any(_is_in(name, one) for one in stacks):
            blocks = [one for one in maps if one.rpartition(".")[0] == name]
            if len(blocks) >= FEWEST_LAYERS:
                stacks[name] = blocks
    if len(stacks) != 1:  # stages, as those of a ResNet, which are early to late themselves
        return found
    ((stack, blocks),) = stacks.items()
    if len(blocks) < len(found):
        return found
    beside = {name for name in found if name != stack and not _is_in(stack, name)}
    return [name for name in maps if name in beside or name in blocks]


def _is_in(name: str, outer: str) -> bool:
    return name.startswith(f"{outer}.")


def _is_map(shape: tuple[int, ...], images: int, channel_axis: int | None) -> bool:
    if len(shape) < 3 or shape[0] != images:
        return False
    # an axis that a map does not have is refused later, with words about it
    axis = channel_axis_of(torch.empty(shape, device="meta"), channel_axis)
    return torch.Size(size for index, size in enumerate(shape) if index not in (0, axis)).numel() > 1


def _is_readable(name: str, shape: tuple[int, ...], pixels: Tensor, channel_axis: int | None) -> bool:
    try:
        check_channel_axis(name, torch.empty(shape, device="meta"), pixels.shape, channel_axis)
    except ValueError:
        return False
    if channel_axis is None or len(shape) != 4:
        return True
    # a network with channels last may turn its last maps: what is left has the proportions of the images, or nearly so
    height, width = (size for index, size in enumerate(shape) if index not in (0, channel_axis % 4))
    stretch = (height * pixels.shape[3]) / (width * pixels.shape[2])
    return 1 / MOST_STRETCHED <= stretch <= MOST_STRETCHED

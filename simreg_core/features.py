"""Feature maps of any network: taps by the names of its layers, and checks of what they give."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from simreg_core.model import in_eval_mode

FeatureMaps = Callable[[Tensor], Sequence[Tensor]]
LISTED_LAYERS = 40  # an error message stays readable
POOLED = 7  # side of the largest square to which usual networks pool images of any shape, as VGG does
WRAPPERS = ("_orig_mod.", "module.")  # before the names of layers inside torch.compile, and inside data parallelism


class FeatureTaps:
    """Feature maps of any network by the names of its layers.

    model: any nn.Module.  layers: names as in `model.named_modules()`, at least one, each once.
    Calling it with images runs the network and returns the named layers' outputs, in that order; a layer that runs more
    than once gives its last output. Where a later layer changes an output in place (batch norm before
    nn.ReLU(inplace=True), as in torchvision), the changed output is given. Of a tuple, list or dict its first tensor is
    given: the hidden states, of the layers of Hugging Face.
    A network in torch.compile, DistributedDataParallel or DataParallel runs without that wrapper, and what is compiled
    in it runs as it was written: hooks are left out of compiled code. Names may have the wrapper's prefix or not.
    `cut` lists the layers whose last output carries no gradient although they, or what they were given, do.
    Raises ValueError for an unknown name (and says which exist), a layer that is named twice or did not run, or a layer
    whose output holds no tensor.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]):
        model = unwrapped(model)
        modules = {name: module for name, module in model.named_modules() if name}
        if not isinstance(layers, Iterable):
            raise ValueError(f"layers must be a list of names, got {layers!r}")
        layers = tuple(layers)
        if not layers:
            raise ValueError(f"at least one layer is needed; layers of this network: {_listed(modules)}")
        for name in layers:
            if not isinstance(name, str):
                raise ValueError(f"layers must be names, as in named_modules(), got a {type(name).__name__}")
            if _inner_name(name, modules) not in modules:
                raise ValueError(f"unknown layer '{name}'; layers of this network: {_listed(modules)}")
        self.model = model
        self.layers = layers
        self._inner = tuple(_inner_name(name, modules) for name in layers)
        for index, inner in enumerate(self._inner):
            if inner in self._inner[:index]:
                raise ValueError(f"layer '{layers[index]}' is named twice; each layer may be named once")
        self.cut: list[str] = []

    def __call__(self, images: Tensor) -> list[Tensor]:
        maps: dict[str, object] = {}
        cut: dict[str, bool] = {}
        modules = dict(self.model.named_modules())
        with_gradient = torch.is_grad_enabled()

        def note(name: str, inner: str, module: nn.Module, inputs: tuple, output: object) -> None:
            output = first_tensor(output)
            maps[name] = output
            cut[name] = with_gradient and _loses_gradient(module, modules[inner.rpartition(".")[0]], inputs, output)

        # hooks live for one pass, so that the network can still be copied, saved and used elsewhere
        hooks = [
            modules[inner].register_forward_hook(partial(note, name, inner))
            for name, inner in zip(self.layers, self._inner, strict=True)
        ]
        try:
            with _as_written(modules):
                self.model(images)
        finally:
            for hook in hooks:
                hook.remove()
        for name in self.layers:
            if name not in maps:
                raise ValueError(
                    f"layer '{name}' did not run in this pass: the network is traced (give the original one, which "
                    "has the same weights), or uses this layer in training mode only, or never"
                )
            if not isinstance(maps[name], Tensor):
                raise ValueError(f"layer '{name}' gave {type(maps[name]).__name__}, not a tensor")
        self.cut = [name for name in self.layers if cut[name]]
        return [found for name in self.layers if isinstance(found := maps[name], Tensor)]


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside torch.compile, DistributedDataParallel and DataParallel, with the same weights."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def _inner_name(name: str, modules: Mapping[str, nn.Module]) -> str:
    """A layer's name without the prefixes of wrappers, where the network has no layer of the whole name."""
    while name not in modules and name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name


def _as_written(modules: Mapping[str, nn.Module]) -> AbstractContextManager:
    """Within it, networks of which a part is compiled run uncompiled, with their hooks; from torch 2.6 on."""
    compiled = any(
        hasattr(each, "_orig_mod") or getattr(each, "_compiled_call_impl", None) is not None
        for each in modules.values()
    )
    if not compiled or not hasattr(torch.compiler, "set_stance"):
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def first_tensor(output: object) -> object:
    """What a layer gave, or the first tensor in a tuple, list or dict."""
    each = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return next((one for one in each if isinstance(one, Tensor)), output)


def trains(module: nn.Module) -> bool:
    """Whether some parameter of a module requires a gradient."""
    return any(parameter.requires_grad for parameter in module.parameters())


def _loses_gradient(layer: nn.Module, parent: nn.Module, inputs: tuple, output: object) -> bool:
    """Whether a layer's output should carry a gradient, and does not.

    A frozen layer need not have one, nor a layer of a frozen part that runs under no_grad.
    """
    if not isinstance(output, Tensor) or output.requires_grad:
        return False
    if any(isinstance(given, Tensor) and given.requires_grad for given in inputs) or trains(layer):
        return True
    return not torch.is_grad_enabled() and trains(parent)  # a layer without parameters, such as a ReLU


def _listed(modules: dict[str, nn.Module]) -> str:
    """Names of the layers, the outer ones first where there are too many for a message."""
    names = sorted(modules, key=lambda name: name.count("."))[:LISTED_LAYERS]
    left = len(modules) - len(names)
    return ", ".join(names) + (f" and {left} deeper ones" if left else "")


def as_maps(given: object) -> list[Tensor]:
    """Feature maps as a list: of a sequence, of the values of a dict, or of a single tensor.

    Raises ValueError for anything else than tensors, and for no map.
    """
    if isinstance(given, Tensor):
        given = [given]
    maps = list(given.values() if isinstance(given, Mapping) else given) if isinstance(given, Iterable) else [given]
    if not maps:
        raise ValueError("layers gave no feature map; at least one is needed")
    for each in maps:
        if not isinstance(each, Tensor):
            raise ValueError(f"feature maps must be tensors, but layers gave {type(each).__name__}")
    return maps


@torch.no_grad()
def probe_features(model: nn.Module, features: FeatureMaps, image: Tensor) -> list[Tensor]:
    """Feature maps of one image [1, c, h, w], leaving the network as it was (statistics, modes).

    Raises ValueError where the network refuses the image, whatever the network raises.
    """
    try:
        with in_eval_mode(model):
            return as_maps(features(image))
    except ValueError:
        raise  # it says already what is wrong
    except Exception as error:
        reason = (str(error).splitlines() or ["without a message"])[0]
        hint = " (of a gray image, preprocess=lambda x: x.expand(-1, 3, -1, -1) makes 3 channels)"
        raise ValueError(
            f"the network refuses images of shape {list(image.shape[1:])}"
            f"{hint if len(image[0]) == 1 else ''}: {type(error).__name__}: {reason}"
        ) from error


def channel_axis_of(feature_map: Tensor, asked: int | None) -> int:
    """The axis of the channels: the one asked for, or that of a map [b, c], [b, tokens, c] or [b, c, ...]."""
    if asked is not None:
        return asked % feature_map.ndim
    return 2 if feature_map.ndim == 3 else 1


def check_batch_axis(name: str, feature_map: Tensor, images: int) -> None:
    """Raises ValueError for a map whose axis 0 is not the images."""
    shape = list(feature_map.shape)
    if len(shape) < 2:
        raise ValueError(f"a feature map must have shape [b, channels, ...], got {shape} from {name}")
    if shape[0] != images:
        found = f"; axis {shape.index(images)} seems to be" if images in shape else ""
        raise ValueError(
            f"{name} gave a map {shape} for {images} images, whose axis 0 is not the images{found}: give a callable as "
            "`layers` that moves them there"
        )


def check_channel_axis(name: str, feature_map: Tensor, pixels: Sequence[int], asked: int | None) -> None:
    """Raises ValueError for a channel axis that the map does not have, and maps that look like [b, h, w, channels].

    A map looks so where its axes 1 and 2 fit the proportions of the image better than its axes 2 and 3 do. A map that
    fits both ways, such as [b, 7, 7, 7], counts as [b, channels, h, w]; so does one whose axes 2 and 3 are a square of
    at most POOLED, to which images of any shape are pooled.
    pixels: shape of what the network was given, [b, c, h, w] as a rule.
    """
    shape = list(feature_map.shape)
    if asked is not None:
        if not -len(shape) <= asked < len(shape) or asked % len(shape) == 0:
            raise ValueError(
                f"channel_axis must be an axis of the map {shape} of {name} other than 0, the images'; got {asked}"
            )
    elif len(shape) == len(pixels) == 4:
        first, second, last = shape[1:]
        pooled = second == last <= POOLED
        # of two readings the better one counts; where both are as good, the usual one
        if not pooled and _proportion((first, second), pixels[2:]) > _proportion((second, last), pixels[2:]):
            raise ValueError(
                f"{name} gave a map {shape} that looks like [b, h, w, channels]: give channel_axis=-1 if it is, "
                "channel_axis=1 if it is [b, channels, h, w]"
            )


def _proportion(sides: tuple[int, int], image: Sequence[int]) -> int:
    """Whether the sides of a map have the proportions of its image: 2 exactly, 1 but for rounding, 0 not."""
    (rows, columns), (h, w) = sides, image
    if rows * w == columns * h:
        return 2
    # Some stride s has |rows - h / s| < 1 and |columns - w / s| < 1: whether sides are rounded up or down, at one
    # layer or at several, less than 1 is lost or won. A map that is not in proportion exactly may not be enlarged:
    # channels are often more than the sides of the image.
    rounded = (rows - 1) * w < (columns + 1) * h and (columns - 1) * h < (rows + 1) * w
    return int(rounded and rows <= h and columns <= w)


def flattened(maps: Tensor) -> Tensor:
    """[b, all else], in the order in which it lies in memory: a cosine does not care, and nothing is copied."""
    if maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last):
        maps = maps.permute(0, 2, 3, 1)
    return maps.flatten(1)

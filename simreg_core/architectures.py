"""Small networks of other kinds, from torchvision's parts, and the layers whose similarity is compared.

They differ from the paper's ResNet in what the regularizer meets: a stem that shrinks the image at once, no shortcuts,
no batch norm, tokens in place of maps, no maps at all.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.vgg import cfgs, make_layers
from torchvision.ops import MLP

from simreg_core.defences.hebbian import unit_vgg
from simreg_core.defences.polarizing import classifier
from simreg_core.model import PointwiseConv2d
from simreg_core.names import (
    HEADS,
    HIDDEN_LAYERS,
    LAYERS,
    OF_ONE_SIZE,
    PATCH,
    TRANSFORMER_LAYERS,
    UNIT_PLANS,
    WIDTHS,
    by,
    check_fit,
)


class Normalized(nn.Module):
    """Pixels [0, 1] in, logits out: a network behind gain * (pixel - shift).

    body: takes [b, channels, h, w].  channels: 3 repeats a gray image.
    layers: names, as in `named_modules()`, of those whose similarity is compared.
    size: the only accepted (h, w) of images, or None for any.
    Calling it raises ValueError for images of another size.
    """

    def __init__(
        self,
        body: nn.Module,
        channels: int,
        layers: tuple[str, ...],
        size: tuple[int, int] | None,
        shift: float,
        gain: float,
    ):
        super().__init__()
        self.body, self.channels, self.layers, self.size = body, channels, layers, size
        self.shift, self.gain = shift, gain

    def forward(self, x: Tensor) -> Tensor:
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            raise ValueError(f"this network takes only images of {by(self.size)}, got {by(tuple(x.shape[2:]))}")
        return self.body((self.gain * (x - self.shift)).expand(-1, self.channels, -1, -1))


def architecture(
    name: str,
    size: tuple[int, int],
    in_channels: int = 1,
    num_classes: int = 10,
    width: int | None = None,
    shift: float = 0.5,
    gain: float = 5.0,
) -> Normalized:
    """An untrained network of another kind: pixels [0, 1] in, [b, in_channels, h, w], logits out, [b, num_classes].

    name: 'torchvision-resnet18', 'vgg', 'vgg16', 'convnext', 'vit', 'mlp', 'lenet', 'unit-vgg' or 'unit-vgg16'.
        LAYERS has the layers to be compared.
    size: (h, w) of the images; 'vit' and 'mlp' take no other.  in_channels: 1 for gray, 3 for colour.
    width: channels of the first stage, or units of every layer of 'vit' and 'mlp'; WIDTHS has the defaults.
    shift, gain: the network sees gain * (pixel - shift).
    Raises ValueError for an unknown name, and sizes, channels and widths that do not fit, naming what would.
    """
    if name not in LAYERS:
        raise ValueError(f"unknown architecture '{name}'; allowed: {', '.join(LAYERS)}")
    if in_channels not in (1, 3):
        raise ValueError(f"in_channels must be 1 or 3, got {in_channels}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    width = WIDTHS[name] if width is None else width
    check_fit(name, size, width)
    size = (size[0], size[1])  # also of a list
    body = _BODIES[name](size, in_channels, num_classes, width)
    fixed = size if name in OF_ONE_SIZE else None
    return Normalized(body, in_channels if name == "mlp" else 3, LAYERS[name], fixed, shift, gain)


class _NarrowResNet18(ResNet):
    """torchvision's ResNet18 whose stem has `width` channels, and its stages `width` times 1, 2, 4, 8."""

    def __init__(self, num_classes: int, width: int):
        self._width = width  # before the stages are made
        super().__init__(BasicBlock, [2, 2, 2, 2])
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(8 * width, num_classes)

    def _make_layer(self, block, planes: int, *arguments, **options) -> nn.Sequential:
        if planes == 64:  # the first stage
            self.inplanes = self._width
        layers = super()._make_layer(block, planes * self._width // 64, *arguments, **options)
        for block in layers:
            if block.downsample is not None:
                block.downsample[0] = PointwiseConv2d.like(block.downsample[0])
        return layers


def _resnet18(size: tuple[int, int], in_channels: int, num_classes: int, width: int) -> nn.Module:
    return _NarrowResNet18(num_classes, width)


def _vgg(plan: str) -> Callable[[tuple[int, int], int, int, int], nn.Module]:
    """A VGG with batch norm, without its last pooling (images are small) and its two wide linear layers.

    plan: of torchvision: 'A', VGG11, or 'D', VGG16.
    """

    def make(size: tuple[int, int], in_channels: int, num_classes: int, width: int) -> nn.Module:
        channels = [count if count == "M" else count * width // 64 for count in cfgs[plan][:-1]]
        body = nn.Sequential()
        body.add_module("features", make_layers(channels, batch_norm=True))
        body.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
        body.add_module("flatten", nn.Flatten())
        body.add_module("classifier", nn.Linear(channels[-1], num_classes))
        return body

    return make


def _convnext(size: tuple[int, int], in_channels: int, num_classes: int, width: int) -> nn.Module:
    """Three stages of one block; layer scale 1, since 1e-6 is for trainings of hundreds of epochs."""
    stages = [CNBlockConfig(width, 2 * width, 1), CNBlockConfig(2 * width, 4 * width, 1)]
    return ConvNeXt([*stages, CNBlockConfig(4 * width, None, 1)], layer_scale=1.0, num_classes=num_classes)


def _vit(size: tuple[int, int], in_channels: int, num_classes: int, width: int) -> nn.Module:
    return VisionTransformer(
        size[0], PATCH, TRANSFORMER_LAYERS, HEADS, hidden_dim=width, mlp_dim=2 * width, num_classes=num_classes
    )


def _mlp(size: tuple[int, int], in_channels: int, num_classes: int, width: int) -> nn.Module:
    layers = MLP(in_channels * size[0] * size[1], [width] * HIDDEN_LAYERS + [num_classes])
    return nn.Sequential(nn.Flatten(), *layers)


def _lenet(size: tuple[int, int], in_channels: int, num_classes: int, width: int) -> nn.Module:
    """The classifier behind a polarizing front end: what that defence is compared with."""
    return classifier(3, num_classes, width)


def _unit_vgg(name: str) -> Callable[[tuple[int, int], int, int, int], nn.Module]:
    """Filters of L2 norm 1: what a Hebbian network is made of, and compared with."""

    def body(size: tuple[int, int], in_channels: int, num_classes: int, width: int) -> nn.Module:
        plan = [one if isinstance(one, str) else one * width for one in UNIT_PLANS[name]]
        return unit_vgg(plan, 3, num_classes)

    return body


_BODIES: dict[str, Callable[[tuple[int, int], int, int, int], nn.Module]] = {
    "torchvision-resnet18": _resnet18,
    "vgg": _vgg("A"),
    "vgg16": _vgg("D"),
    "convnext": _convnext,
    "vit": _vit,
    "mlp": _mlp,
    "lenet": _lenet,
    **{name: _unit_vgg(name) for name in UNIT_PLANS},
}

"""The paper's residual networks, and small versions of them."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

BLOCKS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
SOUND_CHANNELS = 16  # oneDNN's largest block of channels, that of AVX-512; 8 with AVX2


def onednn_corrupts(conv: nn.Module) -> bool:
    """Whether oneDNN may corrupt memory or give a wrong weight gradient of this layer, in channels_last on a CPU.

    True for a 1x1 convolution on the CPU whose stride is above 1 and that has fewer input channels than a block of
    oneDNN's kernel: in such a layer the backward pass writes beyond its scratch memory. The block has 8 channels with
    AVX2 and 16 with AVX-512; 16 counts everywhere, so that a network is computed alike on both.
    Source: the open issue 6035 of uxlfoundation/oneDNN (seen with oneDNN 3.13.3, as in torch 2.15.0).
    """
    return (
        isinstance(conv, nn.Conv2d)
        and conv.kernel_size == (1, 1)
        and max(conv.stride) > 1
        and conv.in_channels < SOUND_CHANNELS
        and conv.weight.device.type == "cpu"
    )


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution without padding that is sound on every processor, see `onednn_corrupts`.

    Arguments as `nn.Conv2d`. [b, inputs, h, w] -> [b, outputs, ceil(h / stride), ceil(w / stride)].
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, bias: bool = False):
        super().__init__(inputs, outputs, 1, stride, bias=bias)

    @classmethod
    def like(cls, conv: nn.Conv2d) -> "PointwiseConv2d":
        """The `PointwiseConv2d` of a 1x1 convolution of torch's, with the same weight.  Draws no random numbers."""
        with torch.device("meta"):
            copied = cls(conv.in_channels, conv.out_channels, conv.stride, conv.bias is not None)
        copied.weight, copied.bias = conv.weight, conv.bias
        return copied

    def forward(self, x: Tensor) -> Tensor:
        if not onednn_corrupts(self):
            return super().forward(x)
        # a pool of one pixel takes every stride-th: what is left is a convolution of stride 1, which is sound
        return F.conv2d(F.avg_pool2d(x, 1, self.stride), self.weight, self.bias)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut; [b, inputs, h, w] -> [b, outputs, h', w']."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(PointwiseConv2d(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Residual network of the paper's released code: pixels [0, 1] in, logits out.

    blocks: residual blocks in each of the four stages.
    in_channels: 1 for gray, 3 for colour.  num_classes: number of logits.
    width: channels of stem and first stage; the stages have 1, 2, 4, 8 times as many.
    shift, gain: the network sees gain * (pixel - shift). CIFAR: 0.5 and 5; MNIST: 0 and 1.
    front_end: applied to the pixels before that; a defence such as `defences.GaussianBlur`.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        in_channels: int = 1,
        num_classes: int = 10,
        width: int = 64,
        shift: float = 0.5,
        gain: float = 5.0,
        front_end: nn.Module | None = None,
    ):
        super().__init__()
        for name, value in (("in_channels", in_channels), ("num_classes", num_classes), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.shift, self.gain = shift, gain
        self.front_end = front_end
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 7, 1, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        channels = width
        for stage, count in enumerate(blocks, start=1):
            outputs = width * 2 ** (stage - 1)
            strides = [1 if stage == 1 else 2] + [1] * (count - 1)
            layers = []
            for stride in strides:
                layers.append(BasicBlock(channels, outputs, stride))
                channels = outputs
            self.add_module(f"stage{stage}", nn.Sequential(*layers))
        self.head = nn.Linear(channels, num_classes)

    def features(self, x: Tensor) -> list[Tensor]:
        """The five similarity maps: stem, then the four stages.

        x: [b, c, h, w] in [0, 1].  Returns [b, width, h, w] twice, then [b, 2*width, h/2, w/2] and so on.
        """
        x = x if self.front_end is None else self.front_end(x)
        maps = [self.stem(self.gain * (x - self.shift))]
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            maps.append(stage(maps[-1]))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1].mean(dim=(2, 3)))  # [b, num_classes]

    def folded(self) -> "ResNet":
        """A copy for evaluation only, its batch norms folded into the convolutions before them: a tenth faster.

        Logits differ by rounding.  Raises ValueError in training mode.
        """
        if self.training:
            raise ValueError("only a network in eval mode can be folded; call eval() first")
        copied = copy.deepcopy(self)
        _fold(copied.stem, "0", "1")
        for block in (module for module in copied.modules() if isinstance(module, BasicBlock)):
            _fold(block, "conv1", "bn1")
            _fold(block, "conv2", "bn2")
            if len(block.shortcut):
                _fold(block.shortcut, "0", "1")
        return copied


def _fold(owner: nn.Module, conv: str, norm: str) -> None:
    """Fold a convolution and the batch norm after it, which becomes the identity."""
    setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
    setattr(owner, norm, nn.Identity().eval())  # the copy's mode


def resnet18(in_channels: int = 1, num_classes: int = 10, width: int = 64, **scaling: float) -> ResNet:
    """The paper's ResNet18; 11,175,370 weights with the defaults. Arguments as `ResNet`."""
    return ResNet(BLOCKS["resnet18"], in_channels, num_classes, width, **scaling)


def resnet34(in_channels: int = 1, num_classes: int = 10, width: int = 64, **scaling: float) -> ResNet:
    """The paper's ResNet34; 21,283,530 weights with the defaults. Arguments as `ResNet`."""
    return ResNet(BLOCKS["resnet34"], in_channels, num_classes, width, **scaling)


def precision_of(model: nn.Module, images: Tensor) -> torch.dtype:
    """Of a network's first floating-point parameter, the images' where there is none.

    Weights packed into bytes are none, whatever their type says.
    """
    wide = (each.dtype for each in model.parameters() if each.is_floating_point() and each.element_size() > 1)
    return next(wide, images.dtype)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode within; after it each module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

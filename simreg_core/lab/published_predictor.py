"""The published V1 predictor of the Sensorium 2022 competition: its file, and the format of that."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.lab.image_files import DataError, data_folder
from simreg_core.neural import V1Predictor

PUBLISHED_SOURCE = (
    "github.com/sinzlab/sensorium (MIT), notebooks/model_tutorial/model_checkpoints/pretrained/sensorium_sota_model.pth"
)
PUBLISHED_MEAN, PUBLISHED_STD = 113.5 / 255, 59.6 / 255  # assumed: the published file does not hold them
PUBLISHED_SIZE = (36, 64)


def predictor_files(file: str) -> list[Path]:
    """The file of the published predictor.  Raises DataError where it is missing, and says where to get it."""
    path = data_folder() / "predictors" / file
    if not path.is_file():
        raise DataError(f"the published V1 predictor is not at {path}; get it from {PUBLISHED_SOURCE}")
    return [path]


def load_published_predictor(file: str = "sensorium_sota_model.pth") -> V1Predictor:
    """The published V1 predictor of the data folder's `predictors/`.

    Raises DataError where the file is missing (it says where to get it) or is anything else.
    """
    (path,) = predictor_files(file)
    try:
        tensors = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises whatever a file that is no checkpoint makes it meet
        raise DataError(f"{path} is not a file of tensors: {str(error).splitlines()[0]:.200}") from error
    try:
        return from_published(tensors)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def from_published(tensors: Mapping[str, Tensor]) -> V1Predictor:
    """The predictor of the Sensorium 2022 competition, from its published tensors.

    tensors: as `torch.load(path, weights_only=True, map_location="cpu")` gives them, of the image-only model with
        one mouse (`sensorium_sota_model.pth` of github.com/sinzlab/sensorium, MIT): 36x64 images, 7,776 neurons. The
        file does not hold how pixels are normalized; (p - 113.5) / 59.6 of 0-255 pixels is assumed.
    Raises ValueError naming the first tensor that is missing, unknown, of another shape or not finite.
    Source: Willeke et al. (2022), arXiv 2206.08666.
    """
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError("a published predictor is a mapping from names to tensors, this is not")
    readouts = sorted({name.split(".")[1] for name in tensors if name.startswith("readout.")})
    if len(readouts) != 1:
        raise ValueError(f"a published predictor has the readout of one mouse, got {readouts or 'none'}")
    readout = f"readout.{readouts[0]}."
    shapes = _published_shapes(tensors, readout)
    for name in sorted(shapes.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"not the published predictor: tensor '{name}' is missing")
        if name not in shapes:
            raise ValueError(f"not the published predictor: tensor '{name}' is unknown")
        if tuple(tensors[name].shape) != shapes[name]:
            raise ValueError(
                f"not the published predictor: tensor '{name}' is {list(tensors[name].shape)}, expected "
                f"{list(shapes[name])}"
            )
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(f"the published predictor is damaged: tensor '{name}' holds NaN or infinite values")
    return _assembled(tensors, readout)


def _published_shapes(tensors: Mapping[str, Tensor], readout: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the published tensors; the number of neurons is free."""
    bias = tensors.get(f"{readout}bias")
    neurons = 0 if bias is None else bias.numel()
    c = 64
    shapes: dict[str, tuple[int, ...]] = {"core._input_weights_regularizer.laplace.filter": (1, 1, 3, 3)}
    shapes["core.features.layer0.conv.weight"] = (c, 1, 9, 9)
    for layer in range(4):
        at = f"core.features.layer{layer}."
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{at}norm.{name}"] = (c,)
        shapes[f"{at}norm.num_batches_tracked"] = ()
        if layer:
            shapes[f"{at}ds_conv.in_depth_conv.weight"] = (c, c, 1, 1)
            shapes[f"{at}ds_conv.spatial_conv.weight"] = (c, 1, 7, 7)
            shapes[f"{at}ds_conv.out_depth_conv.weight"] = (c, c, 1, 1)
    of_readout = {
        "sigma": (1, neurons, 2, 2), "_features": (1, c, 1, neurons), "bias": (neurons,), "source_grid": (neurons, 2),
        "mu_transform.0.weight": (30, 2), "mu_transform.0.bias": (30,),
        "mu_transform.2.weight": (2, 30), "mu_transform.2.bias": (2,),
    }  # fmt: skip
    return shapes | {readout + name: shape for name, shape in of_readout.items()}


def _assembled(tensors: Mapping[str, Tensor], readout: str) -> V1Predictor:
    neurons = tensors[f"{readout}bias"].numel()
    predictor = V1Predictor(PUBLISHED_SIZE, neurons, 64, 9, 3, 7, PUBLISHED_MEAN, PUBLISHED_STD)
    convolutions = [module for module in predictor.core if isinstance(module, nn.Conv2d)]
    names = ["layer0.conv"] + [
        f"layer{layer}.ds_conv.{part}_conv" for layer in (1, 2, 3) for part in ("in_depth", "spatial", "out_depth")
    ]
    norms = [module for module in predictor.core if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for convolution, name in zip(convolutions, names, strict=True):
            convolution.weight.copy_(tensors[f"core.features.{name}.weight"])
        for layer, norm in enumerate(norms):
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(norm, name).copy_(tensors[f"core.features.layer{layer}.norm.{name}"])
        # a neuron's place is a smooth function of where it lies in the cortex
        hidden = F.elu(_affine(tensors, f"{readout}mu_transform.0", tensors[f"{readout}source_grid"]))
        predictor.positions.copy_(torch.tanh(_affine(tensors, f"{readout}mu_transform.2", hidden)))
        predictor.features.copy_(tensors[f"{readout}_features"][0, :, 0])
        predictor.bias.copy_(tensors[f"{readout}bias"])
    return predictor.eval()


def _affine(tensors: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

"""What can be chosen by name, what goes with each name, and defaults: what a specification needs, without torch."""

from typing import Literal, NamedTuple, get_args

Protocol = Literal["released", "strict"]
NoiseName = Literal["gaussian", "uniform", "salt_and_pepper"]  # of `attacks.NOISES`
Subtraction = Literal["mean_image", "own_mean"]  # of `targets.pixel_similarity`
TargetSimilarity = Literal["euclidean", "ssim", "blurred", "untrained"]  # of `other_similarities`
TARGET_SIMILARITIES: tuple[TargetSimilarity, ...] = get_args(TargetSimilarity)
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
NOISE_NAMES: tuple[NoiseName, ...] = get_args(NoiseName)
SUBTRACTIONS: tuple[Subtraction, ...] = get_args(Subtraction)


class SimilarityRow(NamedTuple):
    """place: 'module:class' of a `similarity.Similarity`, which needs torch.  whole: as the class says."""

    place: str
    whole: bool


SIMILARITIES = {  # how a network's maps of images are compared
    "cosine": SimilarityRow("simreg_core.similarity:Cosine", whole=False),
    "linear_cka": SimilarityRow("simreg_core.similarity:LinearCKA", whole=True),
}

# defaults that the method and specifications share
THRESHOLD = 0.8  # Th
PAIRS_PER_STEP = 16  # k
LOSS_EPS = 1e-5  # of `similarity.similarity_loss`
ACCEPTED_CLEAN_RATIO = 0.9  # A_0 of the paper: clean accuracy over the unregularized network's, where alpha is chosen
DIRECTIONS = 1000  # uniform-noise images that are tried as the start of an attack
FIT_EPOCHS, FIT_PATIENCE, FIT_LEARNING_RATE = 40, 10, 0.02  # of a V1 predictor
FIT_BATCH = 64  # images of a step of that fit

Corruption = Literal[  # in the order of `corruptions.SEVERITIES`
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
GROUPS = {  # by frequency, after Li et al. (2023)
    "low": ("snow", "frost", "fog", "brightness", "contrast"),
    "medium": (
        "motion_blur", "zoom_blur", "defocus_blur", "glass_blur", "elastic_transform", "jpeg_compression", "pixelate",
    ),
    "high": ("gaussian_noise", "shot_noise", "impulse_noise"),
}  # fmt: skip

PATCH = 4  # pixels a side, of ViT
HEADS = 2
TRANSFORMER_LAYERS = 3
HIDDEN_LAYERS = 4  # of the MLP
ArchitectureName = Literal[
    "torchvision-resnet18", "vgg", "vgg16", "convnext", "vit", "mlp", "lenet", "unit-vgg", "unit-vgg16"
]
# channels of each block, times the width, and 'M' for 2x2 max-pooling; the last is the source's VGG16
UNIT_PLANS: dict[str, tuple[int | str, ...]] = {
    "unit-vgg": (1, 1, "M", 2, 2, "M", 4, 4, 4),
    "unit-vgg16": (1, 1, "M", 2, 2, "M", 4, 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M"),
}
UNIT_BLOCKS = {name: sum(one != "M" for one in plan) for name, plan in UNIT_PLANS.items()}
# early to late; what FeatureTaps and `SimilarityRegularizer(layers=...)` take
LAYERS: dict[str, tuple[str, ...]] = {  # by `ArchitectureName`
    "torchvision-resnet18": ("body.relu", "body.layer1", "body.layer2", "body.layer3", "body.layer4"),
    # the last ReLU before each pooling, and the last of all
    "vgg": ("body.features.2", "body.features.6", "body.features.13", "body.features.20", "body.features.27"),
    "vgg16": ("body.features.5", "body.features.12", "body.features.22", "body.features.32", "body.features.42"),
    "convnext": ("body.features.0", "body.features.1", "body.features.3", "body.features.5"),
    "vit": ("body.conv_proj", *(f"body.encoder.layers.encoder_layer_{index}" for index in range(TRANSFORMER_LAYERS))),
    "mlp": tuple(f"body.{3 * index + 2}" for index in range(HIDDEN_LAYERS)),  # each ReLU
    "lenet": ("body.0", "body.2", "body.5", "body.9"),  # the first convolution before its pooling, and each ReLU
    "unit-vgg": tuple(f"body.features.{place}" for place in (0, 1, 4, 8)),  # the first block, and before each pooling
    "unit-vgg16": tuple(f"body.features.{place}" for place in (1, 4, 8, 12, 16)),
}
OF_ONE_SIZE = ("vit", "mlp")  # they take images only of the size that they were made for
# narrow enough to train on 16x16 patches in seconds
WIDTHS = {"torchvision-resnet18": 8, "vgg": 8, "convnext": 16, "vit": 32, "mlp": 128, "lenet": 8}
WIDTHS |= {"vgg16": 8, "unit-vgg": 8, "unit-vgg16": 64}
_MULTIPLE = {"vit": HEADS}  # of the others 1
# smallest height and width
_SIDES = {"torchvision-resnet18": 1, "vgg": 16, "convnext": 16, "vit": PATCH, "mlp": 1, "lenet": 16}
_SIDES |= {"vgg16": 16, "unit-vgg": 4, "unit-vgg16": 4}


def check_fit(name: str, size: tuple[int, int], width: int) -> None:
    """Refuse a size of images or a width that an architecture cannot have: ValueError naming what it can."""
    multiple = _MULTIPLE.get(name, 1)
    if width < 1 or width % multiple:
        raise ValueError(f"width of '{name}' must be a positive multiple of {multiple}, got {width}")
    if min(size) < _SIDES[name]:
        raise ValueError(f"'{name}' takes images of at least {by((_SIDES[name],) * 2)}, got {by(size)}")
    if name == "vit" and (size[0] != size[1] or size[0] % PATCH):
        raise ValueError(f"'vit' takes square images whose side is a multiple of its patch, {PATCH}; got {by(size)}")


def by(size: tuple[int, ...]) -> str:
    """'16x16' of (16, 16)."""
    return "x".join(str(side) for side in size)

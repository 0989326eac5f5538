"""simreg: pixel-similarity regularization for robust CNNs (companion of arXiv 2410.03952)."""

from simreg_core import architectures, attacks, corruptions, defences, neural, spectra, suspicion, v1, whitebox
from simreg_core.loss import SimilarityRegularizer, similarity_loss
from simreg_core.model import resnet18, resnet34
from simreg_core.targets import PairSampler, pixel_similarity, threshold_targets

__all__ = [
    "PairSampler",
    "SimilarityRegularizer",
    "architectures",
    "attacks",
    "corruptions",
    "defences",
    "neural",
    "pixel_similarity",
    "resnet18",
    "resnet34",
    "similarity_loss",
    "spectra",
    "suspicion",
    "threshold_targets",
    "v1",
    "whitebox",
]
__version__ = "0.1.0"

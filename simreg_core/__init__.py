"""simreg: pixel-similarity regularization for robust CNNs (companion of arXiv 2410.03952)."""

from simreg_core import attacks, corruptions, spectra
from simreg_core.loss import SimilarityRegularizer, similarity_loss
from simreg_core.model import resnet18, resnet34
from simreg_core.targets import PairSampler, pixel_similarity, threshold_targets

__all__ = [
    "PairSampler",
    "SimilarityRegularizer",
    "attacks",
    "corruptions",
    "pixel_similarity",
    "resnet18",
    "resnet34",
    "similarity_loss",
    "spectra",
    "threshold_targets",
]
__version__ = "0.1.0"

"""simreg: pixel-similarity regularization for robust CNNs (companion of arXiv 2410.03952).

Public names are loaded when they are first used, so that each imports only what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors and type checkers see
    from simreg_core import architectures, attacks, corruptions, defences, neural, similarity, spectra
    from simreg_core.model import resnet18, resnet34
    from simreg_core.pairs import PairSampler
    from simreg_core.regularizer import SimilarityRegularizer
    from simreg_core.selection import accuracies, choose_alpha
    from simreg_core.similarity import linear_cka, similarity_loss
    from simreg_core.targets import pixel_similarity, threshold_targets

__all__ = [
    "PairSampler",
    "SimilarityRegularizer",
    "accuracies",
    "architectures",
    "attacks",
    "choose_alpha",
    "corruptions",
    "defences",
    "linear_cka",
    "neural",
    "pixel_similarity",
    "resnet18",
    "resnet34",
    "similarity",
    "similarity_loss",
    "spectra",
    "threshold_targets",
]
__version__ = "0.1.0"

_MODULES = {  # of the names that are no modules themselves
    "PairSampler": "pairs",
    "SimilarityRegularizer": "regularizer",
    "accuracies": "selection",
    "choose_alpha": "selection",
    "linear_cka": "similarity",
    "pixel_similarity": "targets",
    "resnet18": "model",
    "resnet34": "model",
    "similarity_loss": "similarity",
    "threshold_targets": "targets",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'simreg_core' has no attribute '{name}'")
    module = import_module(f"simreg_core.{_MODULES.get(name, name)}")
    return getattr(module, name) if name in _MODULES else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Defences, one system a file. Images are [b, c, h, w], float in [0, 1].

| file | what | source |
| --- | --- | --- |
| adversarial | `pgd_adversarial_examples`, `trades_loss`, and the rules that train with them | Madry 2018; Zhang 2019 |
| augmentation | `noisy`, the rule that trains with it, and the settings of a blur | Li et al. 2023 |
| base | `Rule`, `Stage`, `Artefact`, `FrontEndSettings`: what a new defence is made of | |
| hebbian | `HebbianBlock`, `logits_and_costs`, and what they are made of | Bakiskan 2022, ch. 5 |
| hebbian_training | the rule that trains a network of such blocks | Bakiskan 2022, ch. 5 |
| partial | `in_order`, `parts`, `freeze`, `set_afresh`, `hold_statistics`, and a rule | Bakiskan 2022, ch. 3 |
| polarized_training | the rule that trains behind a `PolarizingFrontEnd`, in three stages | Bakiskan 2022, 4.1 |
| polarizing | `PolarizingFrontEnd`, its certificate and losses, and a `PixelQuantizer` | Bakiskan 2022, 4.1 |
| blur | `GaussianBlur`, a front end | Li et al. 2023 |
| sparse_coding | `SparseCoder`, `RandomSparseCoder`, `learn_dictionary`, a network behind them | Bakiskan 2022, 4.2 |
| sparse_training | the `Dictionary` and the rule that trains behind a sparse-coding front end | likewise |
| front_end | `FrontEnd`, a module in front of a network, and `differentiated` | |

Settings load no torch; the names of blur, front_end, hebbian, polarizing and sparse_coding are loaded when they are
first used, since their classes do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from simreg_core.defences.adversarial import PGDTraining, TradesTraining, pgd_adversarial_examples, trades_loss
from simreg_core.defences.augmentation import Blur, NoiseTraining, noisy
from simreg_core.defences.base import Artefact, FrontEndSettings, Parent, Plain, Rule, Stage
from simreg_core.defences.hebbian_training import HebbianTraining
from simreg_core.defences.partial import PartialTraining
from simreg_core.defences.polarized_training import PolarizedTraining
from simreg_core.defences.sparse_training import Dictionary, SparseCodingTraining

if TYPE_CHECKING:
    from simreg_core.defences.blur import GaussianBlur
    from simreg_core.defences.front_end import FrontEnd, differentiated, replace_gradient
    from simreg_core.defences.hebbian import HebbianBlock, logits_and_costs
    from simreg_core.defences.polarizing import PolarizingFrontEnd
    from simreg_core.defences.sparse_coding import RandomSparseCoder, SparseCoder, learn_dictionary

__all__ = [
    "Artefact",
    "Blur",
    "Dictionary",
    "FrontEnd",
    "FrontEndSettings",
    "GaussianBlur",
    "HebbianBlock",
    "HebbianTraining",
    "NoiseTraining",
    "PGDTraining",
    "Parent",
    "PartialTraining",
    "Plain",
    "PolarizedTraining",
    "PolarizingFrontEnd",
    "RandomSparseCoder",
    "Rule",
    "SparseCoder",
    "SparseCodingTraining",
    "Stage",
    "TradesTraining",
    "differentiated",
    "learn_dictionary",
    "logits_and_costs",
    "noisy",
    "pgd_adversarial_examples",
    "replace_gradient",
    "trades_loss",
]

_OF_TORCH = {
    "FrontEnd": "front_end",
    "GaussianBlur": "blur",
    "HebbianBlock": "hebbian",
    "PolarizingFrontEnd": "polarizing",
    "RandomSparseCoder": "sparse_coding",
    "SparseCoder": "sparse_coding",
    "differentiated": "front_end",
    "learn_dictionary": "sparse_coding",
    "logits_and_costs": "hebbian",
    "replace_gradient": "front_end",
}


def __getattr__(name: str) -> Any:
    if name not in _OF_TORCH:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_OF_TORCH[name]}"), name)

"""Defences, one system a file. Images are [b, c, h, w], float in [0, 1].

| file | what | source |
| --- | --- | --- |
| adversarial | `pgd_adversarial_examples`, `trades_loss`, and the rules that train with them | Madry 2018; Zhang 2019 |
| augmentation | `noisy`, and the rule that trains with it; `GaussianBlur`, a front end | Li et al. 2023 |
| base | `Rule`, `Stage`, `Artefact`, `FrontEnd`: what a new defence is made of | |
"""

from simreg_core.defences.adversarial import PGDTraining, TradesTraining, pgd_adversarial_examples, trades_loss
from simreg_core.defences.augmentation import GaussianBlur, NoiseTraining, noisy
from simreg_core.defences.base import (
    Artefact,
    FrontEnd,
    Parent,
    Plain,
    Rule,
    Stage,
    differentiated,
    replace_gradient,
)

__all__ = [
    "Artefact",
    "FrontEnd",
    "GaussianBlur",
    "NoiseTraining",
    "PGDTraining",
    "Parent",
    "Plain",
    "Rule",
    "Stage",
    "TradesTraining",
    "differentiated",
    "noisy",
    "pgd_adversarial_examples",
    "replace_gradient",
    "trades_loss",
]

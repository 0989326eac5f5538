"""What is fixed before records are computed: the list of claims, the number of seeds, and the constants of a verdict.

A change here after the records that it judges is a change of the rules after the result: a test compares the commits
of these lines with those of the records. A claim is compared with its figure's records, all else with all.
"""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simreg_core.lab.claims import Claim

CONFIDENCE = 0.95  # of every interval
POWER = 0.80  # of the smallest detectable effect
# Accuracies of a few dozen images are multiples of some hundredths: two seeds often agree exactly, and an interval
# without width would decide. Three seldom do; their interval is wide (4.3 standard errors) but covers.
FEWEST_SEEDS = 3
MARGINS = MappingProxyType({"accuracy": 0.02, "ratio": 0.05, "correlation": 0.05, "share": 0.05})  # of 'no effect'
NOT_INFERIOR = -0.02  # "an alternative to" asks that no more than this accuracy is lost against the other
SHARE_OF_PUBLISHED = 0.5  # 'reproduced' asks at least this share of the published effect
# The criterion chooses the strongest α with a clean ratio of at least 0.9, so the ratio lies near 0.9 by construction:
# the claim is that test images keep what validation images promised, up to the margin of ratios.
CLEAN_RATIO = 0.85
SEEDS = MappingProxyType({"headline": 16, "paper": 8, "ours": 8})  # of quick, planned

# The task of an image set, under whose name effects are published; colour is another task.
TASKS = MappingProxyType(
    {
        "mnist-5k": "MNIST",
        "mnist": "MNIST",
        "cifar10": "CIFAR-10",
        "cifar10-jpeg75": "CIFAR-10",
        "cifar100": "CIFAR-100",
    }
)
CLASSES = MappingProxyType({"MNIST": 10, "CIFAR-10": 10, "CIFAR-100": 100})  # of tasks
# The largest ε of the published curves: a mean over another grid is another statistic.
PUBLISHED_ENDS = MappingProxyType(
    {
        ("CIFAR-10", "gaussian"): 0.1,
        ("CIFAR-10", "fgsm"): 0.02,
        ("CIFAR-100", "gaussian"): 0.1,
        ("MNIST", "gaussian"): 0.5,
    }
)

HEADLINE = (
    "gaussian", "fgsm", "boundary", "clean", "over-pixel", "alternative", "sets", "half-power", "corruptions",
    "pixel-neural",
)  # fmt: skip

CLAIMS: Mapping[str, str] = MappingProxyType(  # a digest of what each claim says and asks, by key
    {
        "pixel-neural": "4bc373a8",
        "as-printed": "1ec9fcb8",
        "gaussian": "61f4c512",
        "fgsm": "da0581bf",
        "boundary": "2a13a29c",
        "clean": "c98bdd9d",
        "over-pixel": "035701f3",
        "pixel-inconsistent": "d5e9f9dd",
        "neural-target": "b2cba1df",
        "alternative": "d6c7d706",
        "not-shuffled-neural": "ed46633c",
        "consistent": "5dec90ec",
        "sets": "89210b51",
        "corruptions": "20784faa",
        "half-power": "86836ae2",
        "every-k": "06edbee2",
        "count-suffices": "913345c1",
        "count-too-small": "ce2b6303",
        "colour": "d85b0161",
        "low-layers": "1e836a38",
        "not-low": "74d2e815",
        "not-shuffled": "c45564dc",
        "not-batch-norm": "3716d4aa",
        "other-tasks": "00383ce0",
        "audit": "91d7a88a",
        "white-box": "0d22141f",
        "autoattack": "591ac3b7",
        "over-adversarial": "e56ea26c",
        "over-noise": "b3c7118c",
        "minimal": "2c9dedc1",
        "transfer": "3491249e",
        "adaptive": "1e428d20",
        "architectures": "93d524aa",
        "cost": "44481021",
        "partial-asymmetry": "4e4dac5c",
        "partial-exponential": "726cb100",
        "partial-few-modules": "125a9808",
        "partial-collapse": "5248c18e",
        "partial-depth": "dfdd33c9",
        "partial-psr": "aee98766",
        "partial-sparsity": "2317b6a1",
        "polarizing-helps": "c2cba669",
        "polarizing-below-adversarial": "628e69d5",
        "polarizing-over-pixels": "e1279c3d",
        "polarizing-certificate": "01f1cdd6",
        "polarizing-filters": "9b33adbe",
        "sparse-signs": "19401a80",
        "sparse-near-adversarial": "98a61df7",
        "sparse-random-every-epsilon": "e7262db8",
        "sparse-other-norms": "9ed0fbc4",
        "sparse-to-chance": "4c77e9b9",
        "hebbian-sparser": "e7191b3c",
        "hebbian-noise": "4905b4e9",
        "hebbian-components": "78a42104",
        "hebbian-corruptions": "c65f7a35",
        "hebbian-not-masked": "f78ab4bf",
        "hebbian-blocks": "af1db015",
        "all-digits": "76937880",
        "all-photographs": "4be5ebec",
        "all-structural": "6dfd1cc3",
        "all-noise": "753576b1",
        "targets": "0d2505fa",
        "true-pairs": "d28d8610",
        "loss": "e09cfb37",
        "zeros-help": "811eac35",
        "shared-statistics": "7e6d6177",
        "own-images": "684de284",
        "smooth-gradient": "09593ef6",
        "smooth-filters": "f94d8136",
        "unseen-pairs": "91b2a56b",
        "other-similarities": "337404cd",
        "pixel-cosine": "36db834c",
        "linear-cka": "092540c4",
        "tabular": "e81d5d24",
        "low-pass-set": "fc0b19aa",
    }
)


# Text and statistic of claims whose figure does not exist yet, but which other figures' records will judge too.
# 'batch norms' are the three ways in which pairs pass it: shared, separate, frozen.
PLANNED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "targets": (
            "The targets ±1 raise accuracy under noise more than zeros do",
            "mean accuracy over the grid of Gaussian ε, S^Th minus all targets 0, mean over batch norms and sets",
        ),
        "true-pairs": (
            "True targets raise accuracy under noise more than shuffled ones",
            "mean accuracy over the grid of Gaussian ε, S^Th minus shuffled S^Th, mean over batch norms and sets",
        ),
        "loss": (
            "S^Th raises accuracy under noise more than pairs without loss",
            "mean accuracy over the grid of Gaussian ε, S^Th minus pairs without loss, mean over batch norms and sets",
        ),
        "zeros-help": (
            "All targets zero raise accuracy under Gaussian noise",
            "mean accuracy over the grid of Gaussian ε, all targets 0 minus none, mean over batch norms and sets",
        ),
        "shared-statistics": (
            "S^Th raises accuracy more when pairs share batch norm",
            "mean accuracy over the grid of Gaussian ε, S^Th with shared minus separate statistics, mean over sets",
        ),
        "own-images": (
            "S^Th raises accuracy more with the task's own images",
            "mean accuracy over the grid of Gaussian ε, S^Th own minus foreign images, mean over batch norms",
        ),
        "smooth-gradient": (
            "S^Th takes high frequencies out of the input gradient",
            "share of power above 0.25 cycles/pixel of input gradients, none minus S^Th",
        ),
        "smooth-filters": (
            "S^Th takes high frequencies out of the first filters",
            "share of power above 0.25 cycles/pixel of the first layer's filters, none minus S^Th",
        ),
        "unseen-pairs": (
            "On unseen pairs S^Th makes the network's similarity follow pixels'",
            "correlation of S^CNN, all layers alike, with pixel similarity over pairs of test images, S^Th minus none",
        ),
        "other-similarities": (
            "Other target similarities raise accuracy as well; none loses",
            "mean accuracy over the grid of Gaussian ε, each with as many ±1 pairs as S^Th, minus none, mean",
        ),
        "pixel-cosine": (
            "The pixel cosine raises accuracy more than untrained features",
            "mean accuracy over the grid of Gaussian ε, S^Th minus the same of an untrained network's features",
        ),
        "linear-cka": (
            "S^Th compared by linear CKA raises accuracy under noise",
            "mean accuracy over the grid of Gaussian ε, S^Th with linear CKA minus none",
        ),
        "tabular": (
            "S^Th raises accuracy under noise on data that are not images",
            "mean accuracy over the grid of Gaussian ε on a tabular set, S^Th minus none",
        ),
        "low-pass-set": (
            "A low-pass regularization set does no worse",
            "mean accuracy over the grid of Gaussian ε, S^Th with a low-pass regularization set minus S^Th",
        ),
    }
)


def digest_of(claim: "Claim") -> str:
    """8 hex digits that change with all that a claim says and asks, but not with how it is computed."""
    said = {
        "text": claim.text,
        "statistic": claim.statistic,
        "threshold": claim.threshold,
        "scale": claim.scale,
        "confidence": claim.confidence,
        "protocols": claim.protocols,
        "conditions": claim.conditions,
        "published": dict(claim.published),
        "also": [(one.key, one.statistic, dict(one.published)) for one in claim.also],
        "parts": claim.parts is not None,
        "not_inferior": claim.not_inferior,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]

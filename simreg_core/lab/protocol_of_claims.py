"""What is fixed before records are computed: the list of claims, the number of seeds, and the constants of a verdict.

A change here after the records that it judges is a change of the rules after the result: a test compares the commit
that last changed this file with the commits in the records.
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

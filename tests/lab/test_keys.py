"""Keys of experiments: published records are found by them, so they must not move."""

import numpy as np
import pytest

from simreg_core.lab.specs import Experiment, build

BASE = {
    "task": {"images": "photos", "size": [16, 16], "channels": 1, "validation_images": 1000, "augment": "crop-flip"},
    "network": {"name": "resnet10", "width": 8, "shift": 0.5, "gain": 5.0},
    "optimization": {"epochs": 4, "learning_rate": 0.05, "decay": 0.2, "phase_epochs": 3, "phases": 2},
}
REGULARIZER = {"images": "photos", "count": 500, "threshold": 0.8, "pairs_per_step": 16, "alpha": 0.2}


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("eef3d1a91c948bd9", {}),
        ("52228a7492d69955", {"regularizer": REGULARIZER}),
        ("6376603633b6eef8", {"adversarial": {"method": "pgd", "epsilon": 0.02, "steps": 3}}),
        ("9ccaffbaef22516f", {"adversarial": {"method": "gaussian", "epsilon": 0.1}}),
        ("7fc24692d537c77d", {"network": {**BASE["network"], "blur": 1.5}}),
        ("871387a59ab9424c", {"adversarial": {"method": "trades", "epsilon": 0.02, "steps": 2, "beta": 6}}),
        ("30b41f9e9f5d86ae", {"regularizer": {**REGULARIZER, "target": "zero", "statistics": "separate"}, "seed": 3}),
    ],
    ids=["none", "S^Th", "adversarial training", "noise augmentation", "blur", "TRADES", "zeros"],
)
def test_keys_of_experiments_do_not_move(key, changes):
    assert build(Experiment, {**BASE, **changes}).key == key


def test_a_number_in_single_precision_is_what_it_prints():
    single = {**REGULARIZER, "alpha": np.float32(0.2), "threshold": np.float32(0.8)}
    one, other = (build(Experiment, {**BASE, "regularizer": given}) for given in (REGULARIZER, single))
    assert one.key == other.key

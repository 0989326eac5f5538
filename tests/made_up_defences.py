"""Notebook 24 with made-up numbers."""

from types import SimpleNamespace

import pandas as pd
from made_up import SIZE, made_up

from simreg_core.lab.defences_gains import DIGITS, OWN_PGD, PHOTOGRAPHS, STRUCTURAL, WITHOUT_AUTOATTACK, WORST
from simreg_core.lab.defences_study import HAH, LENET, PARTIAL, POLARIZING, SPARSE, UNIT_VGG
from simreg_core.lab.series import NEURAL, NONE, PIXEL, THRESHOLD
from simreg_core.lab.specs import ADVERSARIAL, NOISE
from simreg_core.lab.study import COMPARED, Study

SEEDS = 5
ROWS = (NONE, PIXEL, THRESHOLD, NEURAL, ADVERSARIAL, "TRADES", NOISE, "blur", *STRUCTURAL)


def strengths(good: bool) -> dict[str, float]:
    """Accuracy under the strongest attack; bad: S^Th is the worst of all but adversarial training."""
    values = {NONE: 0.1, PIXEL: 0.2, THRESHOLD: 0.4, NEURAL: 0.25, ADVERSARIAL: 0.8, "TRADES": 0.75, NOISE: 0.35}
    values |= {"blur": 0.12, PARTIAL: 0.3, POLARIZING: 0.22, SPARSE: 0.05, HAH: 0.15, LENET: 0.08, UNIT_VGG: 0.05}
    return values if good else {**values, THRESHOLD: 0.0, ADVERSARIAL: -0.1, SPARSE: 0.3}


def table_of(good: bool = True, groups=(DIGITS, PHOTOGRAPHS)) -> pd.DataFrame:
    rows = []

    def add(attack, metric, value, **fields):
        empty = dict.fromkeys(("condition", "epsilon", "role", "corruption", "severity", "repeat"))
        fixed = {"protocol": "strict", "attempted": 100, "failed": 0, "chance": 0.1}
        rows.append({**empty, **fixed, "attack": attack, "metric": metric, "value": value, **fields})

    for group in groups:
        for seed in range(SEEDS):
            for name, own in strengths(good).items():
                one, value = {"group": group, "series": name, "seed": seed}, max(own + 0.01 * seed, 0.0)
                noisy = 0.3 + 0.5 * (own if good or name != THRESHOLD else -0.4)
                for attack in ("gaussian", "fgsm"):
                    for epsilon in (0.0, 0.5):
                        share = 0.95 - 0.2 * value if epsilon == 0 else noisy
                        add(attack, "accuracy", share, epsilon=epsilon, **one)
                add("boundary", SIZE, 0.01 * (1 + value), repeat=0, **{**one, "protocol": "released"})
                for severity in (0, 3):
                    corruption = "fog" if severity else None
                    add("corruption", "accuracy", 0.9 - 0.1 * severity, severity=severity, corruption=corruption, **one)
                passes = 4.0 if name in (ADVERSARIAL, "TRADES") else 1.5
                add("cost", "multiply_adds", 2e6, **one)
                add("cost", "training_multiply_adds", 2e6 * (1 if name in (NONE, LENET, UNIT_VGG) else passes), **one)
                add("cost", "parameters", 1e4, **one)
                attack = "code_attacks" if name == SPARSE else "front_end"
                at = {**one, "epsilon": 0.1, "role": COMPARED}
                conditions = {OWN_PGD.get(name, "PGD"): value + 0.05, WORST: value}
                if name not in WITHOUT_AUTOATTACK:
                    conditions["AutoAttack, reduced"] = value + 0.02
                for condition, share in conditions.items():
                    add(attack, "accuracy", share, condition=condition, **at)
                if name == POLARIZING:
                    add(attack, "certified", 0.1, **at)
    return pd.DataFrame(rows)


def study_of(table: pd.DataFrame) -> Study:
    """With two flagged records of the polarizing front end on digits."""
    study = made_up("24_all_defences", table)
    warned = SimpleNamespace(arrays={}, warnings=("one",))
    study.__dict__["_records"] = ((DIGITS, POLARIZING, warned), (DIGITS, POLARIZING, warned))
    return study

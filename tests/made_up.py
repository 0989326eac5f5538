"""Studies with made-up numbers instead of records."""

import pandas as pd

from simreg_core.lab.figures import figure
from simreg_core.lab.specs import load_profile
from simreg_core.lab.study import Block, Study

SIZE = "median_squared_l2_per_pixel"


def made_up(name: str, table: pd.DataFrame, protocol: str | None = None) -> Study:
    """The study of a figure of quick, with this table; under the figure's default protocol if none is given."""
    own = figure(name)
    block = Block(dict.fromkeys(table["series"].unique(), ()), ())
    study = Study(name, load_profile("quick"), (block,), own, protocol or next(iter(own.protocols), None))
    study.__dict__["_table"] = table
    return study


def attack_rows(bonuses: dict[str, float], group: str = "") -> list[dict]:
    """Rows of curves whose robustness grows with their bonus, of four seeds."""
    rows = []
    for series, bonus in bonuses.items():
        for seed in range(4):
            one = {"group": group, "series": series, "seed": seed, "protocol": "released"}
            for attack in ("gaussian", "uniform", "salt_and_pepper", "fgsm"):
                for epsilon in (0.0, 0.1):
                    value = 0.8 - (5 - bonus) * epsilon + 0.001 * seed
                    rows.append({**one, "attack": attack, "epsilon": epsilon, "metric": "accuracy", "value": value})
            for repeat in range(2):
                size = 2 + bonus / 4 + 0.01 * seed + repeat
                rows.append({**one, "attack": "boundary", "repeat": repeat, "metric": SIZE, "value": size})
    return rows


def attack_table(**bonuses: float) -> pd.DataFrame:
    """As `attack_rows`, as the table of a study."""
    return pd.DataFrame(attack_rows(bonuses)).assign(attempted=5, failed=0, condition=None)

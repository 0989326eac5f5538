"""A curve of a new defence is drawn."""

import pandas as pd
import pytest
from made_up import made_up

from simreg_core.lab.figures import white_box
from simreg_core.lab.study import COMPARED


def white_box_table(*more: str) -> pd.DataFrame:
    """As few numbers as the figure of notebook 14 takes, of none, S^Th and more series."""
    rows = []
    for series in ("none", "S^Th", *more):
        for seed in (0, 1):
            own = {
                "series": series,
                "seed": seed,
                "metric": "accuracy",
                "attack": "white_box",
                "role": COMPARED,
                "value": 0.5 + 0.1 * seed,
            }
            for condition in ("PGD", "Square"):
                rows.append({**own, "condition": condition, "epsilon": 0.1})
            rows.append({**own, "condition": "PGD, L2", "epsilon": 0.1, "role": None})
            for surrogate in ("none", "S^Th"):
                rows.append({**own, "attack": "transfer", "condition": f"momentum from {surrogate}", "epsilon": 0.1})
            for norm, method in (("linf", "fast"), ("l2", "fast"), ("l0", "fast"), ("l2", "hop_skip_jump")):
                sizes = {
                    "attack": "minimum_norm",
                    "role": None,
                    "metric": f"median_{norm}",
                    "condition": method,
                    "epsilon": None,
                }
                rows.append({**own, **sizes, "role": None})
    return pd.DataFrame(rows).assign(group="", protocol="strict", attempted=60, failed=0)


def test_a_curve_of_a_new_defence_is_drawn():
    table = white_box_table("mine")
    labels = [text.get_text() for text in made_up("14_white_box", table).draw().legends[0].get_texts()]
    assert labels[-1] == "mine (n = 2)"
    without_pgd = table[(table["series"] != "mine") | ~table["condition"].isin(["PGD", "PGD, L2"])]
    with pytest.raises(LookupError, match="no measurement of series 'mine'"):
        made_up("14_white_box", without_pgd).draw()


def test_the_legend_counts_flagged_records(monkeypatch):
    found = pd.DataFrame({"series": ["mine", "mine"], "seed": [0, 1], "warning": "zero gradients"})
    monkeypatch.setattr(white_box, "flagged", lambda study: found)
    picture = made_up("14_white_box", white_box_table("mine", "blur")).draw()
    said = [text.get_text() for text in picture.legends[0].get_texts()]
    assert said[0] == "none (n = 2)"
    assert said[2:] == ["mine (n = 2), 2 flagged", "blur (n = 2)"]

"""A curve of a new defence is drawn."""

import pandas as pd
import pytest
from made_up import made_up

from simreg_core.lab.figures import white_box
from simreg_core.lab.series import LOOKS
from simreg_core.lab.specs import ADVERSARIAL, NOISE
from simreg_core.lab.study import COMPARED


def white_box_table(*more: str) -> pd.DataFrame:
    """As few numbers as the figure of notebook 14 takes, of those that it compares and more series."""
    rows = []
    for series in ("none", "S^Th", ADVERSARIAL, NOISE, *more):
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
            rows.append({**own, "attack": "gaussian", "condition": None, "epsilon": 0.1, "role": None})
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


def test_gains_are_paired_by_seed_and_a_panel_names_whom_its_attack_leaves_out():
    table = white_box_table("mine")
    table.loc[(table["series"] == "mine") & (table["seed"] == 1), "value"] = 0.9  # none: 0.6
    gains = white_box.gains_by_epsilon(table[table["attack"] == "gaussian"], "mine")
    assert gains.loc[0.1].tolist() == pytest.approx([0, 0.3])
    fewer = table[(table["series"] != "mine") | ~table["attack"].isin(["transfer", "minimum_norm"])]
    picture = made_up("14_white_box", fewer).draw()
    named = [ax.get_title() for ax in picture.axes if "not on: mine" in ax.get_xlabel()]
    assert named == ["Transferred from none", f"Transferred from {LOOKS['S^Th'].label}", "Smallest perturbations"]
    (noises,) = (ax for ax in picture.axes if ax.get_title() == "Gaussian noise")
    assert [line.get_ydata()[0] for line in noises.lines if line.get_gid() == "mine"] == [pytest.approx(0.15)]


def test_the_legend_counts_flagged_records(monkeypatch):
    found = pd.DataFrame({"series": ["mine", "mine"], "seed": [0, 1], "warning": "zero gradients"})
    monkeypatch.setattr(white_box, "flagged", lambda study: found)
    picture = made_up("14_white_box", white_box_table("mine", "blur")).draw()
    said = [text.get_text() for text in picture.legends[0].get_texts()]
    assert said[0] == "none (n = 2)"
    assert said[4:] == ["mine (n = 2), 2 flagged", "blur (n = 2)"]

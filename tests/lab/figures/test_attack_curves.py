"""The claims of notebook 02 ask for what their words say."""

import numpy as np
import pandas as pd
import pytest
from made_up import attack_table, made_up

from simreg_core.lab.claims import judge, mean_interval
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.make.claims_table import table_of_claims


def test_attack_claims_on_made_up_numbers():
    good = attack_table(**{"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 1.5, "shuffled S^neural": 0.5})
    holds = "direction holds"
    assert made_up("02_attack_curves", good).headlines() == {
        "gaussian": holds, "fgsm": holds, "boundary": holds, "clean": holds, "over-pixel": holds,
        "pixel-inconsistent": "contradicted",
        "neural-target": holds, "alternative": holds, "not-shuffled-neural": holds,
    }  # fmt: skip
    first = made_up("02_attack_curves", good).judge()[0]
    assert first.estimate == pytest.approx(0.1)  # the mean over the grid 0, 0.1
    assert first.also[0]["estimate"] == pytest.approx(0.2)
    assert {one.protocol for one in made_up("02_attack_curves", good).judge()} == {"released"}
    strict = made_up("02_attack_curves", good.assign(protocol="strict"), "strict").headlines()
    neural = {"neural-target", "alternative", "not-shuffled-neural"}
    assert strict.keys() == {"gaussian", "fgsm", "clean", "over-pixel"} | neural
    poor = {"none": 0, "S^pixel": -1, "S^Th": -2, "S^neural": -1, "shuffled S^neural": 0}
    bad = made_up("02_attack_curves", attack_table(**poor)).headlines()
    assert {bad[key] for key in ("gaussian", "fgsm", "boundary", "over-pixel", *neural)} == {"contradicted"}
    assert bad["pixel-inconsistent"] == holds


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.86, "direction holds"), (0.85, "no effect"), (0.801, "no effect"), (0.79, "contradicted")]
)
def test_clean_accuracy_is_asked_what_validation_images_promised_up_to_the_margin(ratio, verdict):
    table = attack_table(**{"none": 0, "S^pixel": 0, "S^Th": 0, "S^neural": 0, "shuffled S^neural": 0})
    clean = (table["epsilon"] == 0) & (table["series"] == "S^Th")
    table.loc[clean, "value"] = table.loc[clean, "value"] * ratio
    (found,) = (one for one in made_up("02_attack_curves", table).judge() if one.key == "clean")
    assert (found.verdict, found.threshold, found.estimate) == (verdict, 0.85, pytest.approx(ratio))


@pytest.mark.parametrize(
    ("behind", "verdict"),
    [(0.0, "direction holds"), (0.015, "direction holds"), (0.025, "contradicted"), (0.1, "contradicted")],
)
def test_an_alternative_need_not_be_better(behind, verdict):
    """The title says alternative: at most 0.02 of accuracy behind."""
    bonuses = {"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 2 + 20 * behind, "shuffled S^neural": 0}
    (found,) = (one for one in made_up("02_attack_curves", attack_table(**bonuses)).judge() if one.key == "alternative")
    assert (found.source, found.threshold, found.estimate) == ("title", -0.02, pytest.approx(-behind))
    assert found.verdict == verdict
    assert "no worse" in found.claim


def test_the_worst_of_three_attacks_is_judged_with_a_wider_interval():
    (shortfall,) = (one for one in FIGURES["02_attack_curves"].claims if one.key == "pixel-inconsistent")
    assert shortfall.confidence == pytest.approx(1 - 0.05 / 3)
    assert f"{shortfall.confidence:.1%}" in shortfall.statistic
    assert {one.confidence for own in FIGURES.values() for one in own.claims if one is not shortfall} == {0.95}
    values = np.array([0.02, 0.4, -0.02, 0.5, 0.03, 0.01])
    low, high = mean_interval(values)
    found = judge(shortfall, values)
    assert (found.low, found.high) == mean_interval(values, shortfall.confidence)
    assert found.low < low < high < found.high


def test_the_strict_protocol_has_its_own_verdict():
    released = attack_table(**{"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 1, "shuffled S^neural": 0})
    strict = released[released["attack"] != "boundary"].assign(protocol="strict")
    strict.loc[strict["series"] == "S^Th", "value"] -= 0.3
    made = [one.as_dict() for one in made_up("02_attack_curves", pd.concat([released, strict])).judge()]
    converged = {"key": "converged", "verdict": "not decided here", "n": 4, "unit": "seeds"}
    figures = {"02_attack_curves": {"claims": made}, "13_protocol_audit": {"claims": [converged]}}
    found = {row["key"]: (row["verdict"], row["strict"]) for row in table_of_claims(figures)}
    assert found["gaussian"] == ("direction holds", "contradicted")
    assert found["boundary"] == ("direction holds", "not decided here")  # of the most steps, which the audit has
    assert found["pixel-inconsistent"][1] is None

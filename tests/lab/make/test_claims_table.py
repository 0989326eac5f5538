"""The table of claims has every main claim of every figure, and says what is not measured."""

from made_up import attack_table, made_up

from simreg_core.lab.figures import FIGURES
from simreg_core.lab.make.claims_table import NOT_MEASURED, claims_markdown, table_of_claims


def test_the_table_has_every_claim_and_says_what_is_not_measured():
    bonuses = {"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 1, "shuffled S^neural": 0}
    made = [one.as_dict() for one in made_up("02_attack_curves", attack_table(**bonuses)).judge()]
    rows = table_of_claims({"02_attack_curves": {"claims": made}})
    assert [row["key"] for row in rows] == [one.key for own in FIGURES.values() for one in own.claims]
    found = {row["key"]: row["verdict"] for row in rows}
    assert (found["gaussian"], found["pixel-neural"], found["sets"]) == ("holds", NOT_MEASURED, NOT_MEASURED)
    text = claims_markdown(rows)
    assert "| > 0 | 0.260 | 0.200 [0.200, 0.200] | 4 seeds | **holds** |" in text
    assert text.count("\n") == len(rows) + 2
    beside = claims_markdown(rows, {"recorded": rows}).splitlines()
    assert beside[0].endswith("| strict | recorded |")
    (gaussian,) = (line for line in beside if "robust to Gaussian noise" in line)
    assert gaussian.endswith("| holds: 0.200 [0.200, 0.200] |")


def test_flagged_records_are_counted_beside_the_verdict():
    bonuses = {"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 1, "shuffled S^neural": 0}
    made = [one.as_dict() for one in made_up("02_attack_curves", attack_table(**bonuses)).judge()]
    records = [{"warnings": ["zero gradients"]}, {}]
    text = claims_markdown(table_of_claims({"02_attack_curves": {"claims": made, "records": records}}))
    assert "**holds** (⚠ 1 records flagged)" in text


def test_every_claim_has_a_key_of_its_own():
    keys = [claim.key for own in FIGURES.values() for claim in own.claims]
    assert len(keys) == len(set(keys)) > 30
    found_elsewhere = [claim.strict_in for own in FIGURES.values() for claim in own.claims if claim.strict_in]
    assert {notebook for notebook, _ in found_elsewhere} <= set(FIGURES)

"""The tables of claims have every main claim of every figure, in groups, and say what is not measured."""

import re

import pytest
from made_up import attack_table, made_up

from simreg_core.lab.claims import GROUPS, NOT_MEASURED
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.make.claims_table import claims_markdown, group_table, headline_table, table_of_claims
from simreg_core.lab.specs import PROJECT

LINK = re.compile(r"\]\(([^)]+)\)")
BONUSES = {"none": 0, "S^pixel": 1, "S^Th": 2, "S^neural": 1, "shuffled S^neural": 0}


def made(**more) -> dict:
    """The JSON of figure 02, from made-up numbers."""
    claims = [one.as_dict() for one in made_up("02_attack_curves", attack_table(**BONUSES)).judge()]
    return {"02_attack_curves": {"claims": claims, **more}}


def test_the_table_has_every_claim_and_says_what_is_not_measured():
    rows = table_of_claims(made())
    of_all = [one.key for own in FIGURES.values() if own.part is None for one in own.claims]
    assert [row["key"] for row in rows] == of_all
    with_parts = table_of_claims({**made(), **{name: {} for name, own in FIGURES.items() if own.part is not None}})
    assert [row["key"] for row in with_parts] == [one.key for own in FIGURES.values() for one in own.claims]
    assert {row["group"] for row in with_parts} == set(GROUPS)
    found = {row["key"]: row["verdict"] for row in rows}
    assert (found["gaussian"], found["sets"]) == ("direction holds", NOT_MEASURED)
    (gaussian,) = (row for row in rows if row["key"] == "gaussian")
    assert [one["key"] for one in gaussian["also"]] == ["at-largest", "less-lost"]
    assert (gaussian["images"], gaussian["planned"], gaussian["group"]) == (5, 16, "headline")
    text = claims_markdown(rows, "quick")
    for row in rows:  # a figure that is not drawn has no link
        assert (f"| {row['claim']} ([figure]" if row["notebook"] in made() else f"| {row['claim']} ([notebook") in text
    assert "accuracy at the largest ε, S^Th minus none, 0.200 [0.200, 0.200]; published 0.260 (CIFAR-10)" in text


def test_the_headline_table_has_ten_rows_at_most_and_one_cell_says_all():
    rows = table_of_claims(made())
    lines = group_table(rows, "headline", "quick", {"recorded": rows}).splitlines()
    assert lines[0] == "| claim | published | quick | recorded |"
    headline = [line for line in lines[2:] if line.startswith("|")]
    assert len(headline) == 10
    (gaussian,) = (line for line in headline if "raises accuracy under Gaussian noise (" in line)
    assert "| 0.151 (CIFAR-10), 0.284 (MNIST) |" in gaussian
    said = "**direction holds**<br>0.100 [0.100, 0.100] (a)<br>4 seeds (of 16 planned) × 5 images |"
    assert said in gaussian  # where all seeds agree nothing says what would have been found
    assert gaussian.endswith("5 images |")  # the other profile's
    spread = [{**row, "detectable": 0.0284} for row in rows]
    assert "5 images; would have found 0.028 |" in group_table(spread, "headline", "quick")
    assert lines[-1].startswith("How α and Th were chosen: (a) α 0.5, Th 0.2")


def test_the_table_of_the_readme_says_verdict_and_effect():
    rows = table_of_claims(made(records=[{"warnings": ["zero gradients"]}]))
    lines = headline_table(rows, "quick", {"recorded": []}).splitlines()
    assert lines[0] == "| claim | published | quick | recorded |"
    assert len(lines) == 12
    (gaussian,) = (line for line in lines if "raises accuracy under Gaussian noise]" in line)
    assert gaussian.endswith("| **direction holds** (⚠ 1 record flagged), 0.100 [0.100, 0.100], 4/16 seeds |  |")
    assert gaussian.startswith("| [S^Th raises accuracy under Gaussian noise](notebooks/02_attack_curves.ipynb) | 0.15")
    for seeds, said in ((2, " |  |"), (3, ", 3/16 seeds |")):  # of another profile: two seeds decide nothing
        few = [{**row, "n": seeds} if row["key"] == "gaussian" else row for row in rows]
        lines_of_both = headline_table(rows, "quick", {"recorded": few}).splitlines()
        (both,) = (line for line in lines_of_both if "raises accuracy under Gaussian noise]" in line)
        assert both.endswith(said)
    unmeasured = [row for row in rows if row["group"] == "headline" and row["verdict"] == "not measured"]
    assert sum("| not measured |" in line for line in lines) == len(unmeasured) > 0


def test_every_claim_is_in_one_group_and_every_link_leads_to_a_file():
    rows = table_of_claims({})
    assert {row["group"] for row in rows} == set(GROUPS) - {"dissertation"}  # its figures are not of every profile
    page = claims_markdown([{**row, "drawn": True} for row in rows], "quick")
    assert page.count("([figure](") == len(rows)
    folder = PROJECT / "figures" / "quick"
    assert [link for link in LINK.findall(page) if not (folder / link).exists()] == []


@pytest.mark.parametrize("profile", ["quick", "cifar-small"])
def test_every_link_of_a_committed_page_leads_to_a_file(profile):
    page = PROJECT / "figures" / profile / "claims.md"
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert len(links) > 50
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_a_strict_verdict_of_another_notebook_says_which_and_how_many_seeds():
    found = {"key": "converged", "verdict": "not decided here", "n": 8, "unit": "seeds"}
    rows = table_of_claims({**made(), "13_protocol_audit": {"claims": [found]}})
    text = group_table(rows, "headline", "quick")
    assert "<br>strict: not decided here (notebook 13, 8 seeds) |" in text
    assert text.count("(notebook 13") == 1


def test_flagged_records_and_what_was_not_accepted_are_said_beside_the_verdict():
    rows = table_of_claims(made(records=[{"warnings": ["zero gradients"]}, {}]))
    rows = [{**row, "left_out": ["foreign"]} if row["key"] == "gaussian" else row for row in rows]
    text = group_table(rows, "headline", "quick")
    assert "**direction holds** (⚠ 1 record flagged)" in text
    assert "<br>not accepted: foreign" in text


def test_every_claim_has_a_key_of_its_own():
    keys = [claim.key for own in FIGURES.values() for claim in own.claims]
    assert len(keys) == len(set(keys)) > 30
    found_elsewhere = [claim.strict_in for own in FIGURES.values() for claim in own.claims if claim.strict_in]
    assert {notebook for notebook, _ in found_elsewhere} <= set(FIGURES)

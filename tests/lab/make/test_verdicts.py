"""Verdicts as text."""

import json

import pytest

from simreg_core.lab.figures import FIGURES
from simreg_core.lab.files import StoreError
from simreg_core.lab.make.notebooks import notebook_paths
from simreg_core.lab.make.verdicts import put_claims_into, summary
from simreg_core.lab.specs import PROJECT, load_profile
from simreg_core.lab.verdict_words import effect_in_words


def claim(verdict, text="It helps", main=True, protocol=None):
    found = {"estimate": 0.2, "low": 0.1, "high": 0.3, "threshold": 0.0, "margin": 0.02}
    return {"claim": text, "verdict": verdict, "main": main, "protocol": protocol, "also": [], **found}


@pytest.mark.parametrize(
    ("protocol", "judged", "head"),
    [
        ({}, None, "**Verdict** (tiny profile)."),
        ({"protocol": "strict"}, "strict", "**Verdict** (tiny profile, protocol `strict`)."),
        ({"protocol": "both"}, "released", "**Verdict** (tiny profile, protocol `both`, judged under `released`)."),
    ],
)
def test_a_summary_says_the_protocol_of_its_figure(protocol, judged, head):
    made = {"profile": "tiny", "claims": [claim("reproduced", protocol=judged)], **protocol}
    assert summary(made) == f"{head} Shown here: It helps (reproduced, 0.200 [0.100, 0.300])."
    finer = {**made, "claims": [*made["claims"], claim("contradicted", "It", main=False)]}
    assert summary(finer) == summary(made)


def test_a_summary_has_three_parts_at_most_and_lists_several_claims():
    texts = {
        "direction holds": "A",
        "no effect": "B",
        "contradicted": "C",
        "not decided here": "D",
        "not accepted": "E",
    }
    made = {"profile": "tiny", "claims": [claim(verdict, text) for verdict, text in texts.items()]}
    head, first, second, *b_and_c, third, d_and_e = summary(made).split("\n\n")
    assert head == "**Verdict** (tiny profile)."
    assert first == "Shown here: A (direction holds, 0.200 [0.100, 0.300])."
    assert second == "Not so here:"
    assert b_and_c == ["- B (no effect, 0.200 [0.100, 0.300])\n- C (contradicted, 0.200 [0.100, 0.300])"]
    assert third == "Open:"
    assert d_and_e == "- D (not decided here, 0.200 [0.100, 0.300])\n- E (not accepted)"
    one_each = {**made, "claims": made["claims"][:2]}
    assert summary(one_each).split("\n")[1] == "Not so here: B (no effect, 0.200 [0.100, 0.300])."


def test_a_claim_that_fails_by_one_part_names_it():
    words = "the least favourable: digits, over partial (interval: 99.4%, as 8 are looked at)"
    least = {"key": "least-favourable", "statistic": words, "estimate": -0.5, "low": -0.9, "high": -0.1}
    failed = {**claim("contradicted"), "also": [least]}
    said = "0.200 [0.100, 0.300]; digits, over partial: -0.500 [-0.900, -0.100]"
    assert summary({"profile": "tiny", "claims": [failed]}).endswith(f"(contradicted, {said}).")
    assert effect_in_words({**failed, "high": -0.01}) == "0.200 [0.100, -0.010]"  # the mean says it


def test_a_summary_says_where_there_are_fewer_seeds_than_planned():
    few = {**claim("not decided here", "A"), "n": 2, "planned": 8}
    said = summary({"profile": "tiny", "claims": [few]})
    assert said.endswith("Open: A (not decided here, 0.200 [0.100, 0.300], 2 of 8 planned seeds).")
    enough = summary({"profile": "tiny", "claims": [{**few, "n": 8}]})
    assert enough.endswith("Open: A (not decided here, 0.200 [0.100, 0.300]).")


def test_the_readme_has_the_committed_headline_table(tmp_path):
    page = tmp_path / "README.md"
    page.write_text((PROJECT / "README.md").read_text())
    put_claims_into(page, PROJECT / "figures" / "quick")
    assert page.read_text() == (PROJECT / "README.md").read_text()
    page.write_text("no marks")
    with pytest.raises(StoreError, match="lacks the marks"):
        put_claims_into(page, PROJECT / "figures" / "quick")


def test_the_committed_summaries_are_those_of_the_committed_figures():
    compared = 0
    quick = load_profile("quick")
    for path in [path for path in notebook_paths() if path.stem not in FIGURES or FIGURES[path.stem].is_of(quick)]:
        made = json.loads((PROJECT / "figures" / "quick" / f"{path.stem}.json").read_text())
        cells = json.loads(path.read_text())["cells"]
        found = ["".join(cell["source"]) for cell in cells if "summary" in cell["metadata"].get("tags", [])]
        assert found == ([summary(made)] if made.get("claims") else []), path.name
        compared += len(found)
    assert compared == 23

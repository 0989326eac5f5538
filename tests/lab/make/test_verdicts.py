"""Verdicts as text."""

import json

import pytest

from simreg_core.lab.make.notebooks import notebook_paths
from simreg_core.lab.make.verdicts import summary
from simreg_core.lab.specs import PROJECT


@pytest.mark.parametrize(
    ("protocol", "judged", "head"),
    [
        ({}, None, "**Verdict** (tiny profile):"),
        ({"protocol": "strict"}, "strict", "**Verdict** (tiny profile, protocol `strict`):"),
        ({"protocol": "both"}, "released", "**Verdict** (tiny profile, protocol `both`, judged under `released`):"),
    ],
)
def test_a_summary_says_the_protocol_of_its_figure(protocol, judged, head):
    claim = {
        "claim": "It helps", "verdict": "holds", "statistic": "gain", "estimate": 0.2, "low": 0.1, "high": 0.3, "n": 4,
        "unit": "seeds", "threshold": 0.0, "main": True, "protocol": judged,
    }  # fmt: skip
    made = {"profile": "tiny", "claims": [claim], **protocol}
    line = "- It helps: **holds** (gain: 0.200 [0.100, 0.300], 4 seeds; asked: > 0)"
    assert summary(made) == f"{head}\n\n{line}"
    finer = summary({**made, "claims": [claim, {**claim, "main": False}]})
    assert finer == f"{head[:-2]}; finer verdicts at the end):\n\n{line}"


def test_the_committed_summaries_are_those_of_the_committed_figures():
    compared = 0
    for path in notebook_paths():
        made = json.loads((PROJECT / "figures" / "quick" / f"{path.stem}.json").read_text())
        cells = json.loads(path.read_text())["cells"]
        found = ["".join(cell["source"]) for cell in cells if "summary" in cell["metadata"].get("tags", [])]
        assert found == ([summary(made)] if "claims" in made else []), path.name
        compared += len(found)
    assert compared == 16

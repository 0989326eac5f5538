"""docs/claims.md is what the figures' modules say."""

from simreg_core.lab.figures import FIGURES
from simreg_core.lab.make.claims_page import PAGE, claims_page


def test_the_committed_page_is_current():
    assert PAGE.read_text() == claims_page(), "python -m simreg_core claims-page writes it"


def test_the_page_has_every_claim_and_the_reason_of_those_that_changed():
    page = claims_page()
    for figure in FIGURES.values():
        for claim in figure.claims:
            assert f"### {claim.text}\n" in page or f"### {claim.text} (notebook {figure.number})\n" in page
            assert claim.note in page
            assert len(claim.text) <= 66  # one line of the picture
    headings = [line for line in page.splitlines() if line.startswith("### ")]
    assert len(headings) == len(set(headings))  # a link leads to one of them
    assert "a toss of a coin" in page
    assert "mean over members" in page

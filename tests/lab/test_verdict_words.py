"""What is said of a verdict: an effect that counts as none is not passed off as one, and 'the same' says of what."""

import pytest

from simreg_core.lab.claims import CONTRADICTED, DIRECTION, NO_EFFECT, REPRODUCED, UNDECIDED, rule
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.gains import AT_LARGEST
from simreg_core.lab.verdict_words import in_full, in_words


def row(verdict, low, high, threshold=0.0, margin=0.05):
    return {"verdict": verdict, "low": low, "high": high, "threshold": threshold, "margin": margin}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (row(DIRECTION, 0.0001, 0.009), "direction holds, too small to matter"),
        (row(REPRODUCED, 1.01, 1.05, threshold=1.0), "reproduced, too small to matter"),
        (row(DIRECTION, 0.01, 0.051), DIRECTION),  # it may be larger
        (row(DIRECTION, 0.0001, 0.009, margin=None), DIRECTION),  # of non-inferiority nothing counts as no effect
        (row(NO_EFFECT, -0.01, 0.01), NO_EFFECT),
        (row(CONTRADICTED, -0.01, -0.001), CONTRADICTED),
        (row(UNDECIDED, None, None), UNDECIDED),
        (row(DIRECTION, None, None), DIRECTION),
    ],
)
def test_a_verdict_that_holds_says_where_its_effect_counts_as_none(said, words):
    assert in_words(said) == words


def test_the_words_change_no_verdict():
    assert rule(0.005, 0.0001, 0.009, 0.0, 0.05) == DIRECTION  # the first rule that fits


def test_the_same_at_the_largest_epsilon_says_of_what():
    statistic = "gain in mean accuracy over the grid of Gaussian ε: middle N minus smallest N"
    assert in_full(AT_LARGEST, statistic) == "gain in accuracy at the largest Gaussian ε: middle N minus smallest N"
    assert in_full("clean accuracy", statistic) == "clean accuracy"
    claims = [one for own in FIGURES.values() for one in own.claims]
    said = [
        in_full(beside.statistic, one.statistic)
        for one in claims
        for beside in one.also
        if beside.statistic == AT_LARGEST
    ]
    assert len(said) > 10
    assert all("accuracy at the largest" in one for one in said)
    assert [one for one in said if one == AT_LARGEST or "over the grid" in one] == []

"""The audit's rows are grouped by kind; a change that changes nothing has no row, but is not forgotten."""

import pandas as pd
import pytest
from made_up import attack_rows

from simreg_core.lab.figures.protocol_audit import AUDIT, CLAMPED, audit_rows, members_of_all
from simreg_core.lab.specs import load_profile

KEPT_OUT, FRESH = "validation images kept out", "fresh augmentation"


def table_of(**bonuses: float) -> pd.DataFrame:
    """None, S^Th and more series as audited, and the first two under the strict attack."""
    both = {"none": 0, "S^Th": 2}
    rows = pd.DataFrame(attack_rows({**both, **bonuses}, AUDIT))
    strict = pd.DataFrame(attack_rows(both, CLAMPED)).assign(protocol="strict")
    strict.loc[strict["series"] == "S^Th", "value"] += 0.1
    return pd.concat([rows, strict], ignore_index=True)


def test_rows_are_grouped_by_kind_and_members_of_all_have_an_asterisk():
    table = table_of(**{"mine": 1, KEPT_OUT: 3, "all of them": 1, FRESH: 0, "pairs, no loss": 0})
    rows = audit_rows(table, members_of_all(load_profile("quick")))
    assert [(row.group, row.label) for row in rows][1:] == [
        ("As released", "attack clamped to [0, 1]"),
        ("Loss", "pairs, no loss"),
        ("Images", "fresh augmentation *"),
        ("Images", "validation kept out *"),
        ("Together", "all with *"),
        ("Other", "mine"),
    ]
    gains = [row.columns["Gaussian noise"][0].values.mean() for row in rows]
    assert gains == pytest.approx([0.1, 0.2, 0, 0, 0.15, 0.05, 0.05])


def test_a_change_that_changes_no_number_has_no_row_and_is_marked_on_the_first():
    rows = audit_rows(table_of(**{KEPT_OUT: 2, FRESH: 1}), set())
    assert [row.label for row in rows][1:] == ["attack clamped to [0, 1]", "fresh augmentation"]
    assert rows[0].columns["Gaussian noise"][0].series.splitlines() == ["S^Th", KEPT_OUT]


def test_the_members_of_all_are_its_changes():
    names = {"ε = 0.01 in the loss", "pairs with statistics of their own", FRESH, KEPT_OUT}
    assert members_of_all(load_profile("quick")) == names

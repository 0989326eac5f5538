"""A killed RECOMPUTE=1 goes on where it was, for the same selection of notebooks alone."""

import pytest
from conftest import TINY

from simreg_core.lab import drawing


@pytest.fixture
def recompute(tiny, tmp_path, monkeypatch):
    """Runs RECOMPUTE=1 up to its computing.  Returns whether it started over; killed: the computing does not end."""
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SIMREG_FIGURES", str(tmp_path / "figures"))
    forgotten = []
    monkeypatch.setattr(drawing, "_forget", lambda *arguments: forgotten.append(arguments))
    for name in ("describe", "step_costs", "_draw", "_shares", "_print_shares", "write_claims"):
        monkeypatch.setattr(drawing, name, lambda *_: "")

    def run(*only, killed, again=True):
        def compute(*_):
            if killed:
                raise KeyboardInterrupt

        monkeypatch.setattr(drawing, "compute", compute)
        forgotten.clear()
        try:
            drawing.make_figures(tiny, str(TINY), again, only)
        except KeyboardInterrupt:
            assert killed
        return bool(forgotten)

    return run


def test_the_same_selection_goes_on_in_any_order(recompute):
    assert recompute("02_attack_curves", "16_cost", killed=True)
    assert not recompute("16_cost", "02_attack_curves", killed=True)
    assert not recompute("02_attack_curves", "16_cost", killed=False)
    assert recompute("02_attack_curves", "16_cost", killed=False)  # it was finished


def test_another_selection_starts_over(recompute):
    assert recompute("02_attack_curves", killed=True)
    assert recompute("04_regularization_sets", killed=True)
    assert recompute(killed=True)
    assert not recompute(killed=True)


def test_once_everything_is_finished_no_selection_is_under_way(recompute):
    assert recompute("02_attack_curves", killed=True)
    assert not recompute(killed=False, again=False)
    assert recompute("02_attack_curves", killed=True)

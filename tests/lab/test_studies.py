"""Studies share experiments, keep changed profiles apart, and choose by the paper's criterion."""

import pandas as pd
import pytest
from conftest import TINY

from simreg_core.lab import studies
from simreg_core.lab.experiment import FgsmEvaluation, SpecError
from simreg_core.lab.runner import plan


def test_figures_share_their_experiments(tiny, store):
    attack, batch = studies.attack_curves(tiny), studies.batch_size_study(tiny)
    both = plan([*attack.measurements(), *batch.measurements()], store)
    # 3 targets x 2 seeds, the surrogate, and k = 2 (k = 4 is the profile's own) x 2 seeds
    assert len(both.trainings) == 3 * 2 + 1 + 2
    assert len({experiment.key for experiment in both.trainings}) == len(both.trainings)


def test_the_surrogate_is_none_of_the_attacked_networks(tiny):
    study = studies.attack_curves(tiny)
    surrogates = {e.surrogate.key for e in study.evaluations if isinstance(e, FgsmEvaluation)}
    attacked = {experiment.key for experiments in study.series.values() for experiment in experiments}
    assert len(surrogates) == 1
    assert not surrogates & attacked


def test_quick_has_both_protocols_and_five_seeds():
    study = studies.open_study("02_attack_curves", "quick")
    assert {evaluation.protocol for evaluation in study.evaluations} == {"released", "strict"}
    assert {len(experiments) for experiments in study.series.values()} == {5}


def test_a_changed_profile_is_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    own = studies.open_study("02_attack_curves", str(TINY))
    assert own.folder == tmp_path / "figures" / "tiny"
    changed = studies.open_study("02_attack_curves", str(TINY), alpha=0.7)
    assert changed.folder.parent == tmp_path / "runs" / "explored"
    alphas = {e.regularizer.alpha for name in ("S^pixel", "S^Th") for e in changed.series[name]}
    assert alphas == {0.7}
    unchanged = studies.open_study("02_attack_curves", str(TINY), alpha=0.1)
    assert not unchanged.customized


def test_errors():
    with pytest.raises(SpecError, match="unknown study '99_x'; allowed: 02_attack_curves"):
        studies.open_study("99_x", "quick")
    with pytest.raises(SpecError, match="alpha: got -1"):
        studies.open_study("02_attack_curves", "quick", alpha=-1)
    with pytest.raises(SpecError, match="gaussian_epsilon: got 8"):
        studies.open_study("02_attack_curves", "quick", gaussian_epsilon=8)


def test_records_that_are_missing_are_said(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path))
    with pytest.raises(LookupError, match="lacks records"):
        studies.attack_curves(tiny).table()


def selection_table(**accuracies):
    rows = [
        {"series": name, "epsilon": epsilon, "seed": seed, "value": value}
        for name, pair in accuracies.items()
        for epsilon, value in zip((0.0, 0.1), pair, strict=True)
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_selection_follows_the_papers_criterion():
    table = selection_table(none=(0.8, 0.4), strong=(0.6, 0.6), good=(0.76, 0.5), mild=(0.8, 0.42), worse=(0.8, 0.3))
    ratios = studies.selection_ratios(table).set_index("series")
    assert ratios["clean"].round(3).to_dict() == {"strong": 0.75, "good": 0.95, "mild": 1.0, "worse": 1.0}
    assert ratios["accepted"].to_dict() == {"strong": False, "good": True, "mild": True, "worse": False}
    assert ratios.index[ratios["chosen"]].tolist() == ["good"]


def test_selection_accepts_none_where_none_qualifies():
    ratios = studies.selection_ratios(selection_table(none=(0.8, 0.4), bad=(0.5, 0.5)))
    assert not ratios["chosen"].any()


def test_selection_measures_validation_images_only(tiny):
    assert {evaluation.split for evaluation in studies.selection(tiny).evaluations} == {"validation"}

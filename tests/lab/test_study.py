"""Studies share experiments, keep changed profiles apart, and read each record once."""

from collections import Counter

import pytest
from conftest import TINY

from simreg_core.lab import recipes
from simreg_core.lab.figures import FIGURES, figure
from simreg_core.lab.files import write_text
from simreg_core.lab.make.figures import studies_of
from simreg_core.lab.protocol_of_claims import FEWEST_SEEDS
from simreg_core.lab.running.plan import plan
from simreg_core.lab.specs import PROJECT, FgsmEvaluation, SpecError, load_profile
from simreg_core.lab.store import Store
from simreg_core.lab.study import COMPARED, Block, Study


def test_figures_share_their_experiments(tiny, store):
    attack, batch = (figure(name).study(tiny) for name in ("02_attack_curves", "07_batch_size_study"))
    both = plan([*attack.measurements(), *batch.measurements()], store)
    # 5 targets x 2 seeds, 2 V1 predictors, the surrogate, and k = 2 (k = 4 is the profile's own) x 2 seeds
    assert len(both.trainings) == 5 * 2 + 2 + 1 + 2
    assert len({experiment.key for experiment in both.trainings}) == len(both.trainings)


@pytest.mark.parametrize("changes", [{}, {"selection_seeds": 4}, {"seeds": 4}])
def test_the_surrogate_is_none_of_the_attacked_networks(tiny, changes):
    profile = recipes.adapt(tiny, **changes)
    for name in FIGURES:
        for block in figure(name).study(profile).blocks:
            surrogates = {e.surrogate.key for e in block.evaluations if isinstance(e, FgsmEvaluation)}
            attacked = {experiment.key for experiments in block.series.values() for experiment in experiments}
            assert len(surrogates) <= 1
            assert not surrogates & attacked


def test_quick_has_both_protocols_and_enough_seeds_for_a_verdict():
    (block,) = figure("02_attack_curves").open("quick").blocks
    assert {evaluation.protocol for evaluation in block.evaluations} == {"released", "strict"}
    for study in studies_of(load_profile("quick")):
        seeds = Counter()  # of each series; where a seed has surrogates of its own, it has a block of its own
        for block in study.blocks:
            # no network has a part in spectra of corruptions or is trained for times; pairs are shown of one
            # the selection has two seeds, as the paper's has few: its claim says so, and stays open
            few = block.group in ("spectra", "step cost", "pairs") or study.name == "03_hyperparameter_selection"
            if not few and not block.recorded:
                seeds.update({(block.group, name): len(experiments) for name, experiments in block.series.items()})
        assert min(seeds.values(), default=FEWEST_SEEDS) >= FEWEST_SEEDS, study.name


def test_every_notebook_below_90_has_a_figure():
    assert list(FIGURES) == sorted(path.stem for path in (PROJECT / "notebooks").glob("[0-8]*.ipynb"))


def test_a_changed_profile_is_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    own = figure("02_attack_curves").open(str(TINY))
    assert own.folder == tmp_path / "figures" / "tiny"
    changed = figure("02_attack_curves").open(str(TINY), alpha=0.7)
    assert changed.folder.parent == tmp_path / "runs" / "explored"
    (block,) = changed.blocks
    alphas = {e.regularizer.alpha for name in ("S^pixel", "S^Th") for e in block.series[name]}
    assert alphas == {0.7}
    unchanged = figure("02_attack_curves").open(str(TINY), threshold=0.5)
    assert not unchanged.customized


def test_errors():
    with pytest.raises(SpecError, match="unknown figure '99_x'; allowed: 00_start_here, 01_pixel_vs_neural_similarity"):
        figure("99_x").open("quick")
    with pytest.raises(SpecError, match="alpha: got -1"):
        figure("02_attack_curves").open("quick", alpha=-1)
    with pytest.raises(SpecError, match="14_white_box cannot show protocol 'released'; allowed: strict"):
        figure("14_white_box").open("quick", "released")
    with pytest.raises(SpecError, match="16_cost cannot show protocol 'strict'; allowed: none, since nothing"):
        figure("16_cost").open("quick", "strict")
    with pytest.raises(SpecError, match="pairs_per_step"):
        figure("07_batch_size_study").open("quick", k=0)
    with pytest.raises(SpecError, match="gaussian: got 8"):
        figure("02_attack_curves").open("quick", gaussian_epsilon=8)


def test_records_that_are_missing_are_said(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path))
    with pytest.raises(LookupError, match="lacks records"):
        figure("02_attack_curves").study(tiny).table()


def test_a_notebook_too_asks_before_it_computes_a_gpus_profile_without_one(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    computed = []
    monkeypatch.setattr("simreg_core.lab.running.compute.compute", lambda *arguments: computed.append(arguments))
    monkeypatch.setattr("simreg_core.lab.running.estimate.describe", lambda *arguments: "")
    heavy = tiny.changed(needs_gpu=True)
    with pytest.raises(SpecError, match=r"'tiny' needs a GPU for 13 networks and 50 attacks.*run\(without_gpu=True\)"):
        figure("02_attack_curves").study(heavy).run()
    assert not computed
    figure("02_attack_curves").study(heavy).run(without_gpu=True)
    assert len(computed) == 1
    Study("nothing to compute", heavy, ()).run()


def test_a_grid_outside_its_range_is_refused():
    with pytest.raises(SpecError, match=r"thresholds\.0: got 1\.5"):
        figure("03_hyperparameter_selection").open("quick", thresholds=[1.5])
    with pytest.raises(SpecError, match=r"alphas\.1: got -1"):
        figure("03_hyperparameter_selection").open("quick", alphas=[0.1, -1])


def test_a_study_reads_each_record_once(monkeypatch):
    read = []
    whole = Store.read_record
    monkeypatch.setattr(Store, "read_record", lambda *given: read.append(given[1]) or whole(*given))
    study = figure("05_common_corruptions").open("quick").run()
    assert read == []  # planning reads none
    table = study.table()
    arrays = [study.arrays(corruption) for corruption in ("fog", "frost")]
    assert len(study.records()) == len(read) == len(set(read)) > 10
    assert all(len(one["corruptions"]) == 1 for one in arrays)
    table["value"] = 0.0
    assert study.table()["value"].max() > 0  # a caller's changes are the caller's
    assert len(read) == len(set(read))


def test_a_digest_follows_the_files_of_the_records(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path))
    own = Study(
        "02",
        tiny,
        (Block({"none": (recipes.experiment(tiny, "none", 0),)}, (recipes.noise(tiny, "gaussian"),)),),
    )
    with pytest.raises(LookupError, match=r"lacks records of 'none'; call run\(\) first"):
        own.digest()
    (measurement,) = own.measurements()
    place = own.store.record_paths(*measurement)[0]
    write_text(place, "{}")
    before = own.digest()
    assert own.digest() == before
    write_text(place, "{ }")
    assert own.digest() != before


def test_parameters_reach_what_the_notebook_is_about():
    (curves, _) = figure("07_batch_size_study").open("quick", k=64).blocks
    assert [one[0].regularizer.pairs_per_step for one in list(curves.series.values())[1:]] == [4, 16, 32, 64]
    (curves,) = figure("08_image_count_study").open("quick", count=50).blocks
    assert [one[0].regularizer.count for one in list(curves.series.values())[1:]] == [10, 50, 100, 1000]
    assert not figure("08_image_count_study").open("quick", count=100).customized
    assert figure("08_image_count_study").open("quick", "strict").customized
    start = figure("00_start_here").open("quick", count=400)
    assert (start.options, start.customized) == ({"count": 400}, True)
    assert figure("00_start_here").open("quick").options == {"count": 120}


def test_numbers_are_columns_of_the_table():
    table = figure("03_hyperparameter_selection").open("quick").table()
    of_one = table[table["series"] == "α = 0.2, Th = 0.3"]
    assert (of_one["alpha"] == 0.2).all()
    assert (of_one["threshold"] == 0.3).all()
    assert table.loc[table["series"] == "none", ["alpha", "threshold", "k", "count"]].isna().all(axis=None)
    attacked = figure("14_white_box").open("quick").table()
    compared = attacked[attacked["role"] == COMPARED]
    assert set(compared["epsilon"]) == {0.1}
    assert set(compared["condition"]) >= {"PGD", "Square", "AutoAttack, reduced"}
    assert "PGD, L2" not in set(compared["condition"])
    audit = figure("13_protocol_audit").open("quick").table()
    assert set(audit.loc[audit["group"] == "boundary steps: 500", "steps"]) == {500}

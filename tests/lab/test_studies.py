"""Studies share experiments, keep changed profiles apart, and choose by the paper's criterion."""

import pandas as pd
import pytest
from conftest import TINY

from simreg_core.lab import studies
from simreg_core.lab.claims import FEWEST_SEEDS
from simreg_core.lab.files import write_text
from simreg_core.lab.running.plan import plan
from simreg_core.lab.specs import PROJECT, FgsmEvaluation, SpecError, load_profile
from simreg_core.lab.store import Store


def test_figures_share_their_experiments(tiny, store):
    attack, batch = (studies.study(name, tiny) for name in ("02_attack_curves", "07_batch_size_study"))
    both = plan([*attack.measurements(), *batch.measurements()], store)
    # 5 targets x 2 seeds, 2 V1 predictors, the surrogate, and k = 2 (k = 4 is the profile's own) x 2 seeds
    assert len(both.trainings) == 5 * 2 + 2 + 1 + 2
    assert len({experiment.key for experiment in both.trainings}) == len(both.trainings)


@pytest.mark.parametrize("changes", [{}, {"selection_seeds": 4}, {"seeds": 4}])
def test_the_surrogate_is_none_of_the_attacked_networks(tiny, changes):
    profile = studies.adapt(tiny, **changes)
    for name in studies.STUDIES:
        for block in studies.study(name, profile).blocks:
            surrogates = {e.surrogate.key for e in block.evaluations if isinstance(e, FgsmEvaluation)}
            attacked = {experiment.key for experiments in block.series.values() for experiment in experiments}
            assert len(surrogates) <= 1
            assert not surrogates & attacked


def test_quick_has_both_protocols_and_enough_seeds_for_a_verdict():
    (block,) = studies.open_study("02_attack_curves", "quick").blocks
    assert {evaluation.protocol for evaluation in block.evaluations} == {"released", "strict"}
    for name in studies.STUDIES:
        for block in studies.open_study(name, "quick").blocks:
            # no network has a part in spectra of corruptions or is trained for times; real recordings are few
            if block.group not in ("spectra", "step cost") and not block.recorded:
                assert min(len(experiments) for experiments in block.series.values()) >= FEWEST_SEEDS


def test_every_notebook_of_the_paper_has_a_study():
    notebooks = {path.stem for path in (PROJECT / "notebooks").glob("[0-9]*.ipynb")} - {"00_start_here"}
    assert notebooks == set(studies.STUDIES)


def test_a_changed_profile_is_kept_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    own = studies.open_study("02_attack_curves", str(TINY))
    assert own.folder == tmp_path / "figures" / "tiny"
    changed = studies.open_study("02_attack_curves", str(TINY), alpha=0.7)
    assert changed.folder.parent == tmp_path / "runs" / "explored"
    (block,) = changed.blocks
    alphas = {e.regularizer.alpha for name in ("S^pixel", "S^Th") for e in block.series[name]}
    assert alphas == {0.7}
    unchanged = studies.open_study("02_attack_curves", str(TINY), threshold=0.5)
    assert not unchanged.customized


def test_a_changed_number_reaches_every_set_and_variant_with_one_of_its_own(tiny):
    own = {"images": "digits", "alpha": 0.3, "threshold": 0.6}
    (variant,) = tiny.studies.variants
    sizes = tiny.studies.changed(
        regularization_sets=(own, {"images": "photos-foreign"}),
        colour_sets=(own,),
        component_set=own,
        variants=(variant.changed(regularization_set=own, pixel_alpha=0.4),),
        architectures=({"name": "mlp", "alpha": 0.3},),
    )
    profile = tiny.changed(studies=sizes)
    changed = studies.adapt(profile, alpha=0.7, threshold=0.45)
    for name in (
        "04_regularization_sets",
        "05_common_corruptions",
        "09_colour",
        "10_layer_weights",
        "11_target_components",
        "12_other_tasks_and_depths",
        "15_architectures",
    ):
        regularizers = [one.regularizer for one, _ in studies.study(name, changed).measurements() if one.regularizer]
        assert {spec.alpha for spec in regularizers} <= {0.7, 0.0}  # 0: the control without a loss
        assert {spec.threshold for spec in regularizers} == {0.45}
    assert studies.adapt(profile) == profile


def test_more_seeds_are_more_seeds_of_the_spectra_too(tiny):
    (block,) = studies.study("06_frequency_spectra", studies.adapt(tiny, seeds=3)).blocks
    assert {len(experiments) for experiments in block.series.values()} == {3}
    fewer = tiny.changed(studies=tiny.studies.changed(spectrum_seeds=5))
    assert studies.adapt(fewer, seeds=3).studies.spectrum_seeds == 5


def test_errors():
    with pytest.raises(SpecError, match="unknown study '99_x'; allowed: 01_pixel_vs_neural_similarity"):
        studies.open_study("99_x", "quick")
    with pytest.raises(SpecError, match="alpha: got -1"):
        studies.open_study("02_attack_curves", "quick", alpha=-1)
    with pytest.raises(SpecError, match="gaussian: got 8"):
        studies.open_study("02_attack_curves", "quick", gaussian_epsilon=8)


def test_records_that_are_missing_are_said(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path))
    with pytest.raises(LookupError, match="lacks records"):
        studies.study("02_attack_curves", tiny).table()


def test_a_notebook_too_asks_before_it_computes_a_gpus_profile_without_one(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    computed = []
    monkeypatch.setattr("simreg_core.lab.running.compute.compute", lambda *arguments: computed.append(arguments))
    monkeypatch.setattr("simreg_core.lab.running.estimate.describe", lambda *arguments: "")
    heavy = tiny.changed(needs_gpu=True)
    with pytest.raises(SpecError, match=r"'tiny' needs a GPU for 13 networks and 50 attacks.*run\(without_gpu=True\)"):
        studies.study("02_attack_curves", heavy).run()
    assert not computed
    studies.study("02_attack_curves", heavy).run(without_gpu=True)
    assert len(computed) == 1
    studies.Study("nothing to compute", heavy, ()).run()


def selection_table(**accuracies):
    rows = [
        {"series": name, "attack": "gaussian", "epsilon": epsilon, "seed": seed, "value": value}
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
    (block,) = studies.study("03_hyperparameter_selection", tiny).blocks
    assert {evaluation.split for evaluation in block.evaluations} == {"validation"}
    assert {evaluation.attack for evaluation in block.evaluations} == {"gaussian", "uniform", "salt_and_pepper", "fgsm"}


def test_the_chosen_pair_comes_back_as_numbers():
    pairs = {"α = 4, Th = 0.6": (0.78, 0.6), "α = 0.05, Th = 0.8": (0.8, 0.5)}
    table = selection_table(**{"none": (0.8, 0.4), **pairs})
    assert studies.chosen_pair(table) == (4, 0.6)
    assert studies.chosen_pair(selection_table(**{"none": (0.8, 0.4), "α = 4, Th = 0.6": (0.1, 0.1)})) is None


def test_rank_correlations_of_attacks_that_agree_and_that_do_not():
    names = [f"α = {alpha}, Th = 0.8" for alpha in (1, 2, 3, 4)]
    rows = []
    for attack, order in (("gaussian", (1, 2, 3, 4)), ("uniform", (10, 20, 21, 22)), ("fgsm", (4, 3, 2, 1))):
        for seed in (0, 1):
            rows.append(("none", attack, 0.1, seed, 0.0))
            rows += [(name, attack, 0.1, seed, value / 100) for name, value in zip(names, order, strict=True)]
            rows += [(name, attack, 0.0, seed, 0.9) for name in names]  # clean accuracy does not matter
    table = pd.DataFrame(rows, columns=["series", "attack", "epsilon", "seed", "value"])
    found = studies.rank_correlations(table).groupby("attack")["correlation"].mean()
    assert found.to_dict() == pytest.approx({"uniform": 1, "fgsm": -1})


def test_parts_and_controls_differ_from_the_target_in_one_thing(tiny):
    (block,) = studies.study("11_target_components", tiny).blocks
    whole = block.series[studies.THRESHOLD][0].regularizer
    changes = {
        label: {name: value for name, value in one[0].regularizer if getattr(whole, name) != value}
        for label, one in block.series.items()
        if label not in (studies.NONE, studies.THRESHOLD)
    }
    assert changes == {
        studies.PIXEL: {"target": "pixel"},
        studies.LOW: {"pairs": "low"},
        studies.HIGH: {"pairs": "high"},
        studies.POSITIVE: {"pairs": "positive"},
        studies.NEGATIVE: {"pairs": "negative"},
        studies.DOUBLE: {"pairs": "double", "low_threshold": 0.3},
        studies.SHUFFLED: {"target": "shuffled"},
        studies.ZERO: {"target": "zero"},
        studies.NO_LOSS: {"alpha": 0.0},
    }


def test_official_corruption_files_are_taken_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))

    def sources(profile):
        blocks = studies.open_study("05_common_corruptions", profile).blocks
        return {evaluation.source for block in blocks for evaluation in block.evaluations}

    assert sources("paper") == {"generated"}
    (tmp_path / "CIFAR-10-C").mkdir()
    assert sources("paper") == {"files"}
    assert sources("quick") == {"generated"}  # its task is not CIFAR-10
    paper = load_profile("paper")
    small = studies.common_corruptions(paper.changed(task=paper.task.changed(size=(28, 28))))
    assert {evaluation.source for block in small for evaluation in block.evaluations} == {"generated"}


def test_corners_of_a_profile():
    quick = load_profile("quick")
    assert studies.base_of(quick, colour=True).task.channels == 3
    assert studies.base_of(quick, "photos-foreign").regularizer.images == "photos-foreign"
    assert studies.base_of(quick, variant="digits, ResNet10").task.images == "digits"
    with pytest.raises(SpecError, match="unknown regularization set 'nowhere'; allowed: photos, photos-foreign"):
        studies.base_of(quick, "nowhere")
    with pytest.raises(SpecError, match="unknown variant 'mnist'; allowed: digits, ResNet10"):
        studies.base_of(quick, variant="mnist")


def test_a_grid_outside_its_range_is_refused():
    with pytest.raises(SpecError, match=r"thresholds\.0: got 1\.5"):
        studies.open_study("03_hyperparameter_selection", "quick", thresholds=[1.5])
    with pytest.raises(SpecError, match=r"alphas\.1: got -1"):
        studies.open_study("03_hyperparameter_selection", "quick", alphas=[0.1, -1])


def test_a_study_reads_each_record_once(monkeypatch):
    read = []
    whole = Store.read_record
    monkeypatch.setattr(Store, "read_record", lambda *given: read.append(given[1]) or whole(*given))
    study = studies.open_study("05_common_corruptions", "quick").run()
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
    own = studies.Study(
        "02",
        tiny,
        (studies.Block({"none": (studies.experiment(tiny, "none", 0),)}, (studies.noise(tiny, "gaussian"),)),),
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

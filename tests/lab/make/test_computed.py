"""A computation that goes on for days: its figures are drawn of what is there, and say what is not."""

import json
import shutil

import pytest
from test_make_figures import is_held

from simreg_core.lab.cli import main
from simreg_core.lab.figures.kit import finding
from simreg_core.lab.make import computed
from simreg_core.lab.make.computed import draw_computed, part_of
from simreg_core.lab.make.figures import studies_of
from simreg_core.lab.series import NONE
from simreg_core.lab.specs import load_profile

CURVES, SPECTRA, OTHERS = "02_attack_curves", "06_frequency_spectra", "12_other_tasks_and_depths"
COUNTS, PARTS = "08_image_count_study", "11_target_components"
QUICK = load_profile("quick")


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Puts some of quick's records where the published ones are looked for; returns the folder of figures."""

    def begun(name, wanted):
        (study,) = studies_of(QUICK, [name])
        for one, evaluation in study.measurements():
            if wanted(NONE if one.regularizer is None else one.regularizer.target, one, evaluation):
                place = study.store.record_place(one, evaluation)
                folder = tmp_path / "records" / "quick" / "records" / place.parent.name
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(place, folder / place.name)
        for folder in ("RECORDS", "FIGURES", "RUNS"):
            monkeypatch.setenv(f"SIMREG_{folder}", str(tmp_path / folder.lower()))
        return tmp_path / "figures" / "quick"

    return begun


def test_no_other_process_draws_meanwhile(begin, monkeypatch):
    folder, held = begin(CURVES, lambda *_: False), []
    monkeypatch.setattr(computed, "studies_of", lambda *_: held.append(is_held(folder)) or [])
    draw_computed(QUICK)
    assert held == [True]
    assert not is_held(folder)


def test_what_is_computed_is_drawn_and_judged_and_nothing_is_computed(begin, tmp_path, capsys):
    folder = begin(
        CURVES,
        lambda target, one, evaluation: (
            target in (NONE, "threshold") and (one.seed < 4 or (one.seed == 4 and evaluation.attack == "gaussian"))
        ),
    )
    draw_computed(QUICK, [CURVES, SPECTRA])
    said = capsys.readouterr().out.splitlines()
    lacking = "none (12 of 16), S^pixel (16 of 16), S^Th (12 of 16), S^neural (16 of 16), shuffled S^neural (16 of 16)"
    assert said[0].startswith(f"{CURVES}: drawn to ")
    assert said[0].endswith(f"; lacks {lacking}")
    assert said[1] == f"{SPECTRA}: nothing is computed yet"
    made = json.loads((folder / f"{CURVES}.json").read_text())
    assert {(one["series"], one["seed"]) for one in made["records"]} == {
        (name, seed) for name in (NONE, "S^Th") for seed in range(4)
    }
    claims = {one["key"]: one["n"] for one in made["claims"]}
    assert {claims["gaussian"], claims["fgsm"], claims["boundary"]} == {4}
    assert "over-pixel" not in claims
    verdicts = {one["key"]: one["verdict"] for one in json.loads((folder / "claims.json").read_text())}
    assert verdicts["over-pixel"] == "not measured" != verdicts["clean"]
    assert not (tmp_path / "runs" / "experiments").exists()
    assert not list(folder.glob(f"{SPECTRA}.*"))


def test_a_figure_that_needs_more_is_named_and_left_out(begin, capsys):
    folder = begin(OTHERS, lambda target, one, evaluation: target in (NONE, "threshold") and one.seed < 3)
    draw_computed(QUICK, [OTHERS])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{OTHERS}: too little is computed to draw it: no measurement of series 'S^pixel' with ")
    assert not list(folder.glob(f"{OTHERS}.*"))


def test_a_claim_on_all_series_is_not_judged_on_some(begin, capsys):
    def of_all_images(target, one, evaluation):
        return one.seed < 3 and (target == NONE or (target == "threshold" and one.regularizer.count == 1000))

    folder = begin(COUNTS, of_all_images)
    draw_computed(QUICK, [COUNTS, PARTS])
    lines = capsys.readouterr().out.splitlines()
    lacking = "none (5 of 8), N = 10 (8 of 8), N = 100 (8 of 8), N = 1000 (5 of 8)"
    assert lines[0].endswith(f"; lacks {lacking}")
    assert lines[1] == f"{PARTS}: too little is computed to draw it: 2 of 11 series"
    (study,) = studies_of(QUICK, [COUNTS])
    assert finding(part_of(study), "count-suffices").startswith("Not measured in full yet: “A middle number of images")
    made = json.loads((folder / f"{COUNTS}.json").read_text())
    assert made["claims"] == []
    assert {one["seed"] for one in made["records"]} == {0, 1, 2}


def test_to_compute_again_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["simreg", "figures", "--computed", "--recompute"])
    with pytest.raises(SystemExit):
        main()
    assert "--computed computes nothing, so it does not go with --recompute" in capsys.readouterr().err

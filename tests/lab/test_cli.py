"""The command line: what it prints, and one line and status 2 for what is wrong."""

import subprocess
import sys

import pytest
from conftest import TINY

from simreg_core.lab.cli import main


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["simreg_core", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code or 0


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SIMREG_FIGURES", str(tmp_path / "figures"))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figures", "--profile", "huge"], "unknown profile 'huge'; allowed: paper, quick"),
        (["train", "--threshold", "1.5"], "threshold: got 1.5"),
        (["train", "--threshold", "nan"], "threshold: got nan"),
        (["train", "--seed", "-1"], "seed: got -1"),
        (["train", "--alpha", "-2"], "alpha: got -2"),
        (["train", "--k", "99999999"], "pairs_per_step=99999999 exceeds"),
        (["train", "--target", "brain"], "unknown target 'brain'; allowed: none, pixel, threshold"),
        (["train", "--target", "none", "--alpha", "3"], "target 'none' has no alpha"),
        (["evaluate", "--attack", "laser"], "unknown attack 'laser'; allowed: gaussian, uniform"),
        (["evaluate", "--epsilon", "8"], "did you mean 8/255"),
        (["evaluate", "--protocol", "careful"], "protocol: got 'careful'"),
        (["evaluate", "--attack", "boundary", "--epsilon", "0.1"], "has no epsilon"),
    ],
)
def test_bad_input_is_one_line_and_status_two(monkeypatch, capsys, places, arguments, message):
    profile = [] if "--profile" in arguments else ["--profile", "quick"]
    assert run(monkeypatch, *arguments, *profile) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert len(said.splitlines()) == 1
    assert list(places.iterdir()) == []  # nothing was written


def test_an_unknown_image_set_is_named_before_anything_is_computed(monkeypatch, capsys, places):
    profile = places / "mine.yaml"
    profile.write_text(TINY.read_text().replace("task: {images: digits", "task: {images: nowhere"))
    assert run(monkeypatch, "train", "--profile", profile) == 2
    assert "unknown image set 'nowhere'" in capsys.readouterr().err
    assert not (places / "runs").exists()


def test_evaluate_trains_first_and_prints_a_table(monkeypatch, capsys, places):
    epsilons = ["--epsilon", "0", "--epsilon", "0.2"]
    assert run(monkeypatch, "evaluate", "--profile", TINY, "--seed", "1", "--attack", "uniform", *epsilons) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "metric,epsilon,repeat,value,attempted,failed"
    assert [line.split(",")[:2] for line in lines[1:]] == [["accuracy", "0"], ["accuracy", "0.2"]]
    assert run(monkeypatch, "train", "--profile", TINY, "--seed", "1") == 0  # done already: says where
    trained = capsys.readouterr().out
    assert (places / "runs" / "experiments" / trained.split()[1].rstrip(":") / "weights.safetensors").is_file()
    assert run(monkeypatch, "status", "--profile", TINY) == 0
    assert "02_attack_curves: 0 of 30 records" in capsys.readouterr().out


def test_the_module_runs_as_a_program():
    command = [sys.executable, "-m", "simreg_core", "figures", "--profile", "quick", "--only", "99_none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("simreg: unknown notebook '99_none'; allowed: 00_start_here")

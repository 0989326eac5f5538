"""The main job from an empty store: every figure drawn, resumed after kill -9, nothing computed twice."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import TINY

from simreg_core.lab.claims import NOT_MEASURED, SMALLER, UNDECIDED
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.make.figures import studies_of
from simreg_core.lab.running.estimate import Costs
from simreg_core.lab.running.plan import Plan, plan
from simreg_core.lab.specs import load_profile
from simreg_core.lab.store import Store

LAYERS = ("10_layer_weights", "layer_weights")  # a figure that shares no record with others, and what it measures
STEPS, MOST_STEPS = 450, {"13_protocol_audit": 650}  # that a figure adds; of batches, both ways
KILLS = int(os.environ.get("SIMREG_KILLS", "0"))  # at random moments, beside those at chosen ones
NETWORKS, MOST_NETWORKS = 25, {"23_hebbian_networks": 30}  # 15 kinds of them, which differ in the rule
NOTEBOOKS = tuple(sorted(path.stem for path in (Path(__file__).parents[1] / "notebooks").glob("[0-8]*.ipynb")))
# executed here: two, and those that nbval does not execute, since quick does not have their figures. The cells of the
# others do the same, so their figures are drawn in one process: a kernel each takes longer than all else in this file
QUICK = load_profile("quick")
EXECUTED = ("02_attack_curves", LAYERS[0], *(name for name in NOTEBOOKS if not FIGURES[name].is_of(QUICK)))
DRAW = """
import sys
from simreg_core.lab.figures import figure
for name in sys.argv[2:]:
    study = figure(name).open(sys.argv[1]).run()
    study.draw()
    study.save()
    study.verdicts()
"""


def environment(folder: Path) -> dict[str, str]:
    places = {"SIMREG_RUNS": "runs", "SIMREG_FIGURES": "figures", "SIMREG_RECORDS": "figures"}
    return {**os.environ, **{name: str(folder / place) for name, place in places.items()}}


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("w") as log:
        return subprocess.Popen([sys.executable, *arguments], env=environment(folder), stdout=log, stderr=log)


def started(folder: Path, *only: str) -> subprocess.Popen:
    """`make figures` of these notebooks."""
    wanted = (part for name in only for part in ("--only", name))
    return start(folder, "-m", "simreg_core", "figures", "--profile", str(TINY), *wanted)


def ended(process: subprocess.Popen, folder: Path) -> str:
    assert process.wait(timeout=900) == 0, (folder / "log").read_text()
    return (folder / "log").read_text()


def finish(folder: Path, *only: str) -> str:
    return ended(started(folder, *only), folder)


def csv(folder: Path, name: str) -> bytes:
    return (folder / "figures" / "tiny" / f"{name}.csv").read_bytes()


def wait_for(moment: Callable[[], bool], folder: Path) -> None:
    for _ in range(3000):
        if moment():
            return
        time.sleep(0.1)
    pytest.fail(f"it never came: {(folder / 'log').read_text()}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    log = ended(start(folder, "-m", "simreg_core", "run", "--profile", str(TINY)), folder)
    ended(start(folder, "-c", DRAW, str(TINY), *(name for name in NOTEBOOKS if name not in EXECUTED)), folder)
    return folder, log + finish(folder, *EXECUTED)


def test_no_figure_takes_long_in_tiny(tiny, tmp_path, monkeypatch):
    """What a figure adds to the figures before it: CONTRIBUTING.md says how it is made small."""
    monkeypatch.setattr(Costs, "_step", lambda *_: 1.0)
    monkeypatch.setattr(Costs, "_fit", lambda *_: 10.0)
    store, planned = Store(tmp_path), set()
    for study in studies_of(tiny):
        todo = plan(study.measurements(), store)
        trainings = [one for one in todo.trainings if one not in planned]
        measurements = [one for one in todo.measurements if one not in planned]
        planned.update(trainings, measurements)
        steps = Costs().seconds(Plan(tuple(trainings), tuple(measurements)))
        assert len(trainings) <= MOST_NETWORKS.get(study.name, NETWORKS), study.name
        assert steps <= MOST_STEPS.get(study.name, STEPS), study.name


def test_every_figure_is_drawn_from_records(undisturbed):
    folder, log = undisturbed
    figures = folder / "figures" / "tiny"
    for name in NOTEBOOKS:
        for suffix in ("pdf", "png", "csv", "json"):
            assert (figures / f"{name}.{suffix}").stat().st_size > 0
    made = json.loads((figures / "02_attack_curves.json").read_text())
    assert len(made["records"]) == 5 * 2 * 5  # targets, seeds, and two attacks under two protocols with the boundary
    assert {claim["verdict"] for claim in made["claims"]} == {UNDECIDED}  # of two seeds
    assert_whole(folder, "02_attack_curves")
    trained = len(list((folder / "runs" / "experiments").iterdir()))
    assert f"{trained} networks to train" in log  # shared ones once
    claims = json.loads((figures / "claims.json").read_text())
    assert {row["key"]: row["verdict"] for row in claims}["pixel-neural"] == SMALLER  # of the committed real recordings
    unmeasured = [row["key"] for row in claims if row["verdict"] == NOT_MEASURED]
    assert unmeasured == ["autoattack"]  # slow, so tiny leaves it out
    assert all(row["claim"] in (figures / "claims.md").read_text() for row in claims)
    assert all((figures / f"claims.{suffix}").stat().st_size > 0 for suffix in ("pdf", "png"))


def test_a_second_run_computes_and_draws_nothing(undisturbed):
    folder, log = undisturbed
    assert log.count(": drawn to") == len(EXECUTED)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "log"}
    began = time.monotonic()
    log = finish(folder, *EXECUTED)
    assert time.monotonic() - began < 60
    assert "nothing to compute" in log
    assert log.count("up to date") == len(EXECUTED)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "log"}
    assert before == after


in_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are looked up in /proc")


def kill(process: subprocess.Popen, folder: Path) -> None:
    """As the system does; the processes that it has begun, workers or kernels, must end by themselves."""
    assert processes_of(folder)  # that of the command, which may just have begun
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 60
    while left := processes_of(folder):
        assert time.monotonic() < until, f"left behind: {left}"
        time.sleep(0.1)


def processes_of(folder: Path) -> list[str]:
    """Commands of the processes that compute or draw in a folder: all inherit its environment."""
    mark, found = f"SIMREG_RUNS={folder / 'runs'}".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def assert_as_undisturbed(folder: Path, name: str, expected: bytes) -> None:
    finish(folder, name)
    assert csv(folder, name) == expected
    assert not [path for path in folder.rglob(".*.*") if path.suffix.lstrip(".").isdigit()]


@in_proc
def test_killed_runs_end_with_the_same_csvs(undisturbed, tmp_path):
    folder, name = tmp_path / "killed", "02_attack_curves"
    moments = (
        lambda: any(folder.glob("runs/experiments/*/resume.safetensors")),  # while training
        lambda: len(list(folder.glob("runs/records/*/*.json"))) >= 4,  # while attacking
        lambda: any("ipykernel" in command for command in processes_of(folder)),  # while drawing
    )
    for moment in moments:
        process = started(folder, name)
        wait_for(moment, folder)
        kill(process, folder)
    assert_as_undisturbed(folder, name, csv(undisturbed[0], name))


@in_proc
@pytest.mark.skipif(not KILLS, reason="run by hand with SIMREG_KILLS=20")
def test_kills_at_random_moments_change_no_csv(tmp_path):
    """Half of them while computing, half while drawing what is computed."""
    name, moment = "02_attack_curves", random.Random(KILLS)
    began = time.monotonic()
    finish(tmp_path / "drawing", name)
    seconds = {"computing": time.monotonic() - began}
    expected = csv(tmp_path / "drawing", name)
    again = {"computing": "runs", "drawing": "figures"}  # what is removed, so that there is something to do
    shutil.rmtree(tmp_path / "drawing" / "figures")
    began = time.monotonic()
    finish(tmp_path / "drawing", name)
    seconds["drawing"] = time.monotonic() - began
    for number in range(KILLS):
        doing = ("computing", "drawing")[number % 2]
        folder, killed = tmp_path / doing, False
        while not killed:
            if doing == "drawing":
                shutil.rmtree(folder / "figures", ignore_errors=True)
            process = started(folder, name)
            try:
                assert process.wait(moment.uniform(0, seconds[doing])) == 0, (folder / "log").read_text()
            except subprocess.TimeoutExpired:
                kill(process, folder)
                killed = True
            else:  # it was done before; the next one begins anew
                shutil.rmtree(folder / again[doing])
    for doing in seconds:
        assert_as_undisturbed(tmp_path / doing, name, expected)


@pytest.mark.skipif("ONEDNN_MAX_CPU_ISA" not in os.environ, reason="one of all those that are drawn above")
def test_one_figure_from_an_empty_store(tmp_path):
    """All of the way for one figure: the lane of `make test` with other kernels of the CPU takes this one."""
    name = "02_attack_curves"
    log = finish(tmp_path, name)
    assert f"{name}: drawn to" in log
    assert_whole(tmp_path, name)


def assert_whole(folder: Path, name: str) -> None:
    """Every curve of notebook 02 has its points, of both seeds."""
    table = pd.read_csv(folder / "figures" / "tiny" / f"{name}.csv")
    assert set(table["attack"]) == {"gaussian", "fgsm", "boundary"}
    assert (table["seeds"] == 2).all()
    assert table["mean"].notna().all()


def test_published_records_are_enough_to_draw(undisturbed, tmp_path):
    folder = tmp_path / "publisher"
    shutil.copytree(undisturbed[0], folder)
    command = [sys.executable, "-m", "simreg_core", "publish", "--profile", str(TINY)]
    subprocess.run(command, env=environment(folder), check=True)
    stranger = tmp_path / "stranger"
    shutil.copytree(folder / "figures" / "tiny" / "records", stranger / "figures" / "tiny" / "records")
    log = finish(stranger, "07_batch_size_study")
    assert "nothing to compute; the figures are drawn from published records" in log
    assert csv(stranger, "07_batch_size_study") == csv(folder, "07_batch_size_study")
    assert not (stranger / "runs" / "experiments").exists()


def test_changing_a_record_redraws_its_figure(undisturbed):
    folder, _ = undisturbed
    records = {path: path.read_text() for path in (folder / "runs" / "records").glob("*/*.json")}
    path, original = next(one for one in records.items() if json.loads(one[1])["evaluation"]["attack"] == LAYERS[1])
    path.unlink()
    log = finish(folder, *EXECUTED)
    assert "0 networks to train and 1 attacks to run" in log
    assert f"{LAYERS[0]}: drawn to" in log
    assert log.count("up to date") == len(EXECUTED) - 1  # no other figure has this record
    assert json.loads(path.read_text())["values"] == json.loads(original)["values"]


def test_a_corrupt_record_stops_with_one_line(undisturbed):
    folder, _ = undisturbed
    path = next((folder / "runs" / "records").glob("*/*.json"))
    original = path.read_text()
    path.write_text("{}")
    try:
        process = started(folder)
        assert process.wait(timeout=120) == 2
        assert f"record {path} is corrupt" in (folder / "log").read_text()
    finally:
        path.write_text(original)

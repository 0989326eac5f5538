"""RECOMPUTE=1: goes on where it was killed, under the store's lock.  Notebooks: quiet; deaths and verdicts are said."""

import fcntl
import json
import shutil
import signal
from pathlib import Path

import nbformat
import pytest
from conftest import TINY
from jupyter_client.provisioning import LocalProvisioner

from simreg_core.lab import drawing, runner
from simreg_core.lab.image_files import DataError
from simreg_core.lab.specs import PROJECT
from simreg_core.lab.store import Store


@pytest.fixture
def recompute(tiny, tmp_path, monkeypatch):
    """Runs RECOMPUTE=1 up to its computing.  Returns whether it started over; killed: the computing does not end."""
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SIMREG_FIGURES", str(tmp_path / "figures"))
    forgotten = []
    begin = drawing._begin_again
    monkeypatch.setattr(drawing, "_begin_again", lambda *arguments: forgotten.append(arguments) or begin(*arguments))
    monkeypatch.setattr(runner, "describe", lambda *_: "")
    for name in ("_draw", "write_claims"):
        monkeypatch.setattr(drawing, name, lambda *_: "")

    def run(*only, killed, again=True):
        def compute(*_):
            if killed:
                raise KeyboardInterrupt

        monkeypatch.setattr(runner, "compute", compute)
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


def test_replaced_images_start_an_unfinished_recompute_over(recompute, monkeypatch):
    assert recompute("02_attack_curves", killed=True)
    whole, refused = drawing.plan, []

    def plan(*given):
        if not refused:
            refused.append(given)
            raise DataError("image set 'mine': not what result 0123 was made from")
        return whole(*given)

    monkeypatch.setattr(drawing, "plan", plan)
    assert recompute("02_attack_curves", killed=True)
    refused.clear()
    with pytest.raises(DataError, match="not what result"):
        recompute("02_attack_curves", killed=True, again=False)


def test_a_call_plans_once(recompute, monkeypatch):
    planned, whole = [], drawing.plan
    monkeypatch.setattr(drawing, "plan", lambda *given: planned.append(given) or whole(*given))
    recompute("02_attack_curves", killed=False, again=False)
    assert len(planned) == 1
    recompute("02_attack_curves", killed=False)
    assert len(planned) == 2


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("simreg_core/lab/ray_executor.py", set()),
        ("simreg_core/attacks/pgd.py", set()),
        ("simreg_core/lab/plotting.py", {"01_pixel_vs_neural_similarity", "16_cost", "14_white_box"}),
        ("simreg_core/lab/claims.py", {"01_pixel_vs_neural_similarity", "16_cost", "14_white_box"}),
        ("simreg_core/lab/audit_figures.py", {"14_white_box"}),
        ("simreg_core/lab/similarity_figure.py", {"01_pixel_vs_neural_similarity"}),
        ("simreg_core/lab/cost.py", {"16_cost"}),
        ("notebooks/16_cost.ipynb", {"16_cost"}),
    ],
)
def test_a_figure_is_stale_after_a_change_of_what_it_depends_on_only(changed, stale, tiny, tmp_path, monkeypatch):
    names = ("01_pixel_vs_neural_similarity", "14_white_box", "16_cost")
    for folder in ("simreg_core", "notebooks", "figures/reference"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(drawing, "PROJECT", tmp_path)

    def inputs():
        return {name: drawing._inputs(tmp_path / "notebooks" / f"{name}.ipynb", tiny, None) for name in names}

    before = inputs()
    path = tmp_path / changed
    text = path.read_text()
    path.write_text(text.replace('"source": [', '"source": ["1\\n",') if path.suffix == ".ipynb" else text + "\n")
    assert {name for name in names if inputs()[name] != before[name]} == stale


def test_every_module_of_figures_belongs_to_a_notebook():
    files = {file for path in drawing.notebook_paths() for file in drawing.sources_of(path.stem)}
    assert {PROJECT / "simreg_core" / "lab" / name for name in ("figures.py", "audit_figures.py")} <= files
    for file in files:
        assert file.is_file()
    for path in drawing.notebook_paths():  # a module of figures that a notebook imports counts for it
        code = "".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
        used = {name for name in ("figures", "audit_figures", "similarity_figure") if f" {name}." in code}
        assert used <= {file.stem for file in drawing.sources_of(path.stem)}, path.stem


def is_locked() -> bool:
    with (Store().root / "computing.lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_the_store_is_locked_from_what_is_deleted_to_what_is_used(recompute, monkeypatch):
    locked = []
    for name in ("_begin_again", "plan", "_compute"):
        whole = getattr(drawing, name)
        monkeypatch.setattr(drawing, name, lambda *given, own=whole: locked.append(is_locked()) or own(*given))
    drawn = []
    monkeypatch.setattr(drawing, "_draw", lambda *_: drawn.append(is_locked()))  # its kernels may have to compute
    recompute("02_attack_curves", killed=False)
    assert locked == [True] * 3
    assert drawn == [False]


def test_recordings_are_replaced_under_the_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path))
    locked = []
    for module, name in ((drawing, "plan"), (runner, "compute"), (drawing, "_copy_records")):
        monkeypatch.setattr(module, name, lambda *_: locked.append(is_locked()))
    drawing.publish_recordings()
    assert locked == [True] * 3
    assert not is_locked()


@pytest.fixture
def run(tmp_path, tiny, monkeypatch):
    """Runs the code of a notebook of one cell.  Returns its problem, or None."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMREG_RUNS", "runs")
    monkeypatch.setenv("SIMREG_DATA", "~/images")

    def run(code):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        notebook.metadata.kernelspec = {"name": "python3", "language": "python"}
        nbformat.write(notebook, tmp_path / "one.ipynb")
        return drawing._run_notebook(tmp_path / "one.ipynb", tiny, str(TINY))

    return run


def test_a_notebook_is_told_absolute_folders_and_is_not_interrupted(run, tmp_path, monkeypatch):
    signals = []
    send = LocalProvisioner.send_signal

    def note_and_send(self, number):
        signals.append(number)
        return send(self, number)

    monkeypatch.setattr(LocalProvisioner, "send_signal", note_and_send)
    code = "import os; print(os.getcwd(), os.environ['SIMREG_RUNS'], os.environ['SIMREG_DATA'])"
    assert run(code) is None
    made = nbformat.read(tmp_path / "runs" / "notebooks" / "tiny" / "one.ipynb", as_version=4)
    said = " ".join(str(path) for path in (drawing.NOTEBOOKS, tmp_path / "runs", Path("~/images").expanduser()))
    assert made.cells[-1].outputs[0].text.strip() == said
    assert signal.SIGINT not in signals  # or a kernel that is not quite idle says "KeyboardInterrupt caught"


def test_a_notebook_whose_kernel_dies_is_told_the_signal(run):
    problem = run("import os; os.kill(os.getpid(), 9)")
    assert problem == "its kernel died by SIGKILL (killed from outside; where memory ran out, the system does that)"


def test_an_error_in_a_notebook_is_one_line(run):
    assert run("raise ValueError('no\\nsuch thing')") == "ValueError: no such thing"


@pytest.mark.parametrize(
    ("protocol", "judged", "head"),
    [
        ({}, None, "**Verdict** (tiny profile):"),
        ({"protocol": "strict"}, "strict", "**Verdict** (tiny profile, protocol `strict`):"),
        ({"protocol": "both"}, "released", "**Verdict** (tiny profile, protocol `both`, judged under `released`):"),
    ],
)
def test_a_summary_says_the_protocol_of_its_figure(protocol, judged, head):
    claim = {
        "claim": "It helps", "verdict": "holds", "statistic": "gain", "estimate": 0.2, "low": 0.1, "high": 0.3, "n": 4,
        "unit": "seeds", "threshold": 0.0, "main": True, "protocol": judged,
    }  # fmt: skip
    made = {"profile": "tiny", "claims": [claim], **protocol}
    line = "- It helps: **holds** (gain: 0.200 [0.100, 0.300], 4 seeds; asked: > 0)"
    assert drawing._summary(made) == f"{head}\n\n{line}"
    finer = drawing._summary({**made, "claims": [claim, {**claim, "main": False}]})
    assert finer == f"{head[:-2]}; finer verdicts at the end):\n\n{line}"


def test_the_committed_summaries_are_those_of_the_committed_figures():
    compared = 0
    for path in drawing.notebook_paths():
        made = json.loads((PROJECT / "figures" / "quick" / f"{path.stem}.json").read_text())
        cells = json.loads(path.read_text())["cells"]
        found = ["".join(cell["source"]) for cell in cells if "summary" in cell["metadata"].get("tags", [])]
        assert found == ([drawing._summary(made)] if "claims" in made else []), path.name
        compared += len(found)
    assert compared == 16

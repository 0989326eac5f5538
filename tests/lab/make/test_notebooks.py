"""Notebooks are run several at once and quietly; deaths and errors of their kernels are one line."""

import os
import re
import signal
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.provisioning import LocalProvisioner

from simreg_core.lab.make import notebooks
from simreg_core.lab.make.notebooks import NOTEBOOKS, DrawingError, run_notebooks


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs notebooks of one cell, each given its code.  Returns them as they were run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMREG_RUNS", str(tmp_path / "runs"))

    def run(*codes):
        paths = [tmp_path / f"{number}.ipynb" for number in range(len(codes))]
        for path, code in zip(paths, codes, strict=True):
            cells = [nbformat.v4.new_code_cell("word = 'nothing'", metadata={"tags": ["parameters"]})]
            notebook = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(code)])
            notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "python3"}
            nbformat.write(notebook, path)
        run_notebooks(paths, lambda path, notebook: None, {"word": "given"}, tmp_path / "made")
        return [nbformat.read(tmp_path / "made" / path.name, as_version=4) for path in paths]

    return run


def said(notebook) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_a_notebook_is_given_parameters_and_is_not_interrupted(run, tmp_path, monkeypatch):
    signals = []
    send = LocalProvisioner.send_signal

    def note_and_send(self, number):
        signals.append(number)
        return send(self, number)

    monkeypatch.setattr(LocalProvisioner, "send_signal", note_and_send)
    (made,) = run("import os; print(word, os.getcwd(), os.environ['SIMREG_RUNS'], os.environ['OMP_NUM_THREADS'])")
    assert said(made) == f"given {NOTEBOOKS} {tmp_path / 'runs'} 1\n"
    assert signal.SIGINT not in signals  # or a kernel that is not quite idle says "KeyboardInterrupt caught"


def test_notebooks_run_at_once(run, tmp_path):
    meet = "import pathlib, time\npathlib.Path({mine!r}).touch()\n"
    meet += "while not pathlib.Path({other!r}).exists(): time.sleep(0.05)"
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    run(meet.format(mine=a, other=b), meet.format(mine=b, other=a))


def test_the_first_that_fails_ends_the_others(run, tmp_path):
    started = time.monotonic()
    with pytest.raises(DrawingError, match=r"^notebook 0\.ipynb failed: ValueError: no such thing$"):
        run("raise ValueError('no\\nsuch thing')", "import time; time.sleep(100)")
    assert time.monotonic() - started < 60
    failed = nbformat.read(tmp_path / "made" / "0.ipynb", as_version=4)
    assert failed.cells[-1].outputs[0].ename == "ValueError"


def test_a_notebook_whose_kernel_dies_is_told_the_signal(run):
    died = r"its kernel died by SIGKILL \(killed from outside; where memory ran out, the system does that\)"
    with pytest.raises(DrawingError, match=f"^notebook 0.ipynb failed: {died}$"):
        run("import os; os.kill(os.getpid(), 9)")


def test_a_notebook_finds_nothing_of_the_one_before_but_its_modules(run, monkeypatch):
    monkeypatch.setattr(notebooks, "AT_ONCE", 1)
    first, second = run(
        "import os, fractions, matplotlib.pyplot as plt\nplt.figure()\nleft = print(os.getpid())",
        "import os, sys\nprint(os.getpid(), 'left' in dir(), 'fractions' in sys.modules)\n"
        "print(sys.modules['matplotlib.pyplot'].get_fignums())",
    )
    kernel = said(first).strip()
    assert said(second) == f"{kernel} False True\n[]\n"
    counts = [[cell.execution_count for cell in one.cells] for one in (first, second)]
    assert counts == [[1, 2, 3]] * 2  # the parameters stand between


def test_after_a_notebook_that_fails_no_kernel_is_left(run):
    left = "import os, pathlib; pathlib.Path('{}').write_text(str(os.getpid()))"
    with pytest.raises(DrawingError):
        run(left.format(Path("pid").absolute()) + "\nraise ValueError")
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text()), 0)


def test_every_notebook_ends_with_its_links_and_they_lead_somewhere():
    paths = notebooks.notebook_paths()
    for path in paths:
        last = nbformat.read(path, as_version=4).cells[-1]
        assert last.metadata.tags == ["links"], path.name
        assert last.source == notebooks.links(path), path.name
        for target in re.findall(r"\]\(([^)#]+)", last.source):
            assert (path.parent / target).is_file(), f"{path.name}: {target}"
    assert notebooks.links(paths[1]).startswith("[← 00_start_here](00_start_here.ipynb) · [all notebooks]")
    assert "→" not in notebooks.links(paths[-1])

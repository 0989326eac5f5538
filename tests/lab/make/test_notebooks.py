"""Notebooks are run several at once and quietly; deaths and errors of their kernels are one line."""

import ast
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.provisioning import LocalProvisioner

from simreg_core.lab.claims import CONTRADICTED, HOLDS, UNDECIDED
from simreg_core.lab.make import client, notebooks
from simreg_core.lab.make.notebooks import NOTEBOOKS, DrawingError, run_notebooks
from simreg_core.lab.specs import PROJECT


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


def test_a_cell_that_takes_long_is_said(run, monkeypatch, capsys):
    monkeypatch.setattr(client, "SLOW_SECONDS", 2)
    run("import time; time.sleep(5)")
    said = capsys.readouterr().out.splitlines()  # once each two seconds
    assert set(said) == {"0: a cell has run for more than 2 s; after 600 s it is given up"}


def test_a_kernel_that_starts_slowly_is_no_slow_cell(run, monkeypatch, capsys):
    monkeypatch.setattr(client, "SLOW_SECONDS", 0.05)
    start = client._Client.async_start_new_kernel

    async def slowly(self, **options):
        await asyncio.sleep(1)
        await start(self, **options)
        assert capsys.readouterr().out == ""

    monkeypatch.setattr(client._Client, "async_start_new_kernel", slowly)
    run("pass")


def test_a_widget_of_the_kernel_gets_no_answers(tmp_path):
    """Sent while a cell runs, an answer can swallow the signal that it has ended."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import ipywidgets; ipywidgets.Output()")])
    nbformat.write(notebook, tmp_path / "a.ipynb")

    async def answering():
        kernel = client.Kernel(tmp_path)
        try:
            assert (await kernel.run(tmp_path / "a.ipynb", None))[1] is None
            return dict(kernel._client.comm_objects)
        finally:
            await kernel.end()

    assert asyncio.run(answering()) == {}


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


def cells_of(path: Path, tag: str) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if tag in cell.metadata.get("tags", [])]


def test_every_notebook_ends_with_its_links_and_they_lead_somewhere():
    paths = notebooks.notebook_paths()
    others = sorted(NOTEBOOKS.glob("9*.ipynb"))
    for path in (*paths, *others):
        last = nbformat.read(path, as_version=4).cells[-1]
        assert [last] == cells_of(path, "links"), path.name
        targets = re.findall(r"\]\(([^)#]+)", last.source)
        for target in targets:
            assert target == notebooks.PAPER or (path.parent / target).is_file(), f"{path.name}: {target}"
        assert {"00_start_here.ipynb", "../docs/site/gallery.md"} <= set(targets), path.name
        assert any(target.startswith("../simreg_core/") for target in targets), path.name
        before, after = notebooks.neighbours(path)
        assert [f"[← {one.stem}]({one.name})" for one in before] == re.findall(r"\[← \S+\)", last.source), path.name
        assert [f"[{one.stem} →]({one.name})" for one in after] == re.findall(r"\[\S+ →\]\S+\)", last.source), path.name
        assert path in others or last.source == notebooks.links(path), path.name
    second = notebooks.links(paths[1])
    assert second.startswith("[← 00_start_here](00_start_here.ipynb) · [all notebooks]")
    assert f"[the paper, v2 Fig. 2]({notebooks.PAPER})" in second
    assert notebooks.neighbours(paths[-1])[1] == others[:1]
    assert notebooks.neighbours(others[-1])[1] == []


def test_what_a_notebook_asks_to_try_next_is_a_parameter_and_no_yaml():
    for path in (*notebooks.notebook_paths(), *NOTEBOOKS.glob("9*.ipynb")):
        notebook, room = nbformat.read(path, as_version=4), {}
        (parameters,) = cells_of(path, "parameters")
        exec(parameters.source, room)
        names = {name for name in room if not name.startswith("__")}
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        asked = text.split("**Try next.**", 1)[1].split("\n\n")[0]
        assert (names - {"profile"}) & set(re.findall(r"`(\w+)(?: = [^`]*)?`", asked)), f"{path.name}: {asked}"
        assert ".yaml" not in asked, path.name
        assert "profile of your own" not in asked, path.name
        values = dict(re.findall(r"`(\w+) = ([^`]*)`", asked))
        assert values.keys() <= names, f"{path.name}: {asked}"


def test_what_nbval_compares_is_left_out_of_the_site():
    """Such a cell prints raw values for a test. It makes no names, which a reader would miss in the cells below."""
    compared = 0
    for path in NOTEBOOKS.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            checked = "NBVAL_CHECK_OUTPUT" in cell.source
            assert checked == ("remove-cell" in cell.metadata.get("tags", [])), path.name
            if checked:
                assert not any(isinstance(one, ast.Assign) for one in ast.walk(ast.parse(cell.source))), path.name
                compared += 1
    assert compared == 24


def test_notebook_02_opens_with_sentences_that_its_verdicts_bear_out():
    made = json.loads((PROJECT / "figures" / "quick" / "02_attack_curves.json").read_text(encoding="utf-8"))
    verdict = {claim["key"]: claim["verdict"] for claim in made["claims"]}
    opening = nbformat.read(NOTEBOOKS / "02_attack_curves.ipynb", as_version=4).cells[0].source
    (said,) = re.findall(r"\*\*In short\.\*\* (.*?)\n\n", opening, re.DOTALL)
    assert len(re.findall(r"\.(?:\s|$)", said)) == 3
    first, second, third = re.split(r"(?<=\.)\s", said)
    assert {verdict[key] for key in ("gaussian", "fgsm", "boundary")} <= set(HOLDS), first
    clean = next(claim for claim in made["claims"] if claim["key"] == "clean")
    assert clean["high"] < 1, "it costs clean accuracy"
    assert verdict["pixel-inconsistent"] == CONTRADICTED, second
    assert verdict["neural-target"] in HOLDS, second
    assert {verdict[key] for key in ("over-pixel", "alternative")} == {UNDECIDED}, third


def test_another_pythons_kernel_of_the_same_name_is_not_taken(run, tmp_path, monkeypatch):
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    (made,) = run("import sys; print(sys.executable)")
    assert said(made) == f"{sys.executable}\n"


def test_a_kernel_writes_nothing_into_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    own = client._environment(tmp_path)
    assert {name for name in own if own[name].startswith(str(tmp_path))} == {
        "IPYTHONDIR",
        "JUPYTER_RUNTIME_DIR",
        "MPLCONFIGDIR",
    }


def test_a_notebook_runs_where_the_home_cannot_be_written(run, monkeypatch):
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    (made,) = run("import IPython.paths as p, matplotlib as m; print(p.get_ipython_dir(), m.get_configdir())")
    assert "/proc" not in said(made)
    assert all(output.get("name") != "stderr" for cell in made.cells for output in cell.get("outputs", []))


def test_a_notebook_that_cannot_be_kept_is_run_all_the_same(run, tmp_path, capsys):
    (tmp_path / "made").write_text("no folder")
    with pytest.raises(NotADirectoryError):  # of this test, which would read what was kept
        run(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    assert (tmp_path / "ran").is_file()
    assert "0: its outputs are not kept: cannot write" in capsys.readouterr().out


ALONE = """
import pathlib, signal, sys
from simreg_core.lab.make.notebooks import run_notebooks
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it from birth
try:
    run_notebooks([pathlib.Path(sys.argv[1])], lambda *_: None)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_kernel_ends_with_the_process_that_runs_it(number, tmp_path):
    pid = tmp_path / "pid"
    code = f"import os, pathlib, time\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\ntime.sleep(100)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, tmp_path / "0.ipynb")
    parent = subprocess.Popen(
        [sys.executable, "-c", ALONE, tmp_path / "0.ipynb"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: pid.is_file() and pid.read_text())
    parent.send_signal(number)
    out, err = parent.communicate(timeout=60)
    assert (out, err) == ("stopped\n" if number == signal.SIGINT else "", "")
    wait_until(lambda: not is_alive(int(pid.read_text())))


def wait_until(happened) -> None:
    until = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False

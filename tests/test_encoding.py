"""Text is UTF-8 wherever it is read or written, whatever the locale says."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
FILES = [*sorted((PROJECT / "simreg_core").rglob("*.py")), *sorted((PROJECT / "benchmarks").rglob("*.py"))]


def without_encoding(tree: ast.AST) -> list[int]:
    """Lines of calls that read or write text in the locale's encoding."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        words = {word.arg for word in call.keywords}
        mode = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        text = name in ("read_text", "write_text") or (
            name == "open" and bool(mode) and mode[-1][0] in "rwax+" and "b" not in mode[-1]
        )
        text = (text and isinstance(call.func, ast.Attribute)) or (
            name in ("run", "Popen", "check_output") and "text" in words
        )
        if text and "encoding" not in words:
            found.append(call.lineno)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_text_file_has_its_encoding_said(path):
    assert without_encoding(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_the_check_sees_what_it_shall_see():
    assert without_encoding(ast.parse("p.read_text()\np.open('w')\nrun(text=True)\np.open('rb')")) == [1, 2, 3]


def test_a_command_runs_where_the_locale_knows_ascii_only(tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "SIMREG_RUNS": str(tmp_path / "läufe")}
    done = subprocess.run(
        [sys.executable, "-m", "simreg_core", "figures", "--only", "99_ε"],
        capture_output=True,
        env={**os.environ, **ascii_only},
        cwd=PROJECT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, done.stderr)
    assert done.stderr.startswith(b"simreg: unknown notebook '99_")

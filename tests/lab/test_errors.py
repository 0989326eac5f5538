"""What a notebook shows of an error that its reader can mend."""

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from simreg_core.lab.files import StoreError
from simreg_core.lab.image_files import DataError
from simreg_core.lab.specs import SpecError


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    return InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))


@pytest.mark.parametrize("kind", [SpecError, DataError, StoreError])
def test_a_notebook_shows_the_message_only(kind, shell, capsys):
    shell.push({"kind": kind})
    shell.run_cell("def inside():\n    raise kind('count: got 1; give 2') from KeyError('inner')\ninside()")
    assert capsys.readouterr().out == f"{kind.__name__}: count: got 1; give 2\n"
    shell.run_cell("1 / 0")  # any other error as always
    assert "Traceback" in capsys.readouterr().out

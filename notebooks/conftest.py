"""nbval executes each notebook of quick; after its last cell, what it drew is compared with the committed figure.

A notebook whose figure the quick profile does not have yet is left out: it has no records to draw.
"""

import json
import os
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest

from simreg_core.lab.figures import FIGURES
from simreg_core.lab.specs import PROJECT, load_profile

QUICK = load_profile("quick")
COMMITTED = PROJECT / "figures" / "quick"
collect_ignore = [f"{name}.ipynb" for name, figure in FIGURES.items() if not figure.is_of(QUICK)]


class Drawn(pytest.Item):
    """Of a notebook that ran: the committed verdicts and CSV, all pictures, and nothing that was computed."""

    def runtest(self):
        name, drawn = self.path.stem, Path(os.environ["SIMREG_FIGURES"]) / "quick"
        made, theirs = (json.loads((folder / f"{name}.json").read_text("utf-8")) for folder in (drawn, COMMITTED))
        verdicts, known = (
            {claim["key"]: claim["verdict"] for claim in one.get("claims", ()) if claim["main"]}
            for one in (made, theirs)
        )
        assert verdicts == known
        assert (verdicts == {}) == (name == "00_start_here")
        assert all((drawn / f"{name}.{suffix}").stat().st_size > 1000 for suffix in ("pdf", "png"))
        ours, theirs = (pd.read_csv(folder / f"{name}.csv") for folder in (drawn, COMMITTED))
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4)
        assert not Path(os.environ["SIMREG_RUNS"]).exists(), "something was computed"


def pytest_configure(config):
    """Nothing is drawn into the project, and nothing is found that was computed before."""
    config.drawn = TemporaryDirectory()
    os.environ |= {"SIMREG_FIGURES": config.drawn.name, "SIMREG_RUNS": f"{config.drawn.name}/runs"}


def pytest_unconfigure(config):
    config.drawn.cleanup()


def pytest_collection_modifyitems(items):
    cells = groupby([*items], key=lambda item: item.parent)
    items[:] = [
        item
        for notebook, own in cells
        for item in (*own, *((Drawn.from_parent(notebook, name="drawn"),) if notebook.path.stem in FIGURES else ()))
    ]

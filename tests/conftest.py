"""One thread a process: two 2-thread torch processes at once are many times slower than two 1-thread ones."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the notebooks' kernels too

from pathlib import Path

import matplotlib
import pytest
import torch
from crashes import pytest_handlecrashitem, pytest_xdist_make_scheduler  # noqa: F401

from simreg_core.lab.specs import load_profile
from simreg_core.lab.store import Store

torch.set_num_threads(1)
matplotlib.use("agg")  # here, not in the environment: the notebooks' kernels keep their own backend
TINY = Path(__file__).parent / "profiles" / "tiny.yaml"


def pytest_collection_modifyitems(items):
    """The longest file first: begun last, it would keep one process busy while the other has nothing left."""
    items.sort(key=lambda item: "test_figures.py" not in item.nodeid)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def tiny():
    return load_profile(TINY)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def linear_classifier():
    """Two classes split by the plane w.x = b on 1x8x8 images, and the exact L2 distance to it."""

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            g = torch.Generator().manual_seed(3)
            self.w = torch.nn.Parameter(torch.randn(64, generator=g), requires_grad=False)
            self.b = self.w.sum().item() / 2 + 0.3  # near the middle of the cube

        def score(self, x):
            return x.flatten(1) @ self.w - self.b

        def forward(self, x):
            return torch.stack([-self.score(x), self.score(x)], dim=1)

        def distance(self, x):
            return self.score(x).abs() / self.w.norm()

    return Linear().eval()

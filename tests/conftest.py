"""One thread a process: two 2-thread torch processes at once are many times slower than two 1-thread ones."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the notebooks' kernels too

import shutil
from contextlib import nullcontext
from pathlib import Path

import matplotlib
import pytest
import torch
from attacked import Linear
from crashes import pytest_handlecrashitem, pytest_xdist_make_scheduler  # noqa: F401
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from simreg_core.attacks import door
from simreg_core.lab import recipes
from simreg_core.lab.images import load_image_set
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.running.workers import trainer_of
from simreg_core.lab.specs import Experiment, load_profile
from simreg_core.lab.store import Store
from simreg_core.lab.training.rules import RULES, Row

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
def folder(tmp_path, monkeypatch):
    """An empty data folder, the user's own."""
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))
    load_image_set.cache_clear()
    yield tmp_path
    load_image_set.cache_clear()


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """Puts trained networks into a test's store: each is trained once a process, and copied."""
    once = Store(tmp_path_factory.mktemp("trained"))

    def put(store: Store, *experiments) -> None:
        for one in experiments:
            for own in (*getattr(one, "fits", ()), one):  # an artefact needs none
                trainer_of(own)(own, once, torch.device("cpu"))
            shutil.copytree(once.weights_path(one).parent, store.weights_path(one).parent, dirs_exist_ok=True)

    return put


def in_this_process(tasks, progress) -> list[str]:
    """An executor: workers of their own import torch again, and know nothing of what a test has changed."""
    for _, (one, evaluation, store), cost in tasks:
        if evaluation is None:
            trainer_of(one)(one, store, torch.device("cpu"))
        else:
            evaluate(one, evaluation, store, torch.device("cpu"))
        progress.advance(cost)
    return []


@pytest.fixture
def no_workers(monkeypatch):
    """What is computed is computed in this process, also by a command."""
    monkeypatch.setattr("simreg_core.lab.running.compute.Workers", lambda limit: nullcontext(in_this_process))


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


@pytest.fixture
def linear():
    return Linear().eval()


@pytest.fixture
def middle_images(generator):
    """Far enough from 0 and 1 that no optimal perturbation below meets the bounds."""
    return 0.3 + 0.4 * torch.rand(200, 1, 8, 8, generator=generator)


@pytest.fixture
def middle_labels(linear, middle_images):
    labels = linear(middle_images).argmax(dim=1)
    labels[:10] = (labels[:10] + 1) % 5  # a clean accuracy of 95 %
    return labels


@pytest.fixture(scope="module")
def digits():
    """A small network trained on 1,500 digits without any defence, and 200 others that it mostly knows."""
    data = load_digits()
    pixels, labels = torch.tensor(data.images).float()[:, None] / 16, torch.tensor(data.target)
    with door.seeded(0, pixels.device):
        network = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 16, 3, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)),
        )
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(200):
            batch = torch.randint(0, 1500, (64,))
            optimizer.zero_grad()
            F.cross_entropy(network(pixels[batch]), labels[batch]).backward()
            optimizer.step()
    optimizer.zero_grad()
    network.eval()
    assert (network(pixels[1500:1700]).argmax(dim=1) == labels[1500:1700]).float().mean() > 0.85
    return network, pixels[1500:1700], labels[1500:1700]


@pytest.fixture
def toy(monkeypatch, tiny):
    """A function that registers a rule as 'toy' and gives an experiment trained by it."""

    def register(rule, name="toy", **fields) -> Experiment:
        monkeypatch.setitem(RULES, name, Row(name, rule))
        network = {"name": "resnet10", "width": 8}
        return recipes.experiment(tiny.changed(network=network), "none", 0).changed(
            adversarial={"method": name, **fields}
        )

    return register

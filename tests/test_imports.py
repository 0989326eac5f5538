"""What an import loads: the regularizer torch and numpy only, and planning no torch at all."""

import json
import os
import subprocess
import sys

import pytest

import simreg_core

HEAVY = {"torch", "torchvision", "scipy", "PIL", "pandas", "matplotlib", "seaborn", "sklearn", "skimage", "foolbox",
         "pyautoattack", "pydantic", "papermill", "ray", "typer"}  # fmt: skip


def loaded_by(code: str, folder) -> set[str]:
    """The heavy packages that a fresh Python has loaded after this code."""
    code = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    where = {"SIMREG_RUNS": str(folder / "runs"), "SIMREG_DATA": str(folder / "data")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **where}
    )
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


USE_ALL = """
import torch
from torch import nn
import simreg_core
from simreg_core import attacks, defences, neural, pixel_similarity, threshold_targets, resnet18
network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))
regularizer = simreg_core.SimilarityRegularizer(network, ["0"], torch.rand(20, 1, 8, 8), targets="pixel")
regularizer().backward()
attacks.gaussian_noise(torch.rand(2, 1, 4, 4), 0.1, protocol="strict", generator=torch.Generator())
"""


def test_the_method_loads_torch_and_numpy_only_and_other_libraries_when_they_are_called(tmp_path):
    assert loaded_by("import simreg_core", tmp_path) == set()
    assert loaded_by(USE_ALL, tmp_path) == {"torch"}


def test_the_laboratory_loads_no_torch_before_a_defence_is_named(tmp_path):
    code = """
from simreg_core.lab import cli, recipes, select, series, study
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.make import figures as making, publish
from simreg_core.lab.specs import LayerWeightsEvaluation, Experiment
from simreg_core.lab.running.plan import plan
from simreg_core.lab.store import Store
task = {"images": "photos", "size": (16, 16)}
spec = {"images": "photos", "count": 20, "pairs_per_step": 4}
assert len(FIGURES) > 16
one = Experiment(task=task, network={"width": 8}, regularizer=spec)
assert len(plan([(one, LayerWeightsEvaluation())], Store()).trainings) == 1
"""
    assert not loaded_by(code, tmp_path) & {"torch", "torchvision", "foolbox", "sklearn", "papermill"}


@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_planning_loads_no_torch(profile, tmp_path):
    code = f"""
from simreg_core.lab.folders import published_folder
from simreg_core.lab.make.figures import missing
from simreg_core.lab.specs import load_profile
from simreg_core.lab.store import Store
profile = load_profile({profile!r})
todo = missing(profile, Store(published=published_folder(profile)))
assert bool(todo) == ({profile!r} == "paper")
"""
    assert not loaded_by(code, tmp_path) & {"torch", "torchvision", "foolbox", "sklearn", "matplotlib", "papermill"}


def test_drawing_from_records_loads_no_torch(tmp_path):
    code = """
from simreg_core.lab.figures import figure
study = figure("02_attack_curves").open("quick").run()
study.draw()
study.verdicts()
"""
    assert not loaded_by(code, tmp_path) & {"torch", "torchvision", "foolbox", "sklearn"}


def test_every_public_name_is_there():
    for name in simreg_core.__all__:
        assert getattr(simreg_core, name) is not None
        assert name in dir(simreg_core)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = simreg_core.nothing

"""The settings of a GPU under which networks are attacked and trained: set, and put back."""

import pytest
import torch

from simreg_core.lab import recipes
from simreg_core.lab.training import repeatable, settings_of


def settings():
    cudnn = torch.backends.cudnn
    return {
        "chosen by timing": cudnn.benchmark,
        "cudnn in order": cudnn.deterministic,
        "reduced": cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
        "in order": torch.are_deterministic_algorithms_enabled(),
        "only warned": torch.is_deterministic_algorithms_warn_only_enabled(),
        "memory filled": torch.utils.deterministic.fill_uninitialized_memory,
        "fast attention": torch.backends.cuda.flash_sdp_enabled() or torch.backends.cuda.mem_efficient_sdp_enabled(),
    }


STRICT = {"chosen by timing": False, "cudnn in order": True, "reduced": False}


def test_on_a_gpu_all_adds_in_order(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = settings()
    in_order = {"in order": True, "only warned": True, "memory filled": False, "fast attention": False}
    with repeatable():
        assert settings() == {**STRICT, **in_order}
    assert settings() == before
    with pytest.raises(ZeroDivisionError), repeatable():
        _ = 1 / 0
    assert settings() == before


def test_without_a_gpu_no_algorithm_changes():
    """Or the numbers of committed records would."""
    before = settings()
    with repeatable():
        assert settings() == {**before, **STRICT}


def test_bfloat16_takes_the_fastest_algorithms_but_no_reduced_products(tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    fast = tiny.changed(optimization={**tiny.optimization.model_dump(), "precision": "bfloat16"})
    before = settings()
    with settings_of(recipes.experiment(fast, "none", 0)):
        assert settings() == {**before, "chosen by timing": True, "cudnn in order": False, "reduced": False}
    with settings_of(recipes.experiment(tiny, "none", 0)):
        assert settings()["in order"]

"""Front ends of the defence socket: ways of an attacker, random numbers, and what each must say of itself."""

import pickle
from dataclasses import dataclass

import pytest
import torch
from toy_rules import CPU, resumes_to_the_same_bits

from simreg_core import attacks
from simreg_core.defences import (
    FrontEnd,
    FrontEndSettings,
    differentiated,
    replace_gradient,
)
from simreg_core.lab import recipes
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.specs import (
    NoiseEvaluation,
    SpecError,
)
from simreg_core.lab.store import Store
from simreg_core.lab.training import build_network
from simreg_core.lab.training.rules import FRONT_ENDS, Row


class Quantized(FrontEnd):
    """Pixels of a few levels; an attacker may pass through as if it were not there."""

    draws_random_numbers = False
    ways = {"quantizer": ("exact", "identity")}  # noqa: RUF012

    def __init__(self, levels: int = 4):
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        self.levels = levels

    def forward(self, x):
        value = (x * (self.levels - 1)).round() / (self.levels - 1)
        return value if self.way["quantizer"] == "exact" else replace_gradient(value, x)


@dataclass(frozen=True)
class QuantizedSettings(FrontEndSettings):
    """The same, for a file that loads torch only where the module is built."""

    levels: int = 4

    def __post_init__(self):
        if self.levels < 2:
            raise ValueError(f"levels must be at least 2, got {self.levels}")

    def build(self):
        return Quantized(self.levels)


@pytest.mark.parametrize("made", [Quantized, QuantizedSettings])
def test_a_front_end_is_differentiated_in_several_ways(made, monkeypatch, tiny):
    monkeypatch.setitem(FRONT_ENDS, "quantized", Row("quantized", made))
    network = {"name": "resnet10", "width": 8, "front_end": {"kind": "quantized", "levels": 3}}
    experiment = recipes.experiment(tiny.changed(network=network), "none", 0)
    assert experiment.network.front_end.levels == 3
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    model = build_network(experiment, 10).eval()
    pixels = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = model(pixels).argmax(dim=1)
    exact = attacks.pgd(model, pixels, labels, 0.1, steps=5, random_start=False, seed=0)
    assert (exact.adversarial == pixels).all()  # its gradient is zero everywhere
    with differentiated(model, quantizer="identity"):
        passed = attacks.pgd(model, pixels, labels, 0.1, steps=5, random_start=False, seed=0)
        assert torch.equal(model(pixels).argmax(dim=1), labels)
    assert (passed.adversarial != pixels).any()
    assert model.front_end.way == {"quantizer": "exact"}
    for ways, message in (
        ({"quantizer": "smooth"}, "'quantizer' is differentiated as 'exact' or 'identity', not 'smooth'"),
        ({"decoder": "exact"}, "no front end has a part 'decoder'; parts of this network: quantizer"),
    ):
        with pytest.raises(ValueError, match=message), differentiated(model, **ways):
            pass
    with pytest.raises(SpecError, match="levels must be at least 2, got 1"):
        tiny.changed(network={**network, "front_end": {"kind": "quantized", "levels": 1}})


class Noisy(FrontEnd):
    """Random numbers in training and in test."""

    draws_random_numbers = True
    ways = {"noise": ("exact",)}  # noqa: RUF012

    def forward(self, x):
        return x + 0.05 * torch.randn_like(x)


def test_a_random_front_end_says_so_and_trains_to_the_same_bits(monkeypatch, tiny, tmp_path):
    monkeypatch.setitem(FRONT_ENDS, "noisy", Row("noisy", Noisy))
    network = {"name": "resnet10", "width": 8, "front_end": {"kind": "noisy"}}
    experiment = recipes.experiment(tiny.changed(network=network), "none", 0)
    assert resumes_to_the_same_bits(experiment, tmp_path, epochs=2)
    store = Store(tmp_path / "killed after None")
    assert evaluate(experiment, NoiseEvaluation(attack="gaussian", epsilons=(0.0,), images=20), store, CPU)


def test_a_front_end_without_a_facet_is_refused_as_it_is_defined():
    with pytest.raises(TypeError, match="front end Silent lacks 'draws_random_numbers'"):

        class Silent(FrontEnd):
            ways = {"a": ("exact",)}  # noqa: RUF012

"""One row a kind of evaluation: nothing forgotten, and a new kind is one file and one row."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import in_this_process
from pydantic import ValidationError

from simreg_core import attacks
from simreg_core.lab import recipes
from simreg_core.lab.figures import FIGURES, figure
from simreg_core.lab.files import sealed
from simreg_core.lab.measuring import registry
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.measuring.registry import KINDS, Kind, RegistryError, in_words, kind_of, passes_of, register
from simreg_core.lab.records import Record
from simreg_core.lab.running.compute import compute, missing_image_sets
from simreg_core.lab.running.estimate import Costs
from simreg_core.lab.running.plan import plan
from simreg_core.lab.specs import (
    EVALUATIONS,
    PROJECT,
    Evaluation,
    FgsmEvaluation,
    NeuralExperiment,
    NoiseEvaluation,
    Simulated,
    TransferEvaluation,
    WhiteBoxEvaluation,
    dependencies,
)
from simreg_core.lab.store import Store
from simreg_core.lab.training import train

CPU = torch.device("cpu")
FACETS = ("spec", "subject", "measure", "images", "lacks", "passes", "words", "strict")
NOISE = {name: getattr(KINDS["gaussian"], name) for name in FACETS}

TOY = '''
"""Mean brightness of the images."""

from typing import Literal

from simreg_core.lab.specs import Evaluation, Experiment
from simreg_core.lab.measuring.registry import Kind
from simreg_core.lab.measuring.subject import Attacked, Measured, attacked_images
from simreg_core.lab.records import Value


class BrightnessEvaluation(Evaluation):
    attack: Literal["brightness"] = "brightness"
    factor: float = 1.0
    beside: Experiment | None = None


def brightness(subject):
    seen = subject.evaluation.factor * subject.pixels.mean().item()
    value = Value(metric="brightness", value=seen, attempted=len(subject.labels))
    return Measured([value], {"seen": [seen]}, ("dark",))


def lacks(experiment, evaluation, look):
    if evaluation.factor == 0:
        yield "it is dark"


ROW = Kind(
    spec=BrightnessEvaluation, subject=Attacked, measure=brightness, images=attacked_images, lacks=lacks,
    passes=lambda evaluation, images: 2 * images, words=lambda evaluation: f"brightness times {evaluation.factor:g}",
    strict=False,
)
'''  # fmt: skip


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A kind in a file of its own, registered for the time of a test."""
    before, kinds = dict(EVALUATIONS), dict(KINDS)
    path = tmp_path / "brightness.py"
    path.write_text(TOY)
    described = importlib.util.spec_from_file_location("brightness", path)
    module = importlib.util.module_from_spec(described)
    monkeypatch.setitem(sys.modules, "brightness", module)
    described.loader.exec_module(module)
    register(module.ROW)
    yield module
    for table, was in ((EVALUATIONS, before), (KINDS, kinds)):
        table.clear()
        table.update(was)


# rows


def test_every_specification_has_its_row_and_every_row_its_specification():
    assert KINDS.keys() == EVALUATIONS.keys()
    assert all(kind.spec is EVALUATIONS[name] for name, kind in KINDS.items())


@pytest.mark.parametrize("facet", FACETS)
def test_a_row_without_a_facet_names_the_kind_and_the_facet(facet):
    name = "measured by noise" if facet == "spec" else "NoiseEvaluation"
    with pytest.raises(RegistryError, match=f"the kind of evaluation {name} has no '{facet}'"):
        Kind(**{**NOISE, facet: None})
    with pytest.raises(RegistryError, match=f"has no '{facet}'"):
        Kind(**{name: value for name, value in NOISE.items() if name != facet})


@pytest.mark.parametrize(
    ("facet", "value", "problem"),
    [
        ("spec", "gaussian", "must be a subclass of Evaluation"),
        ("spec", Evaluation, "must be a subclass of Evaluation"),
        ("subject", dict, "must have 'of'"),
        ("measure", lambda: None, "must be a function that takes 1 argument"),
        ("images", "test", "must be a function that takes 2 arguments"),
        ("lacks", lambda experiment, evaluation: (), "must be a function that takes 3 arguments"),
        ("passes", 3.0, "must be a function that takes 2 arguments"),
        ("words", "noise", "must be a function that takes 1 argument"),
        ("strict", "yes", "must be True or False"),
    ],
)
def test_a_facet_that_cannot_be_what_it_should(facet, value, problem):
    with pytest.raises(RegistryError, match=f"'{facet}' {problem}, got"):
        Kind(**{**NOISE, facet: value})


def imported(source: str) -> None:
    """As the registry would be imported if this were its file."""
    exec(compile(source, "registry.py", "exec"), {"__name__": "registry"})


def test_what_is_forgotten_in_the_file_is_an_error_when_it_is_imported():
    source = Path(registry.__file__).read_text()
    with pytest.raises(TypeError, match="BoundaryEvaluation has no 'passes'"):
        imported(source.replace("        passes=boundary.boundary_passes,\n", ""))
    start = source.index("    Kind(\n        spec=TransferEvaluation")
    end = source.index("    Kind(\n        spec=SimilarityEvaluation")
    with pytest.raises(TypeError, match=r"evaluation 'transfer' \(TransferEvaluation\) has no row"):
        imported(source[:start] + source[end:])
    with pytest.raises(TypeError, match="has a row already"):
        imported(source[:end] + source[start:])
    imported(source)


def test_a_specification_needs_a_name_that_is_free():
    with pytest.raises(TypeError, match="Nameless needs a field 'attack'"):

        class Nameless(Evaluation):
            pass

    with pytest.raises(TypeError, match="Second: attack 'gaussian' is taken by NoiseEvaluation"):

        class Second(NoiseEvaluation):
            pass

    assert EVALUATIONS["gaussian"] is NoiseEvaluation


def test_committed_records_of_every_kind_are_read_found_by_their_keys_and_written_again():
    not_of_quick = {
        "frequency_bias",
        "pair_similarity",
        "layers",
        "logits",
        "front_end",
        "polarization",
        "code_attacks",
        "sparse_codes",
        "hebbian",
        "cost",
    }  # no figure of it has them yet
    names = set(EVALUATIONS) - not_of_quick
    for path in sorted((PROJECT / "figures" / "quick" / "records").glob("*/*.json")):
        text = path.read_text()
        values = json.loads(text)
        if values["evaluation"]["attack"] in names:
            names.discard(values["evaluation"]["attack"])
            del values["checksum"]
            record = Record.model_validate(values)
            assert (record.experiment.key, record.evaluation.key) == (path.parent.name, path.stem)
            assert sealed(record.model_dump_json(indent=1, exclude_none=True)) + "\n" == text
    assert not names


# a new kind


def test_a_new_kind_is_one_file_and_one_row(toy, tiny, store):
    surrogate = recipes.experiment(tiny, "none", 1)
    measurement = (recipes.experiment(tiny, "none", 0), toy.BrightnessEvaluation(images=30, factor=2.0))
    todo = plan([measurement], store)
    assert missing_image_sets(todo) == []
    dark = (measurement[0], toy.BrightnessEvaluation(factor=0.0))
    assert missing_image_sets(plan([dark], store)) == ["it is dark"]
    assert in_words(measurement[1]) == "brightness times 2"
    assert passes_of(*measurement) == 60
    assert Costs().evaluation(*measurement) > 0
    assert dependencies(measurement[0], toy.BrightnessEvaluation(beside=surrogate)) == (surrogate,)
    compute(todo, store, "toy", executor=in_this_process)
    assert not plan([measurement], store)
    record = Store(store.root).record(*measurement)
    assert (record.values[0].value, record.warnings) == (record.arrays["seen"][0], ("dark",))
    assert record.evaluation == measurement[1]


def test_a_kind_without_a_row_is_named_when_it_is_asked_for(toy, tiny, store):
    del KINDS["brightness"]
    with pytest.raises(RegistryError, match=r"evaluation 'brightness' \(BrightnessEvaluation\) has no row"):
        evaluate(recipes.experiment(tiny, "none", 0), toy.BrightnessEvaluation(), store, CPU)


def test_a_record_of_an_unknown_kind_says_what_is_known(tiny, store):
    one, attack = recipes.experiment(tiny, "none", 0), recipes.noise(tiny, "gaussian")
    train(one, store, CPU)
    values = json.loads(evaluate(one, attack, store, CPU).model_dump_json())
    assert Record.model_validate(values).evaluation == attack
    values["evaluation"]["attack"] = "brightness"
    with pytest.raises(ValidationError, match="unknown evaluation 'brightness'; allowed: gaussian"):
        Record.model_validate(values)
    values["evaluation"] = {**attack.model_dump(), "epsilons": [2.0], "speed": 1}
    with pytest.raises(ValidationError, match=r"epsilons\.0: got 2\.0.*; unknown key 'speed'"):
        Record.model_validate(values)


# facets


def test_what_has_to_be_trained_is_found_in_the_fields(tiny):
    one, two = (recipes.experiment(tiny, "none", seed) for seed in (1, 2))
    assert FgsmEvaluation(epsilons=(0.1,), surrogate=one).surrogates_needed == (one,)
    assert TransferEvaluation(name="a", epsilons=(0.1,), surrogates=(one, two)).surrogates_needed == (one, two)
    assert recipes.noise(tiny, "gaussian").surrogates_needed == ()


def test_words_tell_the_evaluations_of_a_network_apart(tiny):
    for name in FIGURES:
        for block in figure(name).study(tiny).blocks:
            words = [in_words(one) for one in block.evaluations]
            assert len(set(words)) == len(words), name
    noise = recipes.noise(tiny, "salt_and_pepper", "strict")
    assert in_words(noise) == "salt and pepper noise, strict"
    assert in_words(noise.changed(split="validation")) == "salt and pepper noise, strict, validation images"
    assert in_words(WhiteBoxEvaluation(epsilons=(0.1,), protocol="strict")) == "white-box attacks (linf)"


def test_every_evaluation_of_every_study_costs_something(tiny):
    for name in FIGURES:
        for one, evaluation in figure(name).study(tiny).measurements():
            assert passes_of(one, evaluation) > 0


def test_validation_images_are_those_that_are_counted(tiny):
    one, few = recipes.experiment(tiny, "none", 0), NoiseEvaluation(attack="gaussian", epsilons=(0.1, 0.2))
    assert passes_of(one, few) == 2 * 500
    assert passes_of(one, few.changed(split="validation")) == 2 * 100
    assert passes_of(one, few.changed(images=7)) == 2 * 7
    assert registry.misplaced(NeuralExperiment(source=Simulated()), few)


class Counted(torch.nn.Module):
    """A linear classifier that counts the images that pass it: a gradient costs two more passes."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(64, 10, generator=torch.Generator().manual_seed(0)))
        self.passes = 0

    def forward(self, x):
        self.passes += len(x)
        logits = x.flatten(1) @ self.weights
        if logits.requires_grad:
            logits.register_hook(self._count_gradient)
        return logits

    def _count_gradient(self, gradient):
        self.passes += 2 * len(gradient)


@pytest.mark.parametrize("budget", [(20, 3, 200), (40, 3, 200), (20, 6, 200), (20, 3, 800)])
def test_the_cost_of_autoattack_is_that_of_its_budget(generator, budget):
    network, pixels = Counted().eval(), torch.rand(4, 1, 8, 8, generator=generator)
    labels = network(pixels).argmax(dim=1)
    network.passes = 0
    given = dict(zip(("steps", "targets", "queries"), budget, strict=True))
    attacks.autoattack(network, pixels, labels, 1e-5, norm="linf", seed=0, **given)  # which no image is fooled by
    bare = WhiteBoxEvaluation(epsilons=(0.1,), epsilon=0.1, images=4)
    with_it = bare.changed(autoattack_images=4, autoattack_budget=budget)
    passes = kind_of(bare).passes
    assert passes(with_it, 4) - passes(bare, 4) == pytest.approx(network.passes, rel=0.12)
    whole = bare.changed(autoattack_images=4)
    assert passes(whole, 4) - passes(bare, 4) > 6 * network.passes

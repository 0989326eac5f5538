"""Plans list each thing once, and are cut into parts without losing one."""

import torch

from simreg_core.lab import recipes
from simreg_core.lab.figures import figure
from simreg_core.lab.running.plan import Plan, by_network, plan
from simreg_core.lab.specs import Experiment
from simreg_core.lab.training import train


def test_what_is_done_is_not_planned(tiny, store):
    study = figure("02_attack_curves").study(tiny)
    everything = plan(study.measurements(), store)
    assert (len(everything.trainings), len(everything.measurements)) == (13, 50)  # two V1 predictors among them
    train(next(one for one in everything.trainings if isinstance(one, Experiment)), store, torch.device("cpu"))
    assert len(plan(study.measurements(), store).trainings) == 12
    assert not Plan((), ())


def test_network_by_network_everything_is_computed_once(tiny, store):
    evaluations = (recipes.noise(tiny, "gaussian"), recipes.fgsm(tiny))
    networks = [recipes.experiment(tiny, target, seed) for seed in range(2) for target in ("none", "S^Th")]
    todo = plan([(one, evaluation) for evaluation in evaluations for one in networks], store)
    parts = by_network(todo, 1)
    assert [part.measurements for part in parts] == [tuple((one, own) for own in evaluations) for one in networks]
    trained = [one for part in parts for one in part.trainings]
    assert len(trained) == len(todo.trainings) == len(networks) + 1
    assert trained[:2] == [networks[0], evaluations[1].surrogate] or trained[:2] == [
        evaluations[1].surrogate,
        networks[0],
    ]
    assert [len(part.measurements) for part in by_network(todo, 3)] == [6, 2]
    last = [{one.key for one, _ in part.measurements} for part in by_network(todo, 1, first=(networks[3].key,))]
    assert last == [{networks[at].key} for at in (3, 0, 1, 2)]


def test_the_part_of_a_plan_is_the_plan_of_a_part(tiny, store):
    names = ("02_attack_curves", "07_batch_size_study", "16_cost")
    measured = {name: [*figure(name).study(tiny).measurements()] for name in names}
    together = plan([one for own in measured.values() for one in own], store)
    for own in measured.values():
        part, alone = together.part(own), plan(own, store)
        assert set(part.measurements) == set(alone.measurements)
        assert set(part.trainings) == set(alone.trainings)
    assert together.part(measured["16_cost"]).trainings == ()

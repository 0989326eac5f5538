"""An experiment whose maps are compared by linear CKA: it trains, resumes bit-equal, and has another key."""

import pytest
import torch

from simreg_core.lab import recipes
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import read_tensors
from simreg_core.lab.training import build_network, build_regularizer, load_data, train

CPU = torch.device("cpu")


@pytest.fixture
def experiment(tiny):
    every = tiny.changed(task=tiny.task.changed(train_images=None))  # for the loss to fall
    return recipes.experiment(every, "S^Th", 0, similarity="linear_cka", threshold=0.3)


class Killed(Exception):
    pass


def test_it_trains_and_resumes_to_the_same_weights(experiment, tmp_path):
    undisturbed, killed = Store(tmp_path / "a"), Store(tmp_path / "b")
    train(experiment, undisturbed, CPU)
    shares = []

    def kill(share):
        shares.append(share)
        if len(shares) == 2:
            raise Killed

    with pytest.raises(Killed):
        train(experiment, killed, CPU, kill)
    train(experiment, killed, CPU)
    first, second = (read_tensors(store.weights_path(experiment))[0] for store in (undisturbed, killed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [epoch["similarity_loss"] for epoch in undisturbed.history(experiment)["epochs"]]
    assert 0 < losses[-1] < losses[0] <= 1.2


def test_other_targets_are_compared_too(experiment, store):
    for target in ("pixel", "shuffled"):
        spec = experiment.regularizer.changed(target=target)
        images = load_data(experiment).regularization
        regularizer = build_regularizer(build_network(experiment, 10), spec, images, 0, store)
        assert 0 < regularizer().item() < 2


def test_its_key_differs(experiment, tiny):
    spec = experiment.regularizer.changed(similarity=None)
    assert experiment.key != experiment.changed(regularizer=spec).key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": "low"}, "similarity 'linear_cka' compares groups of images: pairs must be all, not low"),
        ({"eps": 1e-3}, "similarity 'linear_cka' has no eps, got 0.001"),
        ({"target": "zero"}, "needs targets that differ from pair to pair, not target 'zero'"),
        ({"pairs_per_step": 21}, r"pairs_per_step must lie in \[2, 20\] for 40 images, got 21"),
        ({"similarity": "rbf_cka"}, "similarity: got 'rbf_cka'; allowed: linear_cka, or none"),
    ],
)
def test_settings_that_it_does_not_take_are_refused(experiment, changes, message):
    with pytest.raises(ValueError, match=message):
        experiment.regularizer.changed(**changes)

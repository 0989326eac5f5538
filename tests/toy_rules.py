"""A toy rule for tests of the defence socket, and whether a training that is killed resumes to the same bits."""

from dataclasses import dataclass

import pytest
import torch

from simreg_core.defences import Rule
from simreg_core.defences.base import cross_entropy
from simreg_core.lab.store import Store
from simreg_core.lab.tensors import read_tensors
from simreg_core.lab.training import train

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Toy(Rule):
    """Plain training; the others change one thing of it."""

    def losses(self, network, x, y, progress, generator):
        return {"task": cross_entropy(network, x, y)}

    def passes(self):
        return 0

    def words(self):
        return f"toy {type(self).__name__}"


def weights(experiment, store):
    return read_tensors(store.weights_path(experiment))[0]


def equal(first, second, part=""):
    return all(torch.equal(first[name], second[name]) for name in first if name.startswith(part))


class Killed(Exception):
    pass


def train_until(experiment, store, epochs):
    """Train, and kill it after so many epochs."""
    shares = []

    def kill(share):
        shares.append(share)
        if len(shares) == 1 + epochs:
            raise Killed

    with pytest.raises(Killed):
        train(experiment, store, CPU, kill)


def resumes_to_the_same_bits(experiment, tmp_path, epochs, prepared=()):
    stores = []
    for stop in (None, *range(1, epochs)):
        store = Store(tmp_path / f"killed after {stop}")
        for one, trainer in prepared:
            trainer(one, store, CPU)
        if stop is not None:
            train_until(experiment, store, stop)
        train(experiment, store, CPU)
        stores.append(store)
    found = [weights(experiment, store) for store in stores]
    return all(equal(found[0], other) for other in found[1:])

"""What takes minutes is made once, and again where anything that it depends on differs."""

import torch

from simreg_core.lab import predictors, recipes
from simreg_core.lab.images import load_image_set
from simreg_core.lab.made_once import digest, made_once
from simreg_core.lab.measuring import corruptions
from simreg_core.lab.predictors import fit, neural_target
from simreg_core.lab.store import Store

CPU = torch.device("cpu")


def test_it_is_made_once_for_what_it_depends_on(store):
    calls = []

    def make():
        calls.append(1)
        return torch.full((2, 3), len(calls) / 3)

    first = made_once(store, "things", {"seed": 0}, make)
    assert torch.equal(made_once(Store(store.root), "things", {"seed": 0}, make), first)
    assert not torch.equal(made_once(store, "things", {"seed": 1}, make), first)
    made_once(store, "other things", {"seed": 0}, make)
    assert len(calls) == 3
    for path in store.root.rglob("other-things/*.safetensors"):
        path.write_bytes(path.read_bytes()[:-4])
    made_once(store, "things", {"seed": 0}, make)
    made_once(store, "other things", {"seed": 0}, make)
    assert len(calls) == 4  # the damaged one


def test_a_digest_tells_values_shape_and_type():
    ones = torch.ones(2, 3)
    others = (torch.ones(3, 2), torch.ones(2, 3, dtype=torch.int32), torch.zeros(2, 3))
    assert digest(ones) == digest(torch.ones(3, 2).t())
    assert len({digest(one) for one in (ones, *others)}) == 4


def test_every_network_sees_the_same_corrupted_images(store, monkeypatch):
    images, calls = load_image_set("digits", "test", (16, 16)).first(5), []
    corrupt = corruptions.corrupt
    monkeypatch.setattr(corruptions, "corrupt", lambda *given: (calls.append(given[1:3]), corrupt(*given))[1])
    first, again = (corruptions._generated(images, "gaussian_noise", 3, 0, store) for _ in range(2))
    assert torch.equal(first, again)
    for change in ((images, "gaussian_noise", 2, 0), (images.first(4), "gaussian_noise", 3, 0)):
        corruptions._generated(*change, store)
    assert calls == [("gaussian_noise", 3), ("gaussian_noise", 2), ("gaussian_noise", 3)]


def test_a_predicted_similarity_is_computed_once_for_all_seeds(tiny, store, monkeypatch):
    spec = recipes.experiment(tiny, "S^neural", 0).regularizer
    for one in spec.neural:
        fit(one, store, CPU)
    height, width = spec.neural[0].source.size
    pixels = torch.rand(6, 1, height, width, generator=torch.Generator().manual_seed(0))
    calls, predicted = [], predictors.predicted_similarity
    monkeypatch.setattr(predictors, "predicted_similarity", lambda *given: (calls.append(1), predicted(*given))[1])
    first, again = (neural_target(spec, pixels, store) for _ in range(2))
    assert torch.equal(first, again)
    assert len(calls) == len(spec.neural)
    neural_target(spec, pixels.flip(0), store)
    assert len(calls) == 2 * len(spec.neural)

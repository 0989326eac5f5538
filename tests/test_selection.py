"""Choosing alpha for a user's network: the paper's criterion, the table, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from simreg_core import accuracies, choose_alpha
from simreg_core.lab.select import selection_ratios
from simreg_core.lab.series import NONE


class Pixel(nn.Module):
    """Class 1 where the first pixel is above 0.5; what it returns is made by `wrap`."""

    def __init__(self, wrap=lambda logits: logits):
        super().__init__()
        self.wrap, self.modes, self.drop = wrap, [], nn.Dropout()

    def forward(self, x):
        self.modes.append((self.training, self.drop.training))
        first = x.flatten(1)[:, :1] - 0.5
        return self.wrap(torch.cat([-first, first], dim=1))


def bright_and_dark(count=400):
    labels = torch.arange(count) % 2
    return (0.3 + 0.4 * labels)[:, None, None, None].expand(-1, 1, 4, 4).float(), labels


def test_accuracies_are_those_of_the_normal_distribution():
    images, labels = bright_and_dark()
    network = Pixel().train()
    clean, noisy = accuracies(network, images, labels, noise=0.2, batch_size=150)
    assert clean == 1
    assert noisy == pytest.approx(0.841, abs=0.05)  # P(N(0, 1) < 1)
    assert set(network.modes) == {(False, False)}
    assert network.training and network.drop.training  # noqa: PT018
    assert accuracies(network, images, labels, noise=0.2, batch_size=7) == (clean, noisy)
    assert accuracies(network, images, labels, noise=0.2, seed=1)[1] != noisy
    assert accuracies(network, images, labels, noise=0) == (1, 1)


def test_logits_may_come_in_a_tuple_or_a_dict():
    images, labels = bright_and_dark()
    for wrap in (lambda x: (x, None), lambda x: {"logits": x, "loss": None}):
        assert accuracies(Pixel(wrap), images, labels, 0.1) == accuracies(Pixel(), images, labels, 0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.full((400, 1, 4, 4), 2.0)}, r"pixels must lie in \[0, 1\]"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, r"labels must be \[400\] integers, got torch.int64 \[3\]"),
        ({"labels": torch.zeros(400)}, r"labels must be \[400\] integers, got torch.float32"),
        ({"noise": 8}, "did you mean 8/255"),
        ({"images": [1, 2]}, "images must be a torch tensor"),
        ({"labels": None}, r"labels must be \[400\] integers, got a NoneType: "),
        ({"labels": ["cat"] * 400}, r"labels must be \[400\] integers, got a list: "),
        ({"labels": [0.0] * 400}, r"labels must be \[400\] integers, got torch.float32 \[400\]"),
        ({"labels": [0] * 399 + [2]}, r"labels must lie in \[0, 1\], as the network gives 2 logits; got label 2$"),
        ({"labels": [0] * 399 + [-1]}, r"labels must lie in \[0, 1\], .* got label -1$"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of at least 1, got 2.5"),
        ({"seed": None}, "seed must be a whole number, got None"),
        ({"model": Pixel(lambda x: x[:, 0])}, r"logits \[256, classes\], got \[256\]"),
        ({"model": Pixel(lambda x: "x")}, r"logits \[256, classes\], got str"),
    ],
)
def test_bad_images_labels_and_networks_are_refused(changes, message):
    images, labels = bright_and_dark()
    given = {"model": Pixel(), "images": images, "labels": labels, "noise": 0.1, **changes}
    with pytest.raises(ValueError, match=message) as error:
        accuracies(**given)
    assert "\n" not in str(error.value)


def test_labels_are_looked_at_with_the_first_batch():
    images, labels = bright_and_dark()
    network = Pixel()
    with pytest.raises(ValueError, match="got label 7"):
        accuracies(network, images, [*labels[:-1].tolist(), 7], 0.1, batch_size=10)
    assert len(network.modes) == 1


def test_labels_may_be_a_list_or_an_array():
    images, labels = bright_and_dark()
    expected = accuracies(Pixel(), images, labels, 0.2)
    with torch.device("meta"):  # as "cuda" where there is a GPU
        assert accuracies(Pixel(), images, labels.tolist(), 0.2) == expected
    for given in (labels.tolist(), tuple(labels.tolist()), labels.numpy(), labels.to(torch.uint8)):
        assert accuracies(Pixel(), images, given, 0.2) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_images_take_the_precision_of_the_network(dtype):
    images, labels = bright_and_dark()
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 16))
        network[1].bias.copy_(torch.tensor([8.0, -8.0]))
    clean, noisy = accuracies(network.to(dtype), images, labels, noise=0.5)
    assert clean == 1
    assert 0.5 < noisy < 1


def test_accuracies_of_a_network_that_is_regularized_with_preprocess():
    images, labels = bright_and_dark()
    seen = []

    def inverted(x):
        seen.append(list(x.shape))
        return 1 - x

    assert accuracies(Pixel(), images, labels, 0.1)[0] == 1
    clean, noisy = accuracies(Pixel(), images, 1 - labels, 0.1, preprocess=inverted, batch_size=300)
    assert clean == 1
    assert noisy > 0.9
    assert seen == [[300, 1, 4, 4], [100, 1, 4, 4]] * 2


def chosen(found: dict, seeds=1):
    """found: alpha -> its accuracies, or a list of them, one a seed."""
    trained = []

    def train(alpha, seed):
        trained.append((alpha, seed))
        return alpha, seed

    def evaluate(network):
        alpha, seed = network
        return found[alpha][seed] if seeds > 1 else found[alpha]

    choice = choose_alpha(train, evaluate, [alpha for alpha in found if alpha], seeds)
    assert sorted(trained) == sorted((alpha, seed) for alpha in found for seed in range(seeds))
    return choice


def test_the_criterion_is_that_of_the_papers_figure():
    found = {0: (0.8, 0.4), 1: (0.8, 0.3), 2: (0.8, 0.42), 3: (0.76, 0.5), 4: (0.73, 0.45), 5: (0.6, 0.6)}
    choice = chosen(found)
    assert choice.alpha == 3
    assert [row["alpha"] for row in choice.grid if row["accepted"]] == [2, 3, 4]
    assert [row["alpha"] for row in choice.grid if row["chosen"]] == [3]
    assert choice.grid[3]["clean_ratio"] == pytest.approx(0.95)
    assert choice.grid[3]["noisy_ratio"] == pytest.approx(1.25)
    rows = [
        {"series": str(alpha) if alpha else NONE, "alpha": alpha, "threshold": 0.8, "attack": "gaussian", "epsilon": e,
         "value": value}
        for alpha, pair in found.items() for e, value in zip((0, 0.1), pair, strict=True)
    ]  # fmt: skip
    laboratory = selection_ratios(pd.DataFrame(rows))
    ours = pd.DataFrame(choice.grid[1:])
    assert laboratory["accepted"].tolist() == ours["accepted"].tolist()
    assert laboratory["chosen"].tolist() == ours["chosen"].tolist()
    assert laboratory["robust"].tolist() == pytest.approx(ours["noisy_ratio"].tolist())


def test_accuracies_are_averaged_over_seeds():
    choice = chosen({0: [(0.8, 0.4), (0.6, 0.2)], 1: [(0.9, 0.2), (0.5, 0.6)], 2: [(0.7, 0.3), (0.7, 0.3)]}, seeds=2)
    assert [row["clean"] for row in choice.grid] == pytest.approx([0.7, 0.7, 0.7])
    assert [row["noisy"] for row in choice.grid] == pytest.approx([0.3, 0.4, 0.3])
    assert choice.alpha == 1


@pytest.mark.parametrize(
    ("found", "alpha", "said"),
    [
        ({0: (0.8, 0.4), 1: (0.8, 0.5), 2: (0.8, 0.6), 3: (0.8, 0.5)}, 2, "chosen: alpha = 2"),
        ({0: (0.8, 0.4), 1: (0.8, 0.6), 2: (0.8, 0.5)}, 1, "chosen: alpha = 1, the smallest that was tried: try sm"),
        ({0: (0.8, 0.4), 1: (0.8, 0.5), 2: (0.8, 0.6)}, 2, "chosen: alpha = 2, the largest that was tried: try larger"),
        ({0: (0.8, 0.4), 1: (0.5, 0.5), 2: (0.3, 0.6)}, None, "none accepted: each costs too much clean accuracy"),
        ({0: (0.8, 0.4), 1: (0.8, 0.3), 2: (0.3, 0.6)}, None, "none accepted: none that keeps clean accuracy raises"),
    ],
)  # fmt: skip
def test_what_follows_is_said_below_the_table(found, alpha, said):
    choice = chosen(found)
    assert choice.alpha == alpha
    head, *rows, last = str(choice).splitlines()
    assert last.startswith(said)
    assert last.endswith("too") or "try" in last or last == said
    assert len(rows) == len(found)
    assert head.split() == ["alpha", "clean", "noisy", "clean", "ratio", "noisy", "ratio"]
    assert sum("chosen" in row for row in rows) == (alpha is not None)


def never(*_):
    raise AssertionError("was called")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alphas": []}, r"alphas must be a list of at least one number, got \[\]"),
        ({"alphas": 0.1}, "alphas must be a list of at least one number, got 0.1"),
        ({"alphas": None}, "alphas must be a list of at least one number, got None"),
        ({"alphas": "0.1"}, "alphas must be a list of at least one number, got '0.1'"),
        ({"alphas": torch.tensor(0.1)}, r"alphas must be a list of at least one number, got tensor\(0.1"),
        ({"alphas": torch.ones(1, 2)}, r"alphas must be positive numbers, got \[1.0, 1.0\]"),
        ({"alphas": (alpha for alpha in ())}, "alphas must be a list of at least one number, got <generator"),
        ({"alphas": [0.1, 0]}, "alphas must be positive numbers, got 0; 0 is always trained"),
        ({"alphas": [float("nan")]}, "alphas must be positive numbers, got nan"),
        ({"alphas": ["0.1"]}, "alphas must be positive numbers, got '0.1'"),
        ({"alphas": [0.1, 0.1]}, r"alphas must all differ, got \[0.1, 0.1\]"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        ({"seeds": 1.5}, "seeds must be a whole number of at least 1, got 1.5"),
        ({"train": nn.Linear(1, 1)}, "train must be a function, got Linear"),
        ({"evaluate": None}, "evaluate must be a function, got NoneType"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_trained(changes, message):
    given = {"train": never, "evaluate": never, "alphas": [0.1], **changes}
    with pytest.raises(ValueError, match=message):
        choose_alpha(**given)


@pytest.mark.parametrize(
    "alphas",
    [
        (0.5 * step for step in (1, 2)),
        torch.tensor([0.5, 1.0]),
        [torch.tensor(0.5), 1],
        np.array([0.5, 1]),
        {0.5: 1, 1: 2},
    ],
)
def test_alphas_may_come_in_anything_that_holds_numbers(alphas):
    choice = choose_alpha(lambda alpha, seed: alpha, lambda alpha: (0.8, 0.4 + alpha / 10), alphas)
    assert [row["alpha"] for row in choice.grid] == [0, 0.5, 1]
    assert all(type(row["alpha"]) is float for row in choice.grid)
    assert choice.alpha == 1


@pytest.mark.parametrize(
    ("train", "evaluate", "message"),
    [
        (lambda alpha, seed: None, never, r"train\(0, 0\) returned None; it must return the trained network"),
        (lambda alpha, seed: 1, lambda network: 0.5, "evaluate must return two numbers, .* got 0.5"),
        (lambda alpha, seed: 1, lambda network: (93.0, 50), "got 93 for alpha 0; divide per cent by 100"),
        (lambda alpha, seed: 1, lambda network: (0.5, -1), r"accuracies in \[0, 1\], got -1 for alpha 0$"),
        (lambda alpha, seed: 1, lambda network: (float("nan"), 1), r"accuracies in \[0, 1\], got nan"),
        (lambda alpha, seed: 1, lambda network: (0, 0), "the clean accuracy of the unregularized network is 0"),
        (lambda alpha, seed: 1, lambda network: (1, 0), "the accuracy under noise of the unregularized network is 0"),
    ],
)
def test_what_a_users_functions_return_is_checked(train, evaluate, message):
    with pytest.raises(ValueError, match=message):
        choose_alpha(train, evaluate, [0.1])

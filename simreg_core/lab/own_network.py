"""A user's own network and images: trained without and with the loss, attacked under the strict protocol.

`opened(...)` checks everything that can be checked before training; `.train()` and `.attack()` give a `Robustness`, of
which `lab.report` makes a page. Notebook 90 does it.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core import SimilarityRegularizer, accuracies, attacks, choose_alpha
from simreg_core.attacks import door
from simreg_core.features import first_tensor
from simreg_core.lab.errors import NotInstalledError, not_installed
from simreg_core.names import PAIRS_PER_STEP
from simreg_core.selection import AlphaChoice, NothingToCompare
from simreg_core.targets import pixel_similarity, threshold_targets

try:
    import pandas as pd

    from simreg_core.lab.measuring.subject import correct
    from simreg_core.lab.measuring.white_box import beside
    from simreg_core.lab.own_inputs import (
        Logits,
        Sets,
        Settings,
        check_fit,
        default_layers,
        largest_share,
        made,
        network_maker,
        sets_of,
    )
    from simreg_core.lab.series import NONE, THRESHOLD
    from simreg_core.lab.specs import SpecError, WhiteBoxEvaluation, build, stream
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("simreg_core"):
        raise
    raise NotInstalledError(not_installed("a report on your own network", error)) from None

EXAMPLES = 6  # images on the page
ABOVE_CHANCE = 0.05  # what a few dozen guesses may reach


@dataclass(frozen=True)
class Robustness:
    """What was measured.

    table: one row a number: series ('none' or 'S^Th'), seed, attack, epsilon, value (accuracy, in [0, 1]).
    warnings: of the suspicion checks, by (series, seed).
    examples: a few images as the networks of seed 0 were shown them.  labels: [n], of these.
    """

    table: pd.DataFrame
    warnings: dict[tuple[str, int], tuple[str, ...]]
    examples: "tuple[Example, ...]"
    labels: Tensor


@dataclass(frozen=True)
class Example:
    """name: how the images were attacked.  pixels: [n, c, h, w].  answers: [n], the classes that the network says."""

    series: str
    name: str
    pixels: Tensor
    answers: Tensor


def opened(**given: Any) -> "OwnNetwork":
    """A network with its images, checked.  given: fields of `Settings`; None keeps the default.

    Raises SpecError for a setting or network that cannot be, DataError for images; one line says what to change.
    """
    settings = build(Settings, {name: value for name, value in given.items() if value is not None})
    make = network_maker(settings.network)
    sets = sets_of(settings)
    network = made(make, settings, sets)
    check_fit(network, settings, sets)
    layers = settings.layers or default_layers(network, sets.train.pixels[:2], settings.channel_axis)
    own = OwnNetwork(settings, make, sets, layers)
    own.regularizer_of(network, 0)  # whether it can be regularized, before minutes of training
    return own


@dataclass(frozen=True)
class OwnNetwork:
    """A network that can be trained and attacked.  layers: that are compared."""

    settings: Settings
    make: Callable[..., nn.Module]
    sets: Sets
    layers: tuple[str, ...]
    # (alpha, seed) -> networks that `choose` has trained and `train` is going to ask for
    _trained: dict[tuple[float, int], nn.Module] = field(default_factory=dict, repr=False, compare=False)

    @property
    def guesses(self) -> float:
        """The accuracy on test images up to which a network may only guess."""
        return self.sets.chance + ABOVE_CHANCE

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def regularizer_of(self, network: nn.Module, seed: int) -> SimilarityRegularizer:
        """The regularizer, on `count` of the training images.  Raises SpecError where the network cannot have it."""
        pixels = self._regularization_pixels()
        k = min(PAIRS_PER_STEP, len(pixels) // 2)
        try:
            return SimilarityRegularizer(
                network, self.layers, pixels, self.settings.threshold, pair_statistics="separate", pairs_per_step=k,
                seed=stream(seed, "pairs"), channel_axis=self.settings.channel_axis,
            )  # fmt: skip
        except ValueError as error:
            raise SpecError(f"network '{self.settings.network}': {error}") from error

    def _regularization_pixels(self) -> Tensor:
        return self.sets.train.first(min(self.settings.count, len(self.sets.train))).pixels

    def shares(self) -> tuple[float, float]:
        """The shares of the pairs of regularization images whose target is +1, and -1; both in [0, 1]."""
        targets = threshold_targets(pixel_similarity(self._regularization_pixels()), self.settings.threshold)
        own = targets[tuple(torch.triu_indices(*targets.shape, offset=1))]
        return (own == 1).double().mean().item(), (own == -1).double().mean().item()

    def trained(self, alpha: float, seed: int) -> nn.Module:
        """A network in eval mode, trained with this alpha; 0: without the loss.  Equal seeds: equal starts and batches.

        Raises SpecError where the loss is no longer finite.
        """
        own, train = self.settings, self.sets.train
        pixels, labels = train.pixels.to(self.device), train.labels.to(self.device)
        order = torch.Generator().manual_seed(stream(seed, "order"))
        with door.seeded(stream(seed, "network"), self.device):
            network = made(self.make, own, self.sets).to(self.device).train()
            regularizer = self.regularizer_of(network, seed) if alpha else None
            parameters = [*network.parameters(), *(regularizer.parameters() if alpha else ())]
            optimizer = torch.optim.Adam(parameters, lr=own.learning_rate)
            for _ in range(own.steps):
                batch = torch.randint(len(pixels), (own.batch_size,), generator=order).to(self.device)
                loss = F.cross_entropy(first_tensor(network(pixels[batch])), labels[batch])
                if regularizer is not None:
                    loss = loss + alpha * regularizer()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        if not loss.isfinite():
            smaller = "" if alpha == 0 else ", or smaller alphas" if own.alpha is None else " or alpha"
            raise SpecError(f"the training with alpha {alpha:g} diverged; give a smaller learning_rate{smaller}")
        return network.eval()

    def choose(self) -> AlphaChoice:
        """alpha by the paper's criterion on validation images, at the largest noise, as the mean over all seeds.

        `train` takes the networks that were trained here, so that with all seeds little more is trained than with one.
        Warns where that noise leaves the unregularized network nothing but guesses.
        Raises SpecError as `trained`, and where that network is right on no image: there is nothing to compare with.
        """
        held_out, noise = self.sets.validation, max(self.settings.noise)

        def train(alpha: float, seed: int) -> nn.Module:
            self._trained[alpha, seed] = self.trained(alpha, seed)
            return self._trained[alpha, seed]

        def evaluate(network: nn.Module) -> tuple[float, float]:
            found = accuracies(network, held_out.pixels, held_out.labels, noise)
            network.cpu()  # a GPU may not hold all of them
            return found

        self._trained.clear()
        try:
            choice = choose_alpha(train, evaluate, self.settings.alphas, self.settings.seeds)
        except NothingToCompare as error:
            raise SpecError(f"{error}; give {'more steps' if error.clean else 'smaller values of noise'}") from error
        if choice.grid[0]["noisy"] <= largest_share(held_out) + ABOVE_CHANCE:
            words = f"under noise {noise:g} the network without the loss only guesses, so alpha is chosen by luck"
            warnings.warn(f"{words}: give smaller values of noise", stacklevel=2)
        return choice

    def train(self, alpha: float) -> dict[str, list[nn.Module]]:
        """Networks by series, one for each seed, in eval mode; those that `choose` has trained are not trained again.

        Raises SpecError as `trained`.
        """
        networks = {
            series: [self._once(strength, seed) for seed in range(self.settings.seeds)]
            for series, strength in ((NONE, 0.0), (THRESHOLD, alpha))
        }
        self._trained.clear()  # of the other alphas: nothing asks for them any more
        return networks

    def _once(self, alpha: float, seed: int) -> nn.Module:
        known = self._trained.get((alpha, seed))
        return self.trained(alpha, seed) if known is None else known.to(self.device)

    def about_choice(self) -> str:
        """On how much `choose` rests, in words."""
        images, seeds = len(self.sets.validation), self.settings.seeds
        return (
            f"The choice of α rests on {counted(seeds, 'training seed')} and {counted(images, 'validation image')}: "
            f"one image is 1/{images} = {1 / images:.3f} of a seed's accuracy, so a difference of a few images may be "
            "luck. The networks that decided are attacked too, on other images, which flatters the chosen α a little."
        )

    def attack(self, networks: dict[str, list[nn.Module]]) -> Robustness:
        """Noise, FGSM transferred from another unregularized network, PGD, and attacks side by side, all strict.

        Raises SpecError for a network that classifies no image rightly: there is none to attack then.
        """
        pixels, labels = self._attacked()
        surrogate = Logits(self.trained(0, self.settings.seeds)).eval()
        direction = attacks.fgsm_direction(surrogate, pixels, labels)
        rows, found = [], {}
        for series, trained in networks.items():
            for seed, network in enumerate(trained):
                classifier = Logits(network).eval()
                if not correct(classifier, pixels, labels).any():
                    raise SpecError(f"'{series}', seed {seed}, classifies no image rightly; give more steps")
                values, found[series, seed] = self._attacked_once(classifier, pixels, labels, direction, seed)
                rows += [{"series": series, "seed": seed, **value} for value in values]
        few = slice(EXAMPLES)
        examples = self._examples(networks, pixels[few], labels[few])
        return Robustness(pd.DataFrame(rows), found, examples, labels[few].cpu())

    def _attacked(self) -> tuple[Tensor, Tensor]:
        test = self.sets.test
        few = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: self.settings.test_images]
        chosen = test.take(few)
        return chosen.pixels.to(self.device), chosen.labels.to(self.device)

    def _attacked_once(
        self, network: nn.Module, pixels: Tensor, labels: Tensor, direction: Tensor, seed: int
    ) -> tuple[list[dict], tuple[str, ...]]:
        own, rows = self.settings, []

        def note(attack: str, epsilon: float, right: Tensor) -> None:
            rows.append({"attack": attack, "epsilon": epsilon, "value": right.double().mean().item()})

        note("clean", 0.0, correct(network, pixels, labels))
        for epsilon in own.noise:
            note("Gaussian noise", epsilon, correct(network, _noisy(pixels, epsilon, seed), labels))
        for epsilon in own.epsilons:
            moved = attacks.transferred_fgsm(pixels, direction, epsilon, protocol="strict").adversarial
            note("transferred FGSM", epsilon, correct(network, moved, labels))
        evaluation = self._evaluation(seed)
        for epsilon in own.epsilons:
            result = attacks.pgd(
                network, pixels, labels, epsilon, steps=own.attack_steps, seed=stream(seed, f"PGD {epsilon:g}")
            )
            note("PGD", epsilon, correct(network, result.adversarial, labels))
            if epsilon == own.epsilon:
                walked = result
        others, suspicions = beside(network, pixels, labels, evaluation, walked)
        for name, fooled in others.items():
            note(f"{name}, side by side", own.epsilon, ~fooled)
        return rows, suspicions

    def _evaluation(self, seed: int) -> WhiteBoxEvaluation:
        own = self.settings
        return WhiteBoxEvaluation(
            epsilons=own.epsilons, epsilon=own.epsilon, steps=own.attack_steps, queries=own.queries, seed=seed,
            protocol="strict",
        )  # fmt: skip

    def _examples(self, networks: dict[str, list[nn.Module]], pixels: Tensor, labels: Tensor) -> tuple[Example, ...]:
        """Test images, noisy ones, and what PGD makes of them against each network of seed 0."""
        own, noise, found = self.settings, max(self.settings.noise), []
        for series, trained in networks.items():
            network = Logits(trained[0]).eval()
            shown = {"clean": pixels, f"noise {noise:g}": _noisy(pixels, noise, 0)}
            if correct(network, pixels, labels).any():  # else there is none to attack
                result = attacks.pgd(network, pixels, labels, own.epsilon, steps=own.attack_steps, seed=0)
                shown[f"PGD {own.epsilon:g}"] = result.adversarial
            found += [Example(series, name, x.cpu(), _answers(network, x)) for name, x in shown.items()]
        return tuple(found)


def counted(number: int, what: str) -> str:
    """'1 training seed', '3 training seeds'."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _noisy(pixels: Tensor, epsilon: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(stream(seed, f"noise {epsilon:g}"))  # on the CPU: the same everywhere
    return attacks.gaussian_noise(pixels.cpu(), epsilon, protocol="strict", generator=generator).adversarial.to(pixels)


@torch.no_grad()
def _answers(network: nn.Module, pixels: Tensor) -> Tensor:
    return network(pixels).argmax(dim=1).cpu()

"""White-box, minimum-norm and transferred attacks on a trained network, and the checks that they could work."""

import numpy as np
import torch
from torch import Tensor, nn

from simreg_core import door, suspicion, whitebox
from simreg_core.attacks import AttackResult
from simreg_core.lab.experiment import (
    MinimumNormEvaluation,
    TransferEvaluation,
    WhiteBoxEvaluation,
    stream,
)
from simreg_core.lab.store import Value

FEW_STEPS = (1, 5)  # set beside the evaluation's own number: more must not help the defence
LARGE = 0.5  # epsilon at which every image can be made the same gray one
GRAY_STEPS = 10  # enough to cross that ball


def white_box(
    network: nn.Module, pixels: Tensor, labels: Tensor, evaluation: WhiteBoxEvaluation
) -> tuple[list[Value], dict, tuple[str, ...]]:
    """Accuracy at each epsilon under PGD, more attacks at `evaluation.epsilon`, and warnings of the checks."""
    network = door.classifier(network, pixels)
    values, fooled, walked = [], {}, None
    for epsilon in evaluation.epsilons:
        result = _pgd(network, pixels, labels, evaluation, epsilon)
        fooled[epsilon] = _fooled(network, result.adversarial, labels)
        name = "PGD" if evaluation.norm == "linf" else "PGD, L2"
        values.append(_accuracy(fooled[epsilon], name, epsilon))
        walked = result if epsilon == evaluation.epsilon else walked
    if evaluation.epsilon is None:
        return values, {"fooled": _plain(fooled)}, ()
    side_by_side = _side_by_side(network, pixels, labels, evaluation)
    values += [_accuracy(found, name, evaluation.epsilon) for name, found in side_by_side.items()]
    own = fooled[evaluation.epsilon]
    gray = _fooled(network, _pgd(network, pixels, labels, evaluation, LARGE, GRAY_STEPS).adversarial, labels)
    warnings = suspicion.suspicions(
        white_box=own,
        black_box=side_by_side["Square"],
        single_step=side_by_side["FGSM"],
        by_steps={**{steps: side_by_side[_named(steps)] for steps in _fewer(evaluation)}, evaluation.steps: own},
        large_epsilon=(gray, LARGE, (labels.bincount().max() / len(labels)).item()),
        gradients=(walked.zero_gradients, walked.nan_gradients),
        logits=_twice(network, pixels),
        loss=walked.loss,
    )
    return values, {"fooled": _plain(fooled), "loss": walked.loss.tolist()}, warnings


def _side_by_side(
    network: nn.Module, pixels: Tensor, labels: Tensor, evaluation: WhiteBoxEvaluation
) -> dict[str, Tensor]:
    """Which images each attack fools at `evaluation.epsilon`."""
    epsilon, seed = evaluation.epsilon, stream(evaluation.seed, "white box")
    found = {
        "FGSM": whitebox.pgd(
            network, pixels, labels, epsilon, steps=1, step_size=epsilon, random_start=False, seed=seed
        ).adversarial,
        **{
            _named(steps): _pgd(network, pixels, labels, evaluation, epsilon, steps).adversarial
            for steps in _fewer(evaluation)
        },
        "Square": whitebox.square(network, pixels, labels, epsilon, queries=evaluation.queries, seed=seed).adversarial,
    }
    fooled = {name: _fooled(network, adversarial, labels) for name, adversarial in found.items()}
    if evaluation.autoattack_images is not None:
        few = slice(evaluation.autoattack_images)
        name, budget = "AutoAttack", {}
        if evaluation.autoattack_budget is not None:
            name = "AutoAttack, reduced"
            budget = dict(zip(("steps", "targets", "queries"), evaluation.autoattack_budget, strict=True))
        result = whitebox.autoattack(network, pixels[few], labels[few], epsilon, norm="linf", seed=seed, **budget)
        fooled[name] = _fooled(network, result.adversarial, labels[few])
    return fooled


def _pgd(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    evaluation: WhiteBoxEvaluation,
    epsilon: float,
    steps: int | None = None,
) -> whitebox.PGDResult:
    """PGD at an epsilon; with a number of steps of its own, with one restart."""
    return whitebox.pgd(
        network,
        pixels,
        labels,
        epsilon,
        norm=evaluation.norm,
        steps=steps or evaluation.steps,
        restarts=1 if steps else evaluation.restarts,
        seed=stream(evaluation.seed, f"white box {epsilon:g}"),
    )


def _fewer(evaluation: WhiteBoxEvaluation) -> list[int]:
    return [steps for steps in FEW_STEPS if steps < evaluation.steps]


def _named(steps: int) -> str:
    return f"PGD, {steps} step{'s' * (steps > 1)}"


@torch.no_grad()
def _twice(network: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    return network(pixels[:100]), network(pixels[:100])


@torch.no_grad()
def _fooled(network: nn.Module, adversarial: Tensor, labels: Tensor) -> Tensor:
    return torch.cat([network(part).argmax(dim=1) for part in adversarial.split(500)]) != labels


def _accuracy(fooled: Tensor, name: str, epsilon: float) -> Value:
    share = (~fooled).double().mean().item()
    return Value(metric="accuracy", condition=name, epsilon=epsilon, value=share, attempted=len(fooled))


def _plain(fooled: dict[float, Tensor]) -> dict[str, list[int]]:
    return {f"{epsilon:g}": found.int().tolist() for epsilon, found in fooled.items()}


def minimum_norm(
    network: nn.Module, pixels: Tensor, labels: Tensor, evaluation: MinimumNormEvaluation
) -> tuple[list[Value], dict]:
    """Median size of the smallest perturbations found; an image that none fools is infinitely far."""
    network = door.classifier(network, pixels)
    if evaluation.away_from == "prediction":
        with torch.no_grad():
            labels = network(pixels).argmax(dim=1)
    result = _minimized(network, pixels, labels, evaluation)
    sizes = getattr(result, evaluation.norm).sort().values
    median = ((sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2).item()
    counts = {"attempted": result.attempted, "failed": int(result.failed.sum())}
    values = [Value(metric=f"median_{evaluation.norm}", condition=evaluation.method, value=median, **counts)]
    if evaluation.norm == "l2":
        squared = result.squared_l2_per_pixel.sort().values
        middle = ((squared[(len(squared) - 1) // 2] + squared[len(squared) // 2]) / 2).item()
        name = "median_squared_l2_per_pixel"
        values.append(Value(metric=name, condition=evaluation.method, value=middle, **counts))
    return values, {"sizes": np.round(sizes.cpu().numpy(), 6).tolist()}


def _minimized(network: nn.Module, pixels: Tensor, labels: Tensor, evaluation: MinimumNormEvaluation) -> AttackResult:
    seed, steps = stream(evaluation.seed, "minimum norm"), evaluation.steps
    match evaluation.method:
        case "fast":
            return whitebox.minimum_norm(network, pixels, labels, norm=evaluation.norm, steps=steps, seed=seed)
        case "deepfool":
            return whitebox.deep_fool(network, pixels, labels, norm=evaluation.norm, steps=steps, seed=seed)
        case "carlini_wagner":
            return whitebox.carlini_wagner(network, pixels, labels, steps=steps, seed=seed)
        case "hop_skip_jump":
            return whitebox.hop_skip_jump(network, pixels, labels, norm=evaluation.norm, steps=steps, seed=seed)


def transfer(
    network: nn.Module, surrogates: list[nn.Module], pixels: Tensor, labels: Tensor, evaluation: TransferEvaluation
) -> list[Value]:
    """Accuracy under FGSM and PGD made on the first surrogate, and momentum made on all of them."""
    network = door.classifier(network, pixels)
    seed, values = stream(evaluation.seed, "transfer"), []
    for epsilon in evaluation.epsilons:
        made = {
            "FGSM": whitebox.pgd(
                surrogates[0], pixels, labels, epsilon, steps=1, step_size=epsilon or 1.0, random_start=False,
                early_leave=False, seed=seed,
            ),
            "PGD": whitebox.pgd(
                surrogates[0], pixels, labels, epsilon, steps=evaluation.steps, early_leave=False, seed=seed
            ),
            "momentum": whitebox.momentum_transfer(surrogates, pixels, labels, epsilon, evaluation.steps, seed=seed),
        }  # fmt: skip
        values += [
            _accuracy(_fooled(network, result.adversarial, labels), f"{name} from {evaluation.name}", epsilon)
            for name, result in made.items()
        ]
    return values

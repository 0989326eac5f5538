"""Attackers who know a network's front end, and the images that the front end certifies."""

from collections.abc import Iterator

import torch
from torch import Tensor

from simreg_core import attacks
from simreg_core.attacks import door, suspicion
from simreg_core.defences.front_end import differentiated
from simreg_core.lab.measuring.subject import BATCH, Attacked, Look, Measured, accuracy, correct
from simreg_core.lab.records import Value
from simreg_core.lab.specs import Experiment, FrontEndEvaluation, stream
from simreg_core.lab.training import build_network

WORST, SQUARE = "worst", "Square"


def front_end(subject: Attacked) -> Measured:
    """Clean accuracy (epsilon 0), accuracy under PGD with each way, from each surrogate, and under Square; the worst
    over all, per image; and the share of images that are certified at each epsilon.

    A certified image that an attack of no larger epsilon fools would disprove the certificate: it is a warning.
    """
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    network = door.classifier(subject.network, pixels)
    fooled, gradients = _attacked(subject)
    values = [accuracy(correct(network, pixels, labels), 0.0)]
    values += [accuracy(~own, evaluation.epsilon, condition=name) for name, own in fooled.items()]
    worst = torch.stack([*fooled.values()]).any(dim=0)
    values.append(accuracy(~worst, evaluation.epsilon, condition=WORST))
    iterative = torch.stack([own for name, own in fooled.items() if name != SQUARE]).any(dim=0)
    warnings = suspicion.suspicions(white_box=iterative, black_box=fooled[SQUARE], gradients=gradients)
    if evaluation.certificates is None:
        return Measured(values, {}, warnings)
    distances = _distances(subject)
    values += [
        Value(
            metric="certified",
            value=(distances >= epsilon).double().mean().item(),
            attempted=len(labels),
            epsilon=epsilon,
        )
        for epsilon in evaluation.certificates
    ]
    disproved = worst & correct(network, pixels, labels) & (distances >= evaluation.epsilon)
    if disproved.any():
        warnings += (f"{int(disproved.sum())} images are fooled although they are certified",)
    return Measured(values, {"distances": distances.cpu().tolist()}, warnings)


def _attacked(subject: Attacked) -> tuple[dict[str, Tensor], tuple[float, float]]:
    """Which images each attacker fools, [n] by name; and the least share of zero, and of not finite, gradients.

    The least, since one way that can be followed is enough.
    """
    evaluation, pixels, labels = subject.evaluation, subject.pixels, subject.labels
    seed, epsilon = stream(evaluation.seed, "front end"), evaluation.epsilon
    sizes = {"steps": evaluation.steps, "restarts": evaluation.restarts, "seed": seed}
    found, gradients = {}, []
    for part, way in evaluation.ways:
        with differentiated(subject.network, **{part: way}):
            walked = attacks.pgd(subject.network, pixels, labels, epsilon, **sizes)
        found[f"{part}: {way}"] = walked.adversarial
        gradients.append((walked.zero_gradients, walked.nan_gradients))
    for number, surrogate in enumerate(evaluation.surrogates, start=1):
        own = subject.trained(surrogate)
        name = f"from surrogate {number}"
        found[name] = attacks.pgd(own, pixels, labels, epsilon, early_leave=False, **sizes).adversarial
    square = attacks.square(subject.network, pixels, labels, epsilon, queries=evaluation.queries, seed=seed)
    found[SQUARE] = square.adversarial
    fooled = {name: ~correct(subject.network, shown, labels) for name, shown in found.items()}
    zero, nan = zip(*gradients, strict=True)
    return fooled, (min(zero), min(nan))


@torch.no_grad()
def _distances(subject: Attacked) -> Tensor:
    """The certificate of each image, [n]."""
    certifies = subject.network.front_end.distances
    return torch.cat([certifies(batch) for batch in subject.pixels.split(BATCH[subject.device.type])])


def front_end_lacks(experiment: Experiment, evaluation: FrontEndEvaluation, look: Look) -> Iterator[str]:
    """Parts and ways that no front end has, and a certificate where none is given."""
    with torch.device("meta"):
        network = build_network(experiment, num_classes=10)
    for part, way in evaluation.ways:
        try:
            with differentiated(network, **{part: way}):
                pass
        except ValueError as error:
            yield f"evaluation 'front_end': {error}"
    if evaluation.certificates is not None and not hasattr(getattr(network, "front_end", None), "distances"):
        yield f"evaluation 'front_end': '{experiment.title}' certifies nothing; leave certificates empty"


def front_end_passes(evaluation: FrontEndEvaluation, images: int) -> float:
    """A gradient costs two more passes than a classification."""
    walks = len(evaluation.ways) + len(evaluation.surrogates)
    return images * (3 * evaluation.steps * evaluation.restarts * walks + evaluation.queries + 2)


def front_end_words(evaluation: FrontEndEvaluation) -> str:
    """'attackers who know the front end, epsilon 0.1'."""
    return f"attackers who know the front end, epsilon {evaluation.epsilon:g}"

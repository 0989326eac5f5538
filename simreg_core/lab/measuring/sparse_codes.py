"""What a sparse-coding front end makes of images: dictionary, codes, and what an attack on the codes changes."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.attacks.ball import project
from simreg_core.defences.sparse_coding import SparseCoder, coherence, is_flat, top
from simreg_core.lab.measuring.subject import Attacked, Look, Measured
from simreg_core.lab.records import Value
from simreg_core.lab.specs import Experiment, SparseCodesEvaluation, stream
from simreg_core.lab.training import build_network

BATCH = 50  # images whose codes are held at once
BINS = 100  # of histograms on [-1, 1]
BY_ATOMS, BY_NETWORK = "atoms", "first layer"  # histograms
STEP = 2.5  # of the attack, in units of epsilon / steps


def sparse_codes(subject: Attacked) -> Measured:
    """Shares of the dictionary's atoms and of kept coefficients, changes under noise and attack; atoms, coefficients of
    one image, and histograms of how patches correlate with atoms and with a network's first filters.
    """
    front_end: SparseCoder = subject.network.front_end
    count = len(subject.labels)
    largest, nearest = coherence(front_end.dictionary.cpu())
    flat = is_flat(front_end.dictionary)
    numbers = {"coherence": largest, "nearest_atom": nearest, "flat_atoms": flat.double().mean().item()}
    with torch.no_grad():
        numbers |= _of_codes(subject, front_end, flat)
    numbers |= _under_attack(subject, front_end)
    noisy = ("same_top", "flipped", "changed")
    at = subject.evaluation.epsilon
    values = [
        Value(metric=name, value=value, attempted=count, epsilon=at if name in noisy else None)
        for name, value in numbers.items()
    ]
    side = (front_end.channels, front_end.patch, front_end.patch)
    with torch.no_grad():
        projections = front_end.projections(subject.pixels[:1])[0]
        middle = projections[:, projections.shape[1] // 2]
        arrays = {
            "atoms": _rounded(front_end.dictionary.unflatten(1, side)),
            "coefficients": _rounded(middle),  # of the middle row of patches of the first image
            "correlations": {BY_ATOMS: _by_atoms(subject, front_end), BY_NETWORK: _by_network(subject)},
        }
    return Measured(values, arrays)


def _rounded(values: Tensor) -> list:
    return values.double().cpu().numpy().round(3).tolist()


def _of_codes(subject: Attacked, front_end: SparseCoder, flat: Tensor) -> dict[str, float]:
    """Of the T coefficients kept of each patch: flat atoms, above the threshold, negative; and which stay in noise."""
    generator = torch.Generator().manual_seed(stream(subject.evaluation.seed, "signs"))  # the same on every device
    sums, total, patches = dict.fromkeys(("flat_kept", "passing", "negative", "same_top"), 0), 0, 0
    for x in subject.pixels.split(BATCH):
        projections = front_end.projections(x)
        kept = top(projections, front_end.kept).bool()
        signs = (2 * torch.randint(0, 2, x.shape, generator=generator) - 1).to(x)
        noisy = (x + subject.evaluation.epsilon * signs).clamp(0, 1)
        again = top(front_end.projections(noisy), front_end.kept).bool()
        z = projections / front_end.sizes
        found = {"flat_kept": flat[:, None, None], "passing": z.abs() > front_end.threshold, "negative": z < 0}
        for name, where in {**found, "same_top": again}.items():
            sums[name] += int((kept & where).sum())
        total, patches = total + int(kept.sum()), patches + kept[:, 0].numel()
    shares = {name: value / total for name, value in sums.items()}
    # a random front end drops some of them
    left = 1 - getattr(front_end, "dropout", 0.0)
    return {**shares, "nonzero_a_patch": left * sums["passing"] / patches}


def _under_attack(subject: Attacked, front_end: SparseCoder) -> dict[str, float]:
    """The shares of nonzero coefficients that an attack gives the other sign, and that it changes at all.

    Two attacks: gradient steps that push all coefficients of the code towards the other sign, and the worst
    perturbation of one coefficient of each image, -epsilon * sign(d) on its patch.
    """
    flipped = changed = total = 0
    for x in subject.pixels.split(BATCH):
        before = _signs(front_end, x)
        for attacked in (_pushed(subject, front_end, x, before), _one_turned(subject, front_end, x, before)):
            after = _signs(front_end, attacked)
            flipped += int((before * after < 0).sum())
            changed += int(((before != after) & (before != 0)).sum())
            total += int((before != 0).sum())
    return {"flipped": flipped / max(total, 1), "changed": changed / max(total, 1)}


@torch.no_grad()
def _signs(front_end: SparseCoder, x: Tensor) -> Tensor:
    """The sign of each coefficient of the code before dropout, [b, atoms, m, m']."""
    return SparseCoder.code(front_end, x).sign()


def _pushed(subject: Attacked, front_end: SparseCoder, x: Tensor, before: Tensor) -> Tensor:
    epsilon, steps = subject.evaluation.epsilon, subject.evaluation.steps
    at = x.clone()
    for _ in range(steps):
        at.requires_grad_()
        with torch.enable_grad():
            against = -(before * front_end.projections(at) / front_end.sizes).sum()
            (gradient,) = torch.autograd.grad(against, at)
        at = project(at.detach() + STEP * epsilon / steps * gradient.sign(), x, epsilon, "linf")
    return at


def _one_turned(subject: Attacked, front_end: SparseCoder, x: Tensor, before: Tensor) -> Tensor:
    """Each image with its smallest coefficient of the code pushed as far as a perturbation can."""
    size = (front_end.projections(x) / front_end.sizes).detach().abs().masked_fill(before == 0, torch.inf)
    weakest = size.flatten(1).argmin(dim=1, keepdim=True)
    chosen = torch.zeros_like(before).flatten(1).scatter_(1, weakest, 1.0).view_as(before)
    shown = x.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad((chosen * before * front_end.projections(shown)).sum(), shown)
    return (x - subject.evaluation.epsilon * gradient.sign()).clamp(0, 1)


def _histogram(cosines: Tensor) -> Tensor:
    return torch.histc(cosines.clamp(-1, 1).float().cpu(), BINS, -1, 1)


def _by_atoms(subject: Attacked, front_end: SparseCoder) -> list[float]:
    """Cosines of every patch with every atom: shares by bin, in thousandths."""
    counts, ones = torch.zeros(BINS), torch.ones(1, front_end.channels, front_end.patch, front_end.patch)
    for x in subject.pixels.split(BATCH):
        lengths = F.conv2d(x.square(), ones.to(x), stride=front_end.stride).sqrt().clamp_min(1e-12)
        counts += _histogram(front_end.projections(x) / lengths)
    return _rounded(1000 * counts / counts.sum())


def _by_network(subject: Attacked) -> list[float]:
    """Cosines of what the surrogate's first convolution sees with its filters: shares by bin, in thousandths."""
    network = subject.trained(subject.evaluation.surrogate)
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    counts = torch.zeros(BINS)

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        windows = F.unfold(x, first.kernel_size, padding=first.padding, stride=first.stride)  # [b, d, places]
        filters = F.normalize(first.weight.flatten(1), dim=1)
        counts.add_(_histogram(filters @ F.normalize(windows, dim=1)))

    handle = first.register_forward_pre_hook(look)
    try:
        for x in subject.pixels.split(BATCH):
            network(x)
    finally:
        handle.remove()
    return _rounded(1000 * counts / counts.sum())


def sparse_codes_lack(experiment: Experiment, evaluation: SparseCodesEvaluation, look: Look) -> Iterator[str]:
    """A sparse-coding front end."""
    with torch.device("meta"):
        network = build_network(experiment, num_classes=10)
    if not isinstance(getattr(network, "front_end", None), SparseCoder):
        yield f"evaluation 'sparse_codes': '{experiment.title}' has no sparse-coding front end"


def sparse_codes_passes(evaluation: SparseCodesEvaluation, images: int) -> float:
    """An encoder is a fraction of its network."""
    return images * (evaluation.steps + 10)


def sparse_codes_words(evaluation: SparseCodesEvaluation) -> str:
    """'sparse codes, and an attack on them'."""
    return "sparse codes, and an attack on them"

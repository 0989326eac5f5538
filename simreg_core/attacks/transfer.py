"""An attack with momentum on several networks, MI-FGSM (Dong et al. 2018), to be shown to another network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from simreg_core.attacks import door
from simreg_core.attacks.ball import project
from simreg_core.attacks.result import AttackResult, check_counts, check_size, never_fails


def momentum_transfer(
    surrogates: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    steps: int,
    decay: float = 1.0,
    *,
    seed: int = 0,
    batch_size: int = 256,
) -> AttackResult:
    """MI-FGSM (Dong et al. 2018) on the mean logits of several surrogates, to be shown to another network.

    surrogates: at least one network, all of the same task.  epsilon: L-infinity size, reached in `steps` equal steps.
    decay: of the accumulated gradient; each new gradient is first scaled to a mean absolute value of 1; at least 0.
    seed: matters only for surrogates that draw random numbers themselves.
    Raises ValueError as the package says, and for no surrogates, or surrogates with different numbers of classes.
    """
    if callable(surrogates) and not isinstance(surrogates, nn.ModuleList):
        raise ValueError(f"surrogates must be a list of networks, got a {type(surrogates).__name__}")
    check_counts(surrogates=len(surrogates), steps=steps, batch_size=batch_size)
    if not decay >= 0:
        raise ValueError(f"decay must be at least 0, got {decay:g}")
    ensemble = _MeanLogits(surrogates)
    with door.opened(ensemble, images, labels, seed=seed, batch_size=batch_size) as (ensemble, images, labels):
        check_size(images, epsilon, "linf")
        adversarial = images.clone()
        for part in torch.arange(len(images), device=images.device).split(batch_size):
            x, momentum = images[part], torch.zeros_like(images[part])
            for _ in range(steps):
                gradient = door.finite_gradient(ensemble, x, labels[part])
                mean = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
                momentum = decay * momentum + gradient / mean.clamp_min(torch.finfo(x.dtype).tiny)
                x = project(x + epsilon / steps * momentum.sign(), images[part], epsilon, "linf")
            adversarial[part] = x
    return never_fails(images, adversarial)


class _MeanLogits(nn.Module):
    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(door.Classifier(network) for network in networks).eval()
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        logits = [network(x) for network in self.networks]
        if len({each.shape[1] for each in logits}) > 1:
            raise ValueError(
                f"the surrogates must be of one task, got {', '.join(str(each.shape[1]) for each in logits)} classes"
            )
        return torch.stack(logits).mean(dim=0)

"""The door of every attack: its network, images and labels are checked here, once, before anything is searched for.

What an attack is shown must be a classifier in eval mode with finite logits that answers the same twice. Anything
else would silently count as robust: NaN logits all vote for class 0 or never improve, one logit has no rival,
and a network that draws random numbers loses the perturbations that were found a moment before.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simreg_core.attacks import suspicion
from simreg_core.pixels import check_pixels

PROBE = 100  # images that are shown twice


class Classifier(nn.Module):
    """A network whose every answer is checked: float logits [b, at least 2 classes], finite where the pixels are.

    network: a module, every part in eval mode.  dtype: what the network is given; None leaves it as the images are.
    draws_random_numbers: whether the network, or a module in it, says so by an attribute of this name.
    classes: how many there are, once `classifier` or `opened` has asked.
    A network that squeezes its answer to one image, [classes], gets [1, classes] made of it.
    Raises ValueError for another network, and when called, for another answer.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype | None = None):
        super().__init__()
        check_network(network)
        self.network, self.dtype, self.training = network, dtype, False
        self.draws_random_numbers = any(getattr(each, "draws_random_numbers", False) for each in network.modules())

    def forward(self, x: Tensor) -> Tensor:
        if self.dtype in (None, x.dtype):
            logits = as_logits(self.network(x), len(x))
        else:  # pyautoattack computes in float32 always
            logits = as_logits(self.network(x.to(self.dtype)), len(x)).to(x.dtype)
        finite = logits.detach().isfinite().all(dim=1)
        if not finite.all():
            # an attack that runs away to NaN pixels has failed by itself
            dead = int((~finite & x.detach().flatten(1).isfinite().all(dim=1)).sum())
            if dead:
                raise ValueError(f"the network's logits must be finite, {dead} of {len(x)} images gave NaN or infinity")
        return logits


def classifier(network: nn.Module, images: Tensor, batch_size: int = PROBE) -> Classifier:
    """The network as a `Classifier` that was asked twice about the first images, `PROBE` or batch_size of them.

    images: [n, c, h, w], n >= 1, as the network takes them.
    Leaves the global random state as it is.
    Raises ValueError as `Classifier`, for a network that cannot take the images, and for a network that
    answers in two ways (by `suspicion.random_logits`) without saying that it draws random numbers.
    """
    model = Classifier(network, images.dtype)
    _ask(model, images[: min(PROBE, batch_size)])
    return model


def _ask(model: Classifier, images: Tensor) -> None:
    if len(images) == 1:
        images = images.repeat(2, 1, 1, 1)  # an answer to one image does not tell a batch axis from the classes
    with seeded(0, images.device), torch.no_grad():
        try:
            first, second = model(images), model(images)
        except ValueError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            raise ValueError(
                f"the network cannot take images {list(images.shape)} {images.dtype} on {images.device}: "
                f"{type(error).__name__}: {reason}"
            ) from error
    warning = suspicion.random_logits(first, second)
    if warning and not model.draws_random_numbers:
        raise ValueError(
            f"the network must answer the same twice: {warning}; a network that draws random numbers on purpose says "
            "so by the attribute draws_random_numbers = True"
        )
    model.classes = first.shape[1]


@contextmanager
def opened(
    network: nn.Module,
    images: Tensor,
    *labels: Tensor,
    seed: int,
    batch_size: int = PROBE,
    same_twice: bool = False,
) -> Iterator[tuple]:
    """Within it an attack may run: on (`Classifier`, images, labels), checked and ready.

    network: see `Classifier`.  images: [n, c, h, w], n >= 1, float32 or float64 in [0, 1].
    labels: [n] integers below the number of classes, or none.
    seed: of the global random state, which is afterwards what it was before.
    batch_size: images that the network can take at once.
    same_twice: whether the attack is of no use on a network that draws random numbers, also where it says so.
    Images and labels come out on the network's device, without a graph, contiguous, labels as int64. Gradients are
    enabled; weights need none, so that an attack can leave none behind.
    Raises ValueError for all that is not so, and under torch.inference_mode().
    """
    if torch.is_inference_mode_enabled():
        raise ValueError("an attack cannot run under torch.inference_mode(), which has no gradients; use no_grad()")
    check_pixels(images)
    model = Classifier(network, images.dtype)
    images = _ready(images, model)
    labels = tuple(class_labels(each, images) for each in labels)
    _ask(model, images[: min(PROBE, batch_size)])
    for each in labels:
        check_label_range(each, model.classes)
    if same_twice and model.draws_random_numbers:
        raise ValueError(
            "this attack needs a network that answers the same twice, and this one says that it draws random numbers; "
            "use pgd, or autoattack with version='rand'"
        )
    with ExitStack() as stack:
        stack.enter_context(seeded(seed, images.device))
        stack.enter_context(torch.enable_grad())
        for weight in [weight for weight in model.parameters() if weight.requires_grad]:
            weight.requires_grad_(False)
            stack.callback(weight.requires_grad_, True)
        yield model, images, *labels


def _ready(images: Tensor, network: nn.Module) -> Tensor:
    if images.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"images must be float32 or float64, got {images.dtype}, which rounds small steps away")
    images = images.detach()
    weight = next(chain(network.parameters(), network.buffers()), images)
    if weight.device.type != "meta":  # weights that are fetched when they are needed do not say where to
        images = images.to(weight.device)
    if images.is_inference():
        images = images.clone()  # which autograd may save
    return images.contiguous()


def input_gradient(model: nn.Module, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [b, classes], cross-entropy [b], and its gradient for each image, [b, c, h, w].

    Raises ValueError where the logits carry no gradient.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        loss = F.cross_entropy(logits, labels, reduction="none")
    if not loss.requires_grad:
        raise ValueError(
            "an attack that needs gradients on a model without: its logits do not depend differentiably on the pixels "
            "(detached, under no_grad, or a hard decision); use square, hop_skip_jump or boundary_attack"
        )
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return logits.detach(), loss.detach(), gradient


def finite_gradient(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """The gradient of `input_gradient`, for attacks that do not count those that are not finite: ValueError."""
    _, _, gradient = input_gradient(model, x, labels)
    dead = ~gradient.flatten(1).isfinite().all(dim=1)
    if dead.any():
        raise ValueError(
            f"the gradients must be finite: they are NaN or infinite for {int(dead.sum())} of {len(x)} images, which "
            "would then count as robust; pgd counts them and continues"
        )
    return gradient


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within it the global random state starts from the seed; after it, it is what it was before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def check_network(network: nn.Module) -> None:
    """Raises ValueError for what is no module, or has a module in training mode or weights without gradients."""
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"model must be a torch.nn.Module that returns logits, got {type(network).__name__}; a function can be the "
            "forward of a module"
        )
    for name, module in network.named_modules():
        if getattr(module, "training", False):
            where = f"module '{name}' ({type(module).__name__}) of " if name else ""
            raise ValueError(f"{where}the attacked model is in training mode; call model.eval() first")
    if any(weight.is_inference() for weight in chain(network.parameters(), network.buffers())):
        raise ValueError("the network was made under torch.inference_mode(), so it has no gradients; make it outside")


def as_logits(answer: Tensor, count: int) -> Tensor:
    """A network's answer to `count` images as logits [count, at least 2 classes]; ValueError where it is none."""
    if not isinstance(answer, Tensor) or not answer.is_floating_point():
        kind = answer.dtype if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(
            f"the network must return logits, one float tensor [n, classes], got {kind}; wrap it in a module that "
            "picks or makes them"
        )
    if answer.ndim == 1 and count == 1:  # squeezed
        answer = answer[None]
    if answer.ndim != 2 or len(answer) != count or answer.shape[1] < 2:
        single = answer.numel() == count
        hint = "; make two of one logit z, as torch.stack([-z / 2, z / 2], dim=1)" if single else ""
        raise ValueError(
            f"the network must return logits [n, at least 2 classes], got {list(answer.shape)} for {count} images{hint}"
        )
    return answer


def class_labels(labels: Tensor | Sequence[int], images: Tensor) -> Tensor:
    """One label for each image, [n] int64 on the images' device, from integers of any size; ValueError for others."""
    try:
        # a tensor as it is: torch would bring it to the default device
        found = labels if isinstance(labels, Tensor) else torch.as_tensor(labels, device=images.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels must be integers, [n] int64, got {type(labels).__name__}: {error}") from error
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"labels must be integers, [n] int64, got {found.dtype}")
    if found.shape != (len(images),):
        raise ValueError(f"labels must have shape [{len(images)}], got {list(found.shape)}")
    found = found.to(images.device, torch.int64)
    return found.clone() if found.is_inference() else found


def check_label_range(labels: Tensor, classes: int) -> None:
    """Raises ValueError for a label that no logit stands for."""
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels must lie in [0, {classes - 1}] for this network, got {labels.min()}..{labels.max()}; "
            "was it trained on another task?"
        )

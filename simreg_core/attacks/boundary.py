"""The boundary attack (Brendel et al. 2018), and the starting points of attacks that search along the boundary."""

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from simreg_core.attacks import door
from simreg_core.attacks.result import AttackResult, check_counts, check_protocol
from simreg_core.names import DIRECTIONS

if TYPE_CHECKING:
    from foolbox import PyTorchModel

FIRST_DIRECTIONS = 10  # enough for most images; the few others then search on without them


def boundary_attack(
    model: nn.Module,
    images: Tensor,
    *,
    steps: int,
    protocol: str,
    seed: int,
    directions: int = DIRECTIONS,
    batch_size: int = 256,
) -> AttackResult:
    """foolbox's boundary attack (Brendel et al. 2018), away from the model's prediction.

    model, images: see `door.opened`; a model that draws random numbers is refused, as they would undo the search.
    steps: at least 1; 50 in the released code. foolbox first adapts its step sizes after about 300.
    protocol: failures are skipped (NaN) under 'released' and infinitely far under 'strict'.
    seed: of the starting noise and the walk; the global random state stays as it is.
    directions: uniform-noise images tried as a start, each blended in on a 50-point line; an image for
        which none changes the prediction has failed.
    batch_size: images that walk together; foolbox gives them one random direction per step.
    Raises ValueError as `door.opened`, and for steps, directions, batch_size or protocol out of bounds.
    """
    from foolbox import PyTorchModel  # here, as below: few attacks need it, and it takes a second
    from foolbox.attacks import BoundaryAttack

    check_protocol(protocol)
    check_counts(steps=steps, directions=directions, batch_size=batch_size)
    opened = door.opened(model, images, seed=seed, batch_size=batch_size, same_twice=True)
    with opened as (model, images):  # seeded: foolbox draws from the global generator
        wrapped = PyTorchModel(model, bounds=(0, 1), device=images.device)
        adversarial, failed = images.clone(), torch.ones(len(images), dtype=torch.bool, device=images.device)
        for part in torch.arange(len(images), device=images.device).split(batch_size):
            x = images[part]
            prediction = wrapped(x).argmax(dim=1)
            starts, found = starting_points(wrapped, x, prediction, directions)
            if found.any():
                adversarial[part[found]] = BoundaryAttack(steps=steps).run(
                    wrapped, x[found], prediction[found], starting_points=starts[found]
                )
            failed[part] = ~found
    return AttackResult(images, adversarial, failed, float("nan" if protocol == "released" else "inf"))


def starting_points(model: "PyTorchModel", x: Tensor, prediction: Tensor, directions: int) -> tuple[Tensor, Tensor]:
    """Blends with uniform noise that change the prediction, [b, c, h, w], and which were found, [b].

    Draws from the global random state; call it within `door.opened`.
    """
    from foolbox.attacks import LinearSearchBlendedUniformNoiseAttack

    starts = x.clone()
    found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    first = min(directions, FIRST_DIRECTIONS)
    for tries in (first, directions - first):
        rest = (~found).nonzero().flatten()
        if tries == 0 or len(rest) == 0:
            continue
        blend = LinearSearchBlendedUniformNoiseAttack(directions=tries, steps=50)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # foolbox warns of failures; they are counted here
            blended = blend.run(model, x[rest], prediction[rest])
        changed = model(blended).argmax(dim=1) != prediction[rest]
        starts[rest[changed]] = blended[changed]
        found[rest[changed]] = True
    # rounding depends on the batch: foolbox refuses the whole batch where one start no longer changes the prediction
    while found.any() and not (changed := model(starts[found]).argmax(dim=1) != prediction[found]).all():
        found[found.clone()] = changed
    return starts, found

"""What is fitted before a network is trained, a dictionary for one: once for all trainings that ask for the same."""

import time
from collections.abc import Callable
from typing import Any

import torch

from simreg_core.lab.inputs import checksums
from simreg_core.lab.specs import Fit, stream
from simreg_core.lab.store import Store
from simreg_core.lab.training.assembly import ARTEFACT, train_and_validation


def fit_artefact(
    fit: Fit, store: Store, device: torch.device, progress: Callable[[float], None] = lambda work: None
) -> None:
    """Fit an artefact to its training images and store it.

    device: not used, all is fitted on the CPU.  progress: called with 1 at the end.
    Raises DataError for images that are missing, StoreError where the result is not finite or cannot be written.
    """
    if store.is_trained(fit):
        return
    started = time.perf_counter()
    images, _ = train_and_validation(fit.task, fit.seed)
    fitted = fit.made.fit(images.pixels, torch.Generator().manual_seed(stream(fit.seed, "artefact")))
    history: dict[str, Any] = {"seconds": time.perf_counter() - started}
    if inputs := checksums(fit):
        history["inputs"] = inputs
    store.save_trained(fit, {ARTEFACT: fitted.detach().float().contiguous()}, history)
    progress(1)

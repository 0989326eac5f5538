"""What a network costs, counted: the same numbers on every machine, whatever else runs there."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from simreg_core.lab.measuring.subject import Attacked, Measured
from simreg_core.lab.records import Value
from simreg_core.lab.specs import CostEvaluation, Experiment
from simreg_core.lab.training import load_data, steps_per_epoch
from simreg_core.lab.training.rules import rule_of, stages_of

BOTH_WAYS = 3  # a pass forwards, and about two more backwards


def cost(subject: Attacked) -> Measured:
    """Multiply-adds of an image's pass, parameters, and multiply-adds of the whole training.

    Counted are convolutions and matrix products, wherever in the network, not normalization or ReLU; what a rule does
    beside them counts as many passes as the rule says.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subject.network(subject.pixels[:1])
    operations = counter.get_total_flops() / 2
    values = {
        "multiply_adds": operations,
        "parameters": sum(one.numel() for one in subject.network.parameters()),
        "training_multiply_adds": operations * training_passes(subject.experiment),
    }
    return Measured([Value(metric=name, value=value, attempted=1) for name, value in values.items()])


def training_passes(experiment: Experiment) -> float:
    """Passes of single images, forwards, that a training takes, that of its parent among them; without what is fitted.

    A regularization image counts by its size, as a share of the task's.
    """
    settings, spec, task = experiment.optimization, experiment.regularizer, experiment.task
    images = settings.batch_size * (1 + rule_of(experiment.adversarial).passes())
    if spec is not None:
        height, width = spec.size or task.size
        images += 2 * spec.pairs_per_step * height * width / (task.size[0] * task.size[1])
    epochs = sum(stage.epochs for stage in stages_of(experiment))
    steps = epochs * steps_per_epoch(len(load_data(experiment).train), settings.batch_size)
    before = 0 if experiment.parent is None else training_passes(experiment.parent)
    return BOTH_WAYS * steps * images + before


def cost_passes(evaluation: CostEvaluation, images: int) -> float:
    """That of an image."""
    return images


def cost_words(evaluation: CostEvaluation) -> str:
    """'multiply-adds'."""
    return "multiply-adds"

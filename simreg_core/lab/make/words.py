"""An experiment in words, as lists of trainings and of records name it."""

from simreg_core.lab.series import TARGETS
from simreg_core.lab.specs import Fit, NeuralExperiment, Published, Recorded, Simulated, Trainable
from simreg_core.lab.training.rules import stages_of


def describe(experiment: Trainable) -> str:
    """An experiment in words, without its seed."""
    if isinstance(experiment, Fit):
        return f"{experiment.made.words()} of {experiment.task.images}"
    if isinstance(experiment, NeuralExperiment):
        return _of_responses(experiment)
    task, network, spec = experiment.task, experiment.network, experiment.regularizer
    colour = "gray" if task.channels == 1 else "colour"
    text = f"{colour} {task.images} {task.size[0]}x{task.size[1]}, {network.name} width {network.width}, "
    text += f"{sum(stage.epochs for stage in stages_of(experiment))} epochs"
    if network.blur is not None:
        text += f", blur {network.blur:g}"
    if network.front_end is not None:
        text += f", {network.front_end.kind} in front"
    if experiment.adversarial is not None:
        text += f", {experiment.adversarial.made.words()}"
    if spec is None:
        return f"{text}, unregularized"
    pairs = "" if spec.pairs == "all" else f" of pairs '{spec.pairs}'"
    if spec.target_similarity is not None:
        pairs += f" by {spec.target_similarity}"
    if spec.similarity is not None:
        pairs += f" with {spec.similarity}"
    loss = f"alpha {spec.alpha:g}" if spec.alpha else "no loss"
    return (
        f"{text}, {TARGETS[spec.target]}{pairs}, {loss}, Th {spec.threshold:g}, k {spec.pairs_per_step}, "
        f"{spec.count} images of {spec.images}" + ("" if spec.low_pass is None else f", blurred by {spec.low_pass:g}")
    )


def _of_responses(experiment: NeuralExperiment) -> str:
    source = experiment.source
    if isinstance(source, Published):
        return f"published V1 predictor '{source.file}'"
    recording = f"recording '{source.recording}'" if isinstance(source, Recorded) else _simulation(source)
    return recording if experiment.predictor is None else f"V1 predictor of {recording}"


def _simulation(source: Simulated) -> str:
    return f"a simulated recording, {source.count} images of {source.images}, {source.trials} trials each"

"""gamma, the layer weights of S^CNN, as they were trained."""

from collections.abc import Iterator

from simreg_core.lab.measuring.subject import Attacked, Look, Measured
from simreg_core.lab.records import Value
from simreg_core.lab.specs import Experiment, LayerWeightsEvaluation

NO_WEIGHTS = "an unregularized network has no layer weights"


def layer_weights(subject: Attacked) -> Measured:
    """gamma at the end of training, and after every epoch as an array, [epochs, layers].

    Raises ValueError for an unregularized network.
    """
    weights = [epoch["layer_weights"] for epoch in subject.store.history(subject.experiment)["epochs"]]
    if weights[-1] is None:
        raise ValueError(NO_WEIGHTS)
    values = [
        Value(metric="layer_weight", value=value, attempted=1, layer=layer) for layer, value in enumerate(weights[-1])
    ]
    return Measured(values, {"layer_weights": weights})


def layer_weights_lacks(experiment: Experiment, evaluation: LayerWeightsEvaluation, look: Look) -> Iterator[str]:
    """A regularizer."""
    if experiment.regularizer is None:
        yield NO_WEIGHTS


def layer_weights_passes(evaluation: LayerWeightsEvaluation, images: int) -> float:
    """None, but reading its history takes a moment, and a plan of these alone has work to count."""
    return 1


def layer_weights_words(evaluation: LayerWeightsEvaluation) -> str:
    """'layer weights'."""
    return "layer weights"

"""Neural responses to images.

| file | what |
| --- | --- |
| similarity | similarity of responses, how reliable it is, how it compares with another similarity |
| predictor | a predictor of V1 responses, fitted to a recording |
| population | a simulated V1 |
"""

# `as` marks a public name
from simreg_core.neural.population import CELLS as CELLS, GaborPopulation as GaborPopulation
from simreg_core.neural.predictor import (
    Fit as Fit,
    V1Predictor as V1Predictor,
    fit_predictor as fit_predictor,
    neuron_weights as neuron_weights,
    predicted_similarity as predicted_similarity,
)
from simreg_core.neural.similarity import (
    Reliability as Reliability,
    averaged_similarity as averaged_similarity,
    check_similarity as check_similarity,
    correlation_interval as correlation_interval,
    mantel_test as mantel_test,
    reliability as reliability,
    response_similarity as response_similarity,
    similarity_correlation as similarity_correlation,
)

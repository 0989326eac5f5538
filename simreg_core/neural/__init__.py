"""Neural responses to images.

| file | what |
| --- | --- |
| similarity | similarity of responses, how reliable it is, how it compares with another similarity |
| predictor | a predictor of V1 responses, fitted to a recording |
| population | a simulated V1 |
"""

# `as` marks a public name
from simreg_core.neural.population import CELLS as CELLS
from simreg_core.neural.population import GaborPopulation as GaborPopulation
from simreg_core.neural.predictor import Fit as Fit
from simreg_core.neural.predictor import V1Predictor as V1Predictor
from simreg_core.neural.predictor import fit_predictor as fit_predictor
from simreg_core.neural.predictor import neuron_weights as neuron_weights
from simreg_core.neural.predictor import predicted_similarity as predicted_similarity
from simreg_core.neural.similarity import Reliability as Reliability
from simreg_core.neural.similarity import averaged_similarity as averaged_similarity
from simreg_core.neural.similarity import check_similarity as check_similarity
from simreg_core.neural.similarity import correlation_interval as correlation_interval
from simreg_core.neural.similarity import mantel_test as mantel_test
from simreg_core.neural.similarity import reliability as reliability
from simreg_core.neural.similarity import response_similarity as response_similarity
from simreg_core.neural.similarity import similarity_correlation as similarity_correlation

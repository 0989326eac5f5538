"""Where neural similarities come from."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from simreg_core.lab.specs.base import (
    COMPUTATION_VERSION,
    Count,
    Epochs,
    Float,
    ImageSetName,
    Int,
    LearningRate,
    Size,
    Spec,
    Version,
)
from simreg_core.names import FIT_EPOCHS, FIT_LEARNING_RATE, FIT_PATIENCE

ANTOLIK_REGIONS = (1, 2, 3)  # of the pack of recordings by Antolik et al. (2016)


class Simulated(Spec):
    """A SIMULATED recording of V1, see `neural.GaborPopulation`; the experiment's seed chooses the animal.

    images, size: what it is shown, gray, the training images of a bundled set.  count: how many.
    trials: of each image.  neurons: how many.  mean_rate: scale of the responses to a trial.
    """

    kind: Literal["simulated"] = "simulated"
    images: ImageSetName = "photos"
    size: Size = (16, 16)
    count: Annotated[Int, Field(ge=20)] = 1000
    trials: Count = 4
    neurons: Annotated[Int, Field(ge=2)] = 100
    mean_rate: Annotated[Float, Field(gt=0)] = 0.15


class Recorded(Spec):
    """A recording of the data folder, by its name there (see `recordings.load_recording`)."""

    kind: Literal["recorded"] = "recorded"
    recording: str


class Published(Spec):
    """The published V1 predictor, see `published_predictor`, by its file in the data folder."""

    kind: Literal["published"] = "published"
    file: str = "sensorium_sota_model.pth"


class Predictor(Spec):
    """Form and fit of a `neural.V1Predictor`.  held_out: share of the images kept for early stopping."""

    channels: Count = 32
    kernel: Count = 9
    layers: Annotated[Int, Field(ge=0)] = 2
    layer_kernel: Count = 3
    epochs: Epochs = FIT_EPOCHS
    patience: Count = FIT_PATIENCE
    learning_rate: LearningRate = FIT_LEARNING_RATE
    held_out: Annotated[Float, Field(gt=0, lt=1)] = 0.1


class NeuralExperiment(Spec):
    """Where neural similarities come from: a recording, a predictor fitted to it, or the published predictor."""

    source: Annotated[Simulated | Recorded | Published, Field(discriminator="kind")]
    predictor: Predictor | None = None
    seed: Annotated[Int, Field(ge=0)] = 0
    version: Version = COMPUTATION_VERSION

    @property
    def title(self) -> str:
        """For a reader: 'simulated V1, seed 0'."""
        return f"{self.source.kind} V1, seed {self.seed}"

    @property
    def needs_training(self) -> bool:
        """Whether there is something to train before it can be evaluated."""
        return self.predictor is not None

    def faults(self) -> Iterator[str]:
        if self.predictor is not None and isinstance(self.source, Published):
            yield "a published predictor is fitted already: leave 'predictor' out"

"""What a record holds: numbers, what they are numbers of, and what is needed to trust them."""

import json
import math
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simreg_core.lab.devices import device_name
from simreg_core.lab.files import StoreError, unsealed
from simreg_core.lab.specs import PROJECT, AnyEvaluation, AnyExperiment, describe

if TYPE_CHECKING:
    import torch

COMPUTE_AGAIN = "delete it to compute it again, or restore it with git where it is committed"
ROUNDING = 1e-6  # of a share or a correlation
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-image", "scikit-learn", "foolbox")


class _Stored(BaseModel):
    # infinite and missing distances are results: written as strings, which JSON has
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Provenance(_Stored):
    """What is needed to trust a number.

    inputs: of all files of the user's, with checksums, see `lab.inputs`; None where there are none.
    """

    commit: str
    dirty: bool
    libraries: dict[str, str]
    python: str
    device: str
    seconds: float
    image_set: str
    checksum: str
    regularization_set: str | None = None
    regularization_checksum: str | None = None
    inputs: dict[str, str] | None = None


_CORRELATIONS = (
    "pearson",
    "pearson_low",
    "pearson_high",
    "spearman",
    "split_half",
    "prediction",
    "to_noise_free",
    "similarity_mean",
)
_SHARES = (
    "accuracy",
    "layer_weight",
    "ceiling",
    "mantel_p",
    "half_power_frequency",
    "filter_high_frequency_share",
    "gradient_high_frequency_share",
    "gradient_half_power_frequency",
    "certified",
    "levels_kept",
    "danger",
    "nonzero",
    "pixel_like",
    "activation_sparsity",
    "fixed_channels",
    *("coherence", "nearest_atom", "flat_atoms", "flat_kept", "passing", "negative", "same_top", "flipped", "changed"),
)
_SIZES = ("median_squared_l2_per_pixel", "median_l2", "median_linf", "median_l0", "silent_neurons")
RANGES = {  # of metrics; NaN, where nothing could be measured, is allowed for all but an accuracy
    **dict.fromkeys(_CORRELATIONS, (-1, 1)),
    **dict.fromkeys(_SHARES, (0, 1)),
    **dict.fromkeys(_SIZES, (0, math.inf)),
}


class Value(_Stored):
    """One measured number.  Fields that do not apply are None:

    epsilon: strength.  repeat: which of several attacks.  corruption, severity: of common corruptions.
    layer: of layer weights, 0 is the stem.  condition: of a comparison of similarities.
    draws: of a random network, over which an attack averages its gradient.
    Refused outside the range of its metric, see `RANGES`; of any other metric, every number is taken.
    """

    metric: str
    value: Annotated[float, Field(allow_inf_nan=True)]
    attempted: Annotated[int, Field(ge=1)]
    failed: Annotated[int, Field(ge=0)] = 0
    epsilon: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    repeat: Annotated[int, Field(ge=0)] | None = None
    corruption: str | None = None
    severity: Annotated[int, Field(ge=0)] | None = None
    layer: Annotated[int, Field(ge=0)] | None = None
    condition: str | None = None
    draws: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _possible(self):
        if self.failed > self.attempted:
            raise ValueError(f"failed must be at most attempted, {self.attempted}, got {self.failed}")
        low, high = RANGES.get(self.metric, (-math.inf, math.inf))
        if math.isnan(self.value):
            possible = self.metric != "accuracy"
        else:
            possible = low - ROUNDING <= self.value <= high + ROUNDING
        if not possible:
            raise ValueError(f"{self.metric} must lie in [{low}, {high}], got {self.value:g}")
        return self


class Record(_Stored):
    """The numbers of one evaluation of one trained network (or source of neural responses), which share provenance.

    arrays: spectra and the like, as nested lists.  warnings: of `suspicion`, where a robustness may be an attack's
    failure.
    """

    experiment_key: str
    evaluation_key: str
    experiment: AnyExperiment
    evaluation: AnyEvaluation
    values: tuple[Value, ...]
    arrays: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    provenance: Provenance


@lru_cache(maxsize=1)
def commit() -> tuple[str, bool]:
    """The git commit of this code and whether files differ from it; ('unknown', True) outside a checkout of it."""
    try:
        top, head = _git("rev-parse", "--show-toplevel", "HEAD").splitlines()
        if Path(top).resolve() != PROJECT.resolve():  # installed inside another repository
            return "unknown", True
        # what is computed depends on the code only, not on figures that are being redrawn
        return head, bool(_git("status", "--porcelain", "--", "simreg_core").strip())
    except (OSError, ValueError, subprocess.CalledProcessError):
        return "unknown", True


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PROJECT), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout


@lru_cache(maxsize=1)
def _libraries() -> dict[str, str]:
    """Versions; each costs some milliseconds to find."""
    return {library: version(library) for library in LIBRARIES}


def provenance(device: "torch.device", seconds: float, **sets: Any) -> Provenance:
    """Provenance of what was computed just now on a device.  sets: names and checksums of image sets and inputs."""
    head, dirty = commit()
    return Provenance(
        commit=head,
        dirty=dirty,
        libraries=_libraries(),
        python=platform.python_version(),
        device=device_name(device),
        seconds=round(seconds, 2),
        **sets,
    )


def parse_record(content: bytes, path: Path) -> Record:
    """The record that a file holds.  Raises StoreError, naming the file, where it is corrupt, edited or of no use."""
    document = unsealed(content, f"record {path}", COMPUTE_AGAIN)
    try:
        return Record.model_validate_json(json.dumps(document))
    except ValidationError as error:
        problem = describe(error)
        raise StoreError(f"record {path} is corrupt or of another version: {problem}; {COMPUTE_AGAIN}") from error

"""Recordings of neural responses to images, a published predictor of them, and similarity matrices, from files.

A recording is a folder (see `write_recording`):

    images.npy      [images, height, width] uint8, gray
    responses.npy   [trials, images, neurons] floating point: every image was shown as often
    behaviour.npy   [trials, images, variables] floating point; optional, kept beside the responses
    meta.json       {"name": ..., "source": ...}: who measured it; more keys are allowed

Read as they are, too: a mouse of Sensorium 2022 (its unpacked folder) and the pack of Antolik et al. (2016). Anything
else becomes a recording in one line: `write_recording(Recording(name, images, responses, source=...), folder)`.
Recordings lie in the folder `recordings` of the data folder, predictors in `predictors`, matrices in `similarities`.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from simreg_core.lab.files import write_text, written_whole
from simreg_core.lab.image_files import DataError, data_folder
from simreg_core.lab.images import ImageSet, checksum_of, load_image_set
from simreg_core.lab.specs import ANTOLIK_REGIONS, Simulated
from simreg_core.neural import GaborPopulation, check_similarity

SENSORIUM_SOURCE = "https://gin.g-node.org/cajal/Sensorium2022"
SENSORIUM_TIERS = ("train", "validation", "test", "final_test")
SENSORIUM_SHRINK = 4  # 144x256 as stored, 36x64 as the published predictors see them


@dataclass(frozen=True)
class Recording:
    """Responses of a population to images, each shown as often.

    name, source: what it is and where it comes from.  images: [n, 1, h, w] uint8.
    responses: [trials, n, neurons] float32.  behaviour: [trials, n, variables] float32, or None.
    Raises DataError where shapes do not fit, a value is not finite, or no neuron ever responds.
    """

    name: str
    images: Tensor
    responses: Tensor
    behaviour: Tensor | None = None
    source: str = ""

    def __post_init__(self):
        here = f"recording '{self.name}'"
        if self.images.ndim != 4 or self.images.shape[1] != 1 or self.images.dtype != torch.uint8:
            raise DataError(
                f"{here}: images must be gray uint8, [images, 1, height, width], got {list(self.images.shape)} "
                f"{self.images.dtype}"
            )
        if self.responses.ndim != 3 or 0 in self.responses.shape:
            raise DataError(f"{here}: responses must be [trials, images, neurons], got {list(self.responses.shape)}")
        if self.responses.shape[1] != len(self.images):
            raise DataError(f"{here}: responses to {self.responses.shape[1]} images, but {len(self.images)} images")
        if not torch.isfinite(self.responses).all():
            raise DataError(f"{here}: responses hold NaN or infinite values; every image needs all of its trials")
        if not self.responses.any():
            raise DataError(f"{here}: every response is 0; were the responses of these images withheld?")
        if self.behaviour is not None and self.behaviour.shape[:2] != self.responses.shape[:2]:
            raise DataError(
                f"{here}: behaviour must be [{self.responses.shape[0]}, {len(self.images)}, variables], got "
                f"{list(self.behaviour.shape)}"
            )

    @property
    def pixels(self) -> Tensor:
        """The images as float32 in [0, 1], [n, 1, h, w]."""
        return self.images.float() / 255

    @property
    def silent(self) -> Tensor:
        """Neurons that never respond, [neurons] bool."""
        return (self.responses == 0).flatten(0, 1).all(dim=0)

    @property
    def checksum(self) -> str:
        """First 16 hex digits of SHA-256 over the images and responses."""
        return checksum_of(self.images, self.responses)


def write_recording(recording: Recording, folder: Path) -> None:
    """Write a recording in the plain layout.  Raises StoreError where that fails."""
    arrays = {"images": recording.images[:, 0], "responses": recording.responses, "behaviour": recording.behaviour}
    for name, array in arrays.items():
        if array is not None:
            with written_whole(Path(folder) / f"{name}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, array.numpy())
    # last: a folder without it is not a recording yet
    write_text(
        Path(folder) / "meta.json", json.dumps({"name": recording.name, "source": recording.source}, indent=1) + "\n"
    )


def load_recording(name: str) -> Recording:
    """A recording of the data folder, by name.

    name: 'NAME' for a folder in the plain layout; 'NAME/TIER' for a mouse of Sensorium 2022 ('train', 'validation',
    'test', 'final_test'); 'NAME/REGION' for the pack NAME.npz of Antolik et al. (1, 2 or 3).
    Raises DataError where it is missing or damaged.
    """
    folder = data_folder() / "recordings"
    first, _, part = name.rpartition("/")
    if (folder / name / "meta.json").is_file():
        return read_recording(folder / name)
    if first and (folder / first / "meta" / "trials").is_dir():
        return read_sensorium(folder / first, part)
    if first and (folder / f"{first}.npz").is_file():
        return read_antolik(folder / f"{first}.npz", part)
    raise DataError(_no_recording(name))


def recording_files(name: str) -> list[Path]:
    """The files of a recording of the data folder, by name.  Raises DataError where it is missing."""
    folder = data_folder() / "recordings"
    first = name.rpartition("/")[0]
    if (folder / name / "meta.json").is_file():
        return sorted((folder / name).glob("*.*"))
    if first and (folder / first / "meta" / "trials").is_dir():
        return sorted(path for path in (folder / first).rglob("*.npy"))
    if first and (folder / f"{first}.npz").is_file():
        return [folder / f"{first}.npz"]
    raise DataError(_no_recording(name))


def _no_recording(name: str) -> str:
    return (
        f"unknown recording '{name}': put it into {data_folder() / 'recordings'} as a folder with images.npy, "
        f"responses.npy and meta.json, as an unpacked mouse of Sensorium 2022 ({SENSORIUM_SOURCE}; then NAME/test) or "
        "as a pack NAME.npz (NAME/1)"
    )


def read_recording(folder: Path) -> Recording:
    """A recording in the plain layout.  Raises DataError naming the file that is missing or does not fit."""
    folder = Path(folder)
    meta = _read_meta(folder / "meta.json")
    images, responses = _array(folder / "images.npy"), _array(folder / "responses.npy")
    if images.ndim != 3 or images.dtype != np.uint8:
        raise DataError(
            f"{folder / 'images.npy'} holds {list(images.shape)} {images.dtype}; expected [images, height, width] uint8"
        )
    if responses.dtype.kind not in "fiu":  # counts of spikes are integers
        raise DataError(f"{folder / 'responses.npy'} holds {responses.dtype}; expected numbers")
    behaviour = _array(folder / "behaviour.npy") if (folder / "behaviour.npy").is_file() else None
    return Recording(
        meta["name"],
        torch.from_numpy(images)[:, None],
        torch.from_numpy(responses.astype(np.float32)),
        None if behaviour is None else torch.from_numpy(behaviour.astype(np.float32)),
        meta["source"],
    )


def _read_meta(path: Path) -> dict:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for key in ("name", "source"):
        if not isinstance(meta, dict) or not isinstance(meta.get(key), str):
            raise DataError(f"{path} lacks a text '{key}'")
    return meta


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an array: {error}") from error


def read_sensorium(folder: Path, tier: str = "test") -> Recording:
    """Trials of one tier of a mouse of Sensorium 2022, its images at a quarter of their size (36x64).

    folder: unpacked, with `data/` and `meta/`.  tier: 'train' and 'validation' show every image once, 'test' and
    'final_test' about ten times; of images shown more often than others, the first trials are taken (and that is said).
    Raises DataError where files are missing, damaged, or their responses withheld (all 0).
    Source: Willeke et al. (2022), arXiv 2206.08666; https://gin.g-node.org/cajal/Sensorium2022.
    """
    folder = Path(folder)
    if tier not in SENSORIUM_TIERS:
        raise DataError(f"unknown tier '{tier}' of {folder.name}; allowed: {', '.join(SENSORIUM_TIERS)}")
    tiers = _array(folder / "meta" / "trials" / "tiers.npy").astype(str)
    ids = _array(folder / "meta" / "trials" / "frame_image_id.npy")
    if tiers.shape != ids.shape:
        raise DataError(f"{folder}: {len(tiers)} tiers, but {len(ids)} image ids")
    trials = np.flatnonzero(tiers == tier)
    if not len(trials):
        raise DataError(f"{folder} has no trials of tier '{tier}'")
    of_image = [trials[ids[trials] == one] for one in np.unique(ids[trials])]
    shown = min(map(len, of_image))
    if left_out := sum(len(own) - shown for own in of_image):
        print(
            f"{folder.name}: {left_out} of {len(trials)} trials left out, so that every image has {shown}", flush=True
        )
    chosen = np.stack([own[:shown] for own in of_image], axis=1)  # [trials, images]
    return Recording(
        f"{folder.name}/{tier}",
        torch.from_numpy(np.stack([_sensorium_image(folder, trial) for trial in chosen[0]]))[:, None],
        _per_trial(folder, "responses", chosen),
        _per_trial(folder, "behavior", chosen) if (folder / "data" / "behavior").is_dir() else None,
        SENSORIUM_SOURCE,
    )


def _sensorium_image(folder: Path, trial: int) -> np.ndarray:
    path = folder / "data" / "images" / f"{trial}.npy"
    picture = _array(path)
    if picture.ndim != 3 or picture.shape[0] != 1:
        raise DataError(f"{path} holds {list(picture.shape)}; expected one gray image, [1, height, width]")
    picture = picture[0].clip(0, 255)
    height, width = (side // SENSORIUM_SHRINK for side in picture.shape)
    blocks = picture[: height * SENSORIUM_SHRINK, : width * SENSORIUM_SHRINK]
    blocks = blocks.reshape(height, SENSORIUM_SHRINK, width, SENSORIUM_SHRINK)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def _per_trial(folder: Path, what: str, chosen: np.ndarray) -> Tensor:
    """A variable of each trial, [trials, images, ...]."""
    rows = [[_array(folder / "data" / what / f"{trial}.npy").reshape(-1) for trial in row] for row in chosen]
    sizes = sorted({len(one) for row in rows for one in row})
    if len(sizes) > 1:
        raise DataError(f"{folder / 'data' / what}: trials of {sizes[0]} and of {sizes[1]} values")
    return torch.from_numpy(np.array(rows, dtype=np.float32))


def read_antolik(path: Path, region: int | str) -> Recording:
    """The repeated images of one region of the pack of Antolik et al. (2016): two-photon imaging of mouse V1.

    path: an .npz with `regionR_images` [images, height, width] uint8 and `regionR_responses` [trials, images, neurons].
    region: 1, 2 or 3.  Raises DataError where the pack is missing, damaged, or without that region.
    Source: Antolik et al. (2016), PLoS Comput Biol 12(6): e1004927.
    """
    if str(region) not in map(str, ANTOLIK_REGIONS):
        raise DataError(f"unknown region '{region}'; allowed: {', '.join(map(str, ANTOLIK_REGIONS))}")
    try:
        with np.load(path, allow_pickle=False) as pack:
            images, responses = pack[f"region{region}_images"], pack[f"region{region}_responses"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a pack of Antolik et al. (2016): {error}") from error
    if images.ndim != 3 or images.dtype != np.uint8:
        raise DataError(f"{path}: region {region} has images {list(images.shape)} {images.dtype}; expected 3-D uint8")
    return Recording(
        f"{Path(path).stem}/{region}",
        torch.from_numpy(images)[:, None],
        torch.from_numpy(responses.astype(np.float32)),
        source="Antolik et al. (2016), two-photon imaging of mouse V1",
    )


def simulate(spec: Simulated, seed: int) -> Recording:
    """A SIMULATED recording: Gabor cells on bundled photographs, Poisson trials.  seed: of the cells and the trials."""
    images = simulated_images(spec)
    trials = population(spec, seed).trials(images.pixels, spec.trials, torch.Generator().manual_seed(seed + 1))
    return Recording(
        f"simulated V1 on {spec.images}", images.images, trials, source="simulated; no animal, no experiment"
    )


def simulated_images(spec: Simulated) -> ImageSet:
    """What the simulated population is shown."""
    return load_image_set(spec.images, "train", spec.size, 1, spec.count)


def population(spec: Simulated, seed: int, cells: str = "v1") -> GaborPopulation:
    """The simulated population of a seed."""
    return GaborPopulation(spec.size, spec.neurons, seed, spec.mean_rate, cells=cells)


def similarity_files(path: str | Path) -> list[Path]:
    """The file of a similarity matrix.  Raises DataError where it is missing."""
    if not (found := _similarity_path(path)).is_file():
        raise DataError(f"the similarity matrix {found} is missing")
    return [found]


def _similarity_path(path: str | Path) -> Path:
    return data_folder() / "similarities" / path


def load_similarity(path: str | Path, images: int | None = None) -> Tensor:
    """A similarity matrix of your own, a `.npy` file, as float32 [images, images].

    path: a relative one is looked for in the data folder's `similarities/`.  images: how many it must be of.
    Raises DataError where it cannot be read or is not a similarity matrix, as `neural.check_similarity` says.
    """
    path = _similarity_path(path)
    array = _array(path)
    if array.dtype.kind != "f":
        raise DataError(f"{path} holds {array.dtype}; expected floating point")
    try:
        return check_similarity(torch.from_numpy(array.astype(np.float32)), images)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error

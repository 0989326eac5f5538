"""Which figures are up to date: what each was drawn from, and what was drawn, as digests beside the store."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from simreg_core.lab.figures import figure
from simreg_core.lab.files import note
from simreg_core.lab.specs import PROJECT, Profile
from simreg_core.lab.store import Store
from simreg_core.lab.study import Study, figures_folder

DRAWING_LIBRARIES = ("matplotlib", "seaborn", "pandas")  # a part of the style


def is_drawn(path: Path, profile: Profile, inputs: str) -> bool:
    """Whether a notebook's figure was drawn from these inputs, and lies there as it was drawn."""
    stamp = _stamp(path, profile)
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == inputs + _outputs(path, profile)


def note_drawn(path: Path, profile: Profile, inputs: str) -> None:
    """Remember that a notebook's figure was drawn from these inputs just now."""
    note(_stamp(path, profile), inputs + _outputs(path, profile))


def _stamp(path: Path, profile: Profile) -> Path:
    return Store().root / "drawn" / profile.name / f"{path.stem}.txt"


def sources_of(notebook: str) -> list[Path]:
    """The files that a notebook's figure depends on beside its records, profile and cells, by the notebook's name."""
    modules = [PROJECT / "simreg_core" / name for name in figure(notebook).sources]
    return [*modules, *sorted((PROJECT / "figures" / "reference").glob("*.csv"))]


def inputs_of(path: Path, profile: Profile, study: Study | None) -> str:
    """A digest of all that a notebook's figure depends on.  study: None of a notebook without one."""
    digest = hashlib.sha256(profile.key.encode())
    digest.update("".join(f"{name} {version(name)}" for name in DRAWING_LIBRARIES).encode())
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            digest.update("".join(cell["source"]).encode())
    for file in sources_of(path.stem):
        digest.update(file.read_bytes())
    if study is not None:
        digest.update(study.digest().encode())
    return digest.hexdigest() + "\n"


def _outputs(path: Path, profile: Profile) -> str:
    """A digest of a notebook's figure as it lies on disk: one that was changed or removed is drawn again."""
    digest = hashlib.sha256()
    for suffix in ("pdf", "png", "csv", "json"):
        figure = figures_folder(profile) / f"{path.stem}.{suffix}"
        digest.update(figure.read_bytes() if figure.is_file() else b"missing")
    return digest.hexdigest() + "\n"

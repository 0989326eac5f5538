"""What lies in the run directory and is of no more use, how much it takes, and removing it.

The lock of a computation is no file to remove: it goes with its process (see `Store.computing`).
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from simreg_core.lab.files import is_left_behind
from simreg_core.lab.make.figures import measurements_of, studies_of
from simreg_core.lab.specs import PROFILES, Profile, load_profile, to_train
from simreg_core.lab.store import Store

MB = 1e6  # bytes


@dataclass(frozen=True)
class Part:
    """Files and folders of one kind.  what: in words."""

    what: str
    paths: tuple[Path, ...]

    @property
    def megabytes(self) -> float:
        """What the files take together."""
        files = (file for path in self.paths for file in (path.rglob("*") if path.is_dir() else (path,)))
        return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file()) / MB

    def __str__(self) -> str:
        return f"{self.megabytes:9.1f} MB  {len(self.paths):6,}  {self.what}"


def shipped_profiles() -> list[Profile]:
    """The profiles of the project's folder."""
    return [load_profile(path.stem) for path in sorted(PROFILES.glob("*.yaml"))]


def parts_of(store: Store, profiles: Iterable[Profile]) -> tuple[list[Part], list[Part]]:
    """What can be removed from a store, and what stays: what the figures of these profiles want.

    A kind of which nothing is there is left out.
    """
    root, networks, records = store.root, set(), set()
    for profile in profiles:
        for experiment, evaluation in measurements_of(studies_of(profile)):
            networks |= {one.key for one in to_train(experiment, evaluation)}
            records.add((experiment.key, evaluation.key))
    trained = sorted((root / "experiments").glob("*"))
    measured = sorted((root / "records").glob("*/*.json"))
    kept = {path for path in measured if (path.parent.name, path.stem) in records}
    removable = [
        Part("networks that no profile wants", tuple(path for path in trained if path.name not in networks)),
        Part("records that no profile wants", tuple(path for path in measured if path not in kept)),
        Part("made once for many networks, and made again when needed", tuple(sorted((root / "made").glob("*/*")))),
        Part("notebooks as they were drawn", tuple(sorted((root / "notebooks").glob("*/*")))),
        Part("figures of changed settings", tuple(sorted((root / "explored").glob("*/*")))),
        Part("half-written files of processes that are gone", tuple(filter(is_left_behind, root.rglob(".*.*")))),
    ]
    stay = [
        Part("networks of the profiles", tuple(path for path in trained if path.name in networks)),
        Part("records of the profiles", tuple(sorted(kept))),
    ]
    return [part for part in removable if part.paths], [part for part in stay if part.paths]


def remove(parts: Iterable[Part], store: Store) -> None:
    """Remove these parts of a store, and the folders that become empty.

    Raises StoreError where a process computes there; nothing is removed then.
    """
    with store.computing(wait=False):
        for path in (path for part in parts for path in part.paths):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if path.parent != store.root and not any(path.parent.iterdir()):
                path.parent.rmdir()

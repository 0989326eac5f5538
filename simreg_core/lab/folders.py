"""The folders of results, figures and data: each in the project's folder, or where an environment variable says."""

import os
from pathlib import Path

from simreg_core.lab.specs import PROJECT, SpecError

FOLDERS = {"SIMREG_RUNS": "runs", "SIMREG_FIGURES": "figures", "SIMREG_DATA": "data"}


def folder_of(variable: str) -> Path:
    """The absolute path of the folder that a variable of `FOLDERS` names, else of its folder in the project.

    Raises SpecError for the home folder of an unknown user.
    """
    settle_folders()
    return Path(os.environ.get(variable) or PROJECT / FOLDERS[variable])


def settle_folders() -> None:
    """Make the variables' paths absolute: a relative one is taken from the current folder, and `~` is the home folder.

    The variables themselves are changed, since kernels and workers inherit them and run in other folders.
    """
    for variable in FOLDERS:
        if given := os.environ.get(variable):
            try:
                os.environ[variable] = str(Path(given).expanduser().absolute())
            except RuntimeError as error:
                raise SpecError(f"{variable} is '{given}': {error}") from error

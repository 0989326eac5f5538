"""Folders of results, figures, published records and data: in the project, or where environment variables say.

Installed without the project's folder (no `-e`), they are in the current one.
"""

import os
from pathlib import Path

from simreg_core.lab.specs import PROJECT, SpecError, is_checkout

FOLDERS = {
    "SIMREG_RUNS": "runs",  # checkpoints and records of this machine
    "SIMREG_FIGURES": "figures",  # PROFILE/NN_name.pdf and what belongs to it
    "SIMREG_RECORDS": "figures",  # PROFILE/records: published records, read where this machine has none
    "SIMREG_WEIGHTS": "weights",  # PROFILE: trained networks that ship, and their model card
    "SIMREG_DATA": "data",  # image sets and recordings of the user
}


def folder_of(variable: str) -> Path:
    """The absolute path of the folder that a variable of `FOLDERS` names, else of its own folder, see above.

    Raises SpecError for the home folder of an unknown user.
    """
    settle_folders()
    here = PROJECT if is_checkout() else Path.cwd()
    return Path(os.environ.get(variable) or here / FOLDERS[variable])


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

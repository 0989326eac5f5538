"""A notebook whose figure the quick profile does not have yet is left out of `make test`: it has no records to draw."""

from simreg_core.lab.figures import FIGURES
from simreg_core.lab.specs import load_profile

QUICK = load_profile("quick")
collect_ignore = [f"{name}.ipynb" for name, figure in FIGURES.items() if not figure.is_of(QUICK)]

"""The figures, a module each: experiments, claims and drawing. A new figure is a new module here, and its notebook."""

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from simreg_core.lab.specs import SpecError

if TYPE_CHECKING:
    from simreg_core.lab.study import Figure


class _Figures(Mapping[str, "Figure"]):
    """Every figure by the name of its notebook, in order. The modules are looked for at each use, and loaded once."""

    def _found(self) -> dict[str, "Figure"]:
        found: dict[str, Figure] = {}
        for module in sorted(one.name for one in pkgutil.iter_modules(__path__) if not one.name.startswith("kit")):
            own = getattr(import_module(f"{__name__}.{module}"), "FIGURE", None)
            if own is None:
                raise SpecError(f"lab/figures/{module}.py has no FIGURE; a file that figures share is named kit*.py")
            if own.name in found:
                raise SpecError(f"lab/figures/{module}.py: another module has the figure '{own.name}' already")
            found[own.name] = own
        return dict(sorted(found.items()))

    def __getitem__(self, name: str) -> "Figure":
        return self._found()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())


FIGURES = _Figures()


def figure(name: str) -> "Figure":
    """The figure of a notebook.  Raises SpecError for an unknown name."""
    if name not in FIGURES:
        raise SpecError(f"unknown figure '{name}'; allowed: {', '.join(FIGURES)}")
    return FIGURES[name]

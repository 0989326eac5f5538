"""The numbered notebooks, and how they are run: several at once, in a few kernels, from this process."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simreg_core.lab.files import StoreError, write_text
from simreg_core.lab.specs import INSTALLED, PROJECT, SpecError, is_checkout

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOKS = PROJECT / "notebooks"
PAPER = "https://arxiv.org/abs/2410.03952"
AT_ONCE = 3  # kernels, which wait now and then


class DrawingError(RuntimeError):
    """A notebook that failed; the message names it and its error."""


def notebook_paths(only: Sequence[str] = ()) -> list[Path]:
    """The figures' notebooks, in order; those named in `only`, where any is.  Raises SpecError for an unknown name.

    From 90 on a notebook is no figure of a profile: `make figures` leaves it alone.
    """
    if not is_checkout():
        raise SpecError(INSTALLED)
    paths = sorted(NOTEBOOKS.glob("[0-8][0-9]_*.ipynb"))
    names = [path.stem for path in paths]
    for name in only:
        if name not in names:
            raise SpecError(f"unknown notebook '{name}'; allowed: {', '.join(names)}")
    return [path for path in paths if not only or path.stem in only]


def neighbours(path: Path) -> tuple[list[Path], list[Path]]:
    """The notebook before and the one after, each in a list that is empty at an end; those from 90 on follow too."""
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    place = paths.index(path)
    return paths[:place][-1:], paths[place + 1 :][:1]


def links(path: Path) -> str:
    """The last cell of a notebook: the notebooks before and after it, all of them, the paper's figure, the figure's
    module, and all figures with their verdicts, a page of the site.
    """
    from simreg_core.lab.figures import FIGURES  # here: what only runs notebooks needs no figure

    before, after = neighbours(path)
    parts = [f"[← {one.stem}]({one.name})" for one in before]
    parts.append("[all notebooks](00_start_here.ipynb#where-to-go-from-here)")
    parts += [f"[{one.stem} →]({one.name})" for one in after]
    if path.stem in FIGURES:
        sources = [claim.source for claim in FIGURES[path.stem].claims if claim.source.startswith(("v2 ", "A."))]
        parts += [f"[the paper, {source}]({PAPER})" for source in sources[:1]]
        parts.append(f"[the figure's module](../simreg_core/{FIGURES[path.stem].sources[0]})")
    parts.append("[all figures and verdicts](../docs/site/gallery.md)")
    return " · ".join(parts)


def run_notebooks(
    paths: Sequence[Path],
    done: "Callable[[Path, NotebookNode], None]",
    parameters: dict | None = None,
    folder: Path | None = None,
) -> None:
    """Run notebooks, in their folder.

    done: called with each path and notebook, with its outputs, as it ends.
    parameters: given to the notebooks.  folder: where the notebooks are written as they were run, failed ones too.
    Raises DrawingError for the first that fails; the others are given up then.
    """
    if paths:
        # one thread each: two notebooks with two threads each are many times slower
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the kernels
        asyncio.run(_run(paths, done, parameters, folder))


async def _run(paths, done, parameters, folder) -> None:
    from simreg_core.lab.make.client import Kernel  # here: its import takes longer than drawing nothing

    waiting = iter(paths)

    async def work() -> None:
        kernel = Kernel(NOTEBOOKS)
        try:
            for path in waiting:  # each kernel takes the next that no other has taken
                notebook, problem = await kernel.run(path, parameters)
                if folder is not None:
                    _keep(folder / path.name, notebook)
                if problem is not None:
                    raise DrawingError(f"notebook {path.name} failed: {problem}")
                done(path, notebook)
        finally:
            await kernel.end()

    # one event loop for all: of two loops in two threads one has lost a kernel's answer, and then waited for ever
    tasks = [asyncio.ensure_future(work()) for _ in paths[:AT_ONCE]]
    try:
        # not `gather`: it would hand on Ctrl-C to the tasks, and nbclient calls that a dead kernel
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _keep(path: Path, notebook: "NotebookNode") -> None:
    """Write a notebook as it was run, for a reader; where that cannot be, the figure is drawn all the same."""
    try:
        write_notebook(path, notebook)
    except StoreError as error:
        print(f"{path.stem}: its outputs are not kept: {error}", flush=True)


def write_notebook(path: Path, notebook: "NotebookNode") -> None:
    """Write a notebook, whole or not at all."""
    import nbformat  # here: its import takes longer than drawing nothing

    write_text(path, nbformat.writes(notebook) + "\n")


def shown(path: Path) -> str:
    """A path as a user would type it in the project's folder."""
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)

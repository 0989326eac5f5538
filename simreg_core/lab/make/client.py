"""The kernel that runs notebooks; its client is nbclient's, without what a notebook that is only drawn does not need.

For an Output widget (the slider of notebook 00) nbclient answers the kernel on the socket on which it waits for the
end of the cell. Sending there can swallow the signal that the answer has come: the cell is done, the kernel is idle,
and the client waits until its time limit. A notebook that is only drawn needs no such answers.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from traitlets import default

from simreg_core.lab.running.processes import way_of_death

CELL_SECONDS = 600  # all is computed when a notebook is drawn: a cell that takes longer hangs
SLOW_SECONDS = 60  # of a cell, after which it is said
START_SECONDS = 300  # of a kernel, on a busy machine
EMPTY = """
import sys
if "matplotlib.pyplot" in sys.modules:
    sys.modules["matplotlib.pyplot"].close("all")
get_ipython().reset(new_session=True)
"""
KERNEL_ARGUMENTS = ["--Application.log_level=40"]  # no word about how this machine talks to its own kernels


class _OwnPython(KernelSpecManager):
    """Knows this Python's kernel only: a 'python3' that lies somewhere else may be another Python's, or broken."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


class _Manager(AsyncKernelManager):
    """Does not interrupt a kernel that it asks to end, which would say so; notes how one died."""

    death = ""

    @default("kernel_spec_manager")
    def _own_python(self) -> KernelSpecManager:
        return _OwnPython()

    async def _async_interrupt_kernel(self) -> None:
        if not self.shutting_down:
            await super()._async_interrupt_kernel()

    async def cleanup_resources(self, restart: bool = False) -> None:
        if self.has_kernel and (status := await self.provisioner.poll()) is not None:
            self.death = way_of_death(status)
        await super()._async_cleanup_resources(restart)


class _Client(NotebookClient):
    environment: dict[str, str]  # of the kernel

    def on_comm_open_jupyter_widget(self, msg: dict) -> None:
        return None

    @asynccontextmanager
    async def async_setup_kernel(self, **options) -> AsyncIterator[None]:
        """The kernel of the notebook before, emptied, or a new one.

        Without nbclient's handlers of signals: several clients share a loop, and the last would take all.
        """
        if self.kc is None:
            self.create_kernel_manager()
            await self.async_start_new_kernel(env=self.environment, **options)
            await self.async_start_new_kernel_client()
        else:
            await self.async_wait_for_reply(self.kc.execute(EMPTY, silent=True, store_history=False))
        yield


class Kernel:
    """Runs notebooks one after another. Each finds the modules loaded that those before it loaded, which saves seconds,
    but no variable, open figure or count of theirs.

    where: the folder that it runs in.  A notebook that fails ends it; the next one gets a new kernel.
    """

    def __init__(self, where: Path):
        self._client = _Client(
            nbformat.v4.new_notebook(),
            kernel_name="python3",
            timeout=CELL_SECONDS,
            startup_timeout=START_SECONDS,
            shutdown_kernel="immediate",
            record_timing=False,
            resources={"metadata": {"path": str(where)}},
            kernel_manager_class=_Manager,
            extra_arguments=KERNEL_ARGUMENTS,
            on_cell_execute=self._begin,
        )
        self._cell = 0  # how many of the notebook were begun
        self._scratch = tempfile.TemporaryDirectory(prefix="simreg-kernel-")
        self._client.environment = _environment(Path(self._scratch.name))

    async def run(self, path: Path, parameters: dict | None) -> tuple[NotebookNode, str | None]:
        """Run a notebook.  Returns it with its outputs, and its error in one line, or None.

        parameters: put after the cell tagged 'parameters'.
        """
        notebook = nbformat.read(path, as_version=4)
        if parameters is not None:
            notebook = parameterize_notebook(load_notebook_node(str(path)), parameters)
        self._client.nb = notebook
        problem = None
        self._cell = 0
        watch = asyncio.ensure_future(self._watch(path.stem))
        try:
            await self._client.async_execute()
        except CellExecutionError as error:
            problem = f"{error.ename}: {error.evalue}"
        except (RuntimeError, OSError) as error:  # a dead kernel, or one that takes too long
            death = await self.end()
            problem = f"its kernel died by {death}" if death else f"{type(error).__name__}: {error}"
        finally:
            watch.cancel()
        return notebook, problem and " ".join(problem.split())

    def _begin(self, cell: NotebookNode, cell_index: int) -> None:
        self._cell += 1

    async def _watch(self, name: str) -> None:
        """Say, as long as it lasts, that a cell of a notebook takes long."""
        while True:
            before = self._cell
            await asyncio.sleep(SLOW_SECONDS)
            if self._cell == before > 0:  # else the kernel is still starting
                longest = f"after {CELL_SECONDS} s it is given up"
                print(f"{name}: a cell has run for more than {SLOW_SECONDS} s; {longest}", flush=True)

    async def end(self) -> str:
        """End the kernel, if there is one, at once.  Returns how it died before, or ''."""
        manager = self._client.km
        if manager is None:
            return ""
        await self._client._async_cleanup_kernel()
        return manager.death


def _environment(scratch: Path) -> dict[str, str]:
    """A kernel's environment variables: what its libraries write for themselves goes into an empty folder.

    A home folder may not be writable, and several kernels would share what IPython keeps there.
    """
    own = {"IPYTHONDIR": str(scratch / "ipython"), "JUPYTER_RUNTIME_DIR": str(scratch / "runtime")}
    if "MPLCONFIGDIR" not in os.environ and not _home_is_writable():
        own["MPLCONFIGDIR"] = str(scratch / "matplotlib")  # else kept: its list of fonts takes seconds to make
    return {**os.environ, **own}


def _home_is_writable() -> bool:
    try:
        with tempfile.TemporaryFile(dir=Path.home()):
            return True
    except (OSError, RuntimeError):  # RuntimeError: a user without a name, as in containers
        return False

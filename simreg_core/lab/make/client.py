"""The kernel that runs notebooks; its client is nbclient's, without what a notebook that is only drawn does not need.

For an Output widget (the slider of notebook 00) nbclient answers the kernel on the socket on which it waits for the
end of the cell. Sending there can swallow the signal that the answer has come: the cell is done, the kernel is idle,
and the client waits until its time limit. A notebook that is only drawn needs no such answers.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from simreg_core.lab.running.processes import way_of_death

CELL_SECONDS = 600  # all is computed when a notebook is drawn: a cell that takes longer hangs
EMPTY = """
import sys
if "matplotlib.pyplot" in sys.modules:
    sys.modules["matplotlib.pyplot"].close("all")
get_ipython().reset(new_session=True)
"""
KERNEL_ARGUMENTS = ["--Application.log_level=40"]  # no word about how this machine talks to its own kernels


class _Manager(AsyncKernelManager):
    """Does not interrupt a kernel that it asks to end, which would say so; notes how one died."""

    death = ""

    async def _async_interrupt_kernel(self) -> None:
        if not self.shutting_down:
            await super()._async_interrupt_kernel()

    async def cleanup_resources(self, restart: bool = False) -> None:
        if self.has_kernel and (status := await self.provisioner.poll()) is not None:
            self.death = way_of_death(status)
        await super()._async_cleanup_resources(restart)


class _Client(NotebookClient):
    def on_comm_open_jupyter_widget(self, msg: dict) -> None:
        return None

    @asynccontextmanager
    async def async_setup_kernel(self, **options) -> AsyncIterator[None]:
        """The kernel of the notebook before, emptied, or a new one.

        Without nbclient's handlers of signals: several clients share a loop, and the last would take all.
        """
        if self.kc is None:
            self.create_kernel_manager()
            await self.async_start_new_kernel(**options)
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
            record_timing=False,
            resources={"metadata": {"path": str(where)}},
            kernel_manager_class=_Manager,
            extra_arguments=KERNEL_ARGUMENTS,
        )

    async def run(self, path: Path, parameters: dict | None) -> tuple[NotebookNode, str | None]:
        """Run a notebook.  Returns it with its outputs, and its error in one line, or None.

        parameters: put after the cell tagged 'parameters'.
        """
        notebook = nbformat.read(path, as_version=4)
        if parameters is not None:
            notebook = parameterize_notebook(load_notebook_node(str(path)), parameters)
        self._client.nb = notebook
        problem = None
        try:
            await self._client.async_execute()
        except CellExecutionError as error:
            problem = f"{error.ename}: {error.evalue}"
        except (RuntimeError, NoSuchKernel, OSError) as error:  # a dead kernel, none, one that takes too long
            death = await self.end()
            problem = f"its kernel died by {death}" if death else f"{type(error).__name__}: {error}"
        return notebook, problem and " ".join(problem.split())

    async def end(self) -> str:
        """End the kernel, if there is one.  Returns how it died before, or ''."""
        manager = self._client.km
        if manager is None:
            return ""
        await self._client._async_cleanup_kernel()
        return manager.death

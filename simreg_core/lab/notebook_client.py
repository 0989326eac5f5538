"""papermill's engine, without the part of a browser that nbclient plays for widgets.

For an Output widget (the slider of notebook 00) nbclient answers the kernel on the socket on which it waits for the
end of the cell. Sending there can swallow the signal that the answer has come: the cell is done, the kernel is idle,
and the client waits until its time limit. A notebook that is only drawn needs no such answers.
"""

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

ENGINE = "simreg"


class _Client(PapermillNotebookClient):
    def on_comm_open_jupyter_widget(self, msg: dict) -> None:
        return None


class _Engine(NBClientEngine):
    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name: str, *, execution_timeout: int, **options):
        """As papermill's own engine; options that are no traits of the client are papermill's business."""
        traits = PapermillNotebookClient.class_trait_names()
        kept = {name: value for name, value in options.items() if name in traits}
        return _Client(nb_man, kernel_name=kernel_name, timeout=execution_timeout, **kept).execute()


papermill_engines.register(ENGINE, _Engine)

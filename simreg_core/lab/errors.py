"""Errors that the reader of a notebook can mend: only their message is shown."""


class OneLineError(ValueError):
    """Something given cannot be used; the message says what to change.

    A notebook shows the message without a traceback, since IPython asks an error for the lines to show.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]

"""Errors that the reader of a notebook can mend: only their message is shown."""


class OneLineError(ValueError):
    """Something given cannot be used; the message says what to change.

    A notebook shows the message without a traceback, since IPython asks an error for the lines to show.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class NotInstalledError(OneLineError, ModuleNotFoundError):
    """What is called needs packages that are not installed; the message says how to install them."""


def not_installed(what: str, error: ModuleNotFoundError) -> str:
    """What `what` needs, in one line.  error: of its import, for a module that is none of simreg_core."""
    if error.name == "fcntl":
        return f"{what} needs Linux or macOS; under Windows, run it in WSL"
    return (
        f"{what} needs the extra 'lab', {error.name} is not installed: run `make setup`, or in the project's folder "
        'pip install -e ".[lab]"'
    )

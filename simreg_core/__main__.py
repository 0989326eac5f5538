"""`python -m simreg_core`, and the command `simreg`."""

import sys


def main() -> None:
    """Run a command of the laboratory; without its packages one line says what to install."""
    try:
        from simreg_core.lab.cli import main as command
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("simreg_core"):
            raise
        print(
            f"simreg: the command needs the extra 'lab', {error.name} is not installed: run `make setup`, or in the "
            'project\'s folder pip install -e ".[lab]"',
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    command()


if __name__ == "__main__":
    main()

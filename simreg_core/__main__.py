"""`python -m simreg_core`."""

from simreg_core.lab.cli import main

if __name__ == "__main__":
    main()

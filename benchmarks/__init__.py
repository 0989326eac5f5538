"""How fast simreg is, beside the obvious ways: `make bench`. Not installed with the package."""

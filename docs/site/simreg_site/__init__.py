"""What the site is made with: results, public names and formulas as pages, and the checks of what was built."""

from pathlib import Path

SITE = Path(__file__).parents[1]
ROOT = SITE.parents[1]

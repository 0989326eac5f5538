"""What tables and figures say of a verdict and of what stands beside it."""

import re
from collections.abc import Mapping

from simreg_core.lab.claims import CONTRADICTED, HOLDS, is_within, number
from simreg_core.lab.gains import AT_LARGEST

TOO_SMALL = "too small to matter"


def is_too_small(row: Mapping) -> bool:
    """Whether a claim holds by an effect whose whole interval counts as no effect: its sign is sure, its size nothing.

    row: with verdict, low, high, threshold and margin.
    """
    names = ("low", "high", "threshold", "margin")
    return row["verdict"] in HOLDS and is_within(*(row[name] for name in names))


def in_words(row: Mapping) -> str:
    """The verdict, and that its effect is too small to matter where it is.  row: as of `is_too_small`."""
    return f"{row['verdict']}, {TOO_SMALL}" if is_too_small(row) else row["verdict"]


def in_full(beside: str, statistic: str) -> str:
    """The words of a statistic beside a claim's own, with AT_LARGEST spelled out.  statistic: the claim's own."""
    if beside != AT_LARGEST:
        return beside
    return re.sub(r"mean accuracy over the grid of (Gaussian )?ε", r"accuracy at the largest \1ε", statistic)


def failing_part(row: Mapping) -> tuple[str, Mapping] | None:
    """The part by which alone a claim is contradicted, its name and its numbers; None where the mean contradicts it.

    row: with verdict, high, threshold and also.
    """
    if row["verdict"] != CONTRADICTED or row["high"] < row["threshold"]:
        return None
    least = next((one for one in row["also"] if one["key"] == "least-favourable"), None)
    if least is None:
        return None
    return re.sub(r"^the least favourable: (.*?)( \(interval.*)?$", r"\1", least["statistic"]), least


def effect_in_words(row: Mapping) -> str:
    """The effect with its interval; where a claim fails by one of its parts only, that part too.

    row: as of `failing_part`, with estimate and low.
    """
    found = failing_part(row)
    return number(row) if found is None else f"{number(row)}; {found[0]}: {number(found[1])}"

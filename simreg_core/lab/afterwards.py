"""What a reader asked for after the records were seen: numbers with intervals and without a verdict.

A claim is fixed before its records are computed (`protocol_of_claims`). A question that comes later gets its numbers
here, from the same records, and is told as such.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simreg_core.lab.claims import Statistic, interval_of
from simreg_core.lab.protocol_of_claims import FEWEST_SEEDS

if TYPE_CHECKING:
    from simreg_core.lab.study import Study


@dataclass(frozen=True, kw_only=True)
class Afterwards(Statistic):
    """A number that was asked for later.

    geometric: whether the values are ratios whose geometric mean is taken, with the interval of their logarithms.
    """

    geometric: bool = False


def afterwards(study: "Study", asked: Iterable[Afterwards]) -> dict[str, list[dict]]:
    """The numbers under the protocol that a study shows, for the JSON of its figure.

    What is not measured yet, or at fewer than FEWEST_SEEDS seeds, is left out.
    """
    table = study.table()
    own = table[table["protocol"] == study.protocol]
    found = []
    for one in asked:
        try:
            values = one.measure(own)
        except LookupError:  # a profile that is measured in part
            continue
        estimate, low, high = interval_of(np.log(values) if one.geometric else values)
        if len(values) < FEWEST_SEEDS or not np.isfinite([estimate, low, high]).all():
            continue
        row = {"estimate": estimate, "low": low, "high": high}
        row = {name: float(np.exp(value)) if one.geometric else value for name, value in row.items()}
        found.append({"key": one.key, "statistic": one.statistic, **row, "n": len(values)})
    return {"afterwards": found} if found else {}

"""What a reader asked for after the records were seen: numbers with intervals and without a verdict.

A claim is fixed before its records are computed (`protocol_of_claims`). A question that comes later gets its numbers
here, from the same records, and is told as such.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from simreg_core.lab.claims import interval_of

if TYPE_CHECKING:
    from simreg_core.lab.study import Study


@dataclass(frozen=True, kw_only=True)
class Afterwards:
    """A number that was asked for later.

    key: its name in the JSON of a figure.  statistic: what `measure` computes of each seed, in words.
    geometric: whether the values are ratios whose geometric mean is taken, with the interval of their logarithms.
    """

    key: str
    statistic: str
    measure: Callable[..., pd.Series]
    geometric: bool = False


def afterwards(study: "Study", asked: Iterable[Afterwards]) -> dict[str, list[dict]]:
    """The numbers under the protocol that a study shows, for the JSON of its figure.

    What is not measured yet, or at fewer than two seeds, is left out.
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
        if not np.isfinite([estimate, low, high]).all():
            continue
        row = {"estimate": estimate, "low": low, "high": high}
        row = {name: float(np.exp(value)) if one.geometric else value for name, value in row.items()}
        found.append({"key": one.key, "statistic": one.statistic, **row, "n": len(values)})
    return {"afterwards": found} if found else {}

"""Verdicts as a table, for a notebook."""

from dataclasses import asdict

import pandas as pd

from simreg_core.lab.claims import Verdict, number
from simreg_core.lab.verdict_words import in_words


def as_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """Verdicts for a notebook: claim, verdict, effect with its interval, threshold, and secondary statistics."""
    return pd.DataFrame(
        {
            "claim": one.claim,
            "verdict": in_words(asdict(one)),
            "statistic": one.statistic,
            "mean [95 % interval]": number(asdict(one)),
            "asked": f"> {one.threshold:g}",
            "published": ", ".join(f"{value:.3f} ({task})" for task, value in one.published.items()),
            "smallest detectable": "" if one.detectable is None else f"{one.detectable:.3f}",
            "n": f"{one.n} {one.unit}" + ("" if one.images is None else f" × {one.images} images"),
            "beside it": "; ".join(f"{row['statistic']}: {number(row)}" for row in one.also),
        }
        for one in verdicts
    )

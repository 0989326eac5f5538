"""A factorial design: its cells, and effects in it, of corners that differ in one factor or two.

A cell is a series; its place is (loss, statistics of batch norm on pairs, set), read from the columns of the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from simreg_core.lab.gains import mean_of, robustness
from simreg_core.lab.recipes import seeds_of
from simreg_core.lab.series import NO_LOSS, NONE, PIXEL, SHUFFLED, THRESHOLD, ZERO
from simreg_core.lab.specs import Experiment, Profile, SpecError
from simreg_core.lab.study import NO_LOSS_NAME, SHARED

LOSSES = {"threshold": THRESHOLD, "pixel": PIXEL, "zero": ZERO, "shuffled": SHUFFLED, NO_LOSS_NAME: NO_LOSS}
FACTORS = ("loss", "statistics", "set")
MATCHED = "matched α"
Place = tuple[str, ...]
Corner = Mapping[str, str] | None  # levels of some factors; None: the unregularized network


def cells_of(profile: Profile) -> dict[str, tuple[Experiment, ...]]:
    """The regularized series, the profile's S^Th first.

    A control has S^Th's alpha, that of the set; and once more, on the profile's own set, one of its own, see
    `MatchedAlphas`.
    """
    found = {THRESHOLD: seeds_of(profile, THRESHOLD, profile.seeds)}
    for part in profile.studies.design:
        for role in part.sets:
            for statistics in part.statistics:
                for loss in part.losses:
                    if loss == NO_LOSS_NAME and statistics != SHARED:
                        continue  # is the unregularized network, see `cells`
                    label = label_of(loss, statistics, role, profile.main_role)
                    found.setdefault(label, _cell(profile, loss, statistics, role))
    for control, alpha in profile.studies.matched_alphas or ():
        if alpha is not None:
            label = f"{LOSSES[control]}, {MATCHED}"
            found[label] = seeds_of(profile, LOSSES[control], profile.seeds, alpha=alpha)
    return found


def label_of(loss: str, statistics: str, role: str, main_role: str) -> str:
    """'all targets 0, frozen, foreign images': what a cell differs in from the profile's S^Th."""
    parts = [LOSSES[loss]]
    parts += [statistics] if statistics != SHARED else []
    parts += [f"{role} images"] if role != main_role else []
    return ", ".join(parts)


def _cell(profile: Profile, loss: str, statistics: str, role: str) -> tuple[Experiment, ...]:
    of_set = profile.set_of(role)
    if of_set is None:
        kind = "of the task" if role == "own" else "of another kind"
        raise SpecError(f"design names '{role}' images, but no regularization set has images {kind}")
    fields = {**of_set, "statistics": None if statistics == SHARED else statistics}
    if loss == NO_LOSS_NAME:
        return seeds_of(profile, THRESHOLD, profile.seeds, **{**fields, "alpha": 0.0})
    if loss == "pixel":
        fields["alpha"] = profile.pixel_alpha
    return seeds_of(profile, LOSSES[loss], profile.seeds, **fields)


def cells(table: pd.DataFrame) -> dict[Place, str]:
    """The series of a table by place; controls with a matched alpha are left out.

    Pairs without a loss act through shared statistics only: with others they are the unregularized network, bit for
    bit, which stands for them.
    """
    found: dict[Place, str] = {}
    for one in _rows(table):
        if not one["matched"]:
            found[one["loss"], one["statistics"], one["set"]] = one["series"]
    for _, statistics, images in list(found):
        if statistics != SHARED:
            found.setdefault((NO_LOSS_NAME, statistics, images), NONE)
    return found


def matched_controls(table: pd.DataFrame, loss: str) -> list[str]:
    """The series of a control whose alpha is not S^Th's."""
    return [one["series"] for one in _rows(table) if one["matched"] and one["loss"] == loss]


def _rows(table: pd.DataFrame) -> list[dict]:
    """Each regularized series with its place, and whether it is a control with another alpha than S^Th's of its set."""
    columns = ["series", "loss", "statistics", "own_images", "alpha"]
    rows = table.loc[table["series"] != NONE, columns].drop_duplicates().to_dict("records")
    of_set = {one["own_images"]: one["alpha"] for one in rows if one["loss"] == "threshold"}
    return [
        {
            **one,
            "set": "own" if one["own_images"] else "foreign",
            "matched": one["loss"] in ("zero", "shuffled")
            and one["alpha"] != of_set.get(one["own_images"], one["alpha"]),
        }
        for one in rows
    ]


def crossed(known: Mapping[Place, str], *corners: Corner) -> list[tuple[str, ...]]:
    """The series at these corners of the design, once for each level of the other factors at which all are known.

    corners: they name the same factors; None is the unregularized network.
    """
    named = next(corner for corner in corners if corner is not None)
    others = dict.fromkeys(
        tuple((factor, level) for factor, level in zip(FACTORS, place, strict=True) if factor not in named)
        for place in known
    )
    found = []
    for other in others:
        places = [
            None if corner is None else tuple({**dict(other), **corner}[factor] for factor in FACTORS)
            for corner in corners
        ]
        if all(place is None or place in known for place in places):
            found.append(tuple(NONE if place is None else known[place] for place in places))
    return found


@dataclass(frozen=True)
class Contrast:
    """A main effect, two corners, or an interaction, four: first less second, less (third less fourth).

    key: of its claim.  label, group: of its row.  corners: as `crossed` takes them.
    matched: S^Th less a control with an alpha of its own; the second corner names the control.
    """

    key: str
    label: str
    group: str
    corners: tuple[Corner, ...]
    matched: bool = False

    def series(self, table: pd.DataFrame) -> list[tuple[str, ...]]:
        """As `crossed`; none where the table lacks a corner."""
        if not self.matched:
            return crossed(cells(table), *self.corners)
        control = self.corners[1] or {}
        return [(THRESHOLD, label) for label in matched_controls(table, control["loss"])]

    def effect(self, table: pd.DataFrame, attack: str = "gaussian", epsilon: str = "grid") -> pd.Series:
        """Mean over the levels of the other factors, by seed; of boundary-attack sizes the geometric mean of ratios.

        Raises LookupError where the table lacks a corner.
        """
        sizes = attack == "boundary"
        parts = {}
        for names in self.series(table):
            values = pd.concat([robustness(table, name, attack, epsilon) for name in names], axis=1, join="inner")
            signs = np.array([1, -1, -1, 1][: len(names)])
            parts[str(names)] = ((np.log(values) if sizes else values) * signs).sum(axis=1, skipna=False)
        return np.exp(mean_of(parts)) if sizes else mean_of(parts)


def main_effect(factor: str, one: str, other: str | None, **fixed: str) -> tuple[Corner, ...]:
    """Corners of a main effect.  other: None: over the unregularized network.  fixed: a level of another factor."""
    return {factor: one, **fixed}, None if other is None else {factor: other, **fixed}


def interaction(one: str, other: str, factor: str, levels: tuple[str, str]) -> tuple[Corner, ...]:
    """Corners of: how much more a loss does than another, at the first level of a factor less at the second."""
    return tuple({"loss": loss, factor: level} for level in levels for loss in (one, other))

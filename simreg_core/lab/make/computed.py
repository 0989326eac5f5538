"""Figures of what is computed so far: of a computation of days, drawn from its records before it ends."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING

from simreg_core.lab.claims import Verdict, verdicts
from simreg_core.lab.figures.kit import in_symbols
from simreg_core.lab.files import alone_in
from simreg_core.lab.folders import figures_folder
from simreg_core.lab.make.figures import studies_of
from simreg_core.lab.make.notebooks import shown
from simreg_core.lab.make.verdicts import write_claims
from simreg_core.lab.recipes import headline_seeds
from simreg_core.lab.specs import AnyExperiment, Profile
from simreg_core.lab.store import Store
from simreg_core.lab.study import Block, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

WIDTH = 125  # letters of a line, as of `finding`
SHARE = 1 / 3  # of a figure's series, without which it says too little to be drawn


@dataclass(frozen=True)
class PartOfStudy(Study):
    """A study with the networks that are measured in full.

    lacking: what the others are, in words.  absent: series without any.
    """

    lacking: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def _judge(self, protocol: str | None) -> list[Verdict]:
        """The verdicts on the claims whose series are there.

        Where a series is absent, a claim on all of them would be judged on some, so it is left out.
        """
        if self.absent and not self.figure.named:
            return []
        if self.figure.judge is not None:
            return self.figure.judge(self, protocol)
        table = self.table()
        claims = [*self.figure.claims]
        with suppress(LookupError):
            claims += self.figure.details(table[table["protocol"] == protocol])
        found = []
        for claim in claims:
            with suppress(LookupError):
                found += verdicts([claim], table, protocol, self.circumstances)
        most = headline_seeds(self.profile)  # a verdict knows how many are planned in quick
        return [replace(one, planned=min(one.planned, most)) if one.planned else one for one in found]

    def draw(self) -> "Picture":
        """As of a whole study; its title says what is lacking."""
        picture = super().draw()
        words = in_symbols(fill(f"Seeds not computed yet: {', '.join(self.lacking)}", WIDTH))
        if self.lacking and words not in (said := picture.get_suptitle()):
            picture.suptitle(f"{said}\n{words}".strip(), fontsize="small", x=0.01, ha="left")
        return picture


def part_of(study: Study) -> PartOfStudy:
    """What the store and the published records have of a study."""
    lacking: dict[str, tuple[int, int]] = {}
    blocks = []
    for block in study.blocks:
        series = {}
        for label, networks in block.series.items():
            measured = tuple(one for one in networks if block.recorded or _is_measured(study.store, one, block))
            if measured:
                series[label] = measured
            if len(measured) < len(networks):
                there, wanted = lacking.get(label, (0, 0))
                lacking[label] = (there + len(measured), wanted + len(networks))
        if series:
            blocks.append(replace(block, series=series))
    words = tuple(f"{label} ({wanted - there} of {wanted})" for label, (there, wanted) in lacking.items())
    absent = tuple(label for label, (there, _) in lacking.items() if not there)
    fields = {name: getattr(study, name) for name in Study.__dataclass_fields__}
    return PartOfStudy(**{**fields, "blocks": tuple(blocks)}, lacking=words, absent=absent)


def _is_measured(store: Store, experiment: AnyExperiment, block: Block) -> bool:
    return all(store.has_record(experiment, evaluation) for evaluation in block.evaluations)


def draw_computed(profile: Profile, only: Sequence[str] = ()) -> None:
    """Draw and judge what is computed of a profile's figures, and compute nothing; a line says what each lacks.

    only: names of notebooks; () for all. No notebook is executed. A figure that needs more is named and left out.
    """
    from simreg_core.lab.figures.kit import plt  # here: its import takes longer than to find nothing to draw

    folder = figures_folder(profile)
    with alone_in(folder, "draws"):
        for study in studies_of(profile, only):
            own = part_of(study)
            if not next(own.measurements(), None):
                print(f"{own.name}: nothing is computed yet", flush=True)
                continue
            if len(own.series) < SHARE * len(study.series):
                there = f"{len(own.series)} of {len(study.series)} series"
                print(f"{own.name}: too little is computed to draw it: {there}", flush=True)
                continue
            try:
                plt.close(own.draw())
                own.save()
            except LookupError as error:
                print(f"{own.name}: too little is computed to draw it: {error.args[0]}", flush=True)
                continue
            print(f"{own.name}: drawn to {shown(folder)}; lacks {', '.join(own.lacking) or 'nothing'}", flush=True)
        print(write_claims(profile), flush=True)

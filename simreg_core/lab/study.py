"""A figure and its study: which experiments it has, and how they are run, read, drawn, judged and saved."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simreg_core.lab.claims import Circumstances, Claim, Verdict, verdicts
from simreg_core.lab.figures.kit import save_whole, summarize
from simreg_core.lab.folders import figures_folder, published_folder
from simreg_core.lab.image_files import DataError, count_classes
from simreg_core.lab.protocol_of_claims import CLASSES, TASKS
from simreg_core.lab.recipes import with_part
from simreg_core.lab.records import Record
from simreg_core.lab.running.plan import Measurement, plan
from simreg_core.lab.specs import PROJECT, AnyExperiment, Evaluation, Experiment, Profile, SpecError, load_profile
from simreg_core.lab.store import Store
from simreg_core.lab.verdict_table import as_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture
    from torch import nn

RECORDINGS = PROJECT / "figures" / "recordings" / "records"  # of real recordings, the same for every profile
NO_LOSS_NAME, SHARED = "no_loss", "shared"  # names of `specs.Design`
COMPARED = "compared"  # role of the epsilon at which attacks are set side by side


@dataclass(frozen=True)
class Block:
    """Curves that are measured alike.

    series: experiments by seed for each curve.  evaluations: what is measured of every experiment.
    group: what the curves have in common, where a figure has several blocks.
    recorded: measured on data that few users have: always read from the published records of real recordings, and
    computed only by `python -m simreg_core recordings`.
    """

    series: Mapping[str, tuple[AnyExperiment, ...]]
    evaluations: tuple[Evaluation, ...]
    group: str = ""
    recorded: bool = False

    def measurements(self) -> Iterator[tuple[str, AnyExperiment, Evaluation]]:
        """Every (series, experiment, evaluation)."""
        for label, experiments in self.series.items():
            for one in experiments:
                for evaluation in self.evaluations:
                    yield label, one, evaluation


@dataclass(frozen=True)
class Figure:
    """All that belongs to one figure; its module in `lab.figures` makes it.

    name: of its notebook.
    experiments: what a profile trains and measures for it.
    claims: for the table of claims.  details: finer claims, which depend on what curves the table has.
    draw: the picture of a study, under a protocol; None where nothing is attacked.
    numbers: the table behind the picture, for the CSV.
    notes: what else its JSON says.
    judge: the verdicts of a study under a protocol, where claims are not judged by seed.
    protocols: those that it can show, the default first; empty: nothing is attacked.
    options: numbers of the figure that are not the profile's, with their defaults.
    part: the field of a profile that the figure is of, where that may be None: such a profile does not have it.
    files: of `simreg_core`, beside its module and what all figures share: a change of them redraws it.
    small: a smaller picture for the README's gallery; None: the first panel of the picture.
    named: whether each claim names the series that it is about, so that it can be judged before the others are there.
    """

    name: str
    experiments: Callable[[Profile], tuple[Block, ...]]
    claims: tuple[Claim, ...]
    draw: Callable[["Study", Any], "Picture"]
    numbers: Callable[["Study"], pd.DataFrame] = lambda study: summarize(study.table(), "epsilon")
    details: Callable[[pd.DataFrame], list[Claim]] = lambda table: []
    notes: Callable[["Study"], dict] = lambda study: {}
    judge: Callable[["Study", Any], list[Verdict]] | None = None
    protocols: tuple[str, ...] = ("released", "strict")
    options: dict[str, object] = field(default_factory=dict)
    part: str | None = None
    files: tuple[str, ...] = ()
    small: Callable[["Study"], "Picture"] | None = None
    named: bool = False

    def is_of(self, profile: Profile) -> bool:
        """Whether a profile has this figure."""
        return self.part is None or attrgetter(self.part)(profile) is not None

    @property
    def number(self) -> str:
        """'02' of '02_attack_curves'."""
        return self.name.partition("_")[0]

    @property
    def sources(self) -> tuple[str, ...]:
        """The files of `simreg_core` that the picture depends on: its module, `files`, kits, looks and judge."""
        own, package = Path(inspect.getfile(self.draw)), Path(__file__).parents[1]
        names = ("series", "claims", "gains", "protocol_of_claims", "select", "study", "verdict_words")
        shared = [f"lab/{name}.py" for name in names]
        kits = sorted(str(path.relative_to(package)) for path in package.glob("lab/figures/kit*.py"))
        return (str(own.relative_to(package) if own.is_relative_to(package) else own), *self.files, *kits, *shared)

    def study(self, profile: Profile) -> "Study":
        """Its study of a profile as it is, under its default protocol."""
        default = next(iter(self.protocols), None)
        return Study(self.name, profile, self.experiments(profile), self, default, self.options)

    def open(self, profile: str, protocol: str | None = None, **changes) -> "Study":
        """Its study.

        profile: a profile's name, or the path of a YAML file.
        protocol: one of `protocols`; None: the first.
        changes: of `options`, or as in `recipes.with_part`; None keeps the value.
        Raises SpecError for an unknown profile or protocol, a profile without this figure, or a value that cannot be.
        """
        if protocol is not None and protocol not in self.protocols:
            allowed = ", ".join(self.protocols) or "none, since nothing is attacked"
            raise SpecError(f"{self.name} cannot show protocol '{protocol}'; allowed: {allowed}")
        default = next(iter(self.protocols), None)
        options = {name: value if changes.get(name) is None else changes[name] for name, value in self.options.items()}
        original = load_profile(profile)
        if not self.is_of(original):
            raise SpecError(f"profile '{original.name}' does not have {self.name}: its '{self.part}' is null")
        adapted = with_part(original, self.part, {name: changes[name] for name in changes if name not in options})
        customized = (adapted, protocol or default, options) != (original, default, self.options)
        return Study(self.name, adapted, self.experiments(adapted), self, protocol or default, options, customized)


@dataclass(frozen=True)
class Study:
    """The measurements of one figure.

    name: of the notebook.  profile: how big.  figure: None where the measurements are read only.
    protocol: what is drawn and judged; None where nothing is attacked.  options: as in `Figure`.
    customized: whether the caller changed the profile, the protocol or an option.
    """

    name: str
    profile: Profile
    blocks: tuple[Block, ...]
    figure: Figure | None = None
    protocol: str | None = None
    options: dict[str, object] = field(default_factory=dict)
    customized: bool = False

    @cached_property
    def store(self) -> Store:
        """The working store, with the profile's published records behind it."""
        return Store(published=published_folder(self.profile))

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the curves."""
        return tuple(dict.fromkeys(label for block in self.blocks for label in block.series))

    @property
    def folder(self) -> Path:
        """Where the figure belongs; figures of a changed profile never replace the profile's own."""
        if self.customized:
            return self.store.root / "explored" / f"{self.profile.name}-{self.profile.key}"
        return figures_folder(self.profile)

    @property
    def circumstances(self) -> Circumstances:
        """What the profile says that verdicts depend on."""
        trained = [one for block in self.blocks for seeds in block.series.values() for one in seeds]
        tasks = {(one.task.images, one.task.channels) for one in trained if isinstance(one, Experiment)}
        (images, channels), *more = tasks or {(None, None)}
        task = TASKS.get(images) if channels == 1 and not more else None
        return Circumstances(task, self.profile.chosen or {})

    def measurements(self) -> Iterator[Measurement]:
        """Every (experiment, evaluation) of the figure that is computed with the profile."""
        for block in self.blocks:
            if not block.recorded:
                for _, one, evaluation in block.measurements():
                    yield one, evaluation

    def run(self, without_gpu: bool = False) -> "Study":
        """Compute what is missing, after saying what that is and how long it takes.

        without_gpu: compute a profile that needs a GPU where there is none; else SpecError.
        """
        todo = plan(self.measurements(), self.store)
        if todo:
            # here: they need torch, and to plan and to draw needs none
            from simreg_core.lab.running.compute import check_profile, compute
            from simreg_core.lab.running.estimate import Costs, describe

            check_profile(self.profile, todo, self.store, without_gpu)
            costs = Costs()
            print(describe(self.name, todo, costs))
            compute(todo, self.store, self.name, costs)
        return self

    def experiment(self, series: str, seed: int = 0) -> AnyExperiment:
        """The experiment of a curve.  Raises SpecError for a series or seed that the figure does not have."""
        for block in self.blocks:
            for one in block.series.get(series, ()):
                if one.seed == seed:
                    return one
        raise SpecError(f"{self.name} has no network of '{series}', seed {seed}; it has {', '.join(self.series)}")

    def network(self, series: str, seed: int = 0) -> "nn.Module":
        """A trained network of a curve, in eval mode on the CPU: pixels [n, c, h, w] in [0, 1] in, logits out.

        One that ships (`lab.weights`) or is in the store is read; another is trained now.
        """
        from simreg_core.lab.weights import network_of  # here: to draw needs no torch

        return network_of(self.experiment(series, seed), self.store)

    def records(self) -> list[tuple[str, str, Record]]:
        """(group, series, record) of every measurement, read once.  Raises LookupError where one is missing."""
        return list(self._records)

    @cached_property
    def _records(self) -> tuple[tuple[str, str, Record], ...]:
        found: dict[Path, Record] = {}  # two curves may share an experiment
        listed = []
        for group, label, experiment, evaluation, place in self._places():
            if place not in found:
                found[place] = self.store.read_record(place, experiment, evaluation)
            listed.append((group, label, found[place]))
        return tuple(listed)

    def _places(self) -> Iterator[tuple[str, str, AnyExperiment, Evaluation, Path]]:
        """(group, series, experiment, evaluation, its file) of every measurement, as `records`."""
        recorded = Store(self.store.root, published=RECORDINGS)
        for block in self.blocks:
            for label, one, evaluation in block.measurements():
                place = (recorded if block.recorded else self.store).record_place(one, evaluation)
                if place is None:
                    how = "python -m simreg_core recordings makes them" if block.recorded else "call run() first"
                    raise LookupError(f"{self.name} lacks records of '{label}'; {how}")
                yield block.group, label, one, evaluation, place

    def table(self) -> pd.DataFrame:
        """One row a measured number.

        Columns: group, series, seed, attack, protocol, metric, value, attempted, failed, epsilon, repeat,
        corruption, severity, layer, condition, draws; and, of what was trained and measured, k, count, alpha,
        threshold, loss (the regularizer's target, 'no_loss' where alpha is 0), statistics (of batch norm on pairs),
        images, own_images (whether these are the task's), code, cut, single (of partial adversarial training), blocks
        (Hebbian), trials (of a recording), steps, chance (accuracy of guessing), role ('compared': at this epsilon).
        """
        return self._table.copy(deep=False)

    @cached_property
    def _table(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "group": group,
                "series": label,
                "seed": record.experiment.seed,
                "attack": record.evaluation.attack,
                "protocol": record.evaluation.protocol,
                **dict(value),
                **_numbers_of(record),
                "chance": _chance(record),
                "role": COMPARED if _is_compared(record.evaluation, value.epsilon) else None,
            }
            for group, label, record in self._records
            for value in record.values
        )

    def arrays(self, name: str, group: str | None = None) -> dict[str, np.ndarray]:
        """An array of the records (such as 'power' or 'layer_weights') for each series, [seeds, ...].

        group: of the blocks that are looked at; None: all.
        """
        collected: dict[str, list] = {}
        for own, label, record in self._records:
            if name in record.arrays and group in (None, own):  # a network that no image could fool has no spectrum
                collected.setdefault(label, []).append(record.arrays[name])
        return {label: np.array(values) for label, values in collected.items()}

    def digest(self) -> str:
        """Changes when the file of any record does.  Raises LookupError where one is missing."""
        found = hashlib.sha256()
        for *_, place in self._places():
            found.update(place.read_bytes())
        return found.hexdigest()[:16]

    def draw(self) -> "Picture":
        """Draw the figure.  Raises ValueError that names the series which its picture leaves out."""
        return self._picture

    @cached_property
    def _picture(self) -> "Picture":
        picture = self.figure.draw(self, self.protocol)
        drawn = {name for artist in picture.findobj() for name in (artist.get_gid() or "").splitlines()}
        if left_out := [name for name in self.series if name not in drawn]:
            raise ValueError(f"{self.name} does not draw the series {', '.join(map(repr, left_out))}")
        return picture

    def judge(self, protocol: str | None = None) -> list[Verdict]:
        """The verdicts on the figure's claims, those of the table of claims first.

        protocol: None: the one that the figure shows.
        """
        shown = protocol or self.protocol
        if shown not in self._judged:
            self._judged[shown] = self._judge(shown)
        return list(self._judged[shown])

    @cached_property
    def _judged(self) -> dict[str | None, list[Verdict]]:
        return {}

    def _judge(self, protocol: str | None) -> list[Verdict]:
        if self.figure.judge is not None:
            return self.figure.judge(self, protocol)
        table = self.table()
        details = self.figure.details(table[table["protocol"] == protocol])
        return verdicts((*self.figure.claims, *details), table, protocol, self.circumstances)

    def headlines(self) -> dict[str, str]:
        """The verdicts on the figure's main claims, by their keys."""
        return {one.key: one.verdict for one in self.judge() if one.main}

    def numbers(self) -> pd.DataFrame:
        """The numbers behind the picture, as the CSV has them."""
        return self.figure.numbers(self)

    def verdicts(self, protocol: str | None = None) -> pd.DataFrame:
        """As `judge`, as a table for a notebook."""
        return as_table(self.judge(protocol))

    def save(self) -> list[Path]:
        """Save the picture as PDF and PNG, the numbers behind it as CSV, and where they come from as JSON.

        Returns the four paths.  Raises StoreError where a file cannot be written.
        """
        provenance: dict = {"figure": self.name}
        if self.blocks:
            records = [_provenance_of(*one) for one in self._records]
            claims = [verdict.as_dict() for verdict in self.judge()]
            provenance |= {"profile": self.profile.name, "records": records, "claims": claims}
        if self.protocol is not None:
            provenance["protocol"] = self.protocol
        return save_whole(
            self.draw(), self.folder / self.name, self.numbers(), {**provenance, **self.figure.notes(self)}
        )


def _is_compared(evaluation: Evaluation, epsilon: float | None) -> bool:
    return epsilon is not None and epsilon == getattr(evaluation, "epsilon", None)


def _chance(record: Record) -> float | None:
    """The accuracy of guessing; None where there is no task, or nothing that says how many classes it has."""
    task = getattr(record.experiment, "task", None)
    if task is None:
        return None
    try:
        return 1 / (CLASSES.get(TASKS.get(task.images)) or count_classes(task.images))
    except DataError:  # the user's own set, on another machine
        return None


def _numbers_of(record: Record) -> dict:
    """What was trained and measured, as numbers: a label is never read back."""
    names = ("regularizer", "adversarial", "source", "task")
    spec, rule, source, task = (getattr(record.experiment, name, None) for name in names)
    loss = None if spec is None else spec.target if spec.alpha else NO_LOSS_NAME
    return {
        "k": getattr(spec, "pairs_per_step", None),
        "count": getattr(spec, "count", None),
        "alpha": getattr(spec, "alpha", None),
        "threshold": getattr(spec, "threshold", None),
        **{name: getattr(rule, name, None) for name in ("code", "cut", "single", "blocks")},
        "loss": loss,
        "statistics": None if spec is None else spec.statistics or SHARED,
        "images": getattr(spec, "images", None),
        "own_images": None if spec is None else spec.images == task.images,
        "trials": getattr(source, "trials", None),
        "steps": getattr(record.evaluation, "steps", None),
    }


def _provenance_of(group: str, label: str, record: Record) -> dict:
    return {
        **({"group": group} if group else {}),
        "series": label,
        "seed": record.experiment.seed,
        "experiment": record.experiment_key,
        "evaluation": record.evaluation_key,
        "attack": record.evaluation.attack,
        **({"warnings": list(record.warnings)} if record.warnings else {}),
        **record.provenance.model_dump(exclude={"inputs"} if record.provenance.inputs is None else None),
    }

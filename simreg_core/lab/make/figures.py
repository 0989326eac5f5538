"""A profile's figures: what they lack is computed, what is not up to date is drawn, in the order of the notebooks."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from simreg_core.lab.figures import FIGURES
from simreg_core.lab.files import alone_in, write_bytes, write_text
from simreg_core.lab.folders import figures_folder, published_folder
from simreg_core.lab.image_files import DataError
from simreg_core.lab.make.index import write_index
from simreg_core.lab.make.notebooks import notebook_paths, run_notebooks, shown
from simreg_core.lab.make.stale import inputs_of, is_drawn, note_drawn
from simreg_core.lab.make.verdicts import write_claims
from simreg_core.lab.recipes import headline_seeds, seeds_of
from simreg_core.lab.running.plan import Measurement, Plan, by_network, plan
from simreg_core.lab.series import NONE, THRESHOLD
from simreg_core.lab.specs import Profile, SpecError
from simreg_core.lab.store import Store
from simreg_core.lab.study import Study

if TYPE_CHECKING:
    from simreg_core.lab.running.compute import Executor

MOST_NAMES = 3  # of notebooks with the same fault, in its message


def studies_of(profile: Profile, only: Sequence[str] = ()) -> list[Study]:
    """The profile's studies, in the order of their notebooks; those named in `only`, in its order, where any is.

    Raises SpecError with what is wrong in each of them; what is wrong in several is said once.
    """
    figures = dict(FIGURES)
    found: list[Study] = []
    problems: dict[str, list[str]] = {}  # names of notebooks by what is wrong in them
    for name in only or figures:
        if figures[name].is_of(profile):
            try:
                found.append(figures[name].study(profile))
            except SpecError as error:
                problems.setdefault(str(error), []).append(name)
    if problems:
        raise SpecError("; ".join(f"{_listed(names)}: {error}" for error, names in problems.items()))
    return found


def _listed(names: list[str]) -> str:
    """'a, b and 5 more'."""
    more = len(names) - MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MOST_NAMES])} and {more} more"


def paths_of(profile: Profile, only: Sequence[str] = ()) -> list[Path]:
    """The notebooks whose figures a profile has; those named in `only`, where any is.

    Raises SpecError for an unknown name, or one that the profile does not have.
    """
    paths = notebook_paths(only)
    lacking = [path.stem for path in paths if path.stem in FIGURES and not FIGURES[path.stem].is_of(profile)]
    if only and lacking:
        raise SpecError(f"profile '{profile.name}' does not have {', '.join(lacking)}")
    return [path for path in paths if path.stem not in lacking]


def missing(profile: Profile, store: Store, only: Sequence[str] = ()) -> Plan:
    """What the figures of a profile lack, each thing once."""
    return plan(measurements_of(studies_of(profile, only)), store)


def measurements_of(studies: Iterable[Study]) -> list[Measurement]:
    """What the studies measure, each thing once."""
    found = {(one.key, evaluation.key): (one, evaluation) for own in studies for one, evaluation in own.measurements()}
    return list(found.values())


def make_figures(
    profile: Profile,
    profile_name: str,
    recompute: bool,
    only: Sequence[str] = (),
    without_gpu: bool = False,
    workers: int | None = None,
) -> None:
    """Compute what is missing, draw every notebook whose inputs changed, and end with the table of claims.

    profile_name: what the notebooks are given, a shipped profile's name or an absolute path.
    only: names of notebooks to draw; () for all.  without_gpu: compute a profile that needs one all the same.
    workers: how many tasks are computed at once.
    Raises what `compute` raises, SpecError for an unknown notebook or a profile that needs a GPU where there is none,
    and DrawingError for a notebook that failed.
    """
    paths, studies = paths_of(profile, only), studies_of(profile, only)
    measurements = measurements_of(studies)
    store = Store() if recompute else Store(published=published_folder(profile))
    unfinished = _recomputing(profile, store, only)  # a killed RECOMPUTE=1 continues where it was
    with store.computing() if recompute else nullcontext():  # or another would delete, or use, what this one deletes
        if recompute and not unfinished.exists():
            _begin_again(profile, measurements, store, unfinished)
        try:
            todo = plan(measurements, store)
        except DataError:
            if not recompute:
                raise
            # the user's files are others than when the unfinished RECOMPUTE=1 began
            _begin_again(profile, measurements, store, unfinished)
            todo = plan(measurements, store)
        if todo:
            _compute(profile, todo, store, without_gpu, workers)
        else:
            where = "published records" if _from_published(measurements, store) else "this machine's store"
            print(f"{profile.name}: nothing to compute; the figures are drawn from {where}", flush=True)
        for done in store.root.glob(unfinished.name if only else f"{unfinished.name}*"):
            done.unlink(missing_ok=True)
    with alone_in(figures_folder(profile), "draws"):
        _draw(profile, profile_name, paths, studies)
        print(write_claims(profile), flush=True)


def compute_missing(
    profile: Profile,
    only: Sequence[str] = (),
    without_gpu: bool = False,
    workers: int | None = None,
    executor: "Executor | None" = None,
    network_by_network: bool = False,
) -> None:
    """Compute what the figures of a profile lack, and draw none.

    only: names of notebooks; () for all.  without_gpu: compute a profile that needs one all the same.
    workers: how many tasks are computed at once.  executor: where; on this machine by default.
    network_by_network: measure each network in full, and publish its records, before the next is trained; none and
        S^Th come first, then those of the first notebook of `only`.
    Raises what `compute` raises, SpecError for an unknown notebook or a profile that needs a GPU where there is none.
    """
    paths_of(profile, only)
    store = Store(published=published_folder(profile))
    todo = missing(profile, store, only)
    if not todo:
        print(f"{profile.name}: nothing to compute", flush=True)
    elif network_by_network:
        _compute_by_network(profile, todo, store, without_gpu, workers)
    else:
        _compute(profile, todo, store, without_gpu, workers, executor)


def _compute_by_network(profile: Profile, todo: Plan, store: Store, without_gpu: bool, workers: int | None) -> None:
    """A computation of days: what is finished is beside the figures at once, ready to be committed."""
    # here, as below: they need torch, and to plan and to draw needs none
    from simreg_core.lab.running.compute import check_profile, compute
    from simreg_core.lab.running.estimate import Costs
    from simreg_core.lab.running.workers import check_workers

    check_profile(profile, todo, store, without_gpu)
    costs, studies = Costs(), studies_of(profile)
    seeds = headline_seeds(profile)
    compared = [one.key for target in (NONE, THRESHOLD) for one in seeds_of(profile, target, seeds)]
    parts = by_network(todo, check_workers(workers), compared)
    for index, part in enumerate(parts):
        hours = sum(costs.seconds(rest) for rest in parts[index:]) / 3600
        print(f"{profile.name}: part {index + 1} of {len(parts)}, {hours:.1f} core-hours left", flush=True)
        compute(part, store, f"part {index + 1} of {len(parts)}", costs, workers)
        for measurement in part.measurements:
            own, published = store.record_paths(*measurement)
            write_bytes(published, own.read_bytes())
        write_index(store.published, studies)


def _compute(
    profile: Profile,
    todo: Plan,
    store: Store,
    without_gpu: bool,
    workers: int | None = None,
    executor: "Executor | None" = None,
) -> None:
    from simreg_core.lab.running.compute import check_profile, compute
    from simreg_core.lab.running.estimate import Costs, describe

    check_profile(profile, todo, store, without_gpu)
    costs = Costs()
    print(describe(profile.name, todo, costs), flush=True)
    compute(todo, store, f"computing profile '{profile.name}'", costs, workers, executor)


def _recomputing(profile: Profile, store: Store, only: Sequence[str]) -> Path:
    """The file that says of a selection of notebooks that its RECOMPUTE=1 has begun; without numbers: of all."""
    return store.root / "-".join(["recomputing", profile.key, *sorted({FIGURES[name].number for name in only})])


def _from_published(measurements: Iterable[Measurement], store: Store) -> bool:
    own = Store(store.root)
    return not all(own.has_record(*one) for one in measurements)


def _begin_again(profile: Profile, measurements: Iterable[Measurement], store: Store, unfinished: Path) -> None:
    """Remove what these measurements have in the store, so that it is computed again."""
    print(f"{profile.name}: computing everything again", flush=True)
    for experiment, evaluation in measurements:
        store.forget(experiment, evaluation)
    write_text(unfinished, "delete this file to start over\n")


def _draw(profile: Profile, profile_name: str, paths: list[Path], studies: Iterable[Study]) -> None:
    """Draw the notebooks that are not up to date.  studies: of these notebooks, where they have one."""
    by_name = {study.name: study for study in studies}
    inputs = {path: inputs_of(path, profile, by_name.get(path.stem)) for path in paths}
    stale = []
    for path in paths:
        if is_drawn(path, profile, inputs[path]):
            print(f"{path.stem}: up to date", flush=True)
        else:
            stale.append(path)

    def drawn(path: Path, _) -> None:
        note_drawn(path, profile, inputs[path])
        print(f"{path.stem}: drawn to {shown(figures_folder(profile))}", flush=True)

    run_notebooks(stale, drawn, {"profile": profile_name}, Store().root / "notebooks" / profile.name)

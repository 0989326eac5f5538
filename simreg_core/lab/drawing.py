"""Computes a profile's studies and draws its notebooks; what is up to date is left alone."""

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from simreg_core.lab.claims import claims_markdown, table_of_claims
from simreg_core.lab.image_files import DataError
from simreg_core.lab.processes import Processes, way_of_death
from simreg_core.lab.running.plan import Measurement, Plan, by_network, plan
from simreg_core.lab.specs import PROFILES, PROJECT, Profile, SpecError, load_profile
from simreg_core.lab.store import Store, StoreError, write_bytes, write_text
from simreg_core.lab.studies import (
    RECORDINGS,
    STUDIES,
    Study,
    figures_folder,
    published_folder,
    recorded_blocks,
    study,
)

if TYPE_CHECKING:
    from simreg_core.lab.runner import Executor

NOTEBOOKS = PROJECT / "notebooks"
DRAWING_LIBRARIES = ("matplotlib", "seaborn", "pandas")  # a part of the style
SHARED = ("lab/plotting.py", "lab/claims.py", "lab/studies.py")  # style, kits and judge
OWN = {  # of each notebook's figure, where it is not in `lab/figures.py` only
    "00_start_here": ("lab/figures.py", "targets.py"),
    "01_pixel_vs_neural_similarity": ("lab/similarity_figure.py",),
    "07_batch_size_study": ("lab/figures.py", "lab/cost.py"),
    "13_protocol_audit": ("lab/audit_figures.py", "lab/figures.py"),
    "14_white_box": ("lab/audit_figures.py", "lab/figures.py"),
    "16_cost": ("lab/figures.py", "lab/cost.py"),
}
CELL_SECONDS = 600  # all is computed when a notebook is drawn: a cell that takes longer hangs
AT_ONCE = 3  # notebooks; each is a kernel of its own, which often waits for its start
KERNEL_ARGUMENTS = ["--Application.log_level=40"]  # no word about how this machine talks to its own kernels


class DrawingError(RuntimeError):
    """A notebook that failed; the message names it and its error."""


def notebook_paths(only: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks, in order; those named in `only`, where any is.  Raises SpecError for an unknown name."""
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    names = [path.stem for path in paths]
    for name in only:
        if name not in names:
            raise SpecError(f"unknown notebook '{name}'; allowed: {', '.join(names)}")
    return [path for path in paths if not only or path.stem in only]


def studies_of(profile: Profile, only: Sequence[str] = ()) -> list[Study]:
    """The profile's studies, in the order of their notebooks; those named in `only`, where any is.

    Raises SpecError with what is wrong in each of them.
    """
    found, problems = [], []
    for name in STUDIES:
        if not only or name in only:
            try:
                found.append(study(name, profile))
            except SpecError as error:
                problems.append(f"{name}: {error}")
    if problems:
        raise SpecError("; ".join(problems))
    return found


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
    only: names of notebooks to draw; all where empty.  without_gpu: compute a profile that needs one all the same.
    workers: how many tasks are computed at once.
    Raises what `compute` raises, SpecError for an unknown notebook or a profile that needs a GPU where there is none,
    and DrawingError for a notebook that failed.
    """
    paths, studies = notebook_paths(only), studies_of(profile, only)
    measurements = measurements_of(studies)
    store = Store() if recompute else Store(published=published_folder(profile))
    unfinished = _recomputing(profile, store, only)  # a killed RECOMPUTE=1 goes on where it was
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

    only: names of notebooks; all where empty.  without_gpu: compute a profile that needs one all the same.
    workers: how many tasks are computed at once.  executor: where; on this machine by default.
    network_by_network: measure each network in full, and publish its records, before the next is trained.
    Raises what `compute` raises, SpecError for an unknown notebook or a profile that needs a GPU where there is none.
    """
    notebook_paths(only)
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
    from simreg_core.lab import runner  # here, as below: it needs torch, and to plan and to draw needs none
    from simreg_core.lab.workers import check_workers

    runner.check_profile(profile, todo, store, without_gpu)
    costs, at_once = runner.Costs(), check_workers(workers)
    parts = by_network(todo, at_once)
    for index, part in enumerate(parts):
        hours = sum(costs.seconds(rest) for rest in parts[index:]) / 3600
        print(f"{profile.name}: part {index + 1} of {len(parts)}, {hours:.1f} core-hours left", flush=True)
        runner.compute(part, store, f"part {index + 1} of {len(parts)}", costs, workers)
        for measurement in part.measurements:
            own, published = store.record_paths(*measurement)
            write_bytes(published, own.read_bytes())


def _compute(
    profile: Profile,
    todo: Plan,
    store: Store,
    without_gpu: bool,
    workers: int | None = None,
    executor: "Executor | None" = None,
) -> None:
    from simreg_core.lab import runner

    runner.check_profile(profile, todo, store, without_gpu)
    costs = runner.Costs()
    print(runner.describe(profile.name, todo, costs), flush=True)
    runner.compute(todo, store, f"computing profile '{profile.name}'", costs, workers, executor)


def _recomputing(profile: Profile, store: Store, only: Sequence[str]) -> Path:
    """The file that says of a selection of notebooks that its RECOMPUTE=1 has begun; without numbers: of all."""
    return store.root / "-".join(["recomputing", profile.key, *sorted({name[:2] for name in only})])


def write_claims(profile: Profile) -> str:
    """Write the table of claims as claims.md and claims.json beside the figures.  Returns it as text for a terminal."""
    folder = figures_folder(profile)
    figures = {}
    for path in notebook_paths():
        made = folder / f"{path.stem}.json"
        if made.is_file():
            figures[path.stem] = json.loads(made.read_text())
    rows = table_of_claims(figures)
    others = {}
    if profile.name == "quick":  # the README's table: what is there of other profiles that ship stands beside it
        for path in sorted(folder.parent.glob("*/claims.json")):
            name = path.parent.name
            if name != profile.name and (PROFILES / f"{name}.yaml").is_file():
                others[name] = json.loads(path.read_text())
    table = claims_markdown(rows, others)
    texts = {"claims.json": json.dumps(rows, indent=1, allow_nan=False) + "\n", "claims.md": table}
    for name, text in texts.items():
        if not (folder / name).is_file() or (folder / name).read_text() != text:
            write_text(folder / name, text)
    lines = [f"claims (profile '{profile.name}'; with statistics in {_shown(folder / 'claims.md')}):"]
    for row in rows:
        interval = _interval(row) if row["n"] is not None else ""
        lines.append(f"  {row['verdict']:14} {row['claim']:82} {interval}")
    return "\n".join(lines)


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
    inputs = {path: _inputs(path, profile, by_name.get(path.stem)) for path in paths}
    stale = []
    for path in paths:
        if _is_drawn(path, profile, inputs[path]):
            print(f"{path.stem}: up to date", flush=True)
        else:
            stale.append(path)
    # one thread each: two notebooks with two threads each are many times slower
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the kernels
    waiting = deque(stale)
    # processes: two event loops in threads of one have lost a kernel's answer, and then wait for ever
    with Processes() as processes:
        while waiting or processes.running:
            while waiting and processes.running < AT_ONCE:
                path = waiting.popleft()
                processes.begin(path, _run_notebook, path, profile, profile_name)
            for path, _, kind, content in processes.events():
                if kind == "failed":
                    raise content
                if kind == "died":
                    raise DrawingError(f"notebook {path.name} failed: the process that runs it died by {content}")
                if content is not None:
                    raise DrawingError(f"notebook {path.name} failed: {content}")
                write_text(_stamp(path, profile), inputs[path] + _outputs(path, profile))
                print(f"{path.stem}: drawn to {_shown(figures_folder(profile))}", flush=True)


def _run_notebook(path: Path, profile: Profile, profile_name: str) -> str | None:
    """Execute a notebook with papermill.  Returns its error in one line, or None."""
    from papermill import execute_notebook  # here: its import takes longer than drawing nothing

    from simreg_core.lab.notebook_client import ENGINE

    output = Store().root / "notebooks" / profile.name / path.name
    output.parent.mkdir(parents=True, exist_ok=True)
    return _problem_of(
        lambda kernel: execute_notebook(
            path,
            output,
            {"profile": profile_name},
            cwd=NOTEBOOKS,
            progress_bar=False,
            execution_timeout=CELL_SECONDS,
            engine_name=ENGINE,
            **kernel,
        )
    )


def _problem_of(run: Callable[[dict], object]) -> str | None:
    """Run a notebook; its error in one line, or None.  run: called with what nbclient is to know of the kernel."""
    # here: their import takes longer than drawing nothing
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import CellExecutionError
    from papermill import PapermillExecutionError

    deaths = []

    class Manager(AsyncKernelManager):
        """Does not interrupt a kernel that it asks to end, which would say so; notes how one died."""

        async def _async_interrupt_kernel(self) -> None:
            if not self.shutting_down:
                await super()._async_interrupt_kernel()

        async def cleanup_resources(self, restart: bool = False) -> None:
            if self.has_kernel and (status := await self.provisioner.poll()) is not None:
                deaths.append(way_of_death(status))
            await super()._async_cleanup_resources(restart)

    try:
        run({"kernel_name": "python3", "extra_arguments": KERNEL_ARGUMENTS, "kernel_manager_class": Manager})
    except (PapermillExecutionError, CellExecutionError) as error:
        return " ".join(f"{error.ename}: {error.evalue}".split())
    except (RuntimeError, NoSuchKernel, OSError) as error:  # a dead kernel, none, one that takes too long
        said = f"its kernel died by {deaths[0]}" if deaths else f"{type(error).__name__}: {error}"
        return " ".join(said.split())
    return None


def _is_drawn(path: Path, profile: Profile, inputs: str) -> bool:
    stamp = _stamp(path, profile)
    return stamp.is_file() and stamp.read_text() == inputs + _outputs(path, profile)


def _stamp(path: Path, profile: Profile) -> Path:
    return Store().root / "drawn" / profile.name / f"{path.stem}.txt"


def sources_of(notebook: str) -> list[Path]:
    """The files that a notebook's figure depends on beside its records, profile and cells, by the notebook's name."""
    modules = [PROJECT / "simreg_core" / name for name in (*SHARED, *OWN.get(notebook, ("lab/figures.py",)))]
    return [*modules, *sorted((PROJECT / "figures" / "reference").glob("*.csv"))]


def _inputs(path: Path, profile: Profile, own: Study | None) -> str:
    """A digest of all that a notebook's figure depends on."""
    digest = hashlib.sha256(profile.key.encode())
    digest.update("".join(f"{name} {version(name)}" for name in DRAWING_LIBRARIES).encode())
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            digest.update("".join(cell["source"]).encode())
    for file in sources_of(path.stem):
        digest.update(file.read_bytes())
    if own is not None:
        digest.update(own.digest().encode())
    return digest.hexdigest() + "\n"


def _outputs(path: Path, profile: Profile) -> str:
    """A digest of a notebook's figure as it lies on disk: one that was changed or removed is drawn again."""
    digest = hashlib.sha256()
    for suffix in ("pdf", "png", "csv", "json"):
        figure = figures_folder(profile) / f"{path.stem}.{suffix}"
        digest.update(figure.read_bytes() if figure.is_file() else b"missing")
    return digest.hexdigest() + "\n"


def publish_recordings() -> None:
    """Compute the comparisons of real recordings from the data folder, and copy their records beside the figures.

    Raises DataError where a recording, the published predictor or its images are missing; nothing is replaced then.
    """
    from simreg_core.lab import runner

    store = Store()
    measurements = [
        (experiment, evaluation) for block in recorded_blocks() for _, experiment, evaluation in block.measurements()
    ]
    with store.computing():  # from what is deleted to what is copied, no other process writes or deletes here
        for measurement in measurements:
            store.forget(*measurement)
        runner.compute(plan(measurements, store), store, "comparing recordings")
        _copy_records(measurements, store, RECORDINGS)
    print(f"{len(measurements)} records in {_shown(RECORDINGS)}", flush=True)


def _copy_records(measurements: Iterable[Measurement], store: Store, folder: Path) -> None:
    """Replace a folder of published records by the store's."""
    new = folder.with_name("records.new")
    shutil.rmtree(new, ignore_errors=True)
    for source in (store.record_paths(*measurement)[0] for measurement in measurements):
        copy = new / source.relative_to(store.root / "records")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def publish(profile: Profile) -> None:
    """Copy the profile's records beside its figures, and write the outputs into the committed notebooks.

    The notebooks keep the outputs of their own default profile, quick; so does the table of claims in the README.
    Raises StoreError where the store lacks a record.
    """
    store = Store()
    with store.computing():
        measurements = measurements_of(studies_of(profile))
        if plan(measurements, store).measurements:
            raise StoreError(f"the store lacks records of profile '{profile.name}'; run make figures RECOMPUTE=1 first")
        _copy_records(measurements, store, published_folder(profile))
    if profile.name == "quick":
        for path in notebook_paths():
            _execute_in_place(path)
        _put_claims_into(PROJECT / "README.md", figures_folder(profile) / "claims.md")


def _put_claims_into(page: Path, claims: Path) -> None:
    """Replace what stands between the page's marks with the table of claims."""
    before, begin, rest = page.read_text().partition("<!-- claims:begin -->\n")
    _, end, after = rest.partition("<!-- claims:end -->")
    if not end:
        raise StoreError(f"{page} lacks the marks <!-- claims:begin --> and <!-- claims:end -->")
    write_text(page, before + begin + claims.read_text() + end + after)


def _execute_in_place(path: Path) -> None:
    # here alone: their import takes longer than drawing nothing
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOKS)}}
    if problem := _problem_of(lambda kernel: NotebookClient(notebook, resources=where, **kernel).execute()):
        raise DrawingError(f"notebook {path.name} failed: {problem}")
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this run
        if "summary" in cell.metadata.get("tags", []):
            made = figures_folder(load_profile("quick")) / f"{path.stem}.json"
            cell.source = _summary(json.loads(made.read_text()))
    notebook.metadata.pop("widgets", None)
    write_text(path, nbformat.writes(notebook) + "\n")
    print(f"{path.stem}: outputs written", flush=True)


def _summary(made: dict) -> str:
    """The verdicts on the main claims of a figure as text, for the top of its notebook.

    made: the JSON of the figure.
    """
    lines = [
        f"- {claim['claim']}: **{claim['verdict']}** ({claim['statistic']}: {_interval(claim)}, {claim['n']} "
        f"{claim['unit']}; asked: > {claim['threshold']:g})"
        for claim in made["claims"]
        if claim["main"]
    ]
    finer = "" if len(lines) == len(made["claims"]) else "; finer verdicts at the end"
    return f"**Verdict** ({made['profile']} profile{_protocol(made)}{finer}):\n\n" + "\n".join(lines)


def _protocol(made: dict) -> str:
    """', protocol `strict`' of a figure; nothing where none of its records has a protocol."""
    if "protocol" not in made:
        return ""
    judged = sorted({claim["protocol"] for claim in made["claims"] if claim["main"]} - {made["protocol"]})
    return f", protocol `{made['protocol']}`" + "".join(f", judged under `{one}`" for one in judged)


def _interval(claim: dict) -> str:
    """'0.1 [0.0, 0.2]'; what is not finite is said so."""
    if claim["low"] is None:
        return "not measurable"
    return f"{claim['estimate']:.3f} [{claim['low']:.3f}, {claim['high']:.3f}]"


def _shown(path: Path) -> str:
    """A path as a user would type it in the project's folder."""
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)

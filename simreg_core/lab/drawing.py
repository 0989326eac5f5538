"""Computes a profile's studies and draws its notebooks; what is up to date is left alone."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from simreg_core.lab.experiment import PROJECT, Profile, SpecError, load_profile
from simreg_core.lab.runner import Plan, compute, plan
from simreg_core.lab.store import LIBRARIES, Store, StoreError, write_text
from simreg_core.lab.studies import STUDIES, Study, describe, figures_folder, published_folder, step_costs

NOTEBOOKS = PROJECT / "notebooks"
DRAWING_LIBRARIES = (*LIBRARIES, "matplotlib", "seaborn", "pandas")
AT_ONCE = 2  # notebooks; each is a kernel of its own


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
    """The profile's studies, in the order of their notebooks; those named in `only`, where any is."""
    return [make(profile) for name, make in STUDIES.items() if not only or name in only]


def missing(profile: Profile, store: Store, only: Sequence[str] = ()) -> Plan:
    """What the figures of a profile lack, each thing once."""
    return plan([one for study in studies_of(profile, only) for one in study.measurements()], store)


def make_figures(profile: Profile, profile_name: str, recompute: bool, only: Sequence[str] = ()) -> None:
    """Compute what is missing and draw every notebook whose inputs changed.

    profile_name: what the notebooks are given, a shipped profile's name or an absolute path.
    only: names of notebooks to draw; all where empty.
    Raises what `compute` raises, SpecError for an unknown notebook, and DrawingError for one that failed.
    """
    paths = notebook_paths(only)
    store = Store() if recompute else Store(published=published_folder(profile))
    unfinished = store.root / f"recomputing-{profile.key}"  # a killed RECOMPUTE=1 goes on where it was
    if recompute and not unfinished.exists():
        _forget(profile, store, only)
        write_text(unfinished, "delete this file to start over\n")
    todo = missing(profile, store, only)
    if todo:
        print(describe(profile.name, todo), flush=True)
        compute(todo, store, f"computing profile '{profile.name}'")
    else:
        where = "this machine's store" if not _from_published(profile, store, only) else "published records"
        print(f"{profile.name}: nothing to compute; the figures are drawn from {where}", flush=True)
    step_costs(profile, store)
    unfinished.unlink(missing_ok=True)
    _draw(profile, profile_name, paths)


def _from_published(profile: Profile, store: Store, only: Sequence[str]) -> bool:
    own = Store(store.root)
    return bool(missing(profile, own, only).measurements)


def _forget(profile: Profile, store: Store, only: Sequence[str]) -> None:
    """Remove what this profile has in the store, so that it is computed again."""
    print(f"{profile.name}: computing everything again", flush=True)
    for study in studies_of(profile, only):
        for experiment, evaluation in study.measurements():
            store.forget(experiment, evaluation)
    store.forget_costs(profile)


def _draw(profile: Profile, profile_name: str, paths: list[Path]) -> None:
    stale = [path for path in paths if not _is_drawn(path, profile)]
    for path in paths:
        if path not in stale:
            print(f"{path.stem}: up to date", flush=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for path, problem in zip(
            stale, pool.map(lambda p: _run_notebook(p, profile, profile_name), stale), strict=True
        ):
            if problem is not None:
                raise DrawingError(f"notebook {path.name} failed: {problem}")
            write_text(_stamp(path, profile), _inputs(path, profile) + _outputs(path, profile))
            print(f"{path.stem}: drawn to {_shown(figures_folder(profile))}", flush=True)


def _run_notebook(path: Path, profile: Profile, profile_name: str) -> str | None:
    """Execute a notebook with papermill.  Returns its error in one line, or None."""
    output = Store().root / "notebooks" / profile.name / path.name
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(path),
        str(output),
        "-k",
        "python3",
        "-p",
        "profile",
        profile_name,
    ]
    done = subprocess.run(
        [*command, "--cwd", str(NOTEBOOKS), "--no-progress-bar"], capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return None if done.returncode == 0 else (lines[-1] if lines else f"exit status {done.returncode}")


def _is_drawn(path: Path, profile: Profile) -> bool:
    stamp = _stamp(path, profile)
    return stamp.is_file() and stamp.read_text() == _inputs(path, profile) + _outputs(path, profile)


def _stamp(path: Path, profile: Profile) -> Path:
    return Store().root / "drawn" / profile.name / f"{path.stem}.txt"


def _inputs(path: Path, profile: Profile) -> str:
    """A digest of all that a notebook's figure depends on."""
    digest = hashlib.sha256(profile.key.encode())
    digest.update("".join(f"{name} {version(name)}" for name in DRAWING_LIBRARIES).encode())
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            digest.update("".join(cell["source"]).encode())
    for file in [
        *sorted((PROJECT / "simreg_core").rglob("*.py")),
        *sorted((PROJECT / "figures/reference").glob("*.csv")),
    ]:
        digest.update(file.read_bytes())
    if path.stem in STUDIES:
        digest.update(STUDIES[path.stem](profile).digest().encode())
    return digest.hexdigest() + "\n"


def _outputs(path: Path, profile: Profile) -> str:
    """A digest of a notebook's figure as it lies on disk: one that was changed or removed is drawn again."""
    digest = hashlib.sha256()
    for suffix in ("pdf", "png", "csv", "json"):
        figure = figures_folder(profile) / f"{path.stem}.{suffix}"
        digest.update(figure.read_bytes() if figure.is_file() else b"missing")
    return digest.hexdigest() + "\n"


def publish(profile: Profile) -> None:
    """Copy the profile's records beside its figures, and write the outputs into the committed notebooks.

    The notebooks keep the outputs of their own default profile, quick.
    Raises StoreError where the store lacks a record.
    """
    store = Store()
    if missing(profile, store).measurements:
        raise StoreError(f"the store lacks records of profile '{profile.name}'; run make figures RECOMPUTE=1 first")
    target = published_folder(profile).with_name("records.new")
    shutil.rmtree(target, ignore_errors=True)
    for study in studies_of(profile):
        for experiment, evaluation in study.measurements():
            source = store.record_paths(experiment, evaluation)[0]
            copy = target / source.relative_to(store.root / "records")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    costs = store.costs_paths(profile)[0]
    if costs.is_file():
        shutil.copyfile(costs, target / costs.name)
    shutil.rmtree(published_folder(profile), ignore_errors=True)
    target.rename(published_folder(profile))
    if profile.name == "quick":
        for path in notebook_paths():
            _execute_in_place(path)


def _execute_in_place(path: Path) -> None:
    # here alone: their import takes longer than drawing nothing
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this run
        if "summary" in cell.metadata.get("tags", []):
            cell.source = _summary(path)
    notebook.metadata.pop("widgets", None)
    write_text(path, nbformat.writes(notebook) + "\n")
    print(f"{path.stem}: outputs written", flush=True)


def _summary(path: Path) -> str:
    """The verdicts of a figure as text, for the top of its notebook."""
    made = json.loads((figures_folder(load_profile("quick")) / f"{path.stem}.json").read_text())
    lines = [
        f"- {claim['claim']}: **{claim['verdict']}** ({claim['statistic']}: {claim['estimate']:.3f} "
        f"[{claim['low']:.3f}, {claim['high']:.3f}], {claim['n']} seeds)"
        for claim in made["claims"]
    ]
    return "**Verdict** (quick profile, protocol `released`):\n\n" + "\n".join(lines)


def _shown(path: Path) -> str:
    """A path as a user would type it in the project's folder."""
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)

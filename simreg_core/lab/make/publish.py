"""Publishing: records beside the figures, outputs in the committed notebooks, claims in the README."""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simreg_core.lab.figures.pixel_vs_neural import recorded_blocks
from simreg_core.lab.files import StoreError, alone_in
from simreg_core.lab.folders import figures_folder, published_folder
from simreg_core.lab.make.defences_pages import write_defences_pages
from simreg_core.lab.make.figures import measurements_of, paths_of, studies_of
from simreg_core.lab.make.gallery import write_gallery
from simreg_core.lab.make.index import write_index
from simreg_core.lab.make.notebooks import links, run_notebooks, shown, write_notebook
from simreg_core.lab.make.verdicts import put_claims_into, summary
from simreg_core.lab.running.plan import Measurement, plan
from simreg_core.lab.specs import PROJECT, Profile, load_profile
from simreg_core.lab.store import Store
from simreg_core.lab.study import RECORDINGS, Study

if TYPE_CHECKING:
    from nbformat import NotebookNode


def publish_recordings() -> None:
    """Compute the comparisons of real recordings from the data folder, and copy their records beside the figures.

    Raises DataError where a recording, the published predictor or its images are missing; nothing is replaced then.
    """
    from simreg_core.lab.running.compute import compute  # here: it needs torch

    store = Store()
    measurements = [
        (experiment, evaluation) for block in recorded_blocks() for _, experiment, evaluation in block.measurements()
    ]
    with store.computing():  # from what is deleted to what is copied, no other process writes or deletes here
        for measurement in measurements:
            store.forget(*measurement)
        compute(plan(measurements, store), store, "comparing recordings")
        _copy_records(measurements, store, RECORDINGS, studies_of(load_profile("quick")))
    print(f"{len(measurements)} records in {shown(RECORDINGS)}", flush=True)


def _copy_records(
    measurements: Iterable[Measurement],
    store: Store,
    folder: Path,
    studies: Iterable[Study],
    kept: Iterable[Measurement] = (),
) -> None:
    """Replace a folder of published records by the store's.

    studies: whose figures are drawn from them.  kept: measurements whose records stay as they are published.
    """
    new = folder.with_name("records.new")
    shutil.rmtree(new, ignore_errors=True)
    for root, group in ((store.root / "records", measurements), (folder, kept)):
        for measurement in group:
            place = store.record_paths(*measurement)[0].relative_to(store.root / "records")
            (new / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / place, new / place)
    write_index(new, studies)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def publish(profile: Profile, only: Sequence[str] = ()) -> None:
    """Copy the profile's records beside its figures, and write the outputs into the committed notebooks.

    only: names of notebooks; () for all. The records that other notebooks need stay as they are published.
    The notebooks keep the outputs of their own default profile, quick; so do the table of claims in the README and the
    pages of docs/ that are written from figures.
    Raises SpecError for an unknown notebook, and StoreError where the store lacks a record, or one that is kept is not
    published; nothing is replaced then.
    """
    paths, store, studies, folder = paths_of(profile, only), Store(), studies_of(profile), published_folder(profile)
    with store.computing():
        measurements = measurements_of(studies_of(profile, only))
        named = {(one.key, evaluation.key) for one, evaluation in measurements}
        kept = [one for one in measurements_of(studies) if (one[0].key, one[1].key) not in named]
        if plan(measurements, store).measurements:
            raise StoreError(f"the store lacks records of profile '{profile.name}'; run make figures RECOMPUTE=1 first")
        if not all(Store(published=folder).record_paths(*one)[1].is_file() for one in kept):
            raise StoreError(f"{shown(folder)} lacks records of notebooks that are not named; publish all notebooks")
        _copy_records(measurements, store, folder, studies, kept)
    if profile.name == "quick":
        figures = figures_folder(profile)
        with alone_in(figures, "draws"):
            run_notebooks(paths, lambda path, notebook: _write_outputs(path, notebook, figures))
            put_claims_into(PROJECT / "README.md", figures)
            write_gallery(profile)
            write_defences_pages()


def _write_outputs(path: Path, notebook: "NotebookNode", figures: Path) -> None:
    """Replace a committed notebook by itself with its outputs, its summary by the verdicts of its figure, its links."""
    for cell in notebook.cells:
        if "links" in cell.metadata.get("tags", []):
            cell.source = links(path)
        if "summary" in cell.metadata.get("tags", []):
            cell.source = summary(json.loads((figures / f"{path.stem}.json").read_text(encoding="utf-8")))
    notebook.metadata.pop("widgets", None)
    write_notebook(path, notebook)
    print(f"{path.stem}: outputs written", flush=True)

"""INDEX.csv of a folder of published records: what each record is, in words."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from simreg_core.lab.files import read_bytes, write_text
from simreg_core.lab.records import parse_record
from simreg_core.lab.study import Study

COLUMNS = ("experiment", "what", "seed", "measured", "attack", "protocol", "notebooks", "file")


def write_index(folder: Path, studies: Iterable[Study]) -> None:
    """Write the index of a folder of records, one line each, sorted.

    studies: whose figures are drawn from these records.  Raises StoreError for a record that is corrupt.
    """
    write_text(folder / "INDEX.csv", index(folder, studies))


def index(folder: Path, studies: Iterable[Study]) -> str:
    """The text of INDEX.csv.

    Columns: experiment, its key; what, the experiment in words; seed, of its training; measured, the evaluation in
    words; attack and protocol; notebooks, the numbers of those that use the record; file, in the folder.
    """
    used = defaultdict(set)
    for study in studies:
        for block in study.blocks:
            for _, experiment, evaluation in block.measurements():
                used[f"{experiment.key}/{evaluation.key}.json"].add(study.figure.number)
    rows = sorted(_row(path, folder, used) for path in folder.glob("*/*.json"))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(row for _, row in rows)
    return text.getvalue()


def _row(path: Path, folder: Path, used: dict[str, set[str]]) -> tuple[tuple, tuple]:
    """What rows are sorted by, and a row."""
    # here: they need torch, and to draw needs none
    from simreg_core.lab.make.words import describe
    from simreg_core.lab.measuring.registry import in_words

    record = parse_record(read_bytes(path, f"record {path}"), path)
    one, evaluation = record.experiment, record.evaluation
    what, measured, file = describe(one), in_words(evaluation), path.relative_to(folder).as_posix()
    notebooks = " ".join(sorted(used[file]))
    row = (one.key, what, one.seed, measured, evaluation.attack, evaluation.protocol, notebooks, file)
    return (what, one.seed, measured, file), row

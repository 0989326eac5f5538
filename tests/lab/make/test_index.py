"""The index of published records says what each is, and is that of the committed records."""

import csv
import shutil

import pytest

from simreg_core.lab.files import StoreError
from simreg_core.lab.make.figures import studies_of
from simreg_core.lab.make.index import COLUMNS, index
from simreg_core.lab.specs import PROJECT, load_profile

RECORDS = PROJECT / "figures" / "recordings" / "records"


@pytest.mark.parametrize("folder", ["quick", "recordings"])
def test_the_committed_index_is_that_of_the_committed_records(folder):
    records = PROJECT / "figures" / folder / "records"
    committed = (records / "INDEX.csv").read_text(encoding="utf-8")
    assert index(records, studies_of(load_profile("quick"))) == committed
    rows = list(csv.DictReader(committed.splitlines()))
    assert {row["file"] for row in rows} == {f"{path.parent.name}/{path.name}" for path in records.glob("*/*.json")}
    assert all(row["notebooks"] for row in rows)


def test_a_record_that_no_figure_uses_is_listed_and_a_corrupt_one_is_named(tmp_path):
    for path in RECORDS.glob("*/*.json"):
        (tmp_path / path.parent.name).mkdir()
        shutil.copyfile(path, tmp_path / path.parent.name / path.name)
    rows = list(csv.DictReader(index(tmp_path, ()).splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [row["notebooks"] for row in rows] == [""] * 4
    assert rows[0]["what"] == "published V1 predictor 'sensorium_sota_model.pth'"
    (tmp_path / rows[0]["file"]).write_text("{}")
    with pytest.raises(StoreError, match="corrupt"):
        index(tmp_path, ())

"""docs/all-defences.md and docs/which.md are what the figures' numbers say."""

import json
import re
import shutil

import pytest
from made_up_defences import study_of, table_of

from simreg_core.lab.defences_gains import DIGITS
from simreg_core.lab.make import publish as publishing
from simreg_core.lab.make.defences_pages import FIGURE, PAGES, QUESTIONS, QUICK, table_page, which_page


@pytest.fixture
def folder(tmp_path):
    """Quick's figures that the pages read, and notebook 24 of made-up numbers."""
    for name in {name for _, name, _ in QUESTIONS}:
        shutil.copy(QUICK / f"{name}.json", tmp_path)
    study = study_of(table_of())
    made = {"claims": [one.as_dict() for one in study.judge()], **study.figure.notes(study)}
    made["tasks"][DIGITS]["matched"] = {"blur": "σ 1 of 3 on 500 validation images"}
    (tmp_path / f"{FIGURE}.json").write_text(json.dumps(made))
    study.numbers().to_csv(tmp_path / f"{FIGURE}.csv", index=False, float_format="%.6g")
    return tmp_path


@pytest.mark.parametrize(("name", "page"), [("all-defences", table_page), ("which", which_page)])
def test_the_committed_pages_are_current(name, page):
    assert PAGES[name].read_text() == page(), "python -m simreg_core defences-pages writes it"


def test_the_table_has_the_numbers_of_the_csv(folder):
    page = table_page(folder)
    digits, photographs = page.split("## ")[1:]
    cells = [line.strip("| ").split(" | ") for line in digits.splitlines() if line.startswith("|")]
    rows = {first: rest for first, *rest in cells}
    assert list(rows)[2:5] == ["adversarial training", "TRADES", "S^Th"]  # by the strongest attack
    adversarial = dict(zip(rows["defence"], rows["adversarial training"], strict=True))
    assert adversarial["strongest attack"] == "0.82 ± 0.02"
    assert adversarial["training cost"] == "4.00"
    assert adversarial["certified"] == "–"
    polarizing = dict(zip(rows["defence"], rows["polarizing (÷ LeNet)"], strict=True))
    assert polarizing["autoattack"] == "quantized"
    assert polarizing["flags"] == "2"
    assert polarizing["certified"] == "0.10"
    assert "- blur: σ 1 of 3 on 500 validation images" in digits
    assert "- TRADES: β 3 of 3, 6, 12" in photographs
    assert "not computed" not in page


def test_a_task_whose_strengths_are_not_matched_says_so(folder):
    path = folder / "24_all_defences.json"
    made = json.loads(path.read_text())
    made["tasks"]["photographs"]["matched"] = {}
    path.write_text(json.dumps(made))
    assert "No strength is matched yet; see the clean accuracies." in table_page(folder)


def test_a_page_without_records_says_so(tmp_path):
    assert "**It is not computed yet**" in table_page(tmp_path)
    which = which_page(tmp_path)
    assert which.count("not computed yet |") == len(QUESTIONS)
    assert "Not computed yet under the same attacks: photographs" in which


def change(folder, name: str, key: str, **changes) -> None:
    path = folder / f"{name}.json"
    made = json.loads(path.read_text())
    made["claims"] = [one | changes if one["key"] == key else one for one in made["claims"]]
    path.write_text(json.dumps(made))


def test_a_claim_that_fails_by_one_part_only_names_it():
    (row,) = [line for line in which_page().splitlines() if "the dissertation's defences" in line]
    structural = json.loads((QUICK / "24_all_defences.json").read_text())["claims"]
    (least,) = [also for one in structural if one["key"] == "all-structural" for also in one["also"]]
    assert f"; digits, over partial: {least['estimate']:.3f} [" in row


def test_every_number_of_the_page_is_that_of_a_claim(folder):
    change(folder, "02_attack_curves", "gaussian", verdict="contradicted", estimate=-0.25, low=-0.5, high=-0.125)
    page = which_page(folder)
    assert "Does S^Th help under Gaussian noise? | digits | no | -0.250 [-0.500, -0.125]" in page
    assert "On digits adversarial training withstands more than S^Th | yes | 0.400 [0.400, 0.400] | 5" in page
    assert "not computed" not in page
    made = [one for path in folder.glob("*.json") for one in json.loads(path.read_text())["claims"]]
    known = {f"{one['estimate']:.3f}" for one in made if one["estimate"] is not None}
    shown = re.findall(r"\| (-?\d\.\d{3}) \[", page)
    assert len(shown) > 20
    assert set(shown) <= known


@pytest.mark.parametrize(
    ("name", "key", "verdict", "said"),
    [
        ("14_white_box", "over-adversarial", "contradicted", "adversarial training, not S^Th."),
        ("14_white_box", "over-adversarial", "direction holds", "does as well as adversarial training."),
        ("14_white_box", "over-noise", "contradicted", "train on noisy images, not with S^Th."),
        ("14_white_box", "over-noise", "direction holds", "S^Th helps more than training on noisy images."),
        ("14_white_box", "adaptive", "contradicted", "S^Th is less accurate than no defence;"),
        ("02_attack_curves", "fgsm", "direction holds", "transferred FGSM"),
    ],
)
def test_what_follows_follows_from_a_verdict(folder, name, key, verdict, said):
    def follows() -> str:
        return which_page(folder).split("## What follows")[1].split("##")[0]

    change(folder, name, key, verdict=verdict)
    assert said in follows()
    change(folder, name, key, verdict="not decided here")
    assert said not in follows()


def test_publishing_quick_writes_them():
    assert "write_defences_pages" in publishing.publish.__code__.co_names

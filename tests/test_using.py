"""The code of docs/using.md runs as it stands."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

PAGE = (Path(__file__).parents[1] / "docs" / "using.md").read_text(encoding="utf-8")
SCRIPT, FOLDER, CHOICE, READY = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def few_steps():
    """The script with fewer steps: what it defines."""
    assert "(300, 64)" in SCRIPT
    room = {}
    exec(SCRIPT.replace("(300, 64)", "(60, 64)").split("\nfor alpha")[0], room)
    return room


def test_the_script_is_short_and_prints_accuracies(capsys):
    lines = SCRIPT.splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 120
    exec(SCRIPT.replace("(300, 64)", "(60, 64)"), {})
    rows = re.findall(r"^(\S+) \((\d\.\d+), (\d\.\d+)\)$", capsys.readouterr().out, re.MULTILINE)
    assert [float(alpha) for alpha, *_ in rows] == [0, 0.03]
    for _, clean, noisy in rows:
        assert float(clean) > 0.7
        assert 0.2 < float(noisy) < float(clean)
    assert rows[0][1:] != rows[1][1:]  # the loss did something


def test_alpha_is_chosen_on_the_validation_images_of_the_script(few_steps, capsys):
    exec(CHOICE.replace("[0.01, 0.03, 0.1, 0.3]", "[0.03]"), few_steps)
    assert len(few_steps["choice"].grid) == 2
    assert capsys.readouterr().out.splitlines()[-1].startswith(("chosen: alpha = 0.03", "none accepted"))


def test_a_folder_of_class_folders_becomes_tensors(tmp_path):
    for name, level in (("dark", 10), ("light", 240)):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.new("RGB", (12, 20), (level,) * 3).save(tmp_path / name / f"{index}.png")
    room = {"torch": torch, "folder": tmp_path}
    exec(FOLDER, room)
    assert room["images"].shape == (6, 1, 8, 8)
    assert room["images"][:3].unique().tolist() == pytest.approx([10 / 255], abs=0.005)  # gray rounds
    assert room["labels"].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_trained_network_is_read():
    room = {}
    exec(READY, room)
    with torch.no_grad():
        assert room["network"](torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert not room["network"].training

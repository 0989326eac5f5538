"""The file of benchmarks: one section a device, and nothing else is lost."""

import torch

from benchmarks import report
from simreg_core.lab.devices import device_name

CPU = torch.device("cpu")
TABLE = report.Table("Title", ("a", "b"), [("1", "2")], "A note.")


def test_a_section_replaces_that_of_its_device_alone(tmp_path):
    path = tmp_path / "BENCHMARKS.md"
    report.write_section(path, CPU, [TABLE])
    own = device_name(CPU)
    other = report.replaced_section(path.read_text(), "cuda (other)", "left | alone\n")
    path.write_text(other)
    report.write_section(path, CPU, [report.Table("Newer", ("c",), [("3",)], "Another.")])
    text = path.read_text()
    assert text.startswith(report.INTRODUCTION.rstrip())
    assert text.count(f"\n## {own}\n") == text.count("\n## cuda (other)\n\nleft | alone\n") == 1
    assert "### Newer\n\n| c |\n| --- |\n| 3 |\n\nAnother." in text
    assert "Title" not in text
    report.write_section(path, CPU, [report.Table("Newer", ("c",), [("3",)], "Another.")])
    assert path.read_text() == text
    assert [one.name for one in tmp_path.iterdir()] == ["BENCHMARKS.md"]

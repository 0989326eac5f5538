"""The official corruption files are taken where they are."""

from simreg_core.lab.figures import figure
from simreg_core.lab.specs import load_profile


def test_official_corruption_files_are_taken_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMREG_DATA", str(tmp_path))

    def sources(profile):
        blocks = figure("05_common_corruptions").open(profile).blocks
        return {evaluation.source for block in blocks for evaluation in block.evaluations}

    assert sources("paper") == {"generated"}
    (tmp_path / "CIFAR-10-C").mkdir()
    assert sources("paper") == {"files"}
    assert sources("quick") == {"generated"}  # its task is not CIFAR-10
    paper = load_profile("paper")
    small = figure("05_common_corruptions").experiments(paper.changed(task=paper.task.changed(size=(28, 28))))
    assert {evaluation.source for block in small for evaluation in block.evaluations} == {"generated"}

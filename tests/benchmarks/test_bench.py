"""The benchmarks: both sides do the same work, what is counted is right; one timing, left out of `make test`."""

import sys

import pytest
import torch
from torchvision.transforms import functional as pictures

from benchmarks import bench
from benchmarks.plain_loop import PicturesOneByOne, PlainLoop
from benchmarks.report import BenchError
from simreg_core.lab.images import load_image_set
from simreg_core.lab.specs import Experiment

CPU = torch.device("cpu")


def without_augmentation(one: Experiment) -> Experiment:
    return one.changed(task={**one.task.model_dump(), "augment": "none"})


@pytest.fixture
def plain_and_ours():
    one = without_augmentation(bench.experiment(bench.QUICK, k=4))
    run, _ = bench.our_training(one, CPU)
    return PlainLoop(one, CPU, workers=0), run


def test_the_plain_step_gives_our_losses_step_after_step(plain_and_ours):
    plain, run = plain_and_ours
    train = load_image_set("photos", "train", (16, 16))
    differences, step = [], run.stepper(run.experiment.optimization.learning_rate)
    for batch, augmentation, pairs in zip(*run.draw(3), strict=True):
        rows, cols, targets = pairs
        assert torch.equal(plain.targets[rows, cols], targets)
        run.sums.clear()
        step(batch, augmentation, pairs)
        ours = torch.stack([run.sums["task"], run.sums["similarity"]])
        losses = plain.step(train.pixels[batch], train.labels[batch], rows, cols)
        torch.testing.assert_close(torch.tensor(losses), ours, atol=1e-5, rtol=1e-5)
        differences.append(ours)
    assert not torch.allclose(differences[0], differences[1])  # the updates did change the network


def test_the_plain_loop_sees_crops_and_flips_of_the_same_images():
    train = load_image_set("photos", "train", (16, 16)).first(1)
    padded = pictures.pad(train.pixels[0], 4, padding_mode="reflect")
    crops = [padded[:, top : top + 16, left : left + 16] for top in range(9) for left in range(9)]
    allowed = torch.stack([*crops, *(crop.flip(2) for crop in crops)])
    dataset = PicturesOneByOne(train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = [dataset[0] for _ in range(20)]
    for image, label in seen:
        assert label == train.labels[0]
        assert (allowed - image).abs().amax(dim=(1, 2, 3)).min() < 1e-6
    assert len({tuple(image.flatten().tolist()) for image, _ in seen}) > 5


def test_the_plain_loop_draws_every_pair_once_an_epoch():
    plain = PlainLoop(bench.experiment(bench.QUICK, k=4), CPU, workers=0)
    plain.shuffle_pairs()
    rows, cols = plain.pairs.T
    assert (rows < cols).all()
    assert len({*zip(rows.tolist(), cols.tolist(), strict=True)}) == 40 * 39 // 2
    assert not torch.equal(plain.pairs, plain.pairs.unique(dim=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"pairs": "high"}, "pairs 'all'"), ({"target": "pixel"}, "target 'threshold'"), (None, "target 'threshold'")],
)
def test_the_plain_loop_refuses_what_it_cannot_train(changes, message):
    one = bench.experiment(bench.QUICK, k=4)
    spec = None if changes is None else one.regularizer.changed(**changes)
    with pytest.raises(ValueError, match=message):
        PlainLoop(one.changed(regularizer=spec), CPU)


def test_a_ratio_is_the_median_over_rounds_not_of_the_times():
    # a machine that became ten times slower in the middle of the run
    assert bench.ratio([2, 2, 20, 20, 30], [1, 1, 10, 10, 10]) == 2


def test_contenders_take_turns():
    called = []
    seconds = bench.in_turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 2, CPU)
    assert called == ["a", "b"] * 3
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_the_memory_of_the_sampler_is_that_of_its_matrices_and_pairs():
    cost = bench.in_child("sampler_cost", 3000, [8, 8], "low")
    matrix, pairs = 4 * 3000**2, 4 * 3000 * 2999 // 2
    assert 1.9 * matrix < cost["targets_bytes"] < 3.5 * matrix  # libraries take some of their own
    assert 0.8 * pairs < cost["sampler_bytes"] < pairs + 90e6  # and the blocks that it is made from


def test_the_limit_of_memory_counts_the_targets_that_the_sampler_keeps(monkeypatch):
    seconds = {"similarity_s": 1.0, "targets_s": 1.0, "sampler_s": 1.0}
    added = {"all": 1.99e9, "low": 2.01e9}  # the targets that it keeps among them
    memory = {pairs: {"targets_bytes": 3.2e9, "sampler_bytes": own, "peak_bytes": 4e9} for pairs, own in added.items()}
    monkeypatch.setattr(bench, "in_child", lambda _name, _count, _size, pairs: {**seconds, **memory[pairs]})
    table = bench.targets_and_sampler(bench.Scale(counts=(20_000,)), CPU)
    assert [row[6] for row in table.rows] == ["1.99 GB", "2.01 GB"]
    assert "within for N = 20,000 and 'all'; ABOVE for N = 20,000 and 'low'" in table.note


def test_a_failed_child_says_why(monkeypatch, tmp_path):
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho started >&2\necho MemoryError: none left >&2\nexit 3\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    with pytest.raises(BenchError, match=r"sampler_cost failed \(status 3\): MemoryError: none left"):
        bench.in_child("sampler_cost", 50, [8, 8], "all")


def test_quick_parts_make_whole_tables():
    parts = ["plain", "regularized", "attacks"]
    tables = list(bench.bench(bench.QUICK, CPU, parts))
    assert len(tables) == len(parts)
    for table in tables:
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert "nan" not in table.markdown()
    assert [row[2] for row in tables[1].rows] == ["1.25", "1.50"]  # (16 + 2k) / 16


def test_the_command_prints_tables_with_the_device(capsys):
    bench.main(["--quick", "--only", "regularized"])
    said = capsys.readouterr().out
    assert said.startswith("## cpu (" if not torch.cuda.is_available() else "## cuda (")
    assert "(16 + 2k)/16" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "speed"], "unknown part 'speed' of --only; allowed: plain, regularized"),
        (["--quick", "--output", "x.md"], "--output takes all parts at full size"),
        (["--output", "missing/BENCHMARKS.md"], "a file in an existing folder, got missing/BENCHMARKS.md"),
        (["--output", "."], "a file in an existing folder"),
        (["--output", "README.md"], "README.md is no file of benchmarks"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_measured(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# simreg\n")
    with pytest.raises(SystemExit) as stop:
        bench.main(arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert (tmp_path / "README.md").read_text() == "# simreg\n"


@pytest.mark.timing  # a shared machine may be busy
def test_our_step_is_not_slower_than_the_plain_one():
    scale = bench.Scale(width=4, size=(16, 16), N=200)
    one = bench.experiment(scale, scale.k)
    _, ours = bench.our_training(one, CPU)
    plain = PlainLoop(one, CPU, workers=0)
    seconds = bench.in_turns({"ours": lambda: ours(2), "plain": lambda: plain.run(2)}, 7, CPU)
    assert bench.ratio(seconds["plain"], seconds["ours"]) > 0.9

"""How fast this is on the machine it runs on: ratios measured side by side, `python -m benchmarks.bench`.

What is compared runs in turns, one thread a process, and a ratio is the median over rounds: a machine's speed drifts.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor, nn

from benchmarks.plain_loop import WORKERS, PlainLoop
from benchmarks.report import BenchError, Table, check_output, shown_time, write_section
from simreg_core import PairSampler, attacks, pixel_similarity, threshold_targets
from simreg_core.lab.devices import default_device, device_name
from simreg_core.lab.images import load_image_set
from simreg_core.lab.specs import Experiment, build
from simreg_core.lab.steps import timed
from simreg_core.lab.store import Store
from simreg_core.lab.training import Run, repeatable, settings_of, steps_per_epoch
from simreg_core.names import by

THRESHOLD = 0.8
MEMORY_LIMIT = 2e9  # bytes that a sampler may take, the targets that it keeps among them


@dataclass(frozen=True)
class Scale:
    """How much is measured.  size: height and width.  N: regularization images.  steps: in a block.  rounds: blocks."""

    network: str = "resnet18"
    width: int = 16
    size: tuple[int, int] = (32, 32)
    batch: int = 64
    k: int = 16
    ks: tuple[int, ...] = (4, 8, 16, 32)
    N: int = 4000  # all that 'photos' has
    steps: int = 4
    rounds: int = 5
    attacked: int = 64
    boundary_images: int = 8
    boundary_steps: int = 50
    counts: tuple[int, ...] = (5_000, 20_000)
    precision: str | None = None  # of our passes


CPU = Scale()
GPU = Scale(precision="bfloat16", width=64, steps=60, attacked=512, boundary_images=16)
QUICK = Scale(
    network="resnet10", width=2, size=(16, 16), batch=16, k=4, ks=(2, 4), N=40, steps=2, rounds=1, attacked=4,
    boundary_images=2, boundary_steps=2, counts=(50,),
)  # fmt: skip


def bench(scale: Scale, device: torch.device, only: Sequence[str] = ()) -> Iterator[Table]:
    """The tables, each as soon as it is measured.  only: names of `PARTS`; without any, all.

    Raises BenchError for an unknown name, before anything is measured.
    """
    for name in only:
        if name not in PARTS:
            raise BenchError(f"unknown part '{name}' of --only; allowed: {', '.join(PARTS)}")
    return (PARTS[name](scale, device) for name in PARTS if not only or name in only)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes with one thread on the CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Measuring

Name = TypeVar("Name", str, int)


def in_turns(
    contenders: Mapping[Name, Callable[..., object]], rounds: int, device: torch.device
) -> dict[Name, list[float]]:
    """Seconds of each contender in each round, after one call that is not counted."""
    for contender in contenders.values():
        contender()  # the first call allocates
    seconds: dict[Name, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(timed(contender, device))
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over rounds of one time over the other."""
    return median(a / b for a, b in zip(above, below, strict=True))


def experiment(scale: Scale, k: int, count: int | None = None) -> Experiment:
    """The training that is timed: patches of photographs; k: pairs a step, 0 for no regularizer."""
    spec = {"images": "photos", "count": count or scale.N, "threshold": THRESHOLD, "pairs_per_step": k, "alpha": 0.1}
    values = {
        "task": {"images": "photos", "size": scale.size, "validation_images": scale.batch, "augment": "crop-flip"},
        "network": {"name": scale.network, "width": scale.width},
        "regularizer": spec if k else None,
        "optimization": {"batch_size": scale.batch, "learning_rate": 0.01, "precision": scale.precision},
    }
    return build(Experiment, values)


def our_training(one: Experiment, device: torch.device) -> tuple[Run, Callable[[int], None]]:
    """A training under way by the real trainer, and what runs its next steps."""
    with settings_of(one):
        run = Run(one, Store(), device)
    run.network.train()
    step = run.stepper(one.optimization.learning_rate)

    def steps(count: int) -> None:
        with settings_of(one):
            for drawn in zip(*run.draw(count), strict=True):
                step(*drawn)

    return run, steps


@contextmanager
def _convolutions_in_tf32(allowed: bool) -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=allowed):
        yield


def _plain_steps(plain: PlainLoop, steps: int, tf32: bool) -> None:
    with _convolutions_in_tf32(tf32):
        plain.run(steps)


# Parts


def against_plain(scale: Scale, device: torch.device) -> Table:
    """Our training step against the plain loop's."""
    one = experiment(scale, scale.k)
    run, ours = our_training(one, device)
    steps = steps_per_epoch(len(run.images), scale.batch)
    plain = PlainLoop(one, device)
    contenders = {"ours": lambda: ours(scale.steps), "plain": lambda: _plain_steps(plain, scale.steps, False)}
    if device.type == "cuda":
        contenders["plain, TF32 convolutions"] = lambda: _plain_steps(plain, scale.steps, True)
    try:
        seconds = in_turns(contenders, scale.rounds, device)
        shuffle = median(timed(plain.shuffle_pairs, device) for _ in range(scale.rounds))
    finally:
        plain.close()
    rows = [
        (name, shown_time(median(times) / scale.steps), f"{ratio(times, seconds['ours']):.2f}")
        for name, times in seconds.items()
    ]
    shuffled = [time / scale.steps + shuffle / steps for time in seconds["plain"]]
    own = [time / scale.steps for time in seconds["ours"]]
    rows.append(("plain, its epoch's shuffle included", shown_time(median(shuffled)), f"{ratio(shuffled, own):.2f}"))
    return Table(
        f"Step: {scale.network} width {scale.width}, {by(scale.size)} gray, batch {scale.batch}, k = {scale.k}",
        ("loop", "step", "times ours"),
        rows,
        f"Plain: float32, eager, contiguous, {WORKERS} workers that decode and augment image by image, pairs listed "
        f"and picked on the host, `loss.item()` each step. At the start of each epoch, of {steps} steps here, it "
        f"shuffles {len(plain.pairs):,} pairs of N = {scale.N} images, which took {shuffle * 1e3:.0f} ms. "
        "Ours without the allocator settings with which workers on a CPU are started.",
    )


def regularized(scale: Scale, device: torch.device) -> Table:
    """A regularized step over an unregularized one, against (batch + 2k) / batch."""
    seconds = _seconds_by_k(scale, device)
    bare = seconds[0]
    predicted = {k: (scale.batch + 2 * k) / scale.batch for k in scale.ks}
    measured = {k: ratio(seconds[k], bare) for k in scale.ks}
    slope, share = _line({0: 1.0, **measured})
    rows = [(str(k), f"{measured[k]:.2f}", f"{predicted[k]:.2f}", shown_time(median(seconds[k]))) for k in scale.ks]
    return Table(
        "Regularized over unregularized step",
        ("k", "ratio", f"({scale.batch} + 2k)/{scale.batch}", "step"),
        rows,
        f"Unregularized: {shown_time(median(bare))} a step. The line ratio = a + b k through all, k = 0 included, "
        f"has b = {slope:.4f} (predicted {2 / scale.batch:.4f}) and R² = {share:.3f}; 1 would be exactly linear in k.",
    )


def _seconds_by_k(scale: Scale, device: torch.device) -> dict[int, list[float]]:
    """Seconds of a step with k pairs (0: unregularized), round by round."""
    trainings = {k: our_training(experiment(scale, k, min(scale.N, 500)), device)[1] for k in (0, *scale.ks)}
    blocks = {k: (lambda steps=steps: steps(scale.steps)) for k, steps in trainings.items()}
    return {k: [t / scale.steps for t in times] for k, times in in_turns(blocks, scale.rounds, device).items()}


def _line(points: dict[int, float]) -> tuple[float, float]:
    """Slope and R² of the least-squares line."""
    x, y = (torch.tensor(list(values), dtype=torch.float64) for values in (points.keys(), points.values()))
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / (x @ x)), float((x @ y) ** 2 / (x @ x) / (y @ y))


def batched_attacks(scale: Scale, device: torch.device) -> Table:
    """Attacks on a batch against one image at a time."""
    run, steps = our_training(experiment(scale, 0), device)
    steps(2 * scale.steps)  # batch norm has seen images
    rows, rounds = [], min(scale.rounds, 3)
    found: dict[int, int] = {}
    for name, (attack, count) in _attacks(scale, device, run.network.eval(), found).items():
        contenders = {"batch": partial(attack, count), "one": partial(attack, 1)}
        with repeatable():
            seconds = in_turns(contenders, rounds, device)
        share = ratio(seconds["one"], seconds["batch"])
        rows.append((name, str(count), shown_time(median(seconds["batch"]) / count), f"{share:.1f}"))
    return Table(
        "Attacks on a batch against one image at a time",
        ("attack", "images", "an image, in the batch", "times faster"),
        rows,
        f"The boundary attack found a start for {found[scale.boundary_images]} of {scale.boundary_images} images in "
        f"the batch and for {found[1]} one at a time; it is not run on the others.",
    )


def _attacks(
    scale: Scale, device: torch.device, network: nn.Module, found: dict[int, int]
) -> dict[str, tuple[Callable[[int], None], int]]:
    """Attacks by name: a function of the batch size, and the number of images that it attacks.

    found: gets the number of images that the boundary attack could start from, by batch size.
    """
    test = load_image_set("photos", "test", scale.size).first(scale.attacked)
    images, labels = test.pixels.to(device), test.labels.to(device)
    few = test.first(scale.boundary_images).pixels.to(device)

    def boundary(batch: int) -> None:
        result = attacks.boundary_attack(
            network, few, steps=scale.boundary_steps, protocol="released", seed=0, directions=10, batch_size=batch
        )
        found[batch] = int((~result.failed).sum())

    def fgsm(batch: int) -> None:
        direction = attacks.fgsm_direction(network, images, labels, batch_size=batch)
        _predictions(network, attacks.transferred_fgsm(images, direction, 0.1, protocol="strict").adversarial, batch)

    def noise(batch: int) -> None:
        generator = torch.Generator(device).manual_seed(0)
        for part in images.split(batch):
            noisy = attacks.gaussian_noise(part, 0.1, protocol="strict", generator=generator)
            _predictions(network, noisy.adversarial, batch)

    return {
        f"boundary, {scale.boundary_steps} steps": (boundary, len(few)),
        "FGSM": (fgsm, len(images)),
        "Gaussian noise": (noise, len(images)),
    }


@torch.no_grad()
def _predictions(network: nn.Module, images: Tensor, batch: int) -> Tensor:
    return torch.cat([network(part).argmax(dim=1) for part in images.split(batch)])


def targets_and_sampler(scale: Scale, device: torch.device) -> Table:
    """Time and memory of similarity, targets and sampler, each N and range in a process of its own, on the CPU."""
    rows, verdicts = [], []
    for count in scale.counts:
        for pairs in ("all", "low"):
            cost = in_child("sampler_cost", count, scale.size, pairs)
            times = [f"{cost[name]:.2f} s" for name in ("similarity_s", "targets_s", "sampler_s")]
            memory = (cost["targets_bytes"], cost["sampler_bytes"], cost["peak_bytes"])
            rows.append((f"{count:,}", pairs, *times, *(f"{size / 1e9:.2f} GB" for size in memory)))
            within = "within" if cost["sampler_bytes"] <= MEMORY_LIMIT else "ABOVE"
            verdicts.append(f"{within} for N = {count:,} and '{pairs}'")
    return Table(
        "Targets and pair sampler",
        ("N", "pairs", "similarity", "targets", "sampler", "both matrices", "sampler adds", "in all"),
        rows,
        "On the CPU. Memory: growth of the process's peak resident memory (10⁹ bytes). Both matrices: similarity and "
        "targets from images, float32, with what making them takes. Sampler adds: its construction from them and a "
        "thousand draws of 16 pairs; 'low' keeps nearly all pairs in a list of its own, 4 bytes each; it also "
        "keeps the targets, one byte each where they are -1, 0 and +1. In all: from images to draws, both float32 "
        f"matrices held. Limit for what the sampler takes, {MEMORY_LIMIT / 1e9:.0f} GB: {'; '.join(verdicts)}.",
    )


def sampler_cost(count: int, size: Sequence[int], pairs: str) -> dict[str, float]:
    """Seconds and growth of peak memory (bytes), for random images; run in a process of its own."""
    images = torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    pixel_similarity(images[:2])  # libraries that a first call loads are not counted
    peaks, times = [peak_memory()], [time.perf_counter()]

    def mark() -> None:
        peaks.append(peak_memory())
        times.append(time.perf_counter())

    similarity = pixel_similarity(images)
    mark()
    targets = threshold_targets(similarity, THRESHOLD)
    mark()
    sampler = PairSampler(similarity, targets, pairs, THRESHOLD)
    for _ in range(1000):
        sampler.draw(16, generator)
    mark()
    seconds = [after - before for before, after in pairwise(times)]
    return {
        **dict(zip(("similarity_s", "targets_s", "sampler_s"), seconds, strict=True)),
        "targets_bytes": peaks[2] - peaks[0],
        "sampler_bytes": peaks[3] - peaks[2],
        "peak_bytes": peaks[3] - peaks[0],
    }


def peak_memory() -> int:
    """Largest resident memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # a child's ru_maxrss starts at its parent's on Linux, this does not
        lines = status.read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if "VmHWM" in line) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_child(function: str, *arguments):
    """The result of a function of this module in a fresh single-thread process on the CPU.

    Raises BenchError where the process fails.
    """
    code = "import json, sys; from benchmarks import bench; call = json.loads(sys.argv[1]);"
    code += "print(json.dumps(getattr(bench, call[0])(*call[1:])))"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([function, *arguments])],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["killed, or out of memory"])[-1]
        raise BenchError(f"the process that measures {function} failed (status {done.returncode}): {reason}")
    return json.loads(done.stdout.splitlines()[-1])


PARTS: dict[str, Callable[[Scale, torch.device], Table]] = {
    "plain": against_plain,
    "regularized": regularized,
    "attacks": batched_attacks,
    "targets": targets_and_sampler,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; `--output` also replaces this device's section of a file.  A known error is one line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help=f"one of {', '.join(PARTS)}; may be repeated")
    parser.add_argument("--output", type=Path, help="file whose section of this device is replaced")
    parser.add_argument("--quick", action="store_true", help="so small that the numbers mean nothing: to try it")
    asked = parser.parse_args(arguments)
    try:
        _measure(asked.only, asked.output, asked.quick)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _measure(only: Sequence[str], output: Path | None, quick: bool) -> None:
    if output is not None:
        if only or quick:
            raise BenchError("--output takes all parts at full size: leave out --only and --quick")
        check_output(output)
    device = default_device()
    scale = QUICK if quick else GPU if device.type == "cuda" else CPU
    parts = bench(scale, device, only)
    print(f"## {device_name(device)}\n", flush=True)
    tables = []
    with one_thread():
        for table in parts:
            print(table.markdown(), flush=True)
            tables.append(table)
    if output is not None:
        write_section(output, device, tables)


if __name__ == "__main__":
    main()

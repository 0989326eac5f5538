"""How fast this is on the machine it runs on: ratios measured side by side, `python -m simreg_core bench`.

What is compared runs in turns, one thread a process, and a ratio is the median over rounds: a machine's speed drifts.
"""

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from simreg_core import PairSampler, attacks, pixel_similarity, threshold_targets
from simreg_core.lab.devices import device_name
from simreg_core.lab.files import write_text
from simreg_core.lab.images import load_image_set
from simreg_core.lab.plain_loop import WORKERS, PlainLoop
from simreg_core.lab.running.workers import ALLOCATOR
from simreg_core.lab.specs import Experiment, build
from simreg_core.lab.steps import seconds_per_step, timed
from simreg_core.lab.store import Store
from simreg_core.lab.training import Run, repeatable, settings_of, steps_per_epoch

THRESHOLD = 0.8
MEMORY_LIMIT = 2e9  # bytes that a sampler may take, the targets that it keeps among them
ADDED = "k, what regularizing adds to a step"
TITLE = "# Benchmarks"
INTRODUCTION = f"""{TITLE}

The last `python -m simreg_core bench --output BENCHMARKS.md` on each device. Ratios are the result: both sides were
measured in turns in one run, and each is the median over rounds. Absolute times hold for the device named, no other.
"""


class BenchError(ValueError):
    """A benchmark that cannot be run or written as asked; the message says which."""


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
    matrix: int = 1024  # side, of the matrix-multiply ceiling
    attacked: int = 64
    boundary_images: int = 8
    boundary_steps: int = 50
    counts: tuple[int, ...] = (5_000, 20_000)
    fit_counts: tuple[int, ...] = (1_000, 2_000, 4_000, 8_000)
    multiples: tuple[int, ...] = (1, 2, 4)  # of epochs and seeds
    child_steps: int = 30
    precision: str | None = None  # of our passes


CPU = Scale()
GPU = Scale(precision="bfloat16", width=64, steps=60, matrix=8192, attacked=512, boundary_images=16)
QUICK = Scale(
    network="resnet10", width=2, size=(16, 16), batch=16, k=4, ks=(2, 4), N=40, steps=2, rounds=1, matrix=64,
    attacked=4, boundary_images=2, boundary_steps=2, counts=(50,), fit_counts=(40, 80), multiples=(1, 2), child_steps=2,
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """What was measured.  note: what is counted."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return f"### {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{self.note}\n"


def bench(scale: Scale, device: torch.device, only: Sequence[str] = ()) -> Iterator[Table]:
    """The tables, each as soon as it is measured.  only: names of `PARTS`, all where empty.

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


def in_turns(contenders: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each contender in each round, after one call that is not counted."""
    for contender in contenders.values():
        contender()  # the first call allocates
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(timed(contender, device))
    return seconds


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over rounds of one time over the other."""
    return median(a / b for a, b in zip(above, below, strict=True))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """p of cost ~ size^p: the least-squares slope of log cost against log size.

    Raises ValueError for fewer than two sizes or a size or cost that is not positive.
    """
    if len(sizes) < 2 or min(*sizes, *costs) <= 0:
        raise ValueError(f"an exponent needs two or more positive sizes and costs, got {[*sizes]} and {[*costs]}")
    x, y = ([math.log(value) for value in values] for values in (sizes, costs))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


@torch.no_grad()
def multiply_adds(network: nn.Module, image: Tensor) -> int:
    """Multiply-adds of the convolutions and linear layers in a forward pass of image [1, c, h, w]."""
    counted = []

    def count(layer: nn.Conv2d | nn.Linear, _inputs, output: Tensor) -> None:
        counted.append(output.numel() * layer.weight[0].numel())  # each output is one product with a row of weights

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counted)


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
        (name, _ms(median(times) / scale.steps), f"{ratio(times, seconds['ours']):.2f}")
        for name, times in seconds.items()
    ]
    shuffled = [time / scale.steps + shuffle / steps for time in seconds["plain"]]
    own = [time / scale.steps for time in seconds["ours"]]
    rows.append(("plain, its epoch's shuffle included", _ms(median(shuffled)), f"{ratio(shuffled, own):.2f}"))
    return Table(
        f"Training step: {scale.network} width {scale.width}, {_sides(scale)} gray, batch {scale.batch}, k = {scale.k}",
        ("loop", "step", "times ours"),
        rows,
        f"Plain: float32, eager, contiguous, {WORKERS} workers that decode and augment image by image, pairs listed "
        f"and picked on the host, `loss.item()` each step. At the start of each epoch, of {steps} steps here, it "
        f"shuffles {len(plain.pairs):,} pairs of N = {scale.N} images, which took {shuffle * 1e3:.0f} ms. "
        "Ours without the allocator settings of the last table, with which workers on a CPU are started.",
    )


def regularized(scale: Scale, device: torch.device) -> Table:
    """A regularized step over an unregularized one, against (batch + 2k) / batch."""
    seconds = _seconds_by_k(scale, device)
    bare = seconds[0]
    predicted = {k: (scale.batch + 2 * k) / scale.batch for k in scale.ks}
    measured = {k: ratio(seconds[k], bare) for k in scale.ks}
    slope, share = _line({0: 1.0, **measured})
    rows = [(str(k), f"{measured[k]:.2f}", f"{predicted[k]:.2f}", _ms(median(seconds[k]))) for k in scale.ks]
    return Table(
        "Regularized over unregularized step",
        ("k", "ratio", f"({scale.batch} + 2k)/{scale.batch}", "step"),
        rows,
        f"Unregularized: {_ms(median(bare))} a step. The line ratio = a + b k through all of them, k = 0 included, has "
        f"b = {slope:.4f} (predicted {2 / scale.batch:.4f}) and R² = {share:.3f}; 1 would be exactly linear in k.",
    )


@lru_cache(maxsize=1)  # two tables are made from them
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


def ceiling(scale: Scale, device: torch.device) -> Table:
    """Share of the measured matrix-multiply ceiling that our step reaches."""
    one = experiment(scale, scale.k)
    run, ours = our_training(one, device)
    factor = torch.rand(scale.matrix, scale.matrix, device=device)
    factor = factor.to(torch.bfloat16) if scale.precision == "bfloat16" else factor
    repeats = 20 if device.type == "cuda" else 3
    contenders = {
        "step": lambda: ours(scale.steps),
        "matmul": lambda: [factor @ factor for _ in range(repeats)],
    }
    seconds = in_turns(contenders, scale.rounds, device)
    image = torch.zeros(1, 1, *scale.size, device=device)
    run.network.eval()  # counting must not move the batch-norm statistics
    forward = multiply_adds(run.network, image)
    work = 3 * forward * (scale.batch + 2 * scale.k)
    rates = {
        "step": [work * scale.steps / t for t in seconds["step"]],
        "matmul": [scale.matrix**3 * repeats / t for t in seconds["matmul"]],
    }
    rows = [
        ("training step", f"{median(rates['step']) / 1e9:.1f}", f"{100 * ratio(rates['step'], rates['matmul']):.0f} %"),
        (f"{scale.matrix} x {scale.matrix} matrix product", f"{median(rates['matmul']) / 1e9:.1f}", "100 %"),
    ]
    return Table(
        "Share of the matrix-multiply ceiling",
        ("", "10⁹ multiply-adds a second", "share"),
        rows,
        f"Ceiling: torch's product of square matrices, {str(factor.dtype).removeprefix('torch.')}, on the same "
        f"{'device' if device.type == 'cuda' else 'single thread'}. Step: convolutions and the linear layer alone, "
        f"{forward / 1e6:.1f}·10⁶ for an image forward, three times that with backward, {scale.batch} + 2·{scale.k} "
        "images.",
    )


def batched_attacks(scale: Scale, device: torch.device) -> Table:
    """Attacks on a batch against one image at a time."""
    run, steps = our_training(experiment(scale, 0), device)
    steps(2 * scale.steps)  # batch norm has seen images
    network = run.network.eval()
    test = load_image_set("photos", "test", scale.size).first(scale.attacked)
    images, labels = test.pixels.to(device), test.labels.to(device)
    few = test.first(scale.boundary_images).pixels.to(device)
    found: dict[int, int] = {}

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

    rows = []
    rounds = min(scale.rounds, 3)
    for name, attack, count in (
        (f"boundary, {scale.boundary_steps} steps", boundary, len(few)),
        ("FGSM", fgsm, len(images)),
        ("Gaussian noise", noise, len(images)),
    ):
        contenders = {"batch": lambda a=attack, n=count: a(n), "one": lambda a=attack: a(1)}
        with repeatable():
            seconds = in_turns(contenders, rounds, device)
        share = ratio(seconds["one"], seconds["batch"])
        rows.append((name, str(count), _ms(median(seconds["batch"]) / count), f"{share:.1f}"))
    return Table(
        "Attacks on a batch against one image at a time",
        ("attack", "images", "an image, in the batch", "times faster"),
        rows,
        f"The boundary attack found a start for {found[len(few)]} of {len(few)} images in the batch and for {found[1]} "
        "one at a time; it is not run on the others.",
    )


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
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def growth(scale: Scale, device: torch.device) -> Table:
    """Exponents of cost against epochs, seeds, k and N."""
    images = torch.rand(max(scale.fit_counts), 1, *scale.size, generator=torch.Generator().manual_seed(0)).to(device)
    # a quarter of the width: the exponents are the same, and sooner had
    narrow = replace(scale, width=max(2, scale.width // 4))
    small = experiment(narrow, scale.k, min(scale.N, 500))
    _, steps = our_training(small, device)
    epoch = scale.steps

    def seeds(count: int) -> None:
        for seed in range(count):
            our_training(small.changed(seed=seed), device)[1](epoch)

    def epochs(count: int) -> None:
        for _ in range(count):
            steps(epoch)

    rounds = min(scale.rounds, 3)
    points = {
        "epochs": _points(epochs, scale.multiples, rounds, device),
        "seeds": _points(seeds, scale.multiples, 1, device),
        "N, pixel similarity": _points(lambda n: pixel_similarity(images[:n]), scale.fit_counts, rounds, device),
    }
    by_k = _seconds_by_k(scale, device)
    added = {k: median(a - b for a, b in zip(by_k[k], by_k[0], strict=True)) for k in scale.ks}
    if min(added.values()) > 0:  # of a tiny network noise may be larger
        points[ADDED] = added
    expected = {"N, pixel similarity": "2 at most", ADDED: "1 at most"}
    rows = [
        (name, f"{exponent([*sizes], [*sizes.values()]):.2f}", expected.get(name, "1"), _listed(sizes))
        for name, sizes in points.items()
    ]
    return Table(
        "Growth of cost",
        ("with", "exponent", "expected", "measured"),
        rows,
        f"Slopes of log seconds against log size. An epoch of {epoch} steps at width {narrow.width}; a seed with its "
        "set-up and one such epoch. Passing a pair batch costs something however few its pairs, so the exponent of k "
        "may lie below 1.",
    )


def _points(work: Callable[[int], object], sizes: Sequence[int], rounds: int, device: torch.device) -> dict[int, float]:
    contenders = {size: (lambda size=size: work(size)) for size in sizes}
    return {size: median(times) for size, times in in_turns(contenders, rounds, device).items()}


def _listed(points: dict[int, float]) -> str:
    return ", ".join(f"{size:,}: {_ms(seconds)}" for size, seconds in points.items())


def allocator(scale: Scale, device: torch.device) -> Table:
    """Images a second of one CPU thread with and without the allocator settings, in processes of their own."""
    settings = {"with": ALLOCATOR, "without": {"OMP_NUM_THREADS": "1"}}
    rates: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(1 if scale.child_steps < 10 else 2):
        for name, environment in settings.items():
            arguments = (scale.network, scale.width, scale.size, scale.batch, scale.k, scale.child_steps)
            rates[name].append(in_child("images_per_second", *arguments, environment=environment))
    gain = ratio(rates["with"], rates["without"])
    rows = [
        (name, f"{median(rates[name]):.0f}", relative) for name, relative in (("with", f"{gain:.2f}"), ("without", "1"))
    ]
    names = ", ".join(f"`{name}`" for name in ALLOCATOR if name.startswith("MALLOC"))
    return Table(
        "Allocator settings, one CPU thread",
        (names, "images a second", "relative"),
        rows,
        "Training images of a regularized step, in child processes; workers on a CPU are started with these settings.",
    )


def images_per_second(network: str, width: int, size: Sequence[int], batch: int, k: int, steps: int) -> float:
    """Training images a second of a regularized step on random pixels, on the CPU; run in a process of its own."""
    scale = Scale(network=network, width=width, size=tuple(size), batch=batch, k=k, N=64)
    return batch / seconds_per_step(experiment(scale, k), steps)


def in_child(function: str, *arguments, environment: dict[str, str] | None = None):
    """What a function of this room gives in a fresh single-thread process on the CPU, without allocator settings.

    environment: variables set for it.  Raises BenchError where the process fails.
    """
    code = "import json, sys; from simreg_core.lab import bench; call = json.loads(sys.argv[1]);"
    code += "print(json.dumps(getattr(bench, call[0])(*call[1:])))"
    kept = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([function, *arguments])],
        env={**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["killed, or out of memory"])[-1]
        raise BenchError(f"the process that measures {function} failed (status {done.returncode}): {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _sides(scale: Scale) -> str:
    return "x".join(map(str, scale.size))


PARTS: dict[str, Callable[[Scale, torch.device], Table]] = {
    "plain": against_plain,
    "regularized": regularized,
    "ceiling": ceiling,
    "attacks": batched_attacks,
    "targets": targets_and_sampler,
    "growth": growth,
    "allocator": allocator,
}


# The file


def check_output(path: Path) -> None:
    """Raise BenchError where `write_section` could not write."""
    if path.is_dir() or not path.parent.is_dir():
        raise BenchError(f"--output must be a file in an existing folder, got {path}")
    if path.exists() and not path.read_text().startswith(f"{TITLE}\n"):
        raise BenchError(f"--output {path} is no file of benchmarks: its first line is not '{TITLE}'")


def write_section(path: Path, device: torch.device, tables: Sequence[Table]) -> None:
    """Write the section of a device, in place of its last one; the file is written whole or not at all.

    Raises BenchError for a path that is no file of benchmarks, StoreError where writing fails.
    """
    check_output(path)
    text = path.read_text() if path.exists() else INTRODUCTION
    body = f"Measured {date.today().isoformat()}, torch {torch.__version__}.\n\n"
    body += "\n".join(table.markdown() for table in tables)
    write_text(path, replaced_section(text, device_name(device), body))


def replaced_section(text: str, name: str, body: str) -> str:
    """Markdown with the section '## name' replaced by body, or added at the end."""
    head, *sections = text.split("\n## ")
    bodies = dict(section.partition("\n")[::2] for section in sections)
    bodies[name] = f"\n{body}"
    return "\n## ".join([head.rstrip() + "\n", *(f"{one}\n{its.rstrip()}\n" for one, its in bodies.items())])

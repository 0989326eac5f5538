"""A GPU for some minutes: `make gpu-day MINUTES=9`, called again and again, does what is next and stops in time.

In order: benchmarks (once a device), each path of the code at small size (once a device and commit), then what is
missing of the profiles. At the end it says the hours left. Each step is a process of the Python that runs this, which
needs torch and the other packages of the extra 'lab' but Jupyter's, in whatever versions, and no network.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

PROJECT = Path(__file__).parents[1]
# what computing imports, at once or with the first attack or image set that needs it
PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib", "PIL", "pydantic", "safetensors", "typer"),
    *("yaml", "tqdm", "sklearn", "skimage", "mlxtend", "foolbox", "eagerpy", "pyautoattack"),
)
SECONDS_TO_STOP = 15.0  # that a process has between Ctrl-C and its end
SHARE = 0.5  # of the time, at most, for benchmarks, and for the check: the profiles shall get some of it
AT_THE_END = 60.0  # seconds for saying what is left
RUNNING_OUT = -1  # in place of an exit status


def day(minutes: float, computed: Sequence[str], quick: bool, without_gpu: bool) -> int:
    """Do what is next for so many minutes.  computed: 'PROFILE: NOTEBOOK NOTEBOOK ...', in order.

    quick: benchmarks so small that their numbers mean nothing, to try it.  Returns the number of steps that failed.
    """
    started, failed = monotonic(), 0
    end = started + max(60 * minutes - SECONDS_TO_STOP - min(AT_THE_END, 15 * minutes), 1.0)
    for name, command, whole in _steps(computed, quick, without_gpu):
        left = end - monotonic()
        if left <= 0:
            break
        said(f"{name}, for {left if whole else min(left, SHARE * 60 * minutes):.0f} s at most")
        began = monotonic()
        status = run(command, left if whole else min(left, SHARE * 60 * minutes))
        took = f"after {monotonic() - began:.0f} s"
        ended = {0: "done", RUNNING_OUT: "time is up, it goes on the next time"}
        said(f"{name}: {ended.get(status, f'FAILED with status {status}')} {took}")
        failed += status not in ended
    profiles = list(dict.fromkeys(one.partition(":")[0] for one in computed))
    for number, profile in enumerate(profiles):
        left = started + 60 * minutes - monotonic()
        said(f"{profile}: {hours_left(profile, without_gpu, max(left / (len(profiles) - number), 5.0))}")
    return failed


def _steps(computed: Sequence[str], quick: bool, without_gpu: bool) -> Iterator[tuple[str, list[str], bool]]:
    """Name, command, and whether it may take all the time there is."""
    bench = ["-m", "benchmarks.bench"]
    if quick:
        yield "bench", [*bench, "--quick", "--only", "regularized"], False
    elif f"## {_device()}\n" not in (PROJECT / "BENCHMARKS.md").read_text(encoding="utf-8"):
        yield "bench", [*bench, "--output", "BENCHMARKS.md"], False
    yield "check of every path", ["-m", "benchmarks.gpu_check"], False
    for one in computed:
        profile, _, names = one.partition(":")
        only = [word for name in names.split() for word in ("--only", name)]
        without = ["--without-gpu"] if without_gpu else []
        yield one, ["-m", "simreg_core", "run", "--profile", profile, "--by-network", *only, *without], True


def run(command: Sequence[str], seconds: float) -> int:
    """Exit status of this Python with arguments, stopped as by Ctrl-C where it takes longer: `RUNNING_OUT`."""
    # begun by nohup or behind a script's `&`, this process ignores Ctrl-C, and its children would too
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=PROJECT,
        env=_environment(),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return RUNNING_OUT
    finally:  # after Ctrl-C here, too
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # to it only: it ends its workers
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def hours_left(profile: str, without_gpu: bool, seconds: float) -> str:
    """The last line of `simreg status`."""
    command = [sys.executable, "-m", "simreg_core", "status", "--profile", profile]
    try:
        done = subprocess.run(
            [*command, *(["--without-gpu"] if without_gpu else [])],
            cwd=PROJECT,
            env=_environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"what is left was not known in time: simreg status --profile {profile}"
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return lines[-1] if lines else f"status {done.returncode}"


def _environment() -> dict[str, str]:
    """This folder's simreg, whatever is installed."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])}


def _device() -> str:
    from simreg_core.lab.devices import default_device, device_name

    return device_name(default_device())


def said(words: str) -> None:
    print(f"gpu-day: {words}", flush=True)


def lacking() -> str | None:
    """What keeps this Python from computing, in one line; None where nothing does."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        return f"{sys.executable} lacks {', '.join(missing)}: install them, or give another Python with PYTHON=..."
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Known errors are one line and exit status 2; 1 where a step failed; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_day", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="when it has ended, about")
    parser.add_argument("--compute", action="append", default=[], help="'PROFILE: NOTEBOOK ...'; may be repeated")
    parser.add_argument("--quick", action="store_true", help="benchmarks so small that they mean nothing: to try it")
    parser.add_argument("--without-gpu", action="store_true", help="on a machine that has none: to try it")
    asked = parser.parse_args(arguments)
    problem = lacking() if asked.minutes > 0 else f"--minutes must be positive, got {asked.minutes:g}"
    if problem is None and not asked.without_gpu:
        import torch

        problem = None if torch.cuda.is_available() else f"{sys.executable} finds no GPU"
    if problem is not None:
        print(f"gpu-day: {problem}", file=sys.stderr)
        raise SystemExit(2)
    try:
        failed = day(asked.minutes, asked.compute, asked.quick, asked.without_gpu)
    except KeyboardInterrupt:
        said("stopped; run again to go on")
        raise SystemExit(130) from None
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Every path of the code once, at small size, on this device: `python -m benchmarks.gpu_check`.

What passed is noted in the run directory with device, commit and torch, and is not run again; so a check that was
stopped goes on where it was.
"""

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from simreg_core.lab import recipes
from simreg_core.lab.devices import default_device, device_name
from simreg_core.lab.files import write_text
from simreg_core.lab.folders import folder_of
from simreg_core.lab.make.figures import measurements_of, studies_of
from simreg_core.lab.measuring.evaluation import evaluate
from simreg_core.lab.records import commit
from simreg_core.lab.running.workers import trainer_of
from simreg_core.lab.specs import Experiment, Profile, load_profile, to_train
from simreg_core.lab.store import Store
from simreg_core.lab.training import Run, is_recorded, settings_of

PROFILE = Path(__file__).parents[1] / "tests" / "profiles" / "tiny.yaml"
STEPS = 4
TOLERANCE = 0.05  # of a sum of losses over as many steps, where the algorithms may be chosen by timing


class Wrong(AssertionError):
    """Numbers that do not agree; the message says which."""


def paths(profile: Profile, store: Store, device: torch.device) -> dict[str, Callable[[], None]]:
    """What is checked, by name: trainings, then one evaluation of each kind."""
    found: dict[str, Callable[[], None]] = {}
    for precision in (None, "bfloat16"):
        for target in ("none", "S^Th", "S^pixel"):
            one = _with_precision(recipes.experiment(profile, target, 0), precision)
            found[f"training {target}, {precision or 'float32'}"] = partial(_compute, one, None, store, device)
    for statistics in ("separate", "frozen"):
        one = recipes.experiment(profile, "S^Th", 0, statistics=statistics)
        found[f"training S^Th, {statistics} statistics"] = partial(_compute, one, None, store, device)
    regularized = recipes.experiment(profile, "S^Th", 0)
    for precision in (None, "bfloat16"):
        found[f"as planned against kernel by kernel, {precision or 'float32'}"] = partial(
            _same_losses, _with_precision(regularized, precision), device
        )
    for measured, evaluation in measurements_of(studies_of(profile)):
        parts = (getattr(evaluation, name, None) for name in ("attack", "method", "norm", "protocol"))
        name = f"evaluation {' '.join(str(part) for part in parts if part is not None)}"
        found.setdefault(name, partial(_compute, measured, evaluation, store, device))
    return found


def _with_precision(one: Experiment, precision: str | None) -> Experiment:
    return one.changed(optimization={**one.optimization.model_dump(), "precision": precision})


def _compute(one, evaluation, store: Store, device: torch.device) -> None:
    needed = {each.key: each for each in to_train(one, evaluation)}
    for each in needed.values():
        trainer_of(each)(each, store, device)
    if evaluation is not None:
        evaluate(one, evaluation, store, device)


def _same_losses(one: Experiment, device: torch.device) -> None:
    """Sums of losses over some steps, as a training takes them (on a GPU: recorded) and kernel by kernel."""
    sums = []
    for recorded in (True, False):
        with settings_of(one), tempfile.TemporaryDirectory() as folder:
            run = Run(one, Store(Path(folder)), device)
            run.network.train()
            step = run.stepper(one.optimization.learning_rate) if recorded else run._step
            for drawn in zip(*run.draw(STEPS), strict=True):
                step(*drawn)
            sums.append({name: value.item() for name, value in run.sums.items()})
    tolerance = TOLERANCE if is_recorded(one, device) else 0.0
    for name, value in sums[1].items():
        if not abs(sums[0][name] - value) <= tolerance * abs(value):
            raise Wrong(f"{name} loss over {STEPS} steps: {sums[0][name]:.6g}, kernel by kernel {value:.6g}")


def check(noted: Path, only: str = "") -> list[str]:
    """Run what has not passed; one line each.  only: what a name contains.  Returns the names of what failed."""
    device = default_device()
    made, differs = commit()
    key = f"{device_name(device)}, {made}{' changed' if differs else ''}, torch {torch.__version__}"
    passed = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else {}
    done, failed = set(passed.get(key, [])), []
    store = Store(noted.parent / "gpu-check")
    for name, path in paths(load_profile(str(PROFILE)), store, device).items():
        if name in done or only not in name:
            continue
        started = time.perf_counter()
        try:
            path()
        except Exception as error:  # whatever it is, the others are checked too
            failed.append(name)
            print(f"FAILED {name}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
            continue
        print(f"ok {name}, {time.perf_counter() - started:.1f} s", flush=True)
        done.add(name)
        write_text(noted, json.dumps({key: sorted(done)}, indent=1) + "\n")
    print(f"{len(done)} paths are checked on {device_name(device)}, {len(failed)} failed", flush=True)
    return failed


if __name__ == "__main__":
    try:
        raise SystemExit(1 if check(folder_of("SIMREG_RUNS") / "gpu-check.json") else 0)
    except KeyboardInterrupt:
        raise SystemExit(130) from None

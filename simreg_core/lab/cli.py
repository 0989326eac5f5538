"""The laboratory from a shell: `python -m simreg_core --help`."""

import faulthandler
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from simreg_core.lab import recipes, series
from simreg_core.lab.defences_study import defence_of, task_profile
from simreg_core.lab.folders import published_folder, settle_folders
from simreg_core.lab.make.computed import draw_computed
from simreg_core.lab.make.figures import compute_missing, make_figures
from simreg_core.lab.make.notebooks import DrawingError
from simreg_core.lab.make.publish import publish, publish_recordings
from simreg_core.lab.running.plan import plan
from simreg_core.lab.select import (
    chosen_pair,
    grid_of,
    matched_alpha,
    matched_defences,
    matched_grid,
    matched_strength,
    selection_ratios,
)
from simreg_core.lab.specs import (
    Experiment,
    Profile,
    SpecError,
    load_profile,
)
from simreg_core.lab.store import Store
from simreg_core.lab.study import Study
from simreg_core.names import NOISE_NAMES

# modules that need torch are imported in the commands that compute: to plan and to draw needs none

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

DEFAULT_PROFILE = "quick"  # with a GPU too: the paper's size takes hundreds of GPU hours; a user asks for it by name
EXECUTORS = ("local", "ray")
ATTACKS = (*NOISE_NAMES, "fgsm", "boundary")
TARGETS = {"none": series.NONE, **series.TARGETS}
MATCHED = ("zero", "shuffled", "pixel", "neural")  # targets whose alpha is chosen for S^Th's clean accuracy

ProfileOption = Annotated[str, typer.Option("--profile", help="quick, paper, or the path of a YAML file.")]
TargetOption = Annotated[str, typer.Option(help=f"One of: {', '.join(TARGETS)}.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the training run.")]
AlphaOption = Annotated[float | None, typer.Option(help="alpha, if not the profile's.")]
ThresholdOption = Annotated[float | None, typer.Option(help="Th, if not the profile's.")]
WithoutGpuOption = Annotated[bool, typer.Option("--without-gpu", help="Compute a GPU's profile without a GPU.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(help="How many tasks run at once; by default one per core or GPU (MPS: four).", min=1),
]
PairsOption = Annotated[int | None, typer.Option("--k", help="Pairs a step, if not the profile's.")]


@app.callback()
def about() -> None:
    """simreg: pixel-similarity regularization, reproduced (arXiv 2410.03952).

    Folders: SIMREG_RUNS holds checkpoints and records of this machine, SIMREG_DATA image sets and recordings,
    SIMREG_FIGURES the figures of each profile, SIMREG_RECORDS each profile's published records (PROFILE/records), and
    SIMREG_WEIGHTS its published networks. They are runs, data, figures, figures and weights in the project's folder
    where these variables are not set.
    """
    settle_folders()


@app.command()
def figures(
    profile: ProfileOption = DEFAULT_PROFILE,
    recompute: Annotated[bool, typer.Option("--recompute", help="Compute everything again.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="A notebook's name; may be given several times.")] = None,
    without_gpu: WithoutGpuOption = False,
    workers: WorkersOption = None,
    computed: Annotated[bool, typer.Option("--computed", help="Draw what is computed; compute nothing.")] = False,
) -> None:
    """Compute what is missing, draw every figure, and judge every claim."""
    chosen, name = _profile(profile)
    if computed:
        if recompute:
            raise SpecError("--computed computes nothing, so it does not go with --recompute")
        draw_computed(chosen, only or ())
        return
    make_figures(chosen, name, recompute, only or (), without_gpu, workers)
    if name == DEFAULT_PROFILE and not only:
        print("the paper's own size, for a GPU and days: make figures PROFILE=paper (docs/reproducing.md)")


@app.command(name="run")
def run_command(
    profile: ProfileOption = DEFAULT_PROFILE,
    only: Annotated[list[str] | None, typer.Option(help="A notebook's name; may be given several times.")] = None,
    executor: Annotated[str, typer.Option(help=f"One of: {', '.join(EXECUTORS)}.")] = "local",
    address: Annotated[str, typer.Option(help="Of Ray's head, host:port, or auto; by default a new Ray.")] = "",
    by_network: Annotated[
        bool,
        typer.Option("--by-network", help="Measure each network in full and publish its records before the next."),
    ] = False,
    without_gpu: WithoutGpuOption = False,
    workers: WorkersOption = None,
) -> None:
    """Compute what the figures lack, on this machine or on several with Ray, and draw none."""
    if executor not in EXECUTORS:
        raise SpecError(f"unknown executor '{executor}'; allowed: {', '.join(EXECUTORS)}")
    if address and executor != "ray":
        raise SpecError(f"executor '{executor}' has no address, got '{address}'")
    chosen, _ = _profile(profile)
    if executor == "local":
        compute_missing(chosen, only or (), without_gpu, workers, network_by_network=by_network)
        return
    if by_network:
        raise SpecError(f"--by-network goes with executor 'local', got '{executor}'")
    from simreg_core.lab.running.ray import RayExecutor

    with RayExecutor(address) as machines:
        print(machines.describe(), flush=True)
        compute_missing(chosen, only or (), without_gpu or machines.gpus > 0, executor=machines)


@app.command()
def status(profile: ProfileOption = DEFAULT_PROFILE, without_gpu: WithoutGpuOption = False) -> None:
    """What is done, what is missing, and how long it will take; computes nothing."""
    from simreg_core.lab.make.status import status as lines

    for line in lines(_profile(profile)[0], without_gpu):
        print(line, flush=True)


@app.command()
def train(
    target: TargetOption = "threshold",
    seed: SeedOption = 0,
    alpha: AlphaOption = None,
    threshold: ThresholdOption = None,
    k: PairsOption = None,
    profile: ProfileOption = DEFAULT_PROFILE,
    without_gpu: WithoutGpuOption = False,
) -> None:
    """Train one network of a profile."""
    from simreg_core.lab.running.compute import check_profile, compute

    chosen, _ = _profile(profile)
    one = _experiment(chosen, target, seed, alpha, threshold, k)
    store = Store()
    todo = plan((), store, [one])
    check_profile(chosen, todo, store, without_gpu)
    compute(todo, store, f"training {one.key}")
    print(f"experiment {one.key}: {store.weights_path(one)}")


@app.command()
def evaluate(
    attack: Annotated[str, typer.Option(help=f"One of: {', '.join(ATTACKS)}.")] = "gaussian",
    epsilon: Annotated[list[float] | None, typer.Option(help="Strength in [0, 1]; may be given several times.")] = None,
    protocol: Annotated[str, typer.Option(help="released or strict.")] = "released",
    target: TargetOption = "threshold",
    seed: SeedOption = 0,
    alpha: AlphaOption = None,
    threshold: ThresholdOption = None,
    k: PairsOption = None,
    profile: ProfileOption = DEFAULT_PROFILE,
    without_gpu: WithoutGpuOption = False,
) -> None:
    """Attack one network of a profile, training it first if need be."""
    from simreg_core.lab.running.compute import check_profile, compute

    chosen, _ = _profile(profile)
    if attack not in ATTACKS:
        raise SpecError(f"unknown attack '{attack}'; allowed: {', '.join(ATTACKS)}")
    one = _experiment(chosen, target, seed, alpha, threshold, k)
    evaluation = _evaluation(chosen, attack, epsilon, protocol)
    store = Store(published=published_folder(chosen))
    todo = plan([(one, evaluation)], store)
    check_profile(chosen, todo, store, without_gpu)
    compute(todo, store, f"{attack} on {one.key}")
    print("metric,epsilon,repeat,value,attempted,failed")
    for v in store.record(one, evaluation).values:
        print(f"{v.metric},{_blank(v.epsilon)},{_blank(v.repeat)},{v.value:.6g},{v.attempted},{v.failed}")


@app.command()
def select(
    profile: ProfileOption = DEFAULT_PROFILE,
    images: Annotated[str | None, typer.Option("--set", help="Regularization set, if not the profile's.")] = None,
    colour: Annotated[bool, typer.Option("--colour", help="The task in colour.")] = False,
    corruptions: Annotated[bool, typer.Option("--corruptions", help="The task of notebook 05.")] = False,
    variant: Annotated[
        str | None, typer.Option(help="A variant of notebook 12, or the table of 18, not the main task.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(help="An architecture of notebook 15, instead of the profile's.")
    ] = None,
    similarity: Annotated[str | None, typer.Option(help="A similarity of notebook 18, instead of S^Th's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate, if not the profile's.", min=1e-9)] = None,
    alpha: Annotated[list[float] | None, typer.Option(help="alpha of the grid; may be given several times.")] = None,
    threshold: Annotated[list[float] | None, typer.Option(help="Th of the grid; may be given several times.")] = None,
    target: TargetOption = "threshold",
    matched: Annotated[
        bool, typer.Option("--matched", help="The strength at which clean accuracy is nearest to S^Th's.")
    ] = False,
    task: Annotated[str | None, typer.Option(help="A task of notebook 24; with --matched.")] = None,
    defence: Annotated[str | None, typer.Option(help="A defence of notebook 14 or 24; with --matched.")] = None,
    strength: Annotated[list[float] | None, typer.Option(help="Of the defence; may be given several times.")] = None,
    without_gpu: WithoutGpuOption = False,
) -> None:
    """Choose alpha (and the threshold, of S^Th) on validation images, by the paper's criterion."""
    _check_matched(matched, target, task, defence, strength)
    chosen, _ = _profile(profile)
    base = (
        task_profile(chosen, task)
        if task is not None
        else recipes.base_of(chosen, images, colour, corruptions, variant, architecture, similarity)
    )
    if learning_rate is not None:
        base = base.changed(optimization=base.optimization.changed(learning_rate=learning_rate))
    values = {"alphas": tuple(alpha or ()), "thresholds": tuple(threshold or ())}
    given = {name: numbers for name, numbers in values.items() if numbers}
    base = base.changed(selection=base.selection.changed(**given))
    if defence is not None:
        blocks, strengths = matched_defences(base, defence, defence_of(chosen, task, defence), strength or ())
        nearest, accuracies = matched_strength(Study("selection", base, blocks).run(without_gpu).table(), strengths)
    elif matched:
        study = Study("selection", base, matched_grid(base, _target(target)))
        nearest, accuracies = matched_alpha(study.run(without_gpu).table())
    if matched:
        print(accuracies.to_string(index=False, float_format="%.3f"))
        print(f"chosen: {'alpha' if defence is None else 'strength'} = {nearest:g}")
        return
    grid = Study("selection", base, grid_of(base, _target(target)))
    table = grid.run(without_gpu).table()
    print(selection_ratios(table).to_string(index=False, float_format="%.3f"))
    pair = chosen_pair(table)
    print("none is accepted" if pair is None else f"chosen: alpha = {pair[0]:g}, Th = {pair[1]:g}")


def _check_matched(
    matched: bool, target: str, task: str | None, defence: str | None, strength: list[float] | None
) -> None:
    """Options that go with --matched only, and with each other.  Raises SpecError."""
    if (task or defence or strength) and not matched:
        raise SpecError("--task, --defence and --strength go with --matched")
    if (defence is None) != (not strength):
        raise SpecError("--defence and --strength go together")
    if matched and defence is None and target not in MATCHED:
        raise SpecError(f"--matched goes with target {', '.join(MATCHED)}, got '{target}'")


@app.command()
def recordings() -> None:
    """Compare similarities of the real recordings and the published predictor anew, and publish the records.

    They must be in the data folder: the README says where each goes.
    """
    publish_recordings()


@app.command()
def clean(
    keep: Annotated[
        list[str] | None, typer.Option(help="A profile of yours whose results stay; may be given several times.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="The results of all profiles too: they are computed again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """What lies in the folder of runs (SIMREG_RUNS) and is of no more use; removes it with --yes, or asks.

    What the figures of the shipped profiles want stays, but for --everything. Published records are never touched.
    """
    from simreg_core.lab.make.clean import parts_of, remove, shipped_profiles

    store = Store()
    removable, stay = parts_of(store, [*shipped_profiles(), *(_profile(name)[0] for name in keep or ())])
    removable, stay = ([*removable, *stay], []) if everything else (removable, stay)
    for title, parts in (("can be removed", removable), ("stays", stay)):
        print(f"{store.root}: {title}: {sum(part.megabytes for part in parts):,.1f} MB", *parts, sep="\n")
    if not removable:
        return
    if not yes and not (sys.stdin.isatty() and typer.confirm("remove it?")):
        print("nothing is removed; --yes removes it")
        return
    remove(removable, store)
    print("removed")


@app.command(name="publish")
def publish_command(
    profile: ProfileOption = DEFAULT_PROFILE,
    only: Annotated[list[str] | None, typer.Option(help="A notebook's name; may be given several times.")] = None,
) -> None:
    """Copy a profile's records beside its figures and write the notebooks' outputs (before a commit)."""
    publish(_profile(profile)[0], only or ())


@app.command(name="publish-weights")
def publish_weights_command(
    profile: ProfileOption = DEFAULT_PROFILE,
    target: Annotated[list[str] | None, typer.Option(help="none, threshold or neural; by default all three.")] = None,
) -> None:
    """Write trained networks of the store and their model card into weights/ (before a commit)."""
    from simreg_core.lab.weights import FILES, publish_weights

    chosen = tuple(_target(name) for name in target or ()) or tuple(FILES)
    for path in publish_weights(_profile(profile)[0], Store(), chosen):
        print(path)


@app.command(name="claims-page")
def claims_page_command() -> None:
    """Write docs/claims.md from the figures' modules (before a commit)."""
    from simreg_core.lab.make.claims_page import write_claims_page

    write_claims_page()


@app.command(name="defences-pages")
def defences_pages_command() -> None:
    """Write docs/all-defences.md and docs/which.md from the figures of quick; publishing does so too."""
    from simreg_core.lab.make.defences_pages import write_defences_pages

    write_defences_pages()


def main() -> None:
    """Run a command; a known error is one line on standard error and exit status 2, a crash says where Python was."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not know a letter of what is said
    if not faulthandler.is_enabled() and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    try:
        app()
    except Exception as error:
        if not _is_known(error):
            raise
        print(f"simreg: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


def _is_known(error: Exception) -> bool:
    if isinstance(error, ValueError | LookupError | OSError | DrawingError):
        return True
    from simreg_core.lab.devices import out_of_memory
    from simreg_core.lab.running.failures import RunnerError
    from simreg_core.lab.training import TrainingError

    return isinstance(error, TrainingError | RunnerError) or out_of_memory(error) is not None


def _profile(name: str) -> tuple[Profile, str]:
    """A profile, and the name under which a notebook finds it."""
    profile = load_profile(name)
    return profile, str(Path(name).resolve()) if Path(name).suffix in (".yaml", ".yml") else name


def _experiment(
    profile: Profile, target: str, seed: int, alpha: float | None, threshold: float | None, k: int | None
) -> Experiment:
    given = {"alpha": alpha, "threshold": threshold, "pairs_per_step": k}
    changes = {name: value for name, value in given.items() if value is not None}
    if target == "none" and changes:
        raise SpecError(f"target 'none' has no {', '.join(changes)}")
    return recipes.experiment(profile, _target(target), seed, **changes)


def _target(name: str) -> str:
    if name not in TARGETS:
        raise SpecError(f"unknown target '{name}'; allowed: {', '.join(TARGETS)}")
    return TARGETS[name]


def _evaluation(profile: Profile, attack: Any, epsilons: list[float] | None, protocol: str):
    if attack == "boundary":
        if epsilons:
            raise SpecError("attack 'boundary' has no epsilon: it looks for the smallest one")
        return recipes.boundary(profile).changed(protocol=protocol)
    if attack == "fgsm":
        return recipes.fgsm(profile).changed(protocol=protocol, **_epsilons(epsilons))
    return recipes.noise(profile, attack).changed(protocol=protocol, **_epsilons(epsilons))


def _epsilons(given: list[float] | None) -> dict:
    for epsilon in given or []:
        if not 0 <= epsilon <= 1:
            hint = f"; did you mean {epsilon:g}/255?" if epsilon > 1 else ""
            raise SpecError(f"epsilon must lie in [0, 1] (pixels are in [0, 1]), got {epsilon:g}{hint}")
    return {"epsilons": tuple(given)} if given else {}


def _blank(value: float | int | None) -> str:
    return "" if value is None else f"{value:g}"

"""One lock for every way to install, no name of a host in what is committed, and a README that says what was found."""

import csv
import json
import os
import re
import shlex
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

from simreg_core.attacks import AUTOATTACK_QUERIES, AUTOATTACK_STEPS, AUTOATTACK_TARGETS
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.image_files import SETS, is_bundled
from simreg_core.lab.make.claims_table import table_of_claims
from simreg_core.lab.make.figures import missing
from simreg_core.lab.make.gallery import SMALL
from simreg_core.lab.specs import load_profile
from simreg_core.lab.store import Store

PROJECT = Path(__file__).parents[1]
LOCK = (PROJECT / "requirements.lock").read_text()
README = (PROJECT / "README.md").read_text()
DOCS = {path.stem: path.read_text() for path in (PROJECT / "docs").glob("*.md")}
QUICK = PROJECT / "figures" / "quick"


def locked() -> dict[str, set[str]]:
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE):
        versions.setdefault(name, set()).add(version)
    return versions


def test_conda_reads_the_same_lock():
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())
    names = [part for part in environment["dependencies"] if isinstance(part, str)]
    assert {name.split("=")[0] for name in names} == {"python", "pip", "make"}
    (pip,) = (part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert pip == ["--require-hashes", "-r requirements.lock"]
    assert "-r requirements.lock" in (PROJECT / "Makefile").read_text()


def test_conda_python_is_one_the_project_supports():
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())
    (python,) = (part for part in environment["dependencies"] if str(part).startswith("python="))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    low, high = re.fullmatch(r">=(3\.\d+),<(3\.\d+)", project["requires-python"]).groups()
    versions = [tuple(map(int, version.split("."))) for version in (low, python.split("=")[1], high)]
    assert versions[0] <= versions[1] < versions[2]
    make = (PROJECT / "Makefile").read_text()
    assert f"ok = {versions[0]} <= v < {versions[2]}" in make
    assert f"--python-version {low} " in make  # for which the lock is solved


def test_every_dependency_is_locked_with_hashes():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    wanted = [one for one in (*project["dependencies"], *extras) if not one.startswith("simreg[")]
    versions = locked()
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9-]+", requirement).group().lower()
        assert name in versions, name
        exact = re.search(r"==([\d.]+)", requirement)
        assert exact is None or versions[name] == {exact.group(1)}, name
    entries = re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_regularizer_needs_torch_and_numpy_and_make_installs_all():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert {re.match(r"[a-z]+", one).group() for one in project["dependencies"]} == {"torch", "numpy"}
    extras, reached, todo = project["optional-dependencies"], set(), ["test"]  # `make lock` locks this one
    while todo:
        reached.add(name := todo.pop())
        inside = (re.fullmatch(r"simreg\[(.*)\]", one) for one in extras[name])
        todo += [other for found in inside if found for other in found.group(1).split(",")]
    assert reached == extras.keys()
    assert "--extra test " in (PROJECT / "Makefile").read_text()


def test_the_lock_names_no_host():
    assert not re.search(r"https?://|file:|index-url|find-links", LOCK)


def test_the_hooks_check_style_with_the_locked_ruff():
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    (revision,) = (repo["rev"] for repo in hooks if "ruff" in repo["repo"])
    assert locked()["ruff"] == {revision.removeprefix("v")}


def test_lint_checks_style_format_and_types():
    recipe = (PROJECT / "Makefile").read_text().split("\nlint: ")[1].split("\n\n")[0]
    assert [line.split("/")[1].split()[0] for line in recipe.splitlines()[1:]] == ["ruff", "ruff", "mypy"]


def test_make_is_readable_without_doing_anything():
    said = subprocess.run(
        ["make", "-n", "figures", "PROFILE=quick"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "-m simreg_core figures --profile 'quick'" in said.stdout


ODD = ["my profiles/one's.yaml", "a$b.yaml", "$b", "a$(b.yaml", "a$$(shell echo c)`d`.yaml"]


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("target", ["figures", "status", "publish"])
def test_make_hands_on_a_path_with_spaces_quotes_and_dollars_as_one_word(target, path):
    said = subprocess.run(
        # inside `make test` make would end with the name of the folder that it leaves
        [
            *("make", "-n", "--no-print-directory", target),
            *(f"PROFILE={path}", "ONLY=02_attack_curves 16_$cost"),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    words = shlex.split(said.stdout.splitlines()[-1])
    assert words[words.index("--profile") + 1] == path
    assert target != "figures" or words[-4:] == ["--only", "02_attack_curves", "--only", "16_$cost"]


@pytest.mark.parametrize("folder", ["my runs/o'ne", "a$b", "/a b/$(c", "~/runs"])
def test_make_hands_on_folders_as_they_are_given_and_makes_them_absolute(folder):
    whole = folder if folder[0] in "/~" else f"{PROJECT}/{folder}"
    command = ["make", "--no-print-directory", "--eval", "show: ; @printenv SIMREG_RUNS SIMREG_WEIGHTS", "show"]
    in_environment = {**os.environ, "SIMREG_RUNS": folder, "SIMREG_WEIGHTS": folder}
    as_arguments = [*command, f"SIMREG_RUNS={folder}", f"SIMREG_WEIGHTS={folder}"]
    for given, environment in ((command, in_environment), (as_arguments, None)):
        said = subprocess.run(given, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
        assert said.stdout.splitlines() == [whole, whole]


def test_the_first_notebook_shows_every_figure_and_the_readme_six():
    first = (PROJECT / "notebooks" / "00_start_here.ipynb").read_text()
    quick = load_profile("quick")
    for path in (PROJECT / "notebooks").glob("9*.ipynb"):  # no figures of a profile
        assert f"](notebooks/{path.name})" in README
        assert f"](../notebooks/{path.name})" in DOCS["using"]
    for path in (PROJECT / "notebooks").glob("[0-8]*.ipynb"):
        if path.stem in FIGURES and not FIGURES[path.stem].is_of(quick):
            continue
        assert (QUICK / f"{path.stem}.png").is_file()
        assert path.stem == "00_start_here" or f"]({path.name})" in first
    gallery = section("Gallery")
    shown = SMALL.findall(gallery)
    assert len(shown) == 6
    assert sorted(shown) == sorted(path.stem for path in (QUICK / "small").iterdir())
    assert all((QUICK / f"{name}.png").is_file() and f"](notebooks/{name}.ipynb)" in gallery for name in shown)
    assert "](notebooks/00_start_here.ipynb" in README


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 160
    assert len(README.split()) <= 1200
    assert [line for line in lines if len(line) > 120 and not line.startswith(("|", "<img"))] == []


def test_the_committed_claims_are_those_of_the_committed_figures():
    folder = PROJECT / "figures" / "quick"
    figures = {path.stem: json.loads(path.read_text()) for path in folder.glob("[0-9]*.json")}
    assert json.loads((folder / "claims.json").read_text()) == table_of_claims(figures)


def test_the_counts_of_verdicts_in_the_readme_are_those_of_the_claims():
    rows = json.loads((QUICK / "claims.json").read_text())
    verdicts = Counter(row["verdict"] for row in rows if row["group"] in ("headline", "paper"))
    hold = sum(verdicts[one] for one in ("reproduced", "direction holds", "same direction, smaller"))
    against, open_ = verdicts["contradicted"] + verdicts["no effect"], verdicts["not decided here"]
    said = f"Of the paper's {verdicts.total()} claims, {hold} hold at least in direction, {against} are contradicted, "
    assert f"{said}{open_} are not decided" in " ".join(README.split())


def section(title: str) -> str:
    """What stands under a heading of the README."""
    return re.split(r"^## ", README.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def claims_found() -> list[dict]:
    """The effects of every claim of every figure, those beside them, and what was asked for afterwards."""
    paths = QUICK.parent.glob("*/[0-9]*.json")
    figures = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    claims = [one for made in figures for one in made.get("claims", [])]
    later = [one for made in figures for one in made.get("afterwards", [])]
    return [*claims, *(beside for one in claims for beside in one["also"]), *later]


def test_every_interval_and_estimate_in_the_pages_is_that_of_a_figure():
    table = README.split("<!-- claims:begin -->")[1].split("<!-- claims:end -->")[0]
    said = [README.replace(table, ""), *(DOCS[name] for name in ("using", "reproducing", "review", "recordings"))]
    elsewhere = "\n".join(said).replace("−", "-")  # quick.md has validation images' ratios
    measured = {
        f"{claim['estimate']:.3f} [{claim['low']:.3f}, {claim['high']:.3f}]"
        for claim in claims_found()
        if claim["low"] is not None
    }
    copies = json.loads((QUICK.parent / "cifar-small" / "jpeg.json").read_text(encoding="utf-8"))["rows"]
    measured |= {f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in copies}
    intervals = re.findall(r"-?\d+\.\d+ \[[^]a-z]*\]", elsewhere)
    assert len(intervals) > 5
    assert [one for one in intervals if one not in measured] == []
    for one in intervals:
        elsewhere = elsewhere.replace(one, "")
    assert re.findall(r"\d\.\d{3}\b", elsewhere) == []  # no number of a figure without its interval
    assert re.findall(r"\[-?\d\.\d+, -?\d\.\d+\]", elsewhere) == []  # no interval without its estimate


def test_the_table_of_alphas_in_the_pages_is_that_of_notebook_03():
    with (QUICK / "03_hyperparameter_selection.csv").open(encoding="utf-8") as file:
        measured = {
            tuple(re.findall(r"[\d.]+", row["series"])): (f"{float(row['clean']):.3f}", f"{float(row['robust']):.3f}")
            for row in csv.DictReader(file)
            if row["attack"] == "gaussian"
        }
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", DOCS["quick"], re.MULTILINE)
    assert {(alpha, threshold): ratios for alpha, threshold, *ratios in rows} == {
        pair: list(ratios) for pair, ratios in measured.items()
    }
    quick = load_profile("quick").regularizer
    assert (
        f"| {quick.alpha:g} | {quick.threshold:g} | "
        + " | ".join(measured[f"{quick.alpha:g}", f"{quick.threshold:g}"])
        + " | chosen |"
        in DOCS["quick"]
    )


def test_the_chosen_alphas_in_the_pages_are_those_of_quick():
    quick = load_profile("quick")
    chosen = {one.name: one.alpha for one in quick.studies.architectures}
    chosen |= {"S^pixel": quick.pixel_alpha, "S^neural of a simulated V1": quick.neural.alpha}
    sets = {"digits": "scikit-learn's digits", "photos-foreign": "other photographs"}
    chosen |= {sets[one.images]: one.alpha for one in quick.studies.regularization_sets if one.alpha}
    own = quick.regularizer.alpha  # what has no alpha of its own takes it
    chosen |= {"digits in colours": own, "ResNet18": own}
    assert [one.alpha for one in quick.studies.colour_sets] == [None]
    assert len(chosen) == 9
    for name, alpha in chosen.items():
        (row,) = (line for line in DOCS["quick"].splitlines() if line.startswith(f"| {name} |"))
        assert row.split(" | ")[2].removeprefix("none accepted; ").removesuffix(" taken") == f"{alpha:g}", row


@pytest.mark.parametrize(
    ("profile", "only", "text"),
    [
        ("quick", (), "({networks} networks, {attacks:,} attacks)"),
        ("paper", (), "{networks} networks and {predictors} small V1 predictors, about"),
        ("paper", ("02_attack_curves",), "`ONLY=02_attack_curves` is {networks} of them"),
        (
            "trimmed",
            ("02_attack_curves", "04_regularization_sets", "11_target_components"),
            "these three figures are {all} networks and {attacks} attacks",
        ),
        ("neural", ("02_attack_curves",), "({networks} networks and {attacks} attacks, about"),
        ("recorded", "RECORDED", "({all} networks and {attacks:,} attacks, "),
        ("recorded", ("02_attack_curves", "04_regularization_sets"), "the first two figures are {all} networks"),
    ],
)
def test_the_counts_in_the_pages_are_those_of_the_profiles(profile, only, text, tmp_path):
    if only == "RECORDED":  # what `make recorded` computes
        only = re.findall(
            r"\d\d_\w+", (PROJECT / "Makefile").read_text().split("RECORDED := ")[1].split("\nrecorded:")[0]
        )
    todo = missing(load_profile(profile), Store(tmp_path), only)
    predictors = sum(type(one).__name__ == "NeuralExperiment" for one in todo.trainings)
    numbers = {
        "all": len(todo.trainings),
        "networks": len(todo.trainings) - (0 if profile == "quick" else predictors),
        "predictors": predictors,
        "attacks": len(todo.measurements),
    }
    pages = " ".join((README + DOCS["reproducing"]).split())
    assert text.format(**numbers) in pages


def test_the_budget_of_autoattack_is_said_as_it_is():
    steps, targets, queries = load_profile("quick").white_box.autoattack_budget
    own = (AUTOATTACK_STEPS, AUTOATTACK_TARGETS, AUTOATTACK_QUERIES)
    said = f"{steps} of {own[0]} steps, {targets} of {own[1]} targets"
    assert f"{said}, {queries} of {own[2]:,} queries" in DOCS["review"]
    notebook = (PROJECT / "notebooks" / "14_white_box.ipynb").read_text()
    assert f"{said} and {queries} of {own[2]:,} queries" in notebook
    comment = (PROJECT / "notebooks" / "profiles" / "quick.yaml").read_text().split("autoattack_budget:")[1]
    assert f"AutoAttack's own are {own[0]}, {own[1]} and {own[2]:,}\n" in comment[:100]


def block_of(text: str) -> str:
    """The code of a text that is indented by four spaces, outside of fences."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line.removeprefix("    ") for line in text.splitlines() if line.startswith("    "))


def test_the_lines_for_a_training_loop_of_ones_own_run():
    code = block_of(section("Use it in your own training loop"))
    assert block_of(DOCS["using"]) == code
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(8, 3, 32, 32, generator=generator), torch.randint(0, 10, (8,), generator=generator)
    half = torch.rand(15, 3, 32, 32, generator=generator)
    room = {"reg_images": torch.cat([half, 1 - half]), "batches": [(x, y)] * 2}  # with their negatives: targets of -1
    exec(code, room)
    assert room["loss"].isfinite()
    assert room["regularizer"].layer_logits.grad.abs().sum() > 0
    (chosen,) = (one for one in load_profile("quick").studies.architectures if one.name == "torchvision-resnet18")
    assert f"+ {chosen.alpha:g} * regularizer()" in code


def test_notebooks_name_no_image_set_that_their_figure_lacks():
    for name in ("04_regularization_sets", "05_common_corruptions", "09_colour", "10_layer_weights"):
        cells = json.loads((PROJECT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
        words = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        drawn = (QUICK / f"{name}.csv").read_text()
        assert [one for one in filter(is_bundled, SETS) if f"`{one}`" in words and f"\n{one}," not in drawn] == [], name

"""One lock for every way to install, and no name of a host or a machine in what is committed."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import yaml

from simreg_core.lab.claims import table_of_claims

PROJECT = Path(__file__).parents[1]
LOCK = (PROJECT / "requirements.lock").read_text()


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
    assert project["requires-python"] == ">=3.11,<3.14"
    assert python.split("=")[1] in ("3.11", "3.12", "3.13")


def test_every_dependency_is_locked_with_hashes():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["ray"], *(one for one in extras["test"] if one != "simreg[ray]")]
    versions = locked()
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9-]+", requirement).group().lower()
        assert name in versions, name
        exact = re.search(r"==([\d.]+)", requirement)
        assert exact is None or versions[name] == {exact.group(1)}, name
    entries = re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_lock_names_no_host():
    assert not re.search(r"https?://|file:|index-url|find-links", LOCK)


def test_the_method_never_imports_the_laboratory():
    for path in (PROJECT / "simreg_core").glob("*.py"):
        if path.name != "__main__.py":
            assert "simreg_core.lab" not in path.read_text(), path


def test_ci_calls_make_test_alone():
    lines = (PROJECT / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if line.startswith("make")] == ["make test"]


def test_make_is_readable_without_doing_anything():
    said = subprocess.run(
        ["make", "-n", "figures", "PROFILE=quick"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert "-m simreg_core figures --profile quick" in said.stdout


def test_the_readme_says_what_the_figures_found():
    readme = (PROJECT / "README.md").read_text().splitlines()
    claims = (PROJECT / "figures" / "quick" / "claims.md").read_text().splitlines()
    assert len(claims) > 20
    # the cost is a time: `make figures RECOMPUTE=1` measures it anew, on the user's machine
    assert [line for line in claims if line not in readme and "16_cost" not in line] == []


def test_the_readme_and_the_first_notebook_show_every_notebook():
    readme = (PROJECT / "README.md").read_text()
    first = (PROJECT / "notebooks" / "00_start_here.ipynb").read_text()
    for path in (PROJECT / "notebooks").glob("[0-9]*.ipynb"):
        assert f"](notebooks/{path.name})" in readme
        assert f"figures/quick/{path.stem}.png" in readme
        assert (PROJECT / "figures" / "quick" / f"{path.stem}.png").is_file()
        assert path.stem == "00_start_here" or f"]({path.name})" in first


def test_the_committed_claims_are_those_of_the_committed_figures():
    folder = PROJECT / "figures" / "quick"
    figures = {path.stem: json.loads(path.read_text()) for path in folder.glob("[0-9]*.json")}
    assert json.loads((folder / "claims.json").read_text()) == table_of_claims(figures)

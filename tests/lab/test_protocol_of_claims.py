"""The list of claims and the constants are what was committed, and were committed before the records they judge."""

import json
import subprocess
from pathlib import Path

import pytest

from simreg_core.lab import protocol_of_claims as fixed
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.protocol_of_claims import digest_of
from simreg_core.lab.specs import PROJECT

LIST = "simreg_core/lab/protocol_of_claims.py"


def test_constants_are_those_that_were_fixed():
    assert (fixed.CONFIDENCE, fixed.POWER, fixed.FEWEST_SEEDS) == (0.95, 0.80, 3)
    assert (fixed.NOT_INFERIOR, fixed.SHARE_OF_PUBLISHED, fixed.CLEAN_RATIO) == (-0.02, 0.5, 0.85)
    assert dict(fixed.MARGINS) == {"accuracy": 0.02, "ratio": 0.05, "correlation": 0.05, "share": 0.05}
    assert dict(fixed.SEEDS) == {"headline": 16, "paper": 8, "ours": 8}


def test_the_list_of_claims_is_that_of_the_figures():
    """A claim that is dropped, added or reworded is a change of the list, which git ancestry then dates."""
    of_figures = {one.key: digest_of(one) for own in FIGURES.values() for one in own.claims}
    assert dict(fixed.CLAIMS) == of_figures
    assert len(of_figures) >= 34
    assert len(set(fixed.HEADLINE)) == 10
    assert set(fixed.HEADLINE) <= set(of_figures)


def git(repository: Path, *command: str) -> subprocess.CompletedProcess:
    done = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@y", *command]
    return subprocess.run(done, capture_output=True, text=True)


def is_ancestor(repository: Path, one: str, other: str) -> bool:
    return git(repository, "merge-base", "--is-ancestor", one, other).returncode == 0


def judged_too_early(repository: Path, commits: set[str]) -> list[str]:
    """The commits of records that the list of claims is younger than.

    A record whose commit is an ancestor of the list's first commit was made when there was no list: it is left out.
    Every other one must descend from the list's last change, so a change of the list after records were made is seen.
    """
    history = git(repository, "log", "--format=%H", "--", LIST).stdout.split()
    first, last = history[-1], history[0]
    later = [one for one in sorted(commits) if not is_ancestor(repository, one, first) or one == first]
    return [one for one in later if not is_ancestor(repository, last, one)]


def test_the_list_was_committed_before_the_records_that_it_judges():
    if git(PROJECT, "rev-parse", "--is-inside-work-tree").stdout.strip() != "true":
        pytest.skip("no git repository: nothing says what was committed first")
    if git(PROJECT, "rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        pytest.skip("a shallow clone: the commits of the records are not in it; git fetch --unshallow")
    if not git(PROJECT, "log", "--format=%H", "--", LIST).stdout.strip():
        pytest.skip(f"{LIST} is not committed yet")
    records = PROJECT.glob("figures/*/records/*/*.json")
    commits = {json.loads(path.read_text())["provenance"]["commit"] for path in records}
    assert commits
    assert judged_too_early(PROJECT, commits) == []


def test_a_change_of_the_list_after_its_records_is_seen(tmp_path):
    def commit(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-m", name)
        return git(tmp_path, "rev-parse", "HEAD").stdout.strip()

    git(tmp_path, "init")
    before = commit("code.py", "1")
    listed = commit(LIST, "1")
    after = commit("code.py", "2")
    assert judged_too_early(tmp_path, {before, listed, after}) == []
    assert judged_too_early(tmp_path, {"0" * 40}) == ["0" * 40]  # a commit that nobody has
    changed = commit(LIST, "2")
    assert judged_too_early(tmp_path, {before, changed}) == []
    assert judged_too_early(tmp_path, {before, listed, after, changed}) == sorted([listed, after])

"""The list of claims and the constants are what was committed, and were committed before the records they judge."""

import ast
import json
import subprocess
from pathlib import Path

import pytest

from simreg_core.lab import protocol_of_claims as fixed
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.protocol_of_claims import digest_of
from simreg_core.lab.specs import PROJECT, load_profile

LONGEST = 66  # letters of a claim, as in the tables
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


def test_claims_about_networks_without_a_regularizer_rest_on_no_choice_of_alpha():
    for number in ("20", "21", "22", "23"):
        (own,) = (one for name, one in FIGURES.items() if name.startswith(number))
        assert own.claims
        assert {one.setting for one in own.claims} == {None}


def test_a_planned_claim_says_what_was_planned():
    of_figures = {one.key: (one.text, one.statistic) for own in FIGURES.values() for one in own.claims}
    for key, planned in fixed.PLANNED.items():
        assert len(planned[0]) <= LONGEST, key
        assert of_figures.get(key, planned) == planned


def git(repository: Path, *command: str) -> subprocess.CompletedProcess:
    done = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@y", *command]
    return subprocess.run(done, capture_output=True, text=True)


def is_ancestor(repository: Path, one: str, other: str) -> bool:
    return git(repository, "merge-base", "--is-ancestor", one, other).returncode == 0


def lines_of(text: str) -> tuple[set[int], dict[str, set[int]]]:
    """The lines of the list that judge everything, and those of each claim: where it was planned first, if it was."""
    shared, claims = set(range(1, len(text.splitlines()) + 1)), {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.AnnAssign) and node.target.id in ("CLAIMS", "PLANNED"):
            (entries,) = node.value.args
            shared -= set(range(node.lineno, node.end_lineno + 1))
            for key, value in zip(entries.keys, entries.values, strict=True):
                place = set(range(key.lineno, value.end_lineno + 1))
                if node.target.id == "PLANNED" or key.value not in claims:
                    claims[key.value] = place
    said = {number for number, line in enumerate(text.splitlines(), 1) if not line.strip() or line.startswith("#")}
    said |= set(range(1, ast.parse(text).body[0].end_lineno + 1))  # words decide nothing
    return shared - said, claims


def judged_too_early(repository: Path, every: set[str], of_claims: dict[str, set[str]]) -> dict[str, list[str]]:
    """The commits of records that the list of claims is younger than, by claim; 'all' for constants and rules.

    every: commits of all records.  of_claims: of the records behind each claim.
    A record whose commit is an ancestor of the list's first commit was made when there was no list: it is left out.
    Every other one must descend from the last change of what judges it, so a change after the records is seen.
    """
    first = git(repository, "log", "--format=%H", "--", LIST).stdout.split()[-1]
    blamed = [line.split()[0] for line in git(repository, "blame", "-l", "-s", "--root", LIST).stdout.splitlines()]
    shared, claims = lines_of((repository / LIST).read_text())

    def early(lines: set[int], commits: set[str]) -> list[str]:
        changes = {blamed[number - 1] for number in lines}
        later = [one for one in sorted(commits) if not is_ancestor(repository, one, first) or one == first]
        return [one for one in later if not all(is_ancestor(repository, change, one) for change in changes)]

    found = {"all": early(shared, every)} | {key: early(claims[key], of_claims[key]) for key in of_claims}
    return {key: commits for key, commits in found.items() if commits}


def needs_history() -> None:
    if git(PROJECT, "rev-parse", "--is-inside-work-tree").stdout.strip() != "true":
        pytest.skip("no git repository: nothing says what was committed first")
    if git(PROJECT, "rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        pytest.skip("a shallow clone: the commits of the records are not in it; git fetch --unshallow")


def test_alpha_of_cifar_small_was_committed_before_a_test_image_was_attacked():
    needs_history()
    how = load_profile("cifar-small").chosen["main"].how
    said = git(PROJECT, "log", "--format=%H", f"-S{how}", "--", "notebooks/profiles/cifar-small.yaml").stdout.split()
    if not said:
        pytest.skip("the choice of alpha is not committed yet")
    records = [json.loads(path.read_text()) for path in PROJECT.glob("figures/cifar-small/records/*/*.json")]
    split = {True: set(), False: set()}
    for one in records:
        split[one["evaluation"].get("split") == "validation"].add(one["provenance"]["commit"])
    assert split[True]  # the selection's, which may be older
    assert [one for one in split[False] if not is_ancestor(PROJECT, said[-1], one)] == []


def test_the_list_was_committed_before_the_records_that_it_judges():
    needs_history()
    if not git(PROJECT, "log", "--format=%H", "--", LIST).stdout.strip():
        pytest.skip(f"{LIST} is not committed yet")
    if git(PROJECT, "diff", "--quiet", "HEAD", "--", LIST).returncode:
        pytest.skip(f"{LIST} is being changed")
    records = PROJECT.glob("figures/*/records/*/*.json")
    commits = {json.loads(path.read_text())["provenance"]["commit"] for path in records}
    assert commits
    of_claims: dict[str, set[str]] = {}
    for path in PROJECT.glob("figures/*/[0-9]*.json"):
        made = json.loads(path.read_text())
        for one in made.get("claims", []):
            if one["key"] in fixed.CLAIMS:
                of_claims.setdefault(one["key"], set()).update(record["commit"] for record in made["records"])
    quick = load_profile("quick")  # what it does not have yet is drawn when it has
    assert set(of_claims) >= {one.key for own in FIGURES.values() if own.is_of(quick) for one in own.claims}
    assert judged_too_early(PROJECT, commits, of_claims) == {}


def test_a_change_of_the_list_after_its_records_is_seen(tmp_path):
    def commit(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-m", name)
        return git(tmp_path, "rev-parse", "HEAD").stdout.strip()

    def early(*commits: str, **of_claims: str) -> dict:
        return judged_too_early(tmp_path, set(commits), {key: {one} for key, one in of_claims.items()})

    constant, claims = (
        "POWER = 0.8\n",
        'CLAIMS: dict = dict(\n    {{\n        "a": "{}",\n        "b": "2",\n    }}\n)\n',
    )
    git(tmp_path, "init")
    before = commit("code.py", "1")
    listed = commit(LIST, '"""List."""\n' + constant + claims.format("1"))
    after = commit("code.py", "2")
    assert early(before, listed, after, a=after, b=after) == {}
    assert early("0" * 40) == {"all": ["0" * 40]}  # a commit that nobody has
    changed = commit(LIST, '"""The list."""\n' + constant + claims.format("3"))  # words, and what claim a says
    assert early(before, listed, changed, a=changed, b=after) == {}
    assert early(after, a=after, b=after) == {"a": [after]}
    added = commit(LIST, '"""The list."""\n' + constant.replace("8", "9") + claims.format("3"))
    assert early(before, added, a=added, b=added) == {}
    assert early(before, changed, a=before) == {"all": [changed]}
    planned = (
        claims.format("4") + 'PLANNED: dict = dict(\n    {\n        "a": (\n            "text",\n        )\n    }\n)\n'
    )
    first = commit(LIST, '"""The list."""\n' + constant.replace("8", "9") + planned)
    commit(LIST, '"""The list."""\n' + constant.replace("8", "9") + planned.replace('"4"', '"5"'))
    assert early(first, a=first) == {}  # planned before it had a figure, and a digest
    assert early(added, a=added) == {"a": [added]}

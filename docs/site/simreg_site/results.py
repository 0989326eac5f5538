"""What the site says of figures and claims, read from figures/<profile>/; nothing of it is written by hand."""

import json
from collections import Counter
from pathlib import Path

from simreg_core.lab.claims import GROUPS, number
from simreg_core.lab.figures import FIGURES

GROUP_WORDS = {"headline": "headline", "paper": "paper", "ours": "ours"}


class MissingResult(LookupError):
    """A figure or a verdict that a page names and figures/ does not have; the message names it."""


def claims_of(root: Path, profile: str) -> list[dict]:
    """The rows of figures/<profile>/claims.json.  Raises MissingResult where it is missing."""
    return _read(root / "figures" / profile / "claims.json", root)


def verdict_words(root: Path, key: str, profile: str = "quick") -> str:
    """The verdict of a claim with its effect and interval, as Markdown.  Raises MissingResult for an unknown key."""
    row = next((row for row in claims_of(root, profile) if row["key"] == key), None)
    if row is None:
        raise MissingResult(f"figures/{profile}/claims.json has no claim '{key}'")
    return f"**{row['verdict']}**{_effect(row)}"


def _effect(row: dict) -> str:
    if row.get("n") is None:
        return ""
    images = "" if row["images"] is None else f" × {row['images']:,} images"
    return f", {number(row)}, {row['n']} {row['unit']}{images}".replace("-", "−")


def caption(root: Path, name: str, profile: str = "quick") -> list[str]:
    """A line for each main claim of a figure: the claim, its verdict and its effect, as Markdown.

    Raises MissingResult where the picture, its JSON or the verdict of a claim is missing.
    """
    folder = root / "figures" / profile
    if not (folder / f"{name}.png").is_file():
        raise MissingResult(f"figures/{profile}/{name}.png is missing; `make figures ONLY={name}` draws it")
    found = {one["key"]: one for one in _read(folder / f"{name}.json", root).get("claims", [])}
    lines = []
    for claim in FIGURES[name].claims:
        if claim.key not in found:
            raise MissingResult(f"figures/{profile}/{name}.json has no verdict of the claim '{claim.key}'")
        lines.append(f"{claim.text}: **{found[claim.key]['verdict']}**{_effect(found[claim.key])}")
    return lines


def counted(root: Path, group: str, profile: str = "quick") -> str:
    """How many claims of a group came to which verdict: '4 direction holds, 1 contradicted'."""
    if group not in GROUPS:
        raise MissingResult(f"unknown group of claims '{group}'; allowed: {', '.join(GROUPS)}")
    counts = Counter(row["verdict"] for row in claims_of(root, profile) if row["group"] == group)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


def profiles(root: Path) -> list[str]:
    """Profiles whose claims are published, quick first."""
    names = sorted(path.parent.name for path in (root / "figures").glob("*/claims.json"))
    return sorted(names, key=lambda name: name != "quick")


TABLE_HEAD = ("claim", "kind", "profile", "verdict", "effect", "95 % interval", "published", "n", "would have found")


def table_rows(root: Path) -> list[tuple[str, ...]]:
    """The claims of every profile, a row each, as Markdown; columns as TABLE_HEAD."""
    rows = []
    for profile in profiles(root):
        known = {row["key"]: row for row in claims_of(root, profile)}
        for name, figure in FIGURES.items():
            for claim in figure.claims:
                if claim.key not in known:
                    raise MissingResult(f"figures/{profile}/claims.json has no claim '{claim.key}' of {name}")
                rows.append(_cells(known[claim.key], profile, name))
    return rows


def _cells(row: dict, profile: str, notebook: str) -> tuple[str, ...]:
    measured = row["n"] is not None and row["low"] is not None
    few = f" of {row['planned']}" if row["planned"] and row["n"] and row["n"] < row["planned"] else ""
    return (
        f"{row['claim']} ([{notebook[:2]}](/notebooks/{notebook}.ipynb))",
        GROUP_WORDS[row["group"]],
        profile,
        row["verdict"],
        f"{row['estimate']:.3f}".replace("-", "−") if measured else "",
        f"[{row['low']:.3f}, {row['high']:.3f}]".replace("-", "−") if measured else "",
        ", ".join(f"{value:.3f} ({task})" for task, value in row["published"].items()),
        "" if row["n"] is None else f"{row['n']}{few} {row['unit']}",
        "" if row["detectable"] is None else f"{row['detectable']:.3f}",
    )


def _read(path: Path, root: Path):
    if not path.is_file():
        raise MissingResult(f"{path.relative_to(root)} is missing; `make figures` writes it")
    return json.loads(path.read_text(encoding="utf-8"))

"""What the site says of figures and claims, read from figures/<profile>/; nothing of it is written by hand."""

import json
import re
from collections import Counter
from pathlib import Path

from simreg_core.lab.claims import GROUPS, NOT_MEASURED, number
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.specs import load_profile
from simreg_core.lab.verdict_words import in_words

MARKS = {"^": "sup", "_": "sub"}


class MissingResult(LookupError):
    """A figure or a verdict that a page names and figures/ does not have; the message names it."""


def figures_of(profile: str) -> list[str]:
    """The figures that a profile has, in order."""
    loaded = load_profile(profile)
    return [name for name, figure in FIGURES.items() if figure.is_of(loaded)]


def claims_of(root: Path, profile: str) -> list[dict]:
    """The rows of figures/<profile>/claims.json.  Raises MissingResult where it is missing."""
    return _read(root / "figures" / profile / "claims.json", root)


def verdict_words(root: Path, key: str, profile: str = "quick") -> str:
    """The verdict of a claim with its effect and interval, as Markdown.  Raises MissingResult for an unknown key."""
    row = next((row for row in claims_of(root, profile) if row["key"] == key), None)
    if row is None:
        raise MissingResult(f"figures/{profile}/claims.json has no claim '{key}'")
    return f"**{in_words(row)}**{_effect(row)}"


def as_symbols(text: str) -> str:
    """The names of targets as MyST writes them with an index: S^Th, S_low."""
    return re.sub(r"\bS([\^_])(\w+)", lambda found: f"S{{{MARKS[found[1]]}}}`{found[2]}`", text)


def _effect(row: dict) -> str:
    if row.get("n") is None:
        return ""
    images = "" if row["images"] is None else f" × {row['images']:,} images"
    return f", {number(row)}, {row['n']} {row['unit']}{images}".replace("-", "−")


def caption(root: Path, name: str, profile: str = "quick", group: str | None = None) -> list[str]:
    """A line for each main claim of a figure (of a group of claims): claim, verdict and effect, as Markdown.

    Raises MissingResult where the picture, its JSON or the verdict of a claim is missing.
    """
    folder = root / "figures" / profile
    if not (folder / f"{name}.png").is_file():
        raise MissingResult(f"figures/{profile}/{name}.png is missing; `make figures ONLY={name}` draws it")
    found = {one["key"]: one for one in _read(folder / f"{name}.json", root).get("claims", [])}
    absent = {row["key"]: row for row in claims_of(root, profile) if row["verdict"] == NOT_MEASURED}
    lines = []
    for claim in FIGURES[name].claims:
        if group not in (None, claim.group):
            continue
        row = found.get(claim.key, absent.get(claim.key))
        if row is None:
            raise MissingResult(f"figures/{profile}/{name}.json has no verdict of the claim '{claim.key}'")
        lines.append(f"{as_symbols(claim.text)}: **{in_words(row)}**{_effect(row)}")
    return lines


def counted(root: Path, group: str, profile: str = "quick") -> str:
    """How many claims of a group came to which verdict: 'direction holds (4), contradicted (1)'."""
    if group not in GROUPS:
        raise MissingResult(f"unknown group of claims '{group}'; allowed: {', '.join(GROUPS)}")
    counts = Counter(row["verdict"] for row in claims_of(root, profile) if row["group"] == group)
    return ", ".join(f"{verdict} ({count})" for verdict, count in counts.most_common())


def profiles(root: Path) -> list[str]:
    """Profiles whose claims are published, quick first."""
    names = sorted(path.parent.name for path in (root / "figures").glob("*/claims.json"))
    return sorted(names, key=lambda name: name != "quick")


# the verdict beside the claim: on a phone only the first columns are on the screen
TABLE_HEAD = ("claim", "verdict", "profile", "effect", "95 % interval", "published", "n", "would have found", "kind")


def table_rows(root: Path) -> list[tuple[str, ...]]:
    """The claims of every profile, a row each, as Markdown; columns as TABLE_HEAD."""
    rows = []
    for profile in profiles(root):
        known, own = {row["key"]: row for row in claims_of(root, profile)}, figures_of(profile)
        for name, figure in FIGURES.items():
            for claim in figure.claims:
                if claim.key in known:
                    rows.append(_cells(known[claim.key], profile, name))
                elif name in own and profile == "quick":  # another may not be computed to its end
                    raise MissingResult(f"figures/{profile}/claims.json has no claim '{claim.key}' of {name}")
    return rows


def _cells(row: dict, profile: str, notebook: str) -> tuple[str, ...]:
    measured = row["n"] is not None and row["low"] is not None
    few = f" of {row['planned']}" if row["planned"] and row["n"] and row["n"] < row["planned"] else ""
    return (
        f"{as_symbols(row['claim'])} ([{notebook[:2]}](/notebooks/{notebook}.ipynb))",
        in_words(row),
        profile,
        f"{row['estimate']:.3f}".replace("-", "−") if measured else "",
        f"[{row['low']:.3f}, {row['high']:.3f}]".replace("-", "−") if measured else "",
        ", ".join(f"{value:.3f} ({task})" for task, value in row["published"].items()),
        "" if row["n"] is None else f"{row['n']}{few} {row['unit']}",
        "" if row["detectable"] is None else f"{row['detectable']:.3f}",
        row["group"],
    )


def _read(path: Path, root: Path):
    if not path.is_file():
        raise MissingResult(f"{path.relative_to(root)} is missing; `make figures` writes it")
    return json.loads(path.read_text(encoding="utf-8"))

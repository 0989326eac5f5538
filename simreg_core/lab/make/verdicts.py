"""The verdicts of figures as text: the table of claims, its copy in the README, and the summary in a notebook."""

import json
from pathlib import Path

from simreg_core.lab.files import StoreError, write_text
from simreg_core.lab.make.claims_table import claims_markdown, table_of_claims
from simreg_core.lab.make.notebooks import notebook_paths, shown
from simreg_core.lab.specs import PROFILES, Profile
from simreg_core.lab.study import figures_folder


def write_claims(profile: Profile) -> str:
    """Write the table of claims as claims.md and claims.json beside the figures.  Returns it as text for a terminal."""
    folder = figures_folder(profile)
    figures = {}
    for path in notebook_paths():
        made = folder / f"{path.stem}.json"
        if made.is_file():
            figures[path.stem] = json.loads(made.read_text())
    rows = table_of_claims(figures)
    table = claims_markdown(rows, _other_profiles(folder) if profile.name == "quick" else {})
    texts = {"claims.json": json.dumps(rows, indent=1, allow_nan=False) + "\n", "claims.md": table}
    for name, text in texts.items():
        if not (folder / name).is_file() or (folder / name).read_text() != text:
            write_text(folder / name, text)
    lines = [f"claims (profile '{profile.name}'; with statistics in {shown(folder / 'claims.md')}):"]
    for row in rows:
        measured = interval(row) if row["n"] is not None else ""
        lines.append(f"  {row['verdict']:14} {row['claim']:82} {measured}")
    return "\n".join(lines)


def _other_profiles(folder: Path) -> dict[str, list[dict]]:
    """The claims of the other profiles that ship, for the README's table.  folder: of the figures of quick."""
    found = {path.parent.name: path for path in sorted(folder.parent.glob("*/claims.json")) if path.parent != folder}
    return {name: json.loads(path.read_text()) for name, path in found.items() if (PROFILES / f"{name}.yaml").is_file()}


def put_claims_into(page: Path, claims: Path) -> None:
    """Replace what stands between the page's marks with the table of claims."""
    before, begin, rest = page.read_text().partition("<!-- claims:begin -->\n")
    _, end, after = rest.partition("<!-- claims:end -->")
    if not end:
        raise StoreError(f"{page} lacks the marks <!-- claims:begin --> and <!-- claims:end -->")
    write_text(page, before + begin + claims.read_text() + end + after)


def summary(made: dict) -> str:
    """The verdicts on the main claims of a figure as text, for the top of its notebook.

    made: the JSON of the figure.
    """
    lines = [
        f"- {claim['claim']}: **{claim['verdict']}** ({claim['statistic']}: {interval(claim)}, {claim['n']} "
        f"{claim['unit']}; asked: > {claim['threshold']:g})"
        for claim in made["claims"]
        if claim["main"]
    ]
    finer = "" if len(lines) == len(made["claims"]) else "; finer verdicts at the end"
    return f"**Verdict** ({made['profile']} profile{_protocol(made)}{finer}):\n\n" + "\n".join(lines)


def _protocol(made: dict) -> str:
    """', protocol `strict`' of a figure; nothing where none of its records has a protocol."""
    if "protocol" not in made:
        return ""
    judged = sorted({claim["protocol"] for claim in made["claims"] if claim["main"]} - {made["protocol"]})
    return f", protocol `{made['protocol']}`" + "".join(f", judged under `{one}`" for one in judged)


def interval(claim: dict) -> str:
    """'0.1 [0.0, 0.2]'; 'not measurable' where it is not finite."""
    if claim["low"] is None:
        return "not measurable"
    return f"{claim['estimate']:.3f} [{claim['low']:.3f}, {claim['high']:.3f}]"

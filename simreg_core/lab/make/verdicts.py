"""The verdicts of figures: tables and picture of the claims, their copy in the README, and a notebook's summary."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from simreg_core.lab.claims import CONTRADICTED, HOLDS, NO_EFFECT, NOT_ACCEPTED
from simreg_core.lab.files import StoreError, note, write_text
from simreg_core.lab.folders import figures_folder
from simreg_core.lab.make.claims_table import afterwards_markdown, claims_markdown, headline_table, table_of_claims
from simreg_core.lab.make.notebooks import notebook_paths, shown
from simreg_core.lab.specs import PROFILES, Profile
from simreg_core.lab.store import Store
from simreg_core.lab.verdict_words import effect_in_words, in_words


def write_claims(profile: Profile) -> str:
    """Write claims.md, claims.json and the picture of the claims beside the figures.  Returns a text for a terminal."""
    folder = figures_folder(profile)
    figures = {}
    for path in notebook_paths():
        made = folder / f"{path.stem}.json"
        if made.is_file():
            figures[path.stem] = json.loads(made.read_text(encoding="utf-8"))
    rows = table_of_claims(figures)
    page = claims_markdown(rows, profile.name, other_profiles(folder) if profile.name == "quick" else {})
    page += afterwards_markdown(figures)
    texts = {"claims.json": json.dumps(rows, indent=1, allow_nan=False) + "\n", "claims.md": page}
    for name, text in texts.items():
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text:
            write_text(folder / name, text)
    _draw(rows, profile, texts["claims.json"])
    lines = [f"claims (profile '{profile.name}'; more in {shown(folder / 'claims.md')}):"]
    lines += [f"  {in_words(row):40} {row['claim']:70} {_effect(row)}" for row in rows]
    return "\n".join(lines)


def _draw(rows: list[dict], profile: Profile, text: str) -> None:
    """Draw the pictures of all claims and, for the README, of the headline, where what they show changed since."""
    folder, own = figures_folder(profile), Path(__file__).with_name("forest.py")
    shown = {"claims": rows, "claims_headline": [row for row in rows if row["group"] == "headline"]}
    pictures = [folder / f"{name}.{suffix}" for name in shown for suffix in ("pdf", "png")]
    stamp = Store().root / "drawn" / profile.name / "claims.txt"

    def state() -> str:
        digest = hashlib.sha256((text + version("matplotlib")).encode() + own.read_bytes())
        for path in pictures:
            digest.update(path.read_bytes() if path.is_file() else b"missing")
        return digest.hexdigest() + "\n"

    if stamp.is_file() and stamp.read_text(encoding="utf-8") == state():
        return
    from simreg_core.lab.figures.kit import plt, save_picture  # here, as below: they take longer than drawing nothing
    from simreg_core.lab.make.forest import forest

    for name, claims in shown.items():
        picture = forest(claims, profile.name)
        save_picture(picture, folder / name)
        plt.close(picture)
    note(stamp, state())


def _effect(row: dict) -> str:
    if row["n"] is None:
        return ""
    return effect_in_words(row) + (f", asked: > {row['threshold']:g}" if row["threshold"] else "")


def other_profiles(folder: Path) -> dict[str, list[dict]]:
    """The claims of the other profiles that ship, for the tables.  folder: of the figures of quick."""
    found = {path.parent.name: path for path in sorted(folder.parent.glob("*/claims.json")) if path.parent != folder}
    return {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in found.items()
        if (PROFILES / f"{name}.yaml").is_file()
    }


def put_claims_into(page: Path, figures: Path) -> None:
    """Replace what stands between the page's marks with the headline claims.  figures: the folder of a profile."""
    before, begin, rest = page.read_text(encoding="utf-8").partition("<!-- claims:begin -->\n")
    _, end, after = rest.partition("<!-- claims:end -->")
    if not end:
        raise StoreError(f"{page} lacks the marks <!-- claims:begin --> and <!-- claims:end -->")
    rows = json.loads((figures / "claims.json").read_text(encoding="utf-8"))
    table = headline_table(rows, figures.name, other_profiles(figures))
    write_text(page, before + begin + table + end + after)


def summary(made: dict) -> str:
    """The verdicts on the main claims of a figure in three parts at most, for the top of its notebook.

    A part of several claims is a list: nine intervals in one paragraph are not read.
    made: the JSON of the figure.
    """
    main = [claim for claim in made["claims"] if claim["main"]]
    shown = [one for one in main if one["verdict"] in HOLDS]
    against = [one for one in main if one["verdict"] in (CONTRADICTED, NO_EFFECT)]
    open_ones = [one for one in main if one not in shown and one not in against]
    parts = [_part("Shown here", shown), _part("Not so here", against), _part("Open", open_ones)]
    parts = [f"**Verdict** ({made['profile']} profile{_protocol(made)}).", *filter(None, parts)]
    if not any("\n" in one for one in parts):
        return " ".join(parts[:2]) + "".join(f"\n{one}" for one in parts[2:])
    return "\n\n".join(parts)


def _part(begin: str, claims: list[dict]) -> str:
    """One claim as a sentence, several as a list; empty where there is none."""
    said = [f"{one['claim']} ({_verdict(one)})" for one in claims]
    if len(said) == 1:
        return f"{begin}: {said[0]}."
    return f"{begin}:\n\n" + "\n".join(f"- {one}" for one in said) if said else ""


def _verdict(one: dict) -> str:
    """'reproduced, 0.200 [0.100, 0.300]', and the number of seeds where it is smaller than planned."""
    parts = [in_words(one), *([] if one["verdict"] == NOT_ACCEPTED else [effect_in_words(one)])]
    if one.get("planned") and one["n"] < one["planned"]:
        parts.append(f"{one['n']} of {one['planned']} planned seeds")
    return ", ".join(parts)


def _protocol(made: dict) -> str:
    """', protocol `strict`' of a figure; nothing where none of its records has a protocol."""
    if "protocol" not in made:
        return ""
    judged = sorted({claim["protocol"] for claim in made["claims"] if claim["main"]} - {made["protocol"]})
    return f", protocol `{made['protocol']}`" + "".join(f", judged under `{one}`" for one in judged)

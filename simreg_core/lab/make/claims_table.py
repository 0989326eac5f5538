"""The table of claims: every main claim of every figure with its verdict, as plain values and as Markdown."""

from collections.abc import Mapping
from string import ascii_lowercase

from simreg_core.lab.claims import GROUPS, NOT_MEASURED, Claim, number
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.protocol_of_claims import FEWEST_SEEDS
from simreg_core.lab.verdict_words import effect_in_words, in_full, in_words

MEASURED = (
    "estimate", "low", "high", "n", "unit", "planned", "images", "detectable", "same", "chosen", "left_out", "also",
)  # fmt: skip


def table_of_claims(made: dict[str, dict]) -> list[dict]:
    """The main claims with their verdicts, as plain values, figure by figure.

    made: the JSON of each notebook's figure by the notebook's name. A claim of another is 'not measured'; those of a
        figure that not every profile has (`Figure.part`) are left out then.
    """
    shown = {name: figure for name, figure in FIGURES.items() if figure.part is None or name in made}
    return [_row(claim, name, made) for name, figure in shown.items() for claim in figure.claims]


def _row(claim: Claim, notebook: str, made: dict[str, dict]) -> dict:
    own = made.get(notebook, {})
    found = _found(own, claim.key)
    strict = _found(made.get(claim.strict_in[0], {}), claim.strict_in[1]) if claim.strict_in else None
    return {
        "key": claim.key,
        "group": claim.group,
        "claim": claim.text,
        "source": claim.source,
        "notebook": notebook,
        "statistic": claim.statistic,
        "scale": claim.scale,
        "threshold": claim.threshold,
        "margin": claim.margin,
        "published": dict(claim.published),
        **{name: found.get(name) for name in MEASURED},
        "verdict": found.get("verdict", NOT_MEASURED),
        "strict": found.get("strict") if strict is None else strict.get("verdict"),
        "strict_from": None if not strict else _where(claim.strict_in[0], strict),
        "drawn": bool(own),
        "flagged": sum(bool(record.get("warnings")) for record in own.get("records", [])),
    }


def _found(made: dict, key: str) -> dict:
    """A claim in the JSON of a figure; empty where it is not judged there."""
    return next((one for one in made.get("claims", []) if one.get("key") == key), {})


def _where(notebook: str, found: dict) -> str:
    """'notebook 13, 8 seeds': a verdict of another notebook is of other networks."""
    return f"notebook {notebook[:2]}, {found['n']} {found['unit']}"


def group_table(
    rows: list[dict], group: str, profile: str, others: Mapping[str, list[dict]] | None = None, root: str = ""
) -> str:
    """The table of one group as Markdown, and below it how α and Th were chosen.

    rows: of `table_of_claims`, of a profile.  others: the same of other profiles by name, each a column more.
    root: the way from the page to the project's folder, '' or one that ends with '/'.
    """
    others, own = others or {}, [row for row in rows if row["group"] == group]
    chosen = list(dict.fromkeys(row["chosen"] for row in own if row["chosen"]))
    letters = dict(zip(chosen, ascii_lowercase, strict=False))
    lines = [_line(["claim", "published", profile, *others]), _line(["---"] * (3 + len(others)))]
    for row in own:
        cells = [_claim_cell(row, profile, root), _published(row), _measured_cell(row, letters)]
        for other in others.values():
            found = next((one for one in other if one["key"] == row["key"]), None)
            cells.append("" if found is None else _measured_cell(found, {}))
        lines.append(_line(cells))
    notes = [f"({letter}) {how}" for how, letter in letters.items()]
    return "\n".join(lines) + "\n" + (f"\nHow α and Th were chosen: {'; '.join(notes)}.\n" if notes else "")


def headline_table(rows: list[dict], profile: str, others: Mapping[str, list[dict]] | None = None) -> str:
    """The headline claims for the README: what is published, and each profile's verdict and effect.

    Arguments as in `group_table`, which says more.
    """
    columns = {profile: rows, **(others or {})}
    lines = [_line(["claim", "published", *columns]), _line(["---"] * (2 + len(columns)))]
    for row in rows:
        if row["group"] != "headline":
            continue
        cells = [f"[{row['claim']}](notebooks/{row['notebook']}.ipynb)", _published(row)]
        for name, own in columns.items():
            found = next((one for one in own if one["key"] == row["key"]), None)
            # of another profile 'not measured' says little, as do seeds that are too few to decide anything
            unmeasured = found is None or (name != profile and (found["n"] or 0) < FEWEST_SEEDS)
            cells.append("" if unmeasured else _short_cell(found))
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _short_cell(row: dict) -> str:
    """Verdict and effect; the number of seeds where it is smaller than planned."""
    if row["n"] is None:
        return row["verdict"]
    few = f", {row['n']}/{row['planned']} seeds" if _has_few(row) else ""
    return f"**{in_words(row)}**{_flags(row['flagged'])}, {number(row)}{few}"


def _has_few(row: dict) -> bool:
    return row["planned"] is not None and row["n"] < row["planned"]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _claim_cell(row: dict, profile: str, root: str) -> str:
    name = row["notebook"]
    figure, notebook = f"{root}figures/{profile}/{name}.png", f"{root}notebooks/{name}.ipynb"
    records = figure.removesuffix("png") + "json"
    links = [f"[figure]({figure})", f"[records]({records})"] if row["drawn"] else []
    return f"{row['claim']} ({', '.join([*links, f'[notebook {name[:2]}]({notebook})'])})"


def _published(row: dict) -> str:
    said = [f"{value:.3f} ({task})" for task, value in row["published"].items()]
    return ", ".join(said)


def _measured_cell(row: dict, letters: Mapping[str, str]) -> str:
    """Verdict; effect with interval; seeds and images; what could have been found; under the strict protocol."""
    if row["n"] is None:
        return row["verdict"]
    letter = f" ({letters[row['chosen']]})" if row["chosen"] in letters else ""
    lines = [f"**{in_words(row)}**{_flags(row['flagged'])}", f"{effect_in_words(row)}{letter}", _size(row)]
    if row["detectable"]:  # 0 where all seeds agree: there is no spread to find anything against
        lines[-1] += f"; would have found {row['detectable']:.3f}"
    if row["strict"]:
        lines.append(f"strict: {row['strict']}" + (f" ({row['strict_from']})" if row.get("strict_from") else ""))
    if row["left_out"]:
        lines.append(f"not accepted: {', '.join(row['left_out'])}")
    return "<br>".join(lines)


def _size(row: dict) -> str:
    few = f" (of {row['planned']} planned)" if _has_few(row) else ""
    images = "" if row["images"] is None else f" × {row['images']} images"
    return f"{row['n']} {row['unit']}{few}{images}"


def _flags(count: int) -> str:
    return f" (⚠ {count} record{'s' * (count > 1)} flagged)" if count else ""


def claims_markdown(rows: list[dict], profile: str, others: Mapping[str, list[dict]] | None = None) -> str:
    """The page of all claims of a profile: the picture and three tables.  Arguments as in `group_table`."""
    words = "[What each claim measures, and what the verdicts mean](../../docs/claims.md)"
    parts = [f"# Claims, profile '{profile}'\n", f"{words}.\n", "![effects and intervals of all claims](claims.png)\n"]
    for group, title in GROUPS.items():
        if not any(row["group"] == group for row in rows):
            continue
        parts += [f"## {title}\n", group_table(rows, group, profile, others, "../../")]
        beside = [f"- {row['claim']}: {_besides(row)}" for row in rows if row["group"] == group and row["also"]]
        if beside:
            parts += ["Beside these:\n", "\n".join(beside) + "\n"]
    return "\n".join(parts)


def afterwards_markdown(figures: Mapping[str, dict]) -> str:
    """What was asked for after the records were there (`lab.afterwards`), a list; empty where there is nothing.

    figures: the JSON of each notebook's figure by the notebook's name.
    """
    lines = [
        f"- Notebook {name[:2]}: {one['statistic']}, {number(one)}, n = {one['n']}"
        for name, made in figures.items()
        for one in made.get("afterwards", ())
    ]
    intro = "Readers asked for these numbers after they had seen the records. No verdict rests on them.\n"
    return "\n".join(["\n## Asked afterwards\n", intro, *lines]) + "\n" if lines else ""


def _besides(row: dict) -> str:
    """The secondary statistics of a claim with their intervals and published values."""
    found = []
    for one in row["also"]:
        known = ", ".join(f"{value:.3f} ({task})" for task, value in one["published"].items())
        words = in_full(one["statistic"], row["statistic"])
        found.append(f"{words}, {number(one)}" + (f"; published {known}" if known else ""))
    return "; ".join(found)

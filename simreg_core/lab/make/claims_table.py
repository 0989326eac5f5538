"""The table of claims: every main claim of every figure with its verdict, as plain values and as Markdown."""

from simreg_core.lab.claims import Claim
from simreg_core.lab.figures import FIGURES

NOT_MEASURED = "not measured"
COLUMNS = (
    "claim", "where", "statistic", "asked", "published", "measured [95 % interval]", "n", "verdict", "strict",
)  # fmt: skip


def table_of_claims(made: dict[str, dict]) -> list[dict]:
    """The main claims with their verdicts, as plain values, figure by figure.

    made: the JSON of each notebook's figure by the notebook's name; a claim of another is 'not measured'.
    """
    return [_row(claim, name, made) for name, figure in FIGURES.items() for claim in figure.claims]


def _row(claim: Claim, notebook: str, made: dict[str, dict]) -> dict:
    own = made.get(notebook, {})
    found = _found(own, claim.key)
    strict = _found(made.get(claim.strict_in[0], {}), claim.strict_in[1]) if claim.strict_in else None
    return {
        "key": claim.key,
        "claim": claim.text,
        "source": claim.source,
        "notebook": notebook,
        "statistic": claim.statistic,
        "threshold": claim.threshold,
        "published": claim.published,
        **{name: found.get(name) for name in ("estimate", "low", "high", "n", "unit")},
        "verdict": found.get("verdict", NOT_MEASURED),
        "strict": found.get("strict") if strict is None else strict.get("verdict"),
        "flagged": sum(bool(record.get("warnings")) for record in own.get("records", [])),
    }


def _found(made: dict, key: str) -> dict:
    """A claim in the JSON of a figure; empty where it is not judged there."""
    return next((one for one in made.get("claims", []) if one.get("key") == key), {})


def claims_markdown(rows: list[dict], others: dict[str, list[dict]] | None = None) -> str:
    """The table of claims as Markdown.

    rows: of `table_of_claims`.  others: the same of other profiles by name, each a column more.
    """
    others = others or {}
    lines = [_line([*COLUMNS, *others]), _line(["---"] * (len(COLUMNS) + len(others)))]
    for row in rows:
        published = "" if row["published"] is None else f"{row['published']:.3f}"
        n = "" if row["n"] is None else f"{row['n']} {row['unit']}"
        verdict = f"**{row['verdict']}**{_flags(row['flagged'])}"
        cells = [row["claim"], f"{row['source']}; {row['notebook']}", row["statistic"], f"> {row['threshold']:g}"]
        cells += [published, _measured(row), n, verdict, row["strict"] or ""]
        for other in others.values():
            found = next((one for one in other if one["key"] == row["key"] and one["n"] is not None), None)
            cells.append("" if found is None else f"{found['verdict']}: {_measured(found)}")
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _measured(row: dict) -> str:
    """Estimate and interval of a row, where there are any."""
    if row["n"] is None:
        return ""
    interval = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return ("" if row["estimate"] is None else f"{row['estimate']:.3f}") + interval


def _flags(count: int) -> str:
    return f" (⚠ {count} records flagged)" if count else ""

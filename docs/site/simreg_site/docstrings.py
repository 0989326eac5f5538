"""Docstrings of this project, which are plain text with a little Markdown, as reStructuredText for autodoc."""

import re

NAMES = r"[A-Za-z_]\w*(?:, [A-Za-z_]\w*)*"
FIELD = re.compile(rf"({NAMES}): (?=\S)")
LEAD = re.compile(r"(Returns?|Raises|Warns|Source:?)(?= )")
MARKED = re.compile(r"(\\|\*|\||_(?=\W|$)|`)")


def as_rest(lines: list[str], names: set[str]) -> list[str]:
    """A docstring as reStructuredText.

    lines: of the docstring, without its indentation.  names: of parameters and fields; a line that begins with some of
    them and a colon becomes an item of a list, with the lines below it.
    """
    written: list[str] = []
    for kind, block in _blocks(lines, names):
        written += [*WRITERS[kind](block), ""]
    return written


def inline(text: str) -> str:
    """`code` stays code; all else that reStructuredText would take for a mark is text."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(f"`{part}`" if index % 2 else MARKED.sub(r"\\\1", part) for index, part in enumerate(parts))


def _blocks(lines: list[str], names: set[str]) -> list[tuple[str, list[str]]]:
    """What belongs together, with its kind: 'text', 'code', 'table', 'field' or 'item'."""
    found: list[tuple[str, list[str]]] = []
    fresh = True  # whether a new block must begin
    for line in _split_fields(lines, names):
        if not line.strip():
            fresh = True
            continue
        kind = _kind(line, names, found, fresh)
        if kind is None:
            found[-1][1].append(line)
        else:
            found.append((kind, [line]))
        fresh = False
    return found


def _kind(line: str, names: set[str], found: list[tuple[str, list[str]]], fresh: bool) -> str | None:
    """The kind of the block that a line begins; None where it goes on with the last one."""
    last = found[-1][0] if found else ""
    if line.startswith("    ") and last == "code":
        return None
    if line.startswith("|"):
        return None if last == "table" and not fresh else "table"
    if line.startswith("    ") and fresh and last != "field":
        return "code"
    if _fields(line, names):
        return "field"
    if re.match(r"[-*] ", line):
        return "item"
    return "text" if fresh or last == "table" or LEAD.match(line) else None


def _fields(line: str, names: set[str]) -> bool:
    found = FIELD.match(line)
    return found is not None and set(found.group(1).split(", ")) <= names


def _split_fields(lines: list[str], names: set[str]) -> list[str]:
    """Fields that share a line, two spaces between them, on a line each."""
    split: list[str] = []
    for line in lines:
        parts = re.split(r"(?<=\S)  (?=\S)", line)
        rest = parts[:1]
        for part in parts[1:]:
            if _fields(part, names):
                rest.append(part)
            else:
                rest[-1] += "  " + part
        split += rest
    return split


def _text(block: list[str]) -> list[str]:
    text = " ".join(line.strip() for line in block)
    lead = LEAD.match(text)
    return [f"**{lead.group(1)}**{inline(text[lead.end() :])}" if lead else inline(text)]


def _field(block: list[str]) -> list[str]:
    names, text = " ".join(line.strip() for line in block).split(": ", 1)
    return [f"* **{inline(names)}**: {inline(text)}"]


def _item(block: list[str]) -> list[str]:
    return [f"* {inline(' '.join(line.strip() for line in block)[2:])}"]


def _code(block: list[str]) -> list[str]:
    return [".. code-block:: python", "", *("    " + line[4:] for line in block)]


def _table(block: list[str]) -> list[str]:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block]
    rows = [row for row in rows if not all(set(cell) <= set("-: ") and cell for cell in row)]
    cells = [
        "   " + ("* - " if index == 0 else "  - ") + inline(cell) for row in rows for index, cell in enumerate(row)
    ]
    return [".. list-table::", "   :header-rows: 1", "", *cells]


WRITERS = {"text": _text, "field": _field, "item": _item, "code": _code, "table": _table}

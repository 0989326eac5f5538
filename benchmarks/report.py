"""Tables of benchmarks, and the file that holds those of each device."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

from simreg_core.lab.devices import device_name
from simreg_core.lab.store import write_text

TITLE = "# Benchmarks"
INTRODUCTION = f"""{TITLE}

The last `python -m benchmarks.bench --output BENCHMARKS.md` on each device. Ratios are the result: both sides were
measured in turns in one run, and each is the median over rounds. Absolute times hold for the device named, no other.
"""


class BenchError(ValueError):
    """A benchmark that cannot be run or written as asked; the message says which."""


@dataclass(frozen=True)
class Table:
    """What was measured.  note: what is counted."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return f"### {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{self.note}\n"


def shown_time(seconds: float) -> str:
    """'3.2 ms' or '1.5 s'."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def check_output(path: Path) -> None:
    """Raise BenchError where `write_section` could not write."""
    if path.is_dir() or not path.parent.is_dir():
        raise BenchError(f"--output must be a file in an existing folder, got {path}")
    if path.exists() and not path.read_text(encoding="utf-8").startswith(f"{TITLE}\n"):
        raise BenchError(f"--output {path} is no file of benchmarks: its first line is not '{TITLE}'")


def write_section(path: Path, device: torch.device, tables: Sequence[Table]) -> None:
    """Write the section of a device, in place of its last one; the file is written whole or not at all.

    Raises BenchError for a path that is no file of benchmarks, StoreError where writing fails.
    """
    check_output(path)
    text = path.read_text(encoding="utf-8") if path.exists() else INTRODUCTION
    body = f"Measured {date.today().isoformat()}, torch {torch.__version__}.\n\n"
    body += "\n".join(table.markdown() for table in tables)
    write_text(path, replaced_section(text, device_name(device), body))


def replaced_section(text: str, name: str, body: str) -> str:
    """Markdown with the section '## name' replaced by body, or added at the end."""
    head, *sections = text.split("\n## ")
    bodies = dict(section.partition("\n")[::2] for section in sections)
    bodies[name] = f"\n{body}"
    return "\n## ".join([head.rstrip() + "\n", *(f"{one}\n{its.rstrip()}\n" for one, its in bodies.items())])

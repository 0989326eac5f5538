"""Conclusions in words, written from the verdicts of a study: a paragraph for each mechanism."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from simreg_core.lab.claims import CONTRADICTED, HOLDS, NO_EFFECT, Verdict, number
from simreg_core.lab.study import Study


@dataclass(frozen=True)
class Mechanism:
    """What may protect.  claims: what each finds where it holds, and where it fails.  against: what would refute it."""

    name: str
    claims: Mapping[str, tuple[str, str]]
    against: str


def conclusions(study: Study, mechanisms: Iterable[Mechanism]) -> str:
    """Markdown: what the study's verdicts say of each mechanism, and what would speak against it."""
    found = {one.key: one for one in study.judge() if one.main}
    return "\n\n".join(_paragraph(one, found) for one in mechanisms)


def _paragraph(mechanism: Mechanism, found: Mapping[str, Verdict]) -> str:
    said = []
    for key, (holds, fails) in mechanism.claims.items():
        one = found.get(key)
        if one is None:
            said.append(f"not measured with this design or protocol: whether {holds}")
        elif one.verdict in HOLDS:
            said.append(f"{holds} ({number(asdict(one))})")
        elif one.verdict in (CONTRADICTED, NO_EFFECT):
            said.append(f"{fails} ({one.verdict}, {number(asdict(one))})")
        else:
            said.append(f"whether {holds} is {one.verdict} ({number(asdict(one))})")
    text = "; ".join(said)
    return f"**{mechanism.name}.** {text[0].upper()}{text[1:]}. What would speak against it: {mechanism.against}."

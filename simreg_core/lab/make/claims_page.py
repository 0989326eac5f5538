"""docs/claims.md: what each claim measures and what the verdicts mean, written from the figures' modules."""

from collections import Counter

from simreg_core.lab.claims import GROUPS, PLANNED_SEEDS, Claim
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.files import write_text
from simreg_core.lab.protocol_of_claims import (
    CLEAN_RATIO,
    CONFIDENCE,
    FEWEST_SEEDS,
    MARGINS,
    NOT_INFERIOR,
    POWER,
    SHARE_OF_PUBLISHED,
)
from simreg_core.lab.specs import PROJECT
from simreg_core.lab.verdict_words import TOO_SMALL, in_full

PAGE = PROJECT / "docs" / "claims.md"


RULES = f"""# The claims

This page is written from the figures' modules by `python -m simreg_core claims-page`; edit them, not the page.
The results are in `figures/<profile>/claims.md`, and as numbers in `claims.json`. The JSON of a figure names each
record that its verdicts come from; the record is `figures/<profile>/records/EXPERIMENT/EVALUATION.json`.

## How a claim is judged

- **Unit.** One training seed. Networks with the same seed start alike and see the same batches, so effects are
  differences (or ratios) within a seed. In quick {PLANNED_SEEDS["headline"]} seeds are planned for a headline claim and
  {PLANNED_SEEDS["ours"]} for the others, {PLANNED_SEEDS["dissertation"]} for those of the dissertation and
  {PLANNED_SEEDS["all defences"]} for those of all defences side by side.
- **Effect.** Under noise and transferred attacks: the mean accuracy over the grid of ε, zero included, which is
  the area between two curves. Beside it, never judged: accuracy at the largest ε, and how much less accuracy is
  lost from clean to there.
- **Interval.** The {CONFIDENCE:.0%} t-interval of the mean over seeds. It needs {FEWEST_SEEDS} seeds; with
  fewer nothing is decided.
- **Verdict.** Of an effect e with the interval [lo, hi], what the claim asks for (t), and the effect p that is
  published for the same task over the same grid of ε. The first rule that fits decides:

| verdict | rule |
| --- | --- |
| reproduced | lo > t, and e − t is at least {SHARE_OF_PUBLISHED:.0%} of p − t |
| same direction, smaller | lo > t, and e − t is less than that |
| direction holds | lo > t, and there is no such p |
| no effect | [lo, hi] lies within ±{MARGINS["accuracy"]:g} of t (accuracies) or ±{MARGINS["ratio"]:g} (other scales) |
| contradicted | hi < t |
| not decided here | else |
| not accepted | no verdict: the selection criterion accepted no setting of α and Th |
| not measured | no verdict: the profile does not measure it, or has not yet measured it in full |

- **{TOO_SMALL.capitalize()}** is said of a claim that holds where [lo, hi] also lies within the margin of "no effect":
  the sign of the effect is sure, and its size counts as none.
- **Published effects** of another task are shown and never compared. Of MNIST only the curves under Gaussian
  noise are published.
- **Non-inferiority** ("does no worse than") asks for lo > {NOT_INFERIOR:g}. "No effect" is no verdict there: an
  interval around {NOT_INFERIOR:g} does not say that the two are alike.
- **Would have found**: the smallest distance from t that a paired t-test with this n and this spread finds with
  {POWER:.0%} power. It is left out where all seeds agree.
- **No set loses**, "none loses": no accepted member *surely* loses (see below); an interval may reach below zero.
- **strict** is said below a verdict: what the claim's verdict is under the strict protocol. Under noise and FGSM the
  two protocols [differ very little](review.md#two-protocols).
- **⚠ flagged**: A check found that an attack on some network may be too weak, so that its accuracy may be the
  attack's failure. All records of the figure are counted, not those of one claim; the figure's JSON says which they
  are, and why.
- **Asked afterwards**, at the end of `claims.md`: numbers that readers asked for when the records were there already.
  They have intervals and no verdicts.
- **α and Th** are chosen on validation images; each verdict says how.
- **Fixed before.** This list, the numbers of seeds and all constants are in
  `simreg_core/lab/protocol_of_claims.py`. A test refuses records that were computed before its last
  change, but for those that are older than the file itself.

## Two kinds of claim that could not be decided

*Claims of all sets, tasks, k, ...* were judged by the least favourable member. Of several members one nearly
always has an interval that reaches zero, so the claim would stay open for ever even if all effects were real,
and the choice of the worst biases the effect downwards. Now the **mean over members** decides, and the claim is
**contradicted where one member surely lies on the wrong side** (its interval is widened for the number of
members, Bonferroni). The least favourable member is shown beside the mean. A member whose setting was not
accepted is left out and named.

*Clean accuracy.* The criterion takes the most robust α whose clean ratio is at least 0.9, so the ratio lies
near 0.9 by construction, and "above 0.9" is a toss of a coin. The claim now asks for {CLEAN_RATIO:g}: what
validation images promised holds on test images up to the margin of ratios. The ratio is shown, so whoever asks
for 0.9 sees it.
"""


def claims_page() -> str:
    """The text of docs/claims.md."""
    parts = [RULES]
    for group, title in GROUPS.items():
        own = [(name, one) for name, figure in FIGURES.items() for one in figure.claims if one.group == group]
        count = Counter(one.text for _, one in own)
        parts.append(f"## {title}\n")
        parts += [_section(name, one, count[one.text] > 1) for name, one in own]
    return "\n".join(parts)


def write_claims_page() -> None:
    """Write docs/claims.md."""
    write_text(PAGE, claims_page())


def _section(notebook: str, claim: Claim, named: bool) -> str:
    """named: whether the heading names the notebook, as another has the same words."""
    heading = f"### {claim.text}" + (f" (notebook {notebook[:2]})" if named else "")
    lines = [f"{heading}\n", f"- Key `{claim.key}`, [notebook {notebook[:2]}](../notebooks/{notebook}.ipynb)"]
    lines.append(f"- Stated in: {claim.source}")
    lines.append(f"- Effect: {claim.statistic}; asked: > {claim.threshold:g}")
    if claim.published:
        lines.append(f"- Published: {', '.join(f'{value:.3f} ({task})' for task, value in claim.published.items())}")
    if claim.parts is not None:
        lines.append("- Contradicted also where one part surely lies on the wrong side")
    if claim.also:
        lines.append(f"- Beside it: {'; '.join(in_full(one.statistic, claim.statistic) for one in claim.also)}")
    if claim.note:
        lines.append(f"- {claim.note}")
    return "\n".join(lines) + "\n"

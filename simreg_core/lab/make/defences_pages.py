"""docs/all-defences.md and docs/which.md, written from the figures' numbers: nothing of them is written by hand."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from simreg_core.lab.claims import CONTRADICTED, HOLDS, NO_EFFECT, number
from simreg_core.lab.defences_gains import CLAIMS, COLUMNS, WITHOUT_AUTOATTACK
from simreg_core.lab.figures import FIGURES
from simreg_core.lab.files import write_text
from simreg_core.lab.specs import PROJECT, load_profile
from simreg_core.lab.verdict_words import effect_in_words

FIGURE = "24_all_defences"
SPARSE, HEBBIAN = "22_sparse_coding_front_end", "23_hebbian_networks"
QUICK = PROJECT / "figures" / "quick"
PAGES = {name: PROJECT / "docs" / f"{name}.md" for name in ("all-defences", "which")}
NOT_YET = f"**It is not computed yet**: `make figures ONLY={FIGURE}` computes it.\n"
TABLE_HEAD = f"""# All defences side by side

This page is written from the numbers of [notebook 24](../notebooks/{FIGURE}.ipynb) by
`python -m simreg_core defences-pages`; edit neither table nor numbers. [Which defence should I use?](which.md)

"""
LEGEND = """Means over training seeds with half the width of their 95 % t-interval; rows are sorted by accuracy under
the strongest attack known for each, worst image by image. Gaussian noise and transferred FGSM: mean over the grid of ε;
corruptions: mean over all of them. Boundary size, training cost, inference cost and parameters are divided
by those of the undefended network of the same classifier, which is named where it is not *none*; cost is counted in
multiply-adds. Flags: records in which a check finds that an attack may not have worked. AutoAttack is not made where a
network quantizes, since the gradients it follows are not the network's own. Certified: the share of images whose
class, right or wrong, no attack of this size can change, where a defence says so.

S^Th, S^pixel and S^neural (of a simulated V1) are trained with the paper's regularizer. Noise augmentation, a blur in
front of the network, adversarial training and TRADES are the usual defences. *partial* trains the first layers
adversarially and the rest on clean images ([20](../notebooks/20_partial_adversarial_training.ipynb)); *polarizing*
quantizes the outputs of learned filters in front of a LeNet ([21](../notebooks/21_polarizing_front_end.ipynb));
*sparse coding* decodes the image from a few atoms of each patch
([22](../notebooks/22_sparse_coding_front_end.ipynb)); *HaH* is a VGG with Hebbian and anti-Hebbian blocks
([23](../notebooks/23_hebbian_networks.ipynb)).
"""
STRENGTHS = (
    "How strengths were chosen: nearest to S^Th's clean accuracy on validation images (mean of two seeds), where "
    "nothing else is said.",
    "What is not listed has the settings of its notebook.",
    "",
)
WHICH_HEAD = """# Which defence should I use?

This page is written from the figures of the quick profile by `python -m simreg_core defences-pages`, and says only what
their numbers support: small networks on 5,000 digits of MNIST and on patches of ten photographs, small attacks. On
your task, measure: [notebook 90](../notebooks/90_your_own_network.ipynb) takes your network and images.

*S^Th* is a network trained with the paper's regularizer and its thresholded targets, *none* the same network without
it; the [glossary](glossary.md) has the other words. An effect is a difference in accuracy between networks with the
same seed, in the first row a ratio, with its 95 % t-interval over n seeds. *Open*: the seeds do not decide.

"""
NOT_COMPUTED = f"""Not computed yet under the same attacks: photographs, TRADES, partial adversarial training
(notebook 20 asks other questions of it), the polarizing and the sparse-coding front end, Hebbian networks, strengths
matched in clean accuracy, and what each costs. They are the rows and columns of
[notebook 24](../notebooks/{FIGURE}.ipynb), and of [the table](all-defences.md) made from it."""
QUESTIONS = (  # (claim, its figure, the question that it answers)
    ("clean", "02_attack_curves", "Does S^Th keep clean accuracy (asked: 0.85 of it)?"),
    ("gaussian", "02_attack_curves", "Does S^Th help under Gaussian noise?"),
    ("over-noise", "14_white_box", "Does it help under noise more than training on noisy images?"),
    ("fgsm", "02_attack_curves", "Does S^Th help under transferred FGSM?"),
    ("transfer", "14_white_box", "Does it help under stronger transferred attacks?"),
    ("adaptive", "14_white_box", "Does it help under attacks made on other S^Th networks?"),
    ("white-box", "14_white_box", "Does S^Th help under white-box PGD?"),
    ("over-adversarial", "14_white_box", "Does it withstand PGD as well as adversarial training, within 0.02?"),
    ("autoattack", "14_white_box", "Does S^Th help under AutoAttack, reduced?"),
    ("over-pixel", "02_attack_curves", "Does S^Th help under noise more than S^pixel?"),
    ("corruptions", "05_common_corruptions", "Does S^Th help most under corruptions of high frequency?"),
    ("polarizing-helps", "21_polarizing_front_end", "Does a polarizing front end help under attacks that know it?"),
    ("polarizing-below-adversarial", "21_polarizing_front_end", "Does adversarial training help more than it?"),
    ("polarizing-over-pixels", "21_polarizing_front_end", "Does it help more than quantized pixels?"),
    ("sparse-near-adversarial", SPARSE, "Do sparse codes withstand as much as adversarial training, within 0.06 (L∞)?"),
    ("sparse-other-norms", SPARSE, "Do they withstand more than it in L2 and L1?"),
    ("hebbian-noise", HEBBIAN, "Do Hebbian blocks help under Gaussian noise?"),
    ("hebbian-components", HEBBIAN, "Do their three parts help, in the mean?"),
)
HELPS = {  # claims of S^Th over none, and the attack of each
    "gaussian": "Gaussian noise",
    "fgsm": "transferred FGSM",
    "white-box": "white-box PGD",
    "autoattack": "AutoAttack (reduced)",
}
ATTACKS = ("PGD", "AutoAttack, reduced", "Square")  # of figure 14
ON = {SPARSE: "photographs"}  # the images of a notebook that are no digits
DEFENCES = ("S^Th", "adversarial training", "noise augmentation", "blur")  # likewise


def table_page(folder: Path = QUICK) -> str:
    """The text of docs/all-defences.md.  folder: of a profile's figures."""
    path = folder / f"{FIGURE}.csv"
    if not path.is_file():
        return TABLE_HEAD + NOT_YET
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["tasks"]
    parts = [_table([row for row in rows if row["task"] == task], task, own) for task, own in said.items()]
    return TABLE_HEAD + LEGEND + "\n" + "\n".join(parts)


def _table(rows: list[dict[str, str]], task: str, said: Mapping) -> str:
    """A task: its table, and how strengths were chosen."""
    found = {(row["defence"], row["quantity"]): row for row in rows}
    names = dict.fromkeys((row["defence"], row["compared_with"]) for row in rows)
    seeds = max(int(float(row["seeds"])) for row in rows if row["seeds"])
    heads = ["defence", *(column.title.lower() for column in COLUMNS), "flags"]
    lines = [
        f"## {task.capitalize()}",
        "",
        f"Attacks along a gradient: L∞, ε = {said['epsilon']:g}. n = {seeds} seeds.",
    ]
    lines += ["", "| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for name, base in names:
        label = name if base in ("none", name) else f"{name} (÷ {base.removeprefix('none ').strip('()')})"
        values = [_cell(found.get((name, column.key)), name, column.key) for column in COLUMNS]
        flags = f"{float(found[name, 'flags']['mean']):g}"
        lines.append("| " + " | ".join([label, *values, flags]) + " |")
    chosen = [f"- {name}: {how}" for name, how in said["matched"].items()]
    lines += ["", *([*STRENGTHS, *chosen] if chosen else ["No strength is matched yet; see the clean accuracies."])]
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, str] | None, name: str, key: str) -> str:
    """'0.93 ± 0.02'; '0.93' of too few seeds, or where all agree."""
    if row is None:
        return "quantized" if key == "autoattack" and name in WITHOUT_AUTOATTACK else "–"
    mean = float(row["mean"])
    half = (float(row["high"]) - float(row["low"])) / 2 if row["low"] and row["high"] else math.nan
    return f"{mean:.2f}" if math.isnan(half) or half < 5e-4 else f"{mean:.2f} ± {half:.2f}"


def which_page(folder: Path = QUICK) -> str:
    """The text of docs/which.md.  folder: of a profile's figures."""
    claims = {name: _claims(folder, name) for name in (*dict.fromkeys(name for _, name, _ in QUESTIONS), FIGURE)}
    lines = [WHICH_HEAD + "## What is measured", "", "| question | on | here | effect [95 % interval] | n | notebook |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    lines += [
        _answer(question, claims[name].get(key), name, ON.get(name, "digits")) for key, name, question in QUESTIONS
    ]
    lines += ["", *_sizes(), "", *_so(claims["02_attack_curves"], claims["14_white_box"], claims[FIGURE]), ""]
    lines += _matrix(claims["14_white_box"])
    lines += ["", "## All defences on two tasks", ""]
    if claims[FIGURE]:
        lines += ["| question | here | effect [95 % interval] | n | notebook |", "| --- | --- | --- | --- | --- |"]
        lines += [_answer(one.text, claims[FIGURE].get(one.key), FIGURE) for one in CLAIMS]
        lines += ["", "Every number, with what each defence costs: [all defences side by side](all-defences.md)."]
    else:
        lines.append(NOT_COMPUTED)
    return "\n".join(lines) + "\n"


def _sizes() -> list[str]:
    """How large the attacks of the questions are."""
    profile = load_profile("quick")
    noise, polarizing, sparse = profile.studies.epsilons, profile.polarizing.tasks[0], profile.sparse_coding.tasks[0]
    return [
        "Sizes are changes of pixels in [0, 1]. Notebook 02: mean accuracy over a grid of ε, from 0 to "
        f"{noise.gaussian:g} for Gaussian noise (its standard deviation), to {noise.fgsm:g} for FGSM.",
        f"Notebook 14: L∞, ε = {profile.white_box.epsilon:g}, under noise and transferred attacks the mean over a grid "
        f"of ε. Notebook 21: L∞, ε = {polarizing.epsilon:g}. Notebook 22: L∞ {sparse.epsilon:.3g}, L2 "
        f"{sparse.l2:g}, L1 {sparse.l1:g}. Notebook 23: noise of standard deviation {profile.hebbian.noise:g}.",
    ]


def _claims(folder: Path, name: str) -> dict[str, dict]:
    """The verdicts of a figure by key; none where it is not computed."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return {}
    return {one["key"]: one for one in json.loads(path.read_text(encoding="utf-8"))["claims"]}


def _answer(question: str, one: Mapping | None, name: str, on: str | None = None) -> str:
    link = f"[{FIGURES[name].number}](../notebooks/{name}.ipynb)"
    asked = question if on is None else f"{question} | {on}"
    if one is None:
        return f"| {asked} | not computed yet | | | {link} |"
    return f"| {asked} | {_words(one)} | {effect_in_words(one)} | {one['n']} | {link} |"


def _words(one: Mapping) -> str:
    """The verdict as an answer."""
    if one["verdict"] in HOLDS:
        return "yes"
    return {CONTRADICTED: "no", NO_EFFECT: "no difference"}.get(one["verdict"], "open")


def _so(curves: Mapping[str, dict], white_box: Mapping[str, dict], all_defences: Mapping[str, dict]) -> Iterator[str]:
    """What a user may conclude, a line for each verdict that allows one."""
    answers = {key: _words(one) for key, one in (*curves.items(), *white_box.items())}
    yield "## What follows"
    yield ""
    if answers.get("over-adversarial") == "no":
        yield "- Against an attacker who follows your network's gradient: adversarial training, not S^Th."
    if answers.get("over-adversarial") == "yes":
        yield "- Against an attacker who follows your network's gradient S^Th does as well as adversarial training."
    if answers.get("over-noise") == "no":
        yield "- Against noise: train on noisy images, not with S^Th."
    if answers.get("over-noise") == "yes":
        yield "- Against noise S^Th helps more than training on noisy images."
    if answers.get("adaptive") == "no":
        own_kind = "[the review page](review.md) has both attacked through networks of their own kind"
        yield f"- Under attacks made on other S^Th networks, S^Th is less accurate than no defence; {own_kind}."
    helped = [words for key, words in HELPS.items() if answers.get(key) == "yes"]
    if helped:
        yield f"- On digits S^Th, which is trained on none of these, raises accuracy under {', '.join(helped)}."
    found = {name: all_defences.get(f"{name}-S^Th") for name in ("digits", "photographs")}
    if unclear := [f"{name} {number(one)}" for name, one in found.items() if one and _words(one) == "open"]:
        yield f"- Under the strongest attack S^Th is not told apart from no defence: {', '.join(unclear)}."
    if not all_defences:
        yield "- How defences compare at equal clean accuracy is not known: each has notebook 14's strength."


def _matrix(white_box: Mapping[str, dict]) -> list[str]:
    """Gains over none of the defences of notebook 14 under the attacks that are set side by side there."""
    found = {(name, attack): white_box.get(f"{name}-{attack}") for name in DEFENCES for attack in ATTACKS}
    if not any(found.values()):
        return []
    lines = ["Gains in accuracy over none at one ε, on digits ([notebook 14](../notebooks/14_white_box.ipynb)):", ""]
    lines += ["| defence | " + " | ".join(ATTACKS) + " |", "| --- " * (len(ATTACKS) + 1) + "|"]
    for name in DEFENCES:
        cells = [number(one) if (one := found[name, attack]) else "–" for attack in ATTACKS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def write_defences_pages() -> None:
    """Write docs/all-defences.md and docs/which.md."""
    for name, page in (("all-defences", table_page()), ("which", which_page())):
        write_text(PAGES[name], page)

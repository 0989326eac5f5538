"""The robustness report of a user's own network: one page, as a picture and as text."""

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simreg_core.lab.claims import interval_of
from simreg_core.lab.figures.kit import PAGE, Axes, Picture, in_symbols, mpl, plt, use_style
from simreg_core.lab.files import StoreError, write_text, written_whole
from simreg_core.lab.own_network import OwnNetwork, Robustness, counted
from simreg_core.lab.series import LOOKS, NONE, THRESHOLD
from simreg_core.selection import AlphaChoice

CURVES_HEIGHT, MIDDLE_HEIGHT, LINE_HEIGHT = 2.4, 2.9, 0.145  # inches
LETTERS = 125  # of a line
MOST_FINDINGS = 4  # of the suspicion checks on the picture; the page of text has all
SIDE_BY_SIDE = ", side by side"
CURVES = {"Gaussian noise": "standard deviation ε", "transferred FGSM": "ε (L∞)", "PGD": "ε (L∞)"}
STRENGTHS = {"Gaussian noise": "noise", "transferred FGSM": "epsilons", "PGD": "epsilons"}  # names of settings
LOST = "Under {attack} no network is above chance at any ε, so nothing is compared: give smaller {setting}."
LIMITS = (
    "Attacks bound robustness from above: a stronger attack may find more. The interval is a 95 % t-interval over "
    "training seeds; networks of the same seed start alike and see the same batches. Noise augmentation and "
    "adversarial training were not tried here: compare with them before you choose."
)


class Report:
    """What `draw`, `markdown` and `save` show.

    own: the network with its settings.  measured: what came of its attacks.  alpha: with which it was trained.
    choice: the table from which alpha was chosen; None where it was given.
    """

    def __init__(self, own: OwnNetwork, measured: Robustness, alpha: float, choice: AlphaChoice | None = None):
        self.own, self.measured, self.alpha, self.choice = own, measured, alpha, choice

    def gains(self) -> pd.DataFrame:
        """S^Th minus none, paired by seed: attack, epsilon ('mean' over a curve's), none, S^Th, gain, low, high, n."""
        rows = []
        for attack, epsilon, own in _parts(self.measured.table):
            by_seed = own.groupby(["seed", "series"])["value"].mean().unstack()
            gain, low, high = interval_of(by_seed[THRESHOLD] - by_seed[NONE])
            means = {NONE: by_seed[NONE].mean(), THRESHOLD: by_seed[THRESHOLD].mean()}
            rows.append({"attack": attack, "epsilon": epsilon, **means, "gain": gain, "low": low, "high": high})
        return pd.DataFrame(rows).assign(n=self.own.settings.seeds)

    def sentences(self) -> list[str]:
        """What the curves say, an attack each."""
        gains = self.gains().set_index("attack")
        return [
            LOST.format(attack=attack, setting=STRENGTHS[attack])
            if self._at_chance(attack)
            else _sentence(attack, gains.loc[attack])
            for attack in ("clean", *CURVES)
        ]

    def _at_chance(self, attack: str) -> bool:
        own = self.measured.table[self.measured.table["attack"] == attack]
        means = own.groupby(["series", "epsilon"])["value"].mean()
        return attack in STRENGTHS and bool(means.max() <= self.own.guesses)

    def suspicions(self) -> list[str]:
        """What the checks of the attacks found, a line each."""
        return [
            f"{series}, seed {seed}: {warning}"
            for (series, seed), warnings in self.measured.warnings.items()
            for warning in warnings
        ]

    def draw(self) -> Picture:
        """The page."""
        use_style()
        head = _wrapped(self.sentences())
        foot = _wrapped((*self._settings(), *self._chosen(), *self._checked(MOST_FINDINGS), LIMITS))
        above, below = (LINE_HEIGHT * (text.count("\n") + 2) for text in (head, foot))  # and a line of space
        heights = (CURVES_HEIGHT, MIDDLE_HEIGHT, below)
        figure = plt.figure(figsize=(PAGE, above + sum(heights)))
        top, middle, bottom = figure.subfigures(3, 1, height_ratios=heights)
        figure.suptitle(head, fontsize="small", ha="left", x=0.01)
        for ax, (attack, label) in zip(top.subplots(1, 3, sharey=True), CURVES.items(), strict=True):
            self._curve(ax, attack, label)
        _legend(top)
        left, right = middle.subfigures(1, 2, width_ratios=(1, 1.25))
        self._side_by_side(left.subplots())
        self._examples(right)
        ax = bottom.subplots()
        ax.axis("off")
        ax.text(0, 1, foot, va="top", fontsize="small", linespacing=1.4)
        return figure

    def _curve(self, ax: Axes, attack: str, label: str) -> None:
        table = self.measured.table
        for series in (NONE, THRESHOLD):
            look, own = LOOKS[series], table[table["series"] == series]
            values = own[own["attack"].isin(("clean", attack))].pivot_table(
                index="epsilon", columns="seed", values="value"
            )
            ax.plot(
                values.index, values.mean(axis=1), look.marker + "-", color=look.colour, label=look.label, gid=series
            )
            for seed in values:
                ax.plot(values.index, values[seed], ".", ms=3, color=look.colour, alpha=0.5)
        ax.axhline(self.own.sets.chance, color="0.6", lw=0.6, ls=":")
        ax.set(title=attack, xlabel=label, ylim=(-0.03, 1.03))
        if attack == next(iter(CURVES)):
            ax.set_ylabel("accuracy")

    def _side_by_side(self, ax: Axes) -> None:
        table = self.measured.table
        own = table[table["attack"].str.endswith(SIDE_BY_SIDE) | _at(table, "PGD", self.own.settings.epsilon)]
        names = list(dict.fromkeys(own["attack"]))
        for offset, series in ((-0.12, NONE), (0.12, THRESHOLD)):
            look, rows = LOOKS[series], own[own["series"] == series]
            places = rows["attack"].map(names.index) + offset
            ax.plot(rows["value"], places, ".", ms=3, color=look.colour, alpha=0.5)
            means = rows.groupby("attack")["value"].mean()
            ax.plot(
                means, [names.index(name) + offset for name in means.index], look.marker, color=look.colour, gid=series
            )
        steps = self.own.settings.attack_steps
        shown = [f"PGD, {steps} steps" if name == "PGD" else name.removesuffix(SIDE_BY_SIDE) for name in names]
        ax.set_yticks(range(len(names)), shown)
        ax.set(title=f"Attacks at ε = {self.own.settings.epsilon:g}", xlabel="accuracy", xlim=(-0.03, 1.03))
        ax.invert_yaxis()

    def _examples(self, figure: Any) -> None:
        examples, labels = self.measured.examples, self.measured.labels
        classes = self.own.sets.classes
        figure.suptitle("Images, and what the networks of seed 0 say (× where wrong)", fontsize="small")
        for axes, one in zip(figure.subplots(len(examples), len(labels), squeeze=False), examples, strict=True):
            for ax, pixels, answer, label in zip(axes, one.pixels, one.answers, labels, strict=True):
                picture = pixels.permute(1, 2, 0).numpy()
                ax.imshow(np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture, interpolation="nearest")
                ax.set(xticks=[], yticks=[])
                wrong = "" if answer == label else "×"
                name = classes[answer]
                ax.set_title(f"{name[:7]}{wrong}", fontsize=6, pad=1.5, color="#c00000" if wrong else "0.2")
            axes[0].set_ylabel(in_symbols(f"{one.series}\n{one.name}"), fontsize=6, rotation=0, ha="right", va="center")

    def _settings(self) -> list[str]:
        own = self.own.settings
        parts = " + ".join(
            f"{len(one):,}" for one in (self.own.sets.train, self.own.sets.validation, self.own.sets.test)
        )
        tried = _listed(own.alphas)
        how = "given"
        if self.choice is not None:
            how = f"none accepted of {tried}" if self.choice.alpha is None else f"chosen of {tried}"
        attacked = min(own.test_images, len(self.own.sets.test))
        positive, negative = self.own.shares()
        return [
            f"Network {own.network}, on '{own.images}': {parts} images for training, validation and test, "
            f"{len(self.own.sets.classes)} classes; {counted(attacked, 'test image')} are attacked. Chance is "
            f"{self.own.sets.chance:.3f}, the share of the largest class of the test images.",
            f"S^Th: α = {self.alpha:g} ({how}), Th = {own.threshold:g}, layers {', '.join(self.own.layers)}; "
            f"{own.steps} steps of {own.batch_size} images; {counted(own.seeds, 'training seed')}. "
            f"{positive:.1%} of the pairs of images have the target +1, {negative:.1%} have −1, the others 0.",
            f"Accuracy under an attack is the mean over its ε: {_listed(own.noise)} of Gaussian noise, "
            f"{_listed(own.epsilons)} of FGSM and PGD. PGD takes {counted(own.attack_steps, 'step')}, Square asks "
            f"{counted(own.queries, 'time')} for each image.",
        ]

    def _chosen(self) -> list[str]:
        return [] if self.choice is None else [self.own.about_choice()]

    def _checked(self, most: int | None = None) -> list[str]:
        """What the checks found, in a line.  most: how many findings are told; None: all."""
        found = self.suspicions()
        if not found:
            return ["Suspicion checks: none found anything, so no sign that an attack failed."]
        told = found[:most]
        more = f"; and {len(found) - len(told)} more, in the text beside this picture" if len(told) < len(found) else ""
        return [f"Suspicion checks found {len(found)}: {'; '.join(told)}{more}"]

    def markdown(self, picture: str) -> str:
        """The page as text.  picture: name of the file with the picture, beside this one."""
        table = [
            "| attack | ε | none | S^Th | gain | 95 % interval |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in self.gains().to_dict("records"):
            epsilon = row["epsilon"] if isinstance(row["epsilon"], str) else f"{row['epsilon']:g}"
            interval = "one seed: none" if np.isnan(row["low"]) else f"[{row['low']:.3f}, {row['high']:.3f}]"
            table.append(
                f"| {row['attack'].removesuffix(SIDE_BY_SIDE)} | {epsilon} | {row[NONE]:.3f} | {row[THRESHOLD]:.3f} | "
                f"{row['gain']:.3f} | {interval} |"
            )
        table_of_choice = f"```text\n{self.choice}\n```"
        choice = [] if self.choice is None else ["## How α was chosen", *self._chosen(), table_of_choice]
        sentences = "\n".join(f"- {line}" for line in self.sentences())
        parts = [
            "# Robustness report", sentences, f"![accuracy under attacks, without and with the loss]({picture})",
            "## What was measured", *self._settings(), "\n".join(table), *choice, "## Can the attacks be trusted?",
            *self._checked(), "## Limits", LIMITS,
        ]  # fmt: skip
        return "\n\n".join(parts) + "\n"

    def save(self, stem: str | Path) -> list[Path]:
        """Write STEM.png and STEM.md.  Returns their paths.  Raises StoreError where a file cannot be written."""
        stem = Path(stem).expanduser().absolute()
        paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "md")]
        picture = self.draw()
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write {stem}: {error}") from error
        with written_whole(paths[0]) as temporary:
            picture.savefig(temporary, format="png", metadata={"Software": None})
        plt.close(picture)
        write_text(paths[1], self.markdown(paths[0].name))
        return paths


def _listed(numbers: Iterable[float]) -> str:
    return ", ".join(f"{each:g}" for each in numbers)


def _wrapped(lines: Iterable[str]) -> str:
    """Lines of the page. They are wrapped before names become symbols, which are longer as text than they look."""
    return in_symbols("\n".join(textwrap.fill(line, LETTERS) for line in lines))


def _legend(top: Any) -> None:
    """What the curves are, below them: inside of a panel a curve could run through it."""
    line = mpl.lines.Line2D
    words = {NONE: "none: without the loss", THRESHOLD: in_symbols("S^Th: with the loss")}
    handles = [line([], [], color=LOOKS[one].colour, marker=LOOKS[one].marker, label=words[one]) for one in words]
    handles.append(line([], [], color="0.5", marker=".", ls="", ms=3, label="a seed"))
    handles.append(line([], [], color="0.6", lw=0.6, ls=":", label="chance"))
    top.legend(handles=handles, loc="outside lower center", ncols=4, fontsize="small")


def _parts(table: pd.DataFrame) -> list[tuple[str, float | str, pd.DataFrame]]:
    """Clean, each curve as its mean over epsilon, and the attacks that stand side by side."""
    parts: list[tuple[str, float | str, pd.DataFrame]] = []
    for attack, own in table.groupby("attack", sort=False):
        epsilons = own["epsilon"].unique()
        parts.append((attack, float(epsilons[0]) if len(epsilons) == 1 else "mean", own))
    return parts


def _at(table: pd.DataFrame, attack: str, epsilon: float) -> pd.Series:
    return (table["attack"] == attack) & (table["epsilon"] == epsilon)


def _sentence(attack: str, row: pd.Series) -> str:
    what = "clean accuracy" if attack == "clean" else f"accuracy under {attack}"
    if np.isnan(row["low"]):
        return f"S^Th changes {what} by {row['gain']:+.3f}; one seed, so no interval.".replace("-", "−")
    effect = f"{row['gain']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}], n = {row['n']}".replace("-", "−")
    if row["low"] > 0:
        return f"S^Th raises {what}: {effect}."
    if row["high"] < 0:
        return f"S^Th lowers {what}: {effect}."
    return f"Whether S^Th changes {what} is not decided: {effect}."

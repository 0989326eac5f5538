"""Directives and a role that write results into pages, and the checks of the built pages."""

import re
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst.directives import choice
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective, SphinxRole

from simreg_core.lab.claims import GROUPS
from simreg_site import ROOT
from simreg_site.links import faults
from simreg_site.results import TABLE_HEAD, MissingResult, caption, counted, figures_of, table_rows, verdict_words


class Written(SphinxDirective):
    """A directive whose content is Markdown that is made here."""

    def run(self) -> list[nodes.Node]:
        for path in (ROOT / "figures").glob("*/*.json"):
            self.env.note_dependency(str(path))
        holder = nodes.container(classes=[f"simreg-{self.name}"])
        try:
            lines = self.markdown().splitlines()
        except MissingResult as error:
            raise self.error(str(error)) from error
        self.state.nested_parse(StringList(lines, self.get_source_info()[0]), self.content_offset, holder)
        return [holder]

    def markdown(self) -> str:
        raise NotImplementedError


def _figure(name: str, group: str | None = None) -> str:
    """A picture that leads to its notebook, and its verdicts.  group: of these claims only."""
    text = "\n".join(f"- {line}" for line in caption(ROOT, name, group=group))
    return f"[![{alternative(name)}](/figures/quick/{name}.png)](/notebooks/{name}.ipynb)\n\n{text}\n"


def first_heading(notebook: str) -> str:
    """The title of a notebook."""
    text = (ROOT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8")
    return re.search(r'"# ([^"\\]+)', text).group(1)


def alternative(notebook: str) -> str:
    """What stands for a notebook's picture where that cannot be seen."""
    return f"Figure of notebook {notebook[:2]}: {first_heading(notebook)}"


class Gallery(Written):
    """Every figure of quick, with its verdicts as caption."""

    def markdown(self) -> str:
        parts = []
        for name in figures_of("quick"):
            title = f"**{name[:2]}. [{first_heading(name)}](/notebooks/{name}.ipynb)**"
            parts.append(f":::{{container}} card\n{title}\n\n{_figure(name)}:::\n")
        return "\n".join(parts)


class OneFigure(Written):
    """A figure of quick with its verdicts: `{finding} 02_attack_curves`; `:group: headline` shows these claims only."""

    required_arguments = 1
    option_spec: ClassVar = {"group": lambda text: choice(text, tuple(GROUPS))}

    def markdown(self) -> str:
        name, allowed = self.arguments[0], figures_of("quick")
        if name not in allowed:
            raise MissingResult(f"unknown figure '{name}'; allowed: {', '.join(allowed)}")
        return _figure(name, self.options.get("group"))


class Claims(Written):
    """The table of all claims; sort.js lets a reader sort it."""

    def markdown(self) -> str:
        rows = [TABLE_HEAD, tuple("---" for _ in TABLE_HEAD), *table_rows(ROOT)]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


class Verdict(SphinxRole):
    """{verdict}`gaussian`: the verdict of a claim; {verdict}`group:headline`: how often which verdict came out."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        kind, _, group = self.text.partition(":")
        try:
            words = counted(ROOT, group) if kind == "group" else verdict_words(ROOT, self.text)
        except MissingResult as error:
            return [], [self.inliner.reporter.error(str(error), line=self.lineno)]
        parts = enumerate(words.split("**"))  # every second part stands between two marks
        return [nodes.strong("", text) if index % 2 else nodes.Text(text) for index, text in parts], []


def mend_outputs(app: Sphinx, doctree: nodes.document) -> None:
    """What notebooks' outputs lack on a page: words for pictures, and a kernel."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt"):  # Sphinx would write the file's name
            image["alt"] = f"Output of the notebook {Path(app.env.docname).name}"
    for block in list(doctree.findall(nodes.literal_block)):
        if block.astext().startswith("interactive(children="):
            words = "A slider stands here while the notebook runs: make lab."
            block.replace_self(nodes.paragraph("", "", nodes.emphasis("", words)))


def check_pages(app: Sphinx, exception: Exception | None) -> None:
    """Every link and picture of the built pages leads somewhere, and nothing is loaded from the network."""
    if exception is None and app.builder.format == "html":
        found = faults(Path(app.outdir))
        if found:
            raise ExtensionError("pages with faults:\n" + "\n".join(found))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("gallery", Gallery)
    app.add_directive("finding", OneFigure)
    app.add_directive("claims", Claims)
    app.add_role("verdict", Verdict())
    app.connect("doctree-read", mend_outputs)
    app.connect("build-finished", check_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

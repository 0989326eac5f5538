"""Formulas as MathML, which browsers draw by themselves: MathJax would come from the network."""

import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

SIZES = re.compile(r"\\[Bb]igg?(?![A-Za-z])")  # docutils does not know them, and MathML stretches delimiters itself
LOG = logging.getLogger(__name__)


def mathml(node: nodes.Element, as_block: bool) -> str:
    """A formula as MathML; a formula that cannot be read is a warning, and stays as it was written."""
    text = node.astext()
    try:
        return latex2mathml.tex2mathml(SIZES.sub("", text), as_block=as_block)
    except MathError as error:
        LOG.warning("formula '%s': %s", text, error, location=node)
        return f"<code>{text}</code>"


def inline(translator, node: nodes.math) -> None:
    translator.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def block(translator, node: nodes.math_block) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    translator.body.append(mathml(node, as_block=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

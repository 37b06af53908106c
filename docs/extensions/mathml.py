"""Formulas as MathML, made while the site is built: nothing is loaded from the web to show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.utils.math import latex2mathml

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(markup(node, as_block=False))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{markup(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def markup(node: nodes.Element, as_block: bool) -> str:
    """The MathML of a formula in LaTeX.

    Args:
        node: the formula.
        as_block: whether it stands on a line of its own.
    """
    return str(latex2mathml.tex2mathml(node.astext(), as_block=as_block))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

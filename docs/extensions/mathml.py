"""Formulas as MathML, made while the site is built: nothing is loaded from the web to show them."""

from __future__ import annotations

import re
from html import unescape
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

ENTITY = re.compile(r"&(?!amp;|lt;|gt;)\w+;")
"""A character by its name in HTML, which XML does not know."""
NAMESPACE = "http://www.w3.org/1998/Math/MathML"
MOVER, MUNDEROVER = f"{{{NAMESPACE}}}mover", f"{{{NAMESPACE}}}munderover"
FUNCTION_APPLICATION = "\u2061"
THIN_SPACE = "0.1667em"
ACCENTS = {"ˆ", "~", "ˉ", "ˇ", "˙", "¨", "→"}
"""Marks above a symbol, as docutils writes them."""


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_markup_or_warning(node, as_block=False))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    formula = _markup_or_warning(node, as_block=True)
    translator.body.append(f'<div class="math">{formula}</div>\n')
    raise nodes.SkipNode


def _markup_or_warning(node: nodes.Element, as_block: bool) -> str:
    try:
        return markup(node, as_block)
    except MathError as error:
        logger.warning("formula %s: %s", node.astext(), error, location=node)
        return ""


def markup(node: nodes.Element, as_block: bool) -> str:
    """The MathML of a formula in LaTeX.

    Args:
        node: the formula.
        as_block: whether it stands on a line of its own.

    Raises:
        MathError: for LaTeX that docutils does not know.
    """
    text = latex2mathml.tex2mathml(node.astext(), as_block=as_block)
    root = ElementTree.fromstring(ENTITY.sub(lambda match: unescape(match[0]), text))  # noqa: S314  # ours
    for element in list(root.iter()):
        if element.tag in {MOVER, MUNDEROVER} and element[-1].text in ACCENTS:
            _place_accent(element)
        for applied, argument in pairwise(element):
            if applied.text == FUNCTION_APPLICATION and not _is_bracketed(argument):
                applied.set("rspace", THIN_SPACE)
    ElementTree.register_namespace("", NAMESPACE)
    return ElementTree.tostring(root, encoding="unicode")


def _place_accent(element: ElementTree.Element) -> None:
    """Set an accent with a gap above its symbol, and a subscript beside both.

    docutils 0.22 sets the subscript below the symbol, and marks the accent as one: in fonts without
    a table for formulas, browsers then place it across the symbol.
    """
    symbol, *subscripts, accent = element
    element.attrib.pop("accent", None)
    if subscripts:
        accented = ElementTree.Element(MOVER)
        accented.extend([symbol, accent])
        element.tag = f"{{{NAMESPACE}}}msub"
        element[:] = [accented, *subscripts]


def _is_bracketed(argument: ElementTree.Element) -> bool:
    while len(argument):
        argument = argument[0]
    return argument.text in {"(", "[", "{"}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Table of contents from the lists of `docs/index.md`: each of its sections is a part of the site.

A section of that page is a heading and a list of links, which reads the same in any viewer of
Markdown. A page that is in no list fails the build, as Sphinx warns of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HEADING = re.compile(r"^## (.+)$", re.M)
ENTRY = re.compile(r"^\s*- \[([^\]]+)\]\(([^)#\s]+\.(?:md|ipynb))\)", re.M)

AFTER_THE_THEME = 900


def with_tables(text: str) -> str:
    """The text of a page with a hidden table of contents at the end of each section."""
    start, *sections = re.split(r"(?m)^(?=## )", text)
    return start + "".join(section + _table(section) for section in sections)


def _table(section: str) -> str:
    heading = HEADING.match(section)
    entries = ENTRY.findall(section)
    if heading is None or not entries:
        return ""
    lines = [f"{title} <{path}>" for title, path in entries]
    options = [":hidden:", f":caption: {heading.group(1)}"]
    return "\n".join(["", "```{toctree}", *options, "", *lines, "```", "", ""])


def _read(app: Sphinx, docname: str, content: list[str]) -> None:
    if docname == app.config.root_doc:
        content[0] = with_tables(content[0])


def _give_levels(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Captions of the navigation are headings for screen readers, which need a level."""
    tree = "furo_navigation_tree"
    if tree in context:
        context[tree] = context[tree].replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", _read)
    app.connect("html-page-context", _give_levels, priority=AFTER_THE_THEME)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

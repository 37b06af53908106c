"""Source files as pages of the site: links to them, and places such as `search/racing.py:Racing`.

A link from a page to a file of code leads to its listing, and to the line of the definition where
the link's text ends with its name. Each listing has the line numbers and a mark for each name.
"""

from __future__ import annotations

import ast
import html
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from public_api import function_of
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util.osutil import relative_uri

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

FOLDER = "source"
"""Folder of the listings in the site."""
LEXERS = {
    ".py": "python",
    ".toml": "toml",
    ".yml": "yaml",
    ".cff": "yaml",
    ".ini": "ini",
    "": "text",
}
PLACE = re.compile(r"([\w/]+\.py):([\w.]+)")


class SourceLinks(SphinxTransform):
    """Turn links to source files, and places in code, into links to listings."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Replace the links of one page."""
        for link in list(self.document.findall(addnodes.download_reference)):
            path = self.env.relfn2path(link["reftarget"])[0]
            if Path(path).suffix in LEXERS:
                place = PLACE.fullmatch(link.astext())
                link.replace_self(_link(self.env, path, place and place[2], link.children))
        for literal in list(self.document.findall(nodes.literal)):
            place = PLACE.fullmatch(literal.astext())
            path = f"diffcls/{place[1]}" if place else ""
            if place and not _in_link(literal) and (Path(self.env.srcdir) / path).is_file():
                literal.replace_self(_link(self.env, path, place[2], [literal.deepcopy()]))


def _link(
    env: BuildEnvironment, path: str, name: str | None, children: list[nodes.Node]
) -> nodes.reference:
    page = env.docname
    _listed(env).setdefault(page, set()).add(path)
    anchor = f"#{name}" if name else ""
    uri = relative_uri(f"{page}.html", f"{FOLDER}/{path}.html") + anchor
    link = nodes.reference("", "", internal=True, refuri=uri, classes=["source"])
    link.extend(children)
    return link


def _link_signatures(app: Sphinx, doctree: nodes.document) -> None:
    """Link each documented object to its definition."""
    for signature in doctree.findall(addnodes.desc_signature):
        if not signature.get("module"):
            continue
        thing: Any = sys.modules[signature["module"]]
        for name in signature["fullname"].split("."):
            thing = getattr(thing, name)
        function = function_of(thing)
        path = Path(inspect.getsourcefile(function) or "").relative_to(app.srcdir).as_posix()
        text = nodes.inline("", "[source]", classes=["viewcode-link"])
        signature += _link(app.env, path, function.__qualname__, [text])


def _in_link(node: nodes.Node) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, nodes.reference | addnodes.pending_xref | addnodes.download_reference):
            return True
    return False


def _listed(env: BuildEnvironment) -> dict[str, set[str]]:
    """Page -> the source files that it links to."""
    if not hasattr(env, "listed_sources"):
        env.listed_sources = {}
    listed: dict[str, set[str]] = env.listed_sources
    return listed


def _forget(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    _listed(env).pop(docname, None)


def places(source: str) -> dict[int, str]:
    """Line, counted from 1 -> the name that is defined there, methods as ``Class.method``."""
    found: dict[int, str] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            match node:
                case ast.FunctionDef(name=name, lineno=line):
                    found.setdefault(line, prefix + name)
                case ast.ClassDef(name=name, lineno=line, body=inner):
                    found.setdefault(line, prefix + name)
                    visit(inner, f"{prefix}{name}.")
                case ast.Assign(targets=[ast.Name(id=name), *_], lineno=line):
                    found.setdefault(line, prefix + name)
                case ast.AnnAssign(target=ast.Name(id=name), lineno=line):
                    found.setdefault(line, prefix + name)

    visit(ast.parse(source).body, "")
    return found


def listing(source: str, highlighted: str, names: dict[int, str]) -> str:
    """The highlighted source with a numbered, linkable box for each line.

    Args:
        source: the text of the file.
        highlighted: its markup, with as many lines.
        names: see `places`.
    """
    before, _, code = highlighted.partition("<pre>")
    lines = code.removeprefix("<span></span>").split("\n")[: len(source.splitlines())]
    boxes = []
    for number, line in enumerate(lines, start=1):
        anchor = html.escape(names.get(number, f"L{number}"))
        boxes.append(f'<span class="line" id="{anchor}">{line}\n</span>')
    return f'{before}<pre class="listing">{"".join(boxes)}</pre></div>'


def _pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    paths = sorted(set().union(*_listed(app.env).values()))
    for path in paths:
        source = (Path(app.srcdir) / path).read_text(encoding="utf-8")
        lexer = LEXERS[Path(path).suffix]
        highlighted = app.builder.highlighter.highlight_block(source, lexer)
        names = places(source) if lexer == "python" else {}
        body = f"<h1>{html.escape(path)}</h1>\n{listing(source, highlighted, names)}"
        yield f"{FOLDER}/{path}", {"title": path, "body": body}, "page.html"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_transform(SourceLinks)
    app.connect("doctree-read", _link_signatures)
    app.connect("env-purge-doc", _forget)
    app.connect("html-collect-pages", _pages)
    return {"parallel_read_safe": False, "parallel_write_safe": True}

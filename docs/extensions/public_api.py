"""API reference: a comment ``<!-- api: NAME -->`` in a page becomes the documentation of NAME.

So the page is plain Markdown, and the signatures and docstrings are those of the code.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes
from sphinx.ext.autodoc.mock import mock
from sphinx.util import inspect as sphinx_inspect

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SHORT_TYPES = (
    (re.compile(r"TypeAliasForwardRef\('(\w+)'\)"), r"\1"),
    (
        re.compile(r"[~\w.]*ndarray\[tuple\[[~\w.]+, \.\.\.\], [~\w.]+\[([~\w.]+)\]\]"),
        r"NDArray[\1]",
    ),
)
"""What types are resolved to, and how they are written in the code."""
SIGNATURE = re.compile(r'<dt class="sig .*?</dt>', re.S)
MARK = re.compile(r"^<!-- api: ([\w.]+) -->$", re.M)


def _directive(match: re.Match[str]) -> str:
    module, _, name = match.group(1).rpartition(".")
    thing = getattr(import_module(module), name)
    kind, options = "function", []
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        kind = "exception"
    elif inspect.isclass(thing):
        kind, options = (
            "class",
            [
                "   :members:",
                "   :inherited-members:",
                "   :special-members: __call__",
            ],
        )
    lines = [f".. auto{kind}:: {module}.{name}", *options]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def _read(app: Sphinx, docname: str, content: list[str]) -> None:
    with mock(app.config.autodoc_mock_imports):
        content[0] = MARK.sub(_directive, content[0])


def _skip(
    app: Sphinx, what: str, name: str, member: object, skip: bool, options: object
) -> bool | None:
    """Leave out what a class inherits from other packages, such as scikit-learn's `set_params`."""
    if what != "class" or skip:
        return None
    module = getattr(function_of(member), "__module__", None)
    return True if module is not None and not module.startswith("diffcls") else None


def function_of(member: Any) -> Any:
    """The function behind a property, class method or decorated function; others as they are."""
    function: Any = member.fget if isinstance(member, property) else member
    return inspect.unwrap(getattr(function, "__func__", function))


def _shorten(
    app: Sphinx,
    what: str,
    name: str,
    thing: Any,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    if what == "class" and (signature or "").startswith("(*args:"):
        # that of a base class which is mocked
        own = sphinx_inspect.signature(thing.__init__, bound_method=True)
        signature = sphinx_inspect.stringify_signature(own, show_return_annotation=False)
    return _short(signature), _short(returned)


def _shorten_properties(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for annotation in doctree.findall(addnodes.desc_annotation):
        text, short = annotation.astext(), _short(annotation.astext())
        if short != text:
            annotation[:] = [nodes.Text(short)]


def _short(text: str | None) -> str | None:
    for pattern, short in SHORT_TYPES:
        text = text and pattern.sub(short, text)
    return text


def _plain_signatures(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object
) -> None:
    """Write parameters as boxes: Sphinx makes them a list of definitions without terms."""
    if "sig-object" in context.get("body", ""):
        context["body"] = SIGNATURE.sub(_without_list, context["body"])


def _without_list(signature: re.Match[str]) -> str:
    text = re.sub(r"<(/?)d[ld]>", r"<\1div>", signature.group(0))
    return text.replace("<div>", '<div class="parameters">', 1)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", _read)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("doctree-resolved", _shorten_properties)
    app.connect("html-page-context", _plain_signatures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

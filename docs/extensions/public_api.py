"""API reference: a comment ``<!-- api: NAME -->`` in a page becomes the documentation of NAME.

So the page is plain Markdown, and the signatures and docstrings are those of the code.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sphinx.ext.autodoc.mock import mock

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ADDED = "set_fit_request, set_score_request"
"""Methods that scikit-learn adds to estimators; it documents them itself."""
MARK = re.compile(r"^<!-- api: ([\w.]+) -->$", re.M)


def _directive(match: re.Match[str]) -> str:
    module, _, name = match.group(1).rpartition(".")
    thing = getattr(import_module(module), name)
    kind, options = "function", []
    if inspect.isclass(thing) and issubclass(thing, Exception):
        kind = "exception"
    elif inspect.isclass(thing):
        kind, options = "class", ["   :members:", f"   :exclude-members: {ADDED}"]
    lines = [f".. auto{kind}:: {module}.{name}", *options]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def _read(app: Sphinx, docname: str, content: list[str]) -> None:
    with mock(app.config.autodoc_mock_imports):
        content[0] = MARK.sub(_directive, content[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""One-line descriptions of registered objects, read from their source without importing it."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path


def summary_of(place: str) -> str:
    """The first line of an object's documentation, without its full stop.

    It is the text right below the object's assignment, else that of its module. Only the packages
    around the module are imported.

    Args:
        place: ``"module:attribute"``, as in a registry.

    Returns:
        Empty for an object without documentation, or a module without source.
    """
    module, _, attribute = place.partition(":")
    try:
        found = importlib.util.find_spec(module)
        source = Path(found.origin).read_text(encoding="utf-8") if found and found.origin else ""
        tree = ast.parse(source)
    except (ImportError, OSError, SyntaxError, ValueError):
        return ""
    text = _text_below(tree, attribute) or ast.get_docstring(tree) or ""
    # a first sentence may be wrapped
    return " ".join(text.partition("\n\n")[0].replace("``", "").split()).removesuffix(".")


def _text_below(tree: ast.Module, name: str) -> str | None:
    """The string right below ``name = …`` at the top level."""
    for node, below in zip(tree.body, tree.body[1:], strict=False):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            match below:
                case ast.Expr(value=ast.Constant(value=str() as text)):
                    return text
    return None

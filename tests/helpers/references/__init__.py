"""References of model families: a tiny pipeline each, and the library's own computation with it.

One module a family; all of them are found by their place. What all share is in `base` and `parts`.
"""

from __future__ import annotations

import importlib
import pkgutil

from helpers.references.base import Reference

SHARED = ("base", "parts")


def _found() -> dict[str, Reference]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{n}") for n in names if n not in SHARED]
    return {name: one for module in modules for name, one in module.REFERENCES.items()}


REFERENCES = _found()


def of_pipeline(pipe: object) -> Reference | None:
    """The reference of a pipeline's class, or None."""
    matching = (one for one in REFERENCES.values() if one.pipeline == type(pipe).__name__)
    return next(matching, None)

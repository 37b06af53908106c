"""The argument ``model``: a name, path or Hub id, or a diffusers pipeline in memory."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

Model: TypeAlias = Any
"""A model as people give it: its name, path or Hub id, or a pipeline object of diffusers."""
IN_MEMORY = "in-memory"
"""First word of the name of a model in memory."""


def is_name(model: Model) -> bool:
    """Whether a model is given by its name or path rather than as an object."""
    return isinstance(model, str | os.PathLike)


def shown(model: Model) -> str:
    """A model as text: its name; or the class of an object, and where it was loaded from."""
    if is_name(model):
        return os.fspath(model)
    place = getattr(model, "name_or_path", None)
    kind = f"{IN_MEMORY} {type(model).__name__}"
    return f"{kind} of {place}" if isinstance(place, str) and place else kind

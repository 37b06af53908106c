"""Paths that people give: ``~`` is expanded, in options and in arguments of functions alike."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

UserPath: TypeAlias = str
"""Type of an option that is, or may be, a path: `expand_fields` recognises options by it."""

Given = TypeVar("Given", str, Path, "str | Path")

PREFIX = re.compile(r"(\w+:)(~.*)", re.DOTALL)


def expand(path: Given) -> Given:
    """A path with ``~`` or ``~USER`` at its start, or behind ``folder:``, replaced by the folder.

    Any other text is returned unchanged, and so is the name of an unknown user.
    """
    if isinstance(path, Path):
        return Path(os.path.expanduser(path))
    prefixed = PREFIX.fullmatch(path)
    if prefixed:
        return prefixed[1] + os.path.expanduser(prefixed[2])
    return os.path.expanduser(path)


def expand_fields(options: DataclassInstance) -> None:
    """Expand the fields of an options object whose type is `UserPath`, or a sequence of these.

    Args:
        options: the object, whose class may be frozen: for its ``__post_init__``.
    """
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if "UserPath" in str(field.type) and value:
            if isinstance(value, str | Path):
                object.__setattr__(options, field.name, expand(value))
            elif isinstance(value, list | tuple):
                expanded = [expand(v) if isinstance(v, str | Path) else v for v in value]
                object.__setattr__(options, field.name, type(value)(expanded))

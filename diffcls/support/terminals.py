"""Terminals: whether a stream is one, its rich console, and the width of text on it."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

FIRST_OTHER_WIDTH = "\u0300"
"""The first character (a combining accent) that may take no cell, or two."""


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a stream is a terminal that can move its cursor: not a pipe, not ``TERM=dumb``."""
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return False
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def cell_width(text: str) -> int:
    """Columns of a terminal that a text takes: CJK and emoji two, combining accents none."""
    if all(character < FIRST_OTHER_WIDTH for character in text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def console_of(stream: IO[str]) -> Console:
    """rich's console of a terminal; ``NO_COLOR`` and ``COLUMNS`` count, a width of 0 does not.

    The cursor stays visible: a process that is killed leaves the terminal as it was.
    """
    from rich.console import Console

    class VisibleCursor(Console):
        def show_cursor(self, show: bool = True) -> bool:
            return False

    environment = dict(os.environ)
    for name in ("COLUMNS", "LINES"):
        if not environment.get(name, "").isdigit() or int(environment[name]) == 0:
            environment.pop(name, None)
    return VisibleCursor(
        file=stream,
        force_terminal=True,
        force_jupyter=False,
        highlight=False,
        markup=False,
        emoji=False,
        _environ=environment,
    )

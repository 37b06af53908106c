"""Notices: one line on standard error that a person should read."""

from __future__ import annotations

import sys


def warn(text: str) -> None:
    """Print one line to stderr."""
    print(f"diffcls: {text}", file=sys.stderr)

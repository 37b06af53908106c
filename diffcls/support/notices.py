"""Notices: one line on standard error that a person should read."""

from __future__ import annotations

import sys

from diffcls.support.redaction import redacted


def warn(text: str) -> None:
    """Print one line to stderr, without tokens and passwords."""
    print(f"diffcls: {redacted(text)}", file=sys.stderr)

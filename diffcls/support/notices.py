"""Notices: one line on standard error that a person should read."""

from __future__ import annotations

import contextlib
import logging
import sys

from diffcls.support.redaction import redacted


def warn(text: str) -> None:
    """Print one line to stderr, without tokens and passwords."""
    print(f"diffcls: {redacted(text)}", file=sys.stderr)


class _StderrHandler(logging.Handler):
    """Writes to the present ``sys.stderr``, which tests and workers replace."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed one loses the line
            warn(record.getMessage())


def log_to_stderr() -> None:
    """Send the package's warnings to stderr, one line each, like its errors."""
    logger = logging.getLogger("diffcls")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())

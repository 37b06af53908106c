"""Exceptions of diffcls: their tree, exit statuses and messages.

    DiffclsError            exit status 1: failed or partial; the same command resumes it
    ├── UsageError          exit status 2: a flag, name or value not allowed (also a ValueError)
    ├── DataError           exit status 2: missing or inconsistent images, labels or prompts
    ├── ModelError          exit status 2: a model that is missing, broken or incompatible
    └── RecordError         exit status 1: stored results that cannot be read or written

Every message has the same four parts: what is wrong, what was given, what is allowed, what to do.
Tokens and passwords are left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from diffcls.support.redaction import redacted


class DiffclsError(Exception):
    """Base of all errors that diffcls raises itself.

    Args:
        what: the problem, as the start of a sentence without a full stop.
        given: the offending value, shown with ``repr``; omitted when None.
        allowed: the accepted values: a text, or an iterable of names.
        todo: the remedy, in the imperative.
    """

    exit_status = 1

    def __init__(
        self,
        what: str,
        given: object = None,
        allowed: str | Iterable[object] | None = None,
        todo: str | None = None,
    ) -> None:
        parts = [what if given is None else f"{what}: {given!r}"]
        if allowed is not None:
            shown = allowed if isinstance(allowed, str) else ", ".join(map(str, allowed))
            parts.append(f"allowed: {shown}")
        if todo is not None:
            parts.append(todo)
        super().__init__(redacted("; ".join(parts)))


class UsageError(DiffclsError, ValueError):
    """A name, flag or value that is not allowed."""

    exit_status = 2


class DataError(DiffclsError, ValueError):
    """Images, labels or prompts that are missing or do not fit together."""

    exit_status = 2


class ModelError(DiffclsError, ValueError):
    """A model that is missing, incomplete, not finite, or incompatible with its input."""

    exit_status = 2


class RecordError(DiffclsError):
    """Stored results that cannot be read back intact, or cannot be written."""


def unknown_name(
    kind: str,
    name: str,
    names: Iterable[str],
    shown: Iterable[str] | None = None,
    meant: str | None = None,
) -> UsageError:
    """The error for a `name` not among `names`, with a "did you mean" if one is close.

    Args:
        kind: kind of the named thing, such as "search".
        name: the unknown name.
        names: all known names.
        shown: names that the message lists instead, when there are too many.
        meant: the value that was most likely meant; None: the known name that is closest.
    """
    names = list(names)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    meant = meant or (close[0] if close else None)
    todo = f"did you mean {meant!r}?" if meant else None
    allowed = names if shown is None else list(shown)
    return UsageError(f"unknown {kind}", given=name, allowed=allowed, todo=todo)

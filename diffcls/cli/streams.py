"""Standard streams of a command: closed ones, broken pipes and narrow encodings."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from diffcls.support.redaction import redacted

FAILED = 1
"""Exit status of a command whose output could not be written."""


class ClosedOutput(io.TextIOBase):
    """Stands for a standard output that was closed before the command started (``>&-``).

    Attributes:
        is_lost: whether anything was written to it.
    """

    is_lost = False

    def write(self, text: str) -> int:
        self.is_lost = True
        return len(text)


def open_streams() -> None:
    """Make the standard streams safe to use.

    A closed descriptor is opened, or else the next file of the run would take its number and
    receive what other code prints. Characters that the output's encoding lacks are escaped.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
    if sys.stderr is None:  # print(file=None) would write to standard output
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def notify(text: str) -> None:
    """Write a line to standard error, without secrets; a closed one loses it."""
    with contextlib.suppress(OSError, ValueError):
        print(f"diffcls: {redacted(text)}", file=sys.stderr, flush=True)


def flush(status: int) -> int:
    """Bring the output to its reader; returns the exit status.

    Args:
        status: the command's own.

    Returns:
        The same, or 1 where output was lost: silently in a broken pipe, whose reader wanted no
        more, otherwise with a line on standard error.
    """
    if isinstance(sys.stdout, ClosedOutput):
        if not sys.stdout.is_lost:
            return status
        sys.stdout.is_lost = False
        notify("standard output is closed, so the results were not printed; redirect it to a file")
        return status or FAILED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return discard_output() or status or FAILED
    except OSError as error:
        notify(f"standard output cannot be written ({error.strerror}); redirect it to another file")
        return discard_output() or status or FAILED
    return status


def discard_output() -> int:
    """Send what is still buffered nowhere, or the interpreter would fail again at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0

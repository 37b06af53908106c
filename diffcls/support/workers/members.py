"""Members of a pool: a worker as its driver sees it, its death, and what becomes of its keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from diffcls.support.errors import DiffclsError
from diffcls.support.workers.assignment import MAX_DEATHS
from diffcls.support.workers.channel import Reply
from diffcls.support.workers.host import Served

Make = Callable[[], Served]
"""Makes what a worker serves, in the worker; equal ones make the same."""


@dataclass(frozen=True)
class GivenUp:
    """The result of a key with which several workers died."""

    deaths: int = MAX_DEATHS

    def __str__(self) -> str:
        return f"{self.deaths} workers died while they scored this image"


@dataclass(eq=False)
class Worker:
    """A worker: its actor, the call that it works at, and what it has loaded.

    Args:
        number: number among the workers, from 1.
        actor: handle of the actor.
        call: reference of the outstanding call; None if there is none.
        step: kind of that call: "place", "load", "call" or "exchange".
        place: process id and node, once it is scheduled.
        made: what it has loaded.
        reply: its last reply.
    """

    number: int
    actor: Any
    call: Any = None
    step: str = ""
    place: tuple[int, str] | None = None
    made: Make | None = None
    reply: Reply | None = field(default=None, repr=False)

    @property
    def is_free(self) -> bool:
        return self.call is None


class WorkersDied(DiffclsError):
    """Workers died again and again without any result."""


@dataclass(frozen=True)
class Death:
    """The answer of a worker that died.

    Args:
        is_preempted: whether its node was taken away, as a preemptible machine is.
        reason: the exception that it died of, as one line; empty for a killed process.
    """

    is_preempted: bool
    reason: str = ""

    @classmethod
    def of(cls, error: Any) -> Death:
        """The death that an exception of Ray reports."""
        lines = re.findall(r"^[\w.]*(?:Error|Exception): .+$", str(error), re.MULTILINE)
        return cls(bool(getattr(error, "preempted", False)), lines[-1][:200] if lines else "")


def cause_of(error: Any) -> BaseException:
    """The exception as it was raised in the worker, with the traceback from there as a note."""
    cause: BaseException = error.cause
    if not isinstance(cause, DiffclsError):
        cause.add_note(str(error))
    return cause

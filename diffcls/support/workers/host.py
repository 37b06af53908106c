"""Host: the Ray actor, in which a served object lives and streams."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from diffcls.support import cache
from diffcls.support.invariants import known
from diffcls.support.notices import log_to_stderr
from diffcls.support.workers.channel import Channel, Reply, Result

PREFIX = "diffcls: "
"""Start of the lines on stderr that are for a person."""


class Served(Protocol):
    """What a worker serves: it is made in the worker, and lives there."""

    def stream(self, keys: Iterator[int]) -> Iterator[Result]:
        """(key, result) of each key, in order of completion; it may be called again."""


class Host:
    """The actor of one worker; everything that computes runs in one thread of it.

    Settings of a thread, such as flushing denormal numbers, thus hold for all that is served.

    Args:
        folder: working folder of the driver; it becomes that of the worker, where it exists.
    """

    def __init__(self, folder: str) -> None:
        with contextlib.suppress(OSError):
            os.chdir(folder)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="diffcls-worker")
        self._served: Any = None
        self._channel: Channel | None = None
        self._notices = _Notices()
        sys.stderr = self._notices
        log_to_stderr()

    def place(self) -> tuple[int, str]:
        """Process id, and address of the node; the answer shows that the worker was scheduled."""
        import ray

        return os.getpid(), ray.util.get_node_ip_address()

    def load(self, make: Callable[[], Served], shared: Mapping[str, Any]) -> Sequence[str]:
        """Make the served object; returns lines for a person.

        Args:
            make: makes it.
            shared: files of fits that the driver has: name -> reference of its content.

        Raises:
            Exception: whatever `make` raises.
        """
        import ray

        cache.fetch_from(lambda name: ray.get(shared[name]) if name in shared else None)
        self._channel = self._served = None  # the old one makes room first
        self._served = self._thread.submit(make).result()
        self._channel = Channel(self._served.stream, self._thread.submit)
        return self._notices.taken()

    def call(self, name: str, *arguments: Any) -> tuple[Any, Sequence[str], int | None]:
        """Call a method of the served object.

        Returns:
            Its value, lines for a person, and the present batch size.
        """
        value = self._thread.submit(getattr(self._served, name), *arguments).result()
        return value, self._notices.taken(), batch_size_of(self._served)

    def exchange(self, keys: Sequence[int], last: bool) -> Reply:
        """See `Channel.exchange`."""
        reply = known(self._channel).exchange(keys, last)
        return dataclasses.replace(
            reply, notices=self._notices.taken(), batch_size=batch_size_of(self._served)
        )


def batch_size_of(served: Any) -> int | None:
    """The present batch size of what is served, which memory may halve; None: it has none."""
    rows: int | None = getattr(served, "batch_size", None)
    return rows


class _Notices(io.TextIOBase):
    """A stderr that keeps the lines for a person, and passes on everything else."""

    def __init__(self) -> None:
        self._stderr = sys.stderr
        self._lines: list[str] = []

    def write(self, text: str) -> int:
        self._lines += [line for line in text.splitlines() if line.startswith(PREFIX)]
        self._stderr.write(text)
        return len(text)

    def flush(self) -> None:
        self._stderr.flush()

    def taken(self) -> Sequence[str]:
        lines, self._lines = self._lines, []
        return lines

"""Time limit of a call that has none of its own, counted from its last progress."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class TimeLimitError(TimeoutError):
    """A call made no progress within its time limit."""


class _Clock:
    """Time since the last progress of a call, which stands still during a pause."""

    def __init__(self) -> None:
        self.since, self.is_paused = time.monotonic(), False

    def left(self, seconds: float) -> float:
        return seconds if self.is_paused else self.since + seconds - time.monotonic()


_running = threading.local()
"""The clock of the call that runs in this thread, if it has a limit."""


def progress() -> None:
    """Start the time limit of the call that runs in this thread again."""
    clock = getattr(_running, "clock", None)
    if clock is not None:
        clock.since = time.monotonic()


@contextmanager
def paused() -> Iterator[None]:
    """A wait that does not count against the time limit of the call, such as one asked for."""
    clock = getattr(_running, "clock", None) or _Clock()
    clock.is_paused = True
    try:
        yield
    finally:
        clock.since, clock.is_paused = time.monotonic(), False


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of `call`, run in a thread with a time limit; its exceptions are raised.

    Args:
        seconds: limit of the time without `progress`; `paused` waits do not count.
        call: function without arguments.

    Raises:
        TimeLimitError: when the call takes longer; its thread is abandoned.
    """
    results: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()
    clock = _Clock()

    def run() -> None:
        _running.clock = clock
        try:
            result = call()
        except Exception as error:
            failure = error

            def fail() -> T:
                raise failure

            results.put(fail)
        else:
            results.put(lambda: result)

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            outcome = results.get(timeout=max(0.0, clock.left(seconds)))
        except queue.Empty:
            if clock.left(seconds) > 0:
                continue
            raise TimeLimitError(f"no response within {seconds} s") from None
        return outcome()

"""Rate limit: questions per minute and visitor, counted in a sliding window."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW_SECONDS = 60.0
MAX_VISITORS = 10_000
"""Visitors that are remembered at a time; the one who has been away longest is forgotten first."""


class RateLimit:
    """At most `most` events of a visitor in any minute.

    Args:
        most: greatest number of events.
        clock: time in seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._events: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, visitor: str) -> float:
        """Count an event of a visitor.

        Returns:
            0 if it is allowed; else the seconds until the next one is, and it is not counted.
        """
        now = self._clock()
        with self._lock:
            events = self._events.setdefault(visitor, deque())
            self._events.move_to_end(visitor)
            while events and now - events[0] >= WINDOW_SECONDS:
                events.popleft()
            while len(self._events) > MAX_VISITORS:
                self._events.popitem(last=False)
            if len(events) >= self._most:
                return WINDOW_SECONDS - (now - events[0])
            events.append(now)
            return 0.0

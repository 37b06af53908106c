"""Assignment: which keys wait, which are in flight, and which a worker died of."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

MAX_DEATHS = 3
"""Deaths of workers with a key in flight after which it is given up."""


class Assignment:
    """The keys of one stream, handed out to workers, and handed out again after a death.

    A key with which `MAX_DEATHS` − 1 workers died is given out alone, so that the next death tells
    the key that kills from those that were in flight beside it.

    Args:
        keys: the keys, each once, in the order of handing out.
    """

    def __init__(self, keys: Iterable[int]) -> None:
        self._waiting = deque(keys)
        self._suspects: deque[int] = deque()
        self._in_flight: dict[int, set[int]] = {}
        self._deaths: Counter[int] = Counter()
        self._unfinished = len(self._waiting)

    def __bool__(self) -> bool:
        return self._unfinished > 0

    def in_flight(self, worker: int) -> int:
        """Number of keys that a worker has."""
        return len(self._in_flight.get(worker, ()))

    def take(self, worker: int, room: int, workers: int) -> tuple[list[int], bool]:
        """Keys for a worker, and whether it should not wait for more.

        Near the end no worker gets more than its share of what is left, so that all end together.

        Args:
            worker: the worker.
            room: number of keys that it can take.
            workers: number of workers that take part.
        """
        own = self._in_flight.setdefault(worker, set())
        if self._suspects and not own:
            key = self._suspects.popleft()
            own.add(key)
            return [key], True
        if any(map(self._is_suspect, own)):
            return [], True
        share = -(-self._unfinished // max(1, workers)) - len(own)
        count = max(0, min(room, share, len(self._waiting)))
        keys = [self._waiting.popleft() for _ in range(count)]
        own.update(keys)
        ends = not self._waiting or bool(self._suspects) or share <= count
        return keys, ends

    def done(self, worker: int, key: int) -> None:
        """Count a key as finished."""
        self._in_flight[worker].remove(key)
        self._unfinished -= 1

    def died(self, worker: int, counted: bool = True) -> list[int]:
        """Take the keys of a dead worker back; returns those that are given up.

        Args:
            worker: the worker.
            counted: whether its death may be due to a key; that of a preempted node is not.
        """
        given_up = []
        for key in sorted(self._in_flight.pop(worker, ()), reverse=True):
            self._deaths[key] += counted
            if self._deaths[key] >= MAX_DEATHS:
                given_up.append(key)
                self._unfinished -= 1
            elif self._is_suspect(key):
                self._suspects.appendleft(key)
            else:
                self._waiting.appendleft(key)
        return given_up

    def _is_suspect(self, key: int) -> bool:
        return self._deaths[key] >= MAX_DEATHS - 1

"""Channel: the keys that a stream in a worker reads, and its results, between two calls."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MIN_AHEAD, MAX_AHEAD = 4, 512
"""Keys that wait for a stream: a few while it is slow, more the faster it takes them."""
GATHER_SECONDS = 0.1
"""Time in which results are gathered for one reply: few calls, however fast the images are."""

Result = tuple[int, Any]
Stream = Callable[[Iterator[int]], Iterator[Result]]


@dataclass(frozen=True)
class Reply:
    """The answer to one call of the driver.

    Args:
        results: (key, result) pairs that were completed since the last call.
        room: number of further keys that the worker can keep waiting.
        starved: whether the stream waits for a key, or has ended.
        notices: lines that the worker printed for a person.
        batch_size: see `diffcls.support.workers.host.batch_size_of`.
    """

    results: Sequence[Result]
    room: int
    starved: bool
    notices: Sequence[str] = ()
    batch_size: int | None = None


class Channel:
    """Keys to a stream that runs in another thread, and results from it.

    The stream sees one iterator of keys. While no key is there it waits, so that its batches stay
    full, until `exchange` says that these were the last ones: then it ends, with what it has. With
    the next key it is started again.

    Args:
        stream: keys -> (key, result) pairs, in any order.
        submit: runs a function in the stream's thread.
    """

    def __init__(self, stream: Stream, submit: Callable[[Callable[[], None]], object]) -> None:
        self._stream, self._submit = stream, submit
        self._changed = threading.Condition()
        self._keys: deque[int] = deque()
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self._last = self._is_running = self._is_waiting = False
        self._taken = 0
        self._ahead = MIN_AHEAD

    def exchange(self, keys: Sequence[int], last: bool) -> Reply:
        """Add keys, wait for results or for hunger, and return what is there.

        Args:
            keys: keys to add.
            last: whether the stream should end after them instead of waiting for more.

        Raises:
            BaseException: whatever the stream raised.
        """
        with self._changed:
            self._keys.extend(keys)
            self._last = last
            if keys or last:
                self._is_waiting = False
            if self._keys and not self._is_running:
                self._is_running = True
                self._submit(self._run)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._results or self._is_starved())
            deadline = time.monotonic() + GATHER_SECONDS
            while not self._is_starved() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._reply()

    def _is_starved(self) -> bool:
        return self._error is not None or self._is_waiting or not self._is_running

    def _reply(self) -> Reply:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        results, self._results = self._results, []
        # twice what the stream took since the last call: it does not starve until the next one
        self._ahead = min(MAX_AHEAD, max(MIN_AHEAD, 2 * self._taken))
        self._taken = 0
        return Reply(results, max(0, self._ahead - len(self._keys)), self._is_starved())

    def _run(self) -> None:
        try:
            while self._next_stream():
                for result in self._stream(self._read()):
                    with self._changed:
                        self._results.append(result)
                        self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error, self._is_running = error, False
                self._changed.notify_all()

    def _next_stream(self) -> bool:
        with self._changed:
            self._is_running = bool(self._keys)
            self._changed.notify_all()
            return self._is_running

    def _read(self) -> Iterator[int]:
        while True:
            with self._changed:
                while not self._keys:
                    if self._last:
                        return
                    self._is_waiting = True
                    self._changed.notify_all()
                    self._changed.wait()
                self._is_waiting = False
                key = self._keys.popleft()
                self._taken += 1
            yield key

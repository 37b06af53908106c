"""Time limit of a call that has none of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of `call`, run in a thread with a time limit; its exceptions are raised.

    Raises:
        TimeoutError: when the call takes longer; its thread is abandoned.
    """
    results: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def run() -> None:
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
    try:
        outcome = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no response within {seconds} s") from None
    return outcome()

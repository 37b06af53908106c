"""Ctrl-C deferred to the end of a training step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from diffcls.training.distributed import ProcessGroup


@contextmanager
def interrupt_requested(processes: ProcessGroup) -> Iterator[Callable[[], bool]]:
    """Ctrl-C deferred to the end of a step; pressed twice, it interrupts at once.

    With several processes it interrupts at once, as the others would wait in vain.
    """
    requested = False

    def handle(number: int, frame: object) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True

    if processes.size > 1 or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: requested
    finally:
        signal.signal(signal.SIGINT, previous)

"""Processes of Ray that belong to a process: its workers, and when to kill them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil


def worker_pids(parent: int | None = None) -> list[int]:
    """Process ids of the actors below a process, this one if None."""
    pids = []
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::Host"):
                pids.append(process.pid)
    return pids


def lines_of(folder: Path) -> int:
    """Number of records below an output folder."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("runs/*/records-*.jsonl"))


def kill_a_worker() -> None:
    """SIGKILL one of this process' workers."""
    os.kill(worker_pids()[0], signal.SIGKILL)


@contextlib.contextmanager
def done_at(folder: Path, steps: Sequence[tuple[int, Callable[[], object]]]) -> Iterator[list[int]]:
    """Call each function once an output folder holds that many records.

    Yields:
        The number of records at each call.
    """
    is_over, called = threading.Event(), []

    def watch() -> None:
        for count, act in steps:
            while lines_of(folder) < count:
                if is_over.wait(0.02):
                    return
            called.append(lines_of(folder))
            act()
            time.sleep(0.2)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield called
    finally:
        is_over.set()
        thread.join()

"""Watch of running commands from outside: memory, open handles and speed, read from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.core.processes import import_path
from diffcls.support.errors import DiffclsError, UsageError

INTERVAL_SECONDS = 0.1


@dataclass(frozen=True)
class Sample:
    """What the processes of a run hold at some number of images.

    Args:
        done: images with a record, of all processes together.
        seconds: time since the first record.
        memory_mib: resident memory of the command's own processes, the largest of them.
        handles: their open file descriptors, the largest number.
        worker_memory_mib: resident memory of the largest worker of Ray; None without workers.
    """

    done: int
    seconds: float
    memory_mib: float
    handles: int
    worker_memory_mib: float | None


def watch(commands: Sequence[Sequence[str]], results: Path, points: Sequence[int]) -> list[Sample]:
    """Run commands side by side, one thread each, and sample them at some numbers of images.

    Args:
        commands: arguments of Python, for each process.
        results: output folder that they share.
        points: ascending numbers of images; the last is the number of all images.

    Raises:
        DiffclsError: for a command that fails.
        UsageError: on a system without /proc.
    """
    if not Path("/proc/self/fd").is_dir():
        raise UsageError("processes cannot be watched", allowed="Linux, which has /proc")
    environment = {**os.environ, "PYTHONPATH": import_path(), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-P", *one], env=environment, stdout=subprocess.DEVNULL)
        for one in commands
    ]
    try:
        samples = list(_samples(processes, Records(results), list(points)))
        statuses = [process.wait() for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if any(statuses):
        raise DiffclsError(
            "a watched command failed; its error is printed above",
            given=f"exit statuses {statuses}",
            todo="rerun the benchmark once it works",
        )
    return samples


def _samples(
    processes: Sequence[subprocess.Popen[bytes]], records: Records, points: list[int]
) -> Iterator[Sample]:
    began = last = None
    while points:
        running = [process.pid for process in processes if process.poll() is None]
        done, now = records.count(), time.monotonic()
        if began is None and done:
            began = now
        if running and began is not None:
            last = _sample(running, done, now - began)
        if last is not None and done >= points[0]:
            yield Sample(**{**vars(last), "done": done})
            points = [point for point in points if point > done]
        if not running:
            return
        time.sleep(INTERVAL_SECONDS)


class Records:
    """The number of records in an output folder; each call reads only what has been added.

    Args:
        results: the output folder.
    """

    def __init__(self, results: Path) -> None:
        self._results = results
        self._read: dict[Path, tuple[int, int]] = {}

    def count(self) -> int:
        """Records of all runs and shards, by their complete lines."""
        for path in self._results.glob("runs/*/records-*.jsonl"):
            offset, lines = self._read.get(path, (0, 0))
            with open(path, "rb") as file:
                file.seek(offset)
                added = file.read()
            self._read[path] = offset + len(added), lines + added.count(b"\n")
        return sum(lines for _, lines in self._read.values())


def _sample(pids: Sequence[int], done: int, seconds: float) -> Sample | None:
    """A sample of running processes; None if one has just ended."""
    try:
        workers = [memory for pid in pids for memory in _worker_memory(pid)]
        return Sample(
            done,
            seconds,
            max(resident_mib(pid) for pid in pids),
            max(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
            max(workers, default=None),
        )
    except (OSError, StopIteration):
        return None


def resident_mib(pid: int) -> float:
    """Resident memory of a process, in MiB.

    Raises:
        OSError: for a process that has ended.
        StopIteration: for one that is ending.
    """
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def _worker_memory(pid: int) -> Iterator[float]:
    """Resident memory of each worker of Ray among the descendants of a process."""
    for child in descendants(pid):
        try:
            if b"ray::" in Path(f"/proc/{child}/cmdline").read_bytes():
                yield resident_mib(child)
        except (OSError, StopIteration):
            continue


def descendants(pid: int) -> Iterator[int]:
    """Process ids of the children of a process, and of theirs."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)

"""A merge that is killed in a fork, by signal 9, and rerun after each kill.

``python -m helpers.killed_merge events START PART …``, in a folder of them, kills at each file
event in turn, and prints, as JSON, how many of each kind were reached. With a number in place of
``events`` it kills that often at random moments, and prints ``{"random": number}``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from helpers.sharded_runs import answers_of, files_of

from diffcls.runs import leaderboard
from diffcls.runs.merge import merge_runs
from diffcls.runs.record import Record
from diffcls.runs.records import RecordStore
from diffcls.runs.stored import read_runs

AUDITED = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "os.chmod"}


def killed_at(number: int, parts: list[str], target: Path) -> str:
    """Merge in a fork that kills itself before its file event of this number.

    Returns:
        The kind of the event; empty if there is none of this number.
    """
    kind = target.with_suffix(".kind")
    process = _merging(parts, target, lambda: _watch(number, target, kind))
    return kind.read_text() if _was_killed(process) else ""


def killed_after(seconds: float, parts: list[str], target: Path) -> bool:
    """Merge in a fork that is killed after a time; whether it was still running."""
    process = _merging(parts, target, lambda: None)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    return _was_killed(process)


def _merging(parts: list[str], target: Path, prepare: Callable[[], object]) -> int:
    """Start a merge in a fork; returns its process id."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            prepare()
            merge_runs(parts, target)
            status = 0
        finally:
            os._exit(status)
    return process


def _was_killed(process: int) -> bool:
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def _watch(number: int, target: Path, kind: Path) -> None:
    count = 0
    described = os.open(kind, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def event(name: str) -> bool:
        nonlocal count
        count += 1
        if count == number:
            os.write(described, name.encode())
        return count == number

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if name in AUDITED and str(target) in str(arguments[0]) and event(name):
            end()

    append, fsync = RecordStore.append, os.fsync

    def half_an_append(store: RecordStore, record: Record) -> None:
        if event("append"):
            line = record.to_line().encode()
            store._file.write(line[: len(line) // 2])
            end()
        append(store, record)

    def watched_fsync(handle: int) -> None:
        if event("fsync"):
            end()
        fsync(handle)

    RecordStore.append = half_an_append  # type: ignore[method-assign]
    os.fsync = watched_fsync
    sys.addaudithook(audit)


class Merge:
    """The merge that is killed, and what it makes if nothing disturbs it.

    Args:
        start: name of the target as it is before.
        parts: names of the folders that are merged into it.
    """

    def __init__(self, start: str, parts: list[str]) -> None:
        self.start, self.parts, self._count = start, parts, 0
        undisturbed = Path("undisturbed").absolute()
        shutil.copytree(start, undisturbed)
        began = time.monotonic()
        merge_runs(parts, undisturbed)
        self.seconds = time.monotonic() - began
        self._files = files_of(undisturbed)
        names = [path.name for path in (undisturbed / "runs").iterdir()]
        self._whole = {one: answers_of(undisturbed, one) for one in names}
        self._begun = {one: answers_of(Path(start), one) for one in names}

    def kill(self, kill: Callable[[Path], Any]) -> Any:
        """Kill one merge; then its target is read, and the merge rerun."""
        self._count += 1
        target = Path(f"target-{self._count}").absolute()
        shutil.copytree(self.start, target)
        outcome = kill(target)
        stored = read_runs(target)
        assert len(stored.runs) == len(self._whole) and not stored.damaged, outcome
        leaderboard.read(target / "leaderboard.csv")
        for name, whole in self._whole.items():
            found = answers_of(target, name).items()
            assert self._begun[name].items() <= found and found <= whole.items(), outcome
        merge_runs(self.parts, target)
        assert files_of(target) == self._files, outcome
        shutil.rmtree(target)
        return outcome


def main() -> None:
    """Kill a merge again and again."""
    when, start, *parts = sys.argv[1:]
    merge, kinds = Merge(start, parts), Counter[str]()
    if when == "events":
        while kind := merge.kill(lambda target: killed_at(kinds.total() + 1, parts, target)):
            kinds[kind] += 1
    moments = random.Random(0)
    while when != "events" and kinds.total() < int(when):
        kill = partial(killed_after, moments.uniform(0, merge.seconds), parts)
        kinds["random"] += merge.kill(kill)
    print(json.dumps(kinds))


if __name__ == "__main__":
    main()

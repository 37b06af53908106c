"""A merge that is killed at each of its file events in turn: by signal 9, in a fork.

Run as ``python -m helpers.killed_merge START PART …`` in a folder of them; prints, as JSON, how
many events of each kind were reached.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from helpers.sharded_runs import answers_of, files_of

from diffcls.runs import leaderboard
from diffcls.runs.merge import merge_runs
from diffcls.runs.record import Record
from diffcls.runs.records import RecordStore
from diffcls.runs.stored import read_runs

AUDITED = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "os.chmod"}


def killed_at(number: int, parts: list[str], target: Path) -> tuple[bool, str]:
    """Merge in a fork that kills itself before its file event of this number.

    Returns:
        Whether it was killed, and the kind of the event.
    """
    kind = target.with_suffix(".kind")
    process = os.fork()
    if process == 0:
        status = 1
        try:
            _watch(number, target, kind)
            merge_runs(parts, target)
            status = 0
        finally:
            os._exit(status)
    _, state = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(state)
    assert code in (0, -signal.SIGKILL), code
    return code != 0, kind.read_text() if code else ""


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


def main() -> None:
    """Kill the merge at each event; after each kill the target is read, and the merge rerun."""
    start, *parts = sys.argv[1:]
    here = Path.cwd()
    undisturbed = here / "undisturbed"
    shutil.copytree(start, undisturbed)
    merge_runs(parts, undisturbed)
    expected = files_of(undisturbed)
    fingerprints = [path.name for path in (undisturbed / "runs").iterdir()]
    whole = {one: answers_of(undisturbed, one) for one in fingerprints}
    begun = {one: answers_of(here / start, one) for one in fingerprints}
    kinds: Counter[str] = Counter()
    number, was_killed = 0, True
    while was_killed:
        number += 1
        target = here / f"target-{number}"
        shutil.copytree(start, target)
        was_killed, kind = killed_at(number, parts, target)
        kinds[kind] += was_killed
        stored = read_runs(target)
        assert len(stored.runs) == len(fingerprints) and not stored.damaged, (number, kind)
        leaderboard.read(target / "leaderboard.csv")
        for one in fingerprints:
            found = answers_of(target, one).items()
            assert begun[one].items() <= found and found <= whole[one].items(), (number, kind)
        merge_runs(parts, target)
        assert files_of(target) == expected, (number, kind, was_killed)
        shutil.rmtree(target)
    print(json.dumps({kind: count for kind, count in kinds.items() if kind}))


if __name__ == "__main__":
    main()

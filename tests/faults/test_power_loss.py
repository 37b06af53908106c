"""Power loss: the records that are on disk, and what is left of those that are not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.fault_shim import restored
from helpers.stored_runs import spec_of

from diffcls.runs import records
from diffcls.runs.record import BLOCK_BYTES, MAX_UNSYNCED_RECORDS, intact_length
from diffcls.runs.records import Record, RecordStore, read_records
from diffcls.support.errors import RecordError

COUNT = 330
WRITER = f"""
import sys
from pathlib import Path
from helpers.fault_shim import Plan, install
from helpers.stored_runs import spec_of
from diffcls.runs.records import Record, RecordStore
root, mirror, at = sys.argv[1:]
install(Plan(root, at=int(at), action="power", mirror=mirror))
spec = spec_of()
with RecordStore(Path(root), spec) as store:
    for i in range({COUNT}):
        one = Record(spec.fingerprint, f"test/{{i}}", 1, (1, 0, 2), (-0.5, -0.25, -1.0), 8, 0.5)
        store.append(one)
"""
"""Many records, in a process that loses power at an event."""


def record(name: str) -> Record:
    return Record(spec_of().fingerprint, name, 1, (1, 0, 2), (-0.5, -0.25, -1.0), 8, 0.5)


def written(out: Path) -> list[str]:
    with RecordStore(out, spec_of()) as store:
        return [one.image_id for one in store.records()]


@pytest.mark.parametrize("at", [60, 150, 300])
@pytest.mark.usefixtures("proc")
def test_power_loss_costs_at_most_the_last_records(
    at: int, tmp_path: Path, report: Callable[..., None]
) -> None:
    out, mirror, after = (tmp_path / name for name in ("out", "mirror", "after"))
    out.mkdir()
    mirror.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(out), str(mirror), str(at)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == -9
    before = written(out)
    restored(mirror, out, after)
    kept = written(after)
    assert kept == [image for image in before if image in set(kept)]
    lost = len(before) - len(kept)
    assert 0 <= lost <= MAX_UNSYNCED_RECORDS < len(before) or at == 60
    assert len(kept) >= len(before) - MAX_UNSYNCED_RECORDS
    if at == 300:
        report(
            "Power loss among many records",
            "store of records",
            f"at most the last {MAX_UNSYNCED_RECORDS} records, or 5 seconds of them, are lost",
            injected=1,
            survived=1,
            most_scored_again=lost,
        )


def test_records_are_brought_to_disk_by_number_and_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, synced = 0.0, 0

    def sync(handle: int) -> None:
        nonlocal synced
        synced += 1

    monkeypatch.setattr(records.time, "monotonic", lambda: now)
    with RecordStore(tmp_path, spec_of()) as store:
        monkeypatch.setattr(records.os, "fsync", sync)
        for i in range(MAX_UNSYNCED_RECORDS - 1):
            store.append(record(f"a/{i}"))
        assert synced == 0
        store.append(record("a/last"))
        assert synced == 1
        now = 4.9
        store.append(record("b/0"))
        assert synced == 1
        now = 5.0
        store.append(record("b/1"))
        assert synced == 2
        store.append(record("b/2"))
        store.records()  # a row may be computed from them
        assert synced == 3
        store.records()
        assert synced == 3
        monkeypatch.undo()


def fill(out: Path, count: int) -> Path:
    with RecordStore(out, spec_of()) as store:
        for i in range(count):
            store.append(record(f"test/{i:04}"))
    return store.path


def test_blocks_that_did_not_reach_the_disk_are_dropped(tmp_path: Path) -> None:
    path = fill(tmp_path, 300)
    whole = path.read_bytes()
    line_ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    random_places = random.Random(3)
    first = line_ends[-MAX_UNSYNCED_RECORDS - 1]
    for _ in range(12):
        start = random_places.randrange(first, len(whole) - BLOCK_BYTES)
        stop = (start // BLOCK_BYTES + random_places.randrange(1, 4)) * BLOCK_BYTES
        stop = min(stop, len(whole))
        path.write_bytes(whole[:start] + bytes(stop - start) + whole[stop:])
        intact = max(end for end in [0, *line_ends] if end <= start)
        assert intact_length(path.read_bytes()) == intact
        assert [one.image_id for one in read_records(path)] == [
            f"test/{i:04}" for i in range(whole[:intact].count(b"\n"))
        ]
        with RecordStore(tmp_path, spec_of()) as store:  # and the run resumes there
            assert len(store.done) == whole[:intact].count(b"\n")
        assert path.read_bytes() == whole[:intact]


def test_zeros_among_records_that_were_on_disk_are_damage(tmp_path: Path) -> None:
    path = fill(tmp_path, 300)
    whole = path.read_bytes()
    path.write_bytes(whole[:1024] + bytes(BLOCK_BYTES) + whole[1024 + BLOCK_BYTES :])
    with pytest.raises(RecordError, match="is damaged"):
        RecordStore(tmp_path, spec_of())


@pytest.mark.usefixtures("proc")
def test_new_folders_and_files_are_on_disk_with_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def noted(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    with RecordStore(tmp_path / "out", spec_of()) as store:
        folders = {str(path) for path in (tmp_path, tmp_path / "out", tmp_path / "out" / "runs")}
        assert folders | {str(store.folder)} <= set(synced)

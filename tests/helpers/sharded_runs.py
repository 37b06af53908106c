"""Runs whose images are scored in parts, in several output folders, with chosen records."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from helpers.stored_runs import HEADER, spec_of

from diffcls.runs.record import Record, merged_records
from diffcls.runs.records import RecordStore
from diffcls.runs.run_row import put_run_row
from diffcls.runs.spec import RunSpec

FACTS = {"n_asked": 12, "n_classes": 3, "setting": "draws=100", "supervision": "zero-shot"}
IMAGES = range(FACTS["n_asked"])
DISTURBED = {"seconds_per_image", "date", "command"}
"""Columns in which the row of a merged run may differ from that of an undisturbed one."""


def record_of(spec: RunSpec, image: int, seconds: float = 0.5, **changes: Any) -> Record:
    """The record of an image; every fifth image could not be read."""
    order = [(image * image + k) % 3 for k in range(3)]
    failed = image % 5 == 4
    one = Record(
        fingerprint=spec.fingerprint,
        image_id=f"test/{image:03}",
        label=image % 3,
        ranking=() if failed else tuple(order),
        scores=() if failed else tuple(-0.25 * order.index(k) - image for k in range(3)),
        evaluations=0 if failed else 10 + image,
        seconds=seconds,
        error="cannot be read" if failed else None,
    )
    return dataclasses.replace(one, **changes)


def write_part(
    out: Path,
    records: Iterable[int | Record],
    shard: tuple[int, int] = (0, 1),
    *,
    header: Mapping[str, Any] | None = None,
    facts_in: str = "header",
    facts: Mapping[str, Any] = FACTS,
    **changes: Any,
) -> str:
    """Score a part of a run into an output folder, as an evaluation would; returns the fingerprint.

    Args:
        out: the folder.
        records: images, or their records.
        shard: names the file.
        header: changes of the header.
        facts_in: ``header``, ``row`` as an earlier version would, or ``none``.
        facts: what the images and the model tell, see `diffcls.runs.run_row.FACTS`.
        changes: changes of the specification.
    """
    spec = spec_of(**changes)
    whole = {**HEADER, "date": f"2026-01-0{shard[0] + 1}T00:00:00Z", **(header or {})}
    with RecordStore(out, spec, shard) as store:
        stored = store.header({**whole, **(facts if facts_in == "header" else {})})
        for one in records:
            store.append(one if isinstance(one, Record) else record_of(spec, one))
    if facts_in != "none":
        put_run_row(
            out / "leaderboard.csv", spec, stored, facts, lambda: merged_records(store.folder)
        )
    return spec.fingerprint


def shards(root: Path, n: int = 3, **more: Any) -> list[Path]:
    """A run in n folders, one shard each."""
    for i in range(n):
        write_part(root / f"part-{i}", IMAGES[i::n], (i, n), **more)
    return [root / f"part-{i}" for i in range(n)]


def killed_merges(folder: Path, when: str) -> dict[str, int]:
    """Merge three shards into a folder that has a part of them and another run, and kill it.

    Args:
        folder: an empty folder.
        when: see `helpers.killed_merge`.

    Returns:
        Kind of kill -> number.
    """
    names = [part.name for part in shards(folder)]
    write_part(folder / "start", [0, 7], seed=0)
    write_part(folder / "start", IMAGES, seed=7)
    done = subprocess.run(
        [*(sys.executable, "-P", "-m", "helpers.killed_merge"), *(when, "start"), *names],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kinds: dict[str, int] = json.loads(done.stdout)
    return kinds


def write_files(out: Path, parts: Mapping[tuple[int, int], Iterable[Record]]) -> None:
    """The run's files alone, as quickly as they can be written: shard -> its records."""
    spec = spec_of()
    folder = out / "runs" / spec.fingerprint
    folder.mkdir(parents=True)
    header = {"fingerprint": spec.fingerprint, "spec": spec.as_dict(), **HEADER, **FACTS}
    (folder / "run.json").write_text(json.dumps(header))
    for (i, n), records in parts.items():
        lines = "".join(record.to_line() for record in records)
        (folder / f"records-{i}-of-{n}.jsonl").write_text(lines)


def files_of(out: Path) -> dict[str, bytes]:
    """Content of all files below a folder, but for locks."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def answers_of(out: Path, fingerprint: str) -> dict[str, Record]:
    """Image id -> record without its time, of a run in a folder."""
    records = merged_records(out / "runs" / fingerprint)
    return {one.image_id: dataclasses.replace(one, seconds=0.0) for one in records}

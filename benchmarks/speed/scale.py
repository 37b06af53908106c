"""Scale benchmark: what a run costs its driver, by number of workers and of classes.

Writes ``scale.csv`` and ``SCALE.md``. The Ray executor runs as always, with its store, progress and
row, but the classifier in its workers only sleeps: CPU time and memory of the driver are those of
the run itself. Half-way one worker is killed; the time to the first result of its replacement is
measured, and that no image is lost, recorded twice, or scored again once its result was there. Each
row is a run in a process of its own; rows that are stored are kept, so a stopped benchmark resumes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.core.flags import add_report_only, entry_point, parser
from benchmarks.core.processes import output_of
from benchmarks.core.tables import SIX_DIGITS, read_rows, record_environment, write_rows
from benchmarks.speed.scale_estimates import Assumptions
from benchmarks.speed.scale_measure import measure
from benchmarks.speed.scale_report import write_page
from diffcls.support.errors import UsageError

TABLE = "scale.csv"
IMAGES = 100_000
CLASSES = (10, 1000)
WORKERS = (1, 2, 4, 8, 16)
SECONDS = 0.01
"""Time that a worker sleeps per image."""
BYTES_PER_CLASS, BYTES_PER_IMAGE = 30, 500
"""Upper estimate of a record: the digits of a score and of its class in the ranking."""
KEY = ("classes", "workers", "images", "seconds_per_image", "batch")
"""Columns that define a measurement."""
COLUMNS = (
    *KEY,
    "images_per_second",
    "of_ideal",
    "load",
    "start_seconds",
    "driver_ms",
    "loop_ms",
    "row_ms",
    "record_ms",
    "resume_ms",
    "loop_memory_mib",
    "memory_mib",
    "resume_memory_mib",
    "bytes_per_record",
    "recovery_seconds",
    "recovery_cpu_seconds",
    "lost",
    "doubled",
    "scored_twice",
    "delivered_twice",
)


def _main(arguments: list[str]) -> int:
    p = parser("scale", __doc__)
    _add_flags(p)
    flags = p.parse_args(arguments)
    if flags.one:
        print(json.dumps(measure(**json.loads(flags.one))))
        return 0
    _check(flags)
    output = Path(flags.output_dir)
    if not flags.report_only:
        from diffcls.support.workers.cluster import check_installed

        check_installed()
        _check_disk(flags)
        for one in _wanted(flags):
            if flags.again or not _is_stored(one, output):
                _store(_in_a_process({**one, "scratch": flags.scratch}), output)
    assumptions = Assumptions(flags.price, flags.price_date, flags.hours_between_preemptions)
    write_page(read_rows(output / TABLE), output, assumptions)
    return 0


main = entry_point(_main)


def _add_flags(p: argparse.ArgumentParser) -> None:
    given = Assumptions()
    hours = given.hours_between_preemptions
    p.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"per run ({IMAGES:,})")
    p.add_argument("--classes", type=int, nargs="+", default=CLASSES, metavar="N")
    p.add_argument("--workers", type=int, nargs="+", default=WORKERS, metavar="N")
    p.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"a worker sleeps per image ({SECONDS:g})"
    )
    p.add_argument("--batch", type=int, default=8, metavar="N", help="in flight per worker (8)")
    p.add_argument("--scratch", metavar="DIR", help="for the records, which are removed afterwards")
    p.add_argument("--again", action="store_true", help="measure what is stored again, too")
    p.add_argument(
        "--price",
        type=float,
        default=given.price,
        metavar="USD",
        help=f"assumed, of a GPU hour ({given.price:g})",
    )
    p.add_argument(
        "--price-date",
        default=given.price_date,
        metavar="DATE",
        help=f"of that price ({given.price_date})",
    )
    p.add_argument(
        "--hours-between-preemptions",
        type=float,
        default=hours,
        metavar="H",
        help=f"assumed, mean of one GPU ({hours:g})",
    )
    p.add_argument("--one", metavar="JSON", help=argparse.SUPPRESS)
    add_report_only(p)


def _check(flags: argparse.Namespace) -> None:
    """Refuse values out of range.

    Raises:
        UsageError: for the first of them.
    """
    for name, low in (("images", 4), ("classes", 2), ("workers", 1), ("batch", 1)):
        given = getattr(flags, name)
        if any(one < low for one in (given if name in ("classes", "workers") else [given])):
            raise UsageError(f"--{name} out of range", given=given, allowed=f"{low} or more")
    for name in ("seconds", "price", "hours_between_preemptions"):
        if not getattr(flags, name) > 0:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} out of range", given=getattr(flags, name), allowed="above 0")


def _wanted(flags: argparse.Namespace) -> list[dict[str, Any]]:
    """The arguments of every measurement."""
    return [
        {
            "classes": classes,
            "workers": workers,
            "images": flags.images,
            "seconds": flags.seconds,
            "batch": flags.batch,
        }
        for classes in flags.classes
        for workers in flags.workers
    ]


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What defines a measurement: of its arguments, or of its row."""
    same = {"seconds_per_image": row.get("seconds"), **row}
    return tuple(same[name] for name in KEY)


def _is_stored(one: dict[str, Any], output: Path) -> bool:
    path = output / TABLE
    return path.exists() and any(key_of(row) == key_of(one) for row in read_rows(path))


def _store(row: dict[str, Any], output: Path) -> None:
    """Put a row into the table, in the place of one of the same key."""
    path = output / TABLE
    others = read_rows(path) if path.exists() else []
    kept = [one for one in others if key_of(one) != key_of(row)]
    write_rows(path, sorted([*kept, row], key=key_of), COLUMNS, SIX_DIGITS)
    record_environment(output, "scale", keeps_rows=bool(kept))


def _in_a_process(arguments: dict[str, Any]) -> dict[str, Any]:
    line = output_of(["-m", "benchmarks.run", "scale", "--one", json.dumps(arguments)])
    row: dict[str, Any] = json.loads(line.splitlines()[-1])
    print(json.dumps(row), file=sys.stderr)
    return row


def _check_disk(flags: argparse.Namespace) -> None:
    """Refuse a disk that has no room for the records of one run.

    Raises:
        UsageError: for such a disk, or a folder that is none.
    """
    folder = flags.scratch or tempfile.gettempdir()
    if not Path(folder).is_dir():
        raise UsageError("--scratch is no folder", given=folder, allowed="an existing folder")
    needed = flags.images * (BYTES_PER_IMAGE + BYTES_PER_CLASS * max(flags.classes))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            "--scratch has too little room for the records of a run",
            given=f"{free / 1e9:.1f} GB free in {folder}",
            allowed=f"{needed / 1e9:.1f} GB",
            todo="name another folder, or reduce --images",
        )

"""The leaderboard file, ``leaderboard.csv``: one row per run.

Measured rows are identified by their fingerprint, published ones by data set, method and model.
Rows of other runs keep their cells and their order; published rows come after all others.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from diffcls.runs.row import COLUMNS, INTEGER_COLUMNS, MEASURED, cells_of
from diffcls.support.errors import RecordError, UsageError
from diffcls.support.files import locked
from diffcls.support.tables import read_csv, write_csv

__all__ = ["COLUMNS", "published_rows", "put_published", "read", "upsert"]

Rows = Iterable[Mapping[str, Any]]


def published_rows() -> list[dict[str, Any]]:
    """The figures published with the method (Li et al. 2023), as rows of the leaderboard.

    40 rows of source ``published`` (5 methods on 8 data sets) and 6 of
    ``published, later version, unconfirmed``. Unpublished figures are None.
    """
    text = (
        resources.files("diffcls").joinpath("assets", "published.csv").read_text(encoding="utf-8")
    )
    rows = []
    for shipped in csv.DictReader(io.StringIO(text)):
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row.update({name: cell for name, cell in shipped.items() if name in row and cell})
        counts = [name for name in INTEGER_COLUMNS if row[name]]
        row.update({name: int(row[name]) for name in counts})
        row.update(accuracy=float(row["accuracy"]), status="complete")
        rows.append(row)
    return rows


def read(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """The rows of a leaderboard file, each cell as its text.

    Raises:
        RecordError: for a file that cannot be read, whose header differs from COLUMNS, or with a
            row of another number of cells. The file is left unchanged.
    """
    try:
        lines = read_csv(Path(path))
    except (OSError, UnicodeError, csv.Error) as error:
        raise RecordError(
            f"leaderboard cannot be read ({error})",
            given=os.fspath(path),
            allowed="a CSV file in UTF-8, as the evaluate command writes it",
            todo="name the folder of a finished run, or move the file away",
        ) from error
    if not lines:
        return []
    _check_header(path, lines[0])
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(COLUMNS):
            raise RecordError(
                f"row {number} of the leaderboard has {len(cells)} cells",
                given=os.fspath(path),
                allowed=f"{len(COLUMNS)} cells",
                todo="correct or delete that row, or move the file away",
            )
    return [dict(zip(COLUMNS, cells, strict=True)) for cells in lines[1:]]


def upsert(path: str | os.PathLike[str], rows: Rows | Callable[[], Rows]) -> None:
    """Put measured rows into a leaderboard file, which is created if it does not exist.

    A row replaces the one of its fingerprint, or is appended to the measured ones. All other rows
    stay; published rows, which diffcls 0.1 wrote first, are moved behind the measured ones.
    Writers wait for one another, and the file is replaced in one step or not at all.

    Args:
        path: the CSV file; its folder is created.
        rows: mappings from COLUMNS to text or numbers; missing values, None and NaN leave a cell
            empty. A function is called under the lock, when no other process writes.

    Raises:
        UsageError: for a column that is not in COLUMNS, a row that is not measured or has no
            fingerprint, or a folder that cannot be written.
        RecordError: for a file that `read` refuses, or that cannot be written. It is left
            unchanged.
    """
    # given rows are checked before anything is written
    fresh = {} if callable(rows) else _fresh(rows)
    with locked(path) as target:
        if callable(rows):
            # under the lock: of two shards that end together, the later one reads all records
            fresh = _fresh(rows())
        old = read(target) if target.exists() else []
        merged = _merged(old, fresh)
        write_csv(target, [COLUMNS, *([row[name] for name in COLUMNS] for row in merged)])


def put_published(path: str | os.PathLike[str], rows: Rows) -> None:
    """Put rows that were measured elsewhere into a leaderboard file, behind the measured ones.

    A row replaces the published one of the same data set, method, model, search, setting, training
    data and seed.

    Args:
        path: the CSV file; its folder is created.
        rows: rows of a source that begins with ``published``.

    Raises:
        UsageError, RecordError: see `upsert`.
    """
    fresh = [cells_of(row) for row in rows]
    for row in fresh:
        if not row["source"].startswith("published"):
            raise UsageError("row is not a published one", given=row["source"])
    by_key = {_published_key(row): row for row in fresh}
    with locked(path) as target:
        old = read(target) if target.exists() else []
        kept = [row for row in old if _published_key(row) not in by_key]
        merged = _merged([*kept, *by_key.values()], {})
        write_csv(target, [COLUMNS, *([row[name] for name in COLUMNS] for row in merged)])


def _published_key(row: Mapping[str, str]) -> tuple[str, ...]:
    names = ("source", "dataset", "method", "model", "search", "setting", "supervision", "seed")
    return tuple(row[name] for name in names)


def _check_header(path: str | os.PathLike[str], header: Sequence[str]) -> None:
    if tuple(header) == COLUMNS:
        return
    missing = [name for name in COLUMNS if name not in header]
    extra = [name for name in header if name not in COLUMNS]
    differs = [f"lacks {', '.join(missing)}"] if missing else []
    differs += [f"has {', '.join(map(repr, extra))} as well"] if extra else []
    raise RecordError(
        f"leaderboard's columns differ: it {' and '.join(differs) or 'has them in another order'}",
        given=os.fspath(path),
        allowed=",".join(COLUMNS),
        todo="nothing was written: move the file away, or choose another output folder",
    )


def _fresh(rows: Rows) -> dict[tuple[str, ...], dict[str, str]]:
    return {_key(row): row for row in map(_measured_cells, rows)}


def _measured_cells(row: Mapping[str, Any]) -> dict[str, str]:
    for name in row:
        if name not in COLUMNS:
            raise UsageError("unknown column of the leaderboard", given=name, allowed=COLUMNS)
    if row.get("source") != MEASURED or not row.get("fingerprint"):
        raise UsageError(
            "row cannot be put into the leaderboard",
            given={"source": row.get("source"), "fingerprint": row.get("fingerprint")},
            allowed="source 'measured' with the run's fingerprint",
        )
    return cells_of(row)


def _merged(
    old: Iterable[dict[str, str]], fresh: Mapping[tuple[str, ...], dict[str, str]]
) -> list[dict[str, str]]:
    own: list[dict[str, str]] = []
    published: list[dict[str, str]] = []
    remaining = dict(fresh)
    for row in old:
        key = _key(row)
        if row["source"].startswith("published"):
            published.append(row)
        elif key not in fresh:
            own.append(row)
        elif key in remaining:  # else: a second copy
            own.append(remaining.pop(key))
    return own + list(remaining.values()) + published


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    identifying = ("fingerprint",) if row["source"] == MEASURED else ("dataset", "method", "model")
    return (row["source"], *(row[name] for name in identifying))

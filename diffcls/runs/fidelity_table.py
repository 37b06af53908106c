"""``fidelity.csv``: what a generator is worth, one figure a row."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffcls.support.files import locked, write_text
from diffcls.support.errors import RecordError

COLUMNS = (
    *("model", "dataset", "split", "metric", "extractor", "n", "value", "stderr"),
    *("guidance", "steps", "training_images", "accuracy"),
)
METRICS = ("FID", "IS", "KID", "precision", "recall", "bits_per_dim")
SAME = tuple(name for name in COLUMNS if name not in ("value", "stderr", "accuracy"))
"""What makes two rows the same measurement: the later one replaces the earlier."""

Row = Mapping[str, Any]


def put(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to the table, each in place of an earlier one of the same measurement.

    Raises:
        RecordError: for a file that is no such table, which is left as it is.
        UsageError: for a folder that cannot be written.
    """
    with locked(path) as target:
        held = {_key(row): row for row in read(target)} if target.exists() else {}
        for row in rows:
            cells = {name: _cell(row.get(name)) for name in COLUMNS}
            before = held.get(_key(cells), cells)
            # accuracy is put in afterwards, by whoever knows it
            cells["accuracy"] = cells["accuracy"] or str(before["accuracy"])
            held[_key(cells)] = cells
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(held.values())
        write_text(target, buffer.getvalue())


def check(path: Path) -> None:
    """Refuse, before anything is measured, what `put` would refuse.

    Raises:
        RecordError, UsageError: see `put`.
    """
    if path.exists():
        read(path)
    with locked(path):
        pass


def read(path: Path) -> list[dict[str, str]]:
    """All rows, as texts.

    Raises:
        RecordError: for a file that is no such table.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            rows, names = list(table), tuple(table.fieldnames or ())
    except (UnicodeDecodeError, csv.Error):
        rows, names = [], ()
    # a line with too many cells has them under None, one with too few has None for a cell
    if names != COLUMNS or any(None in row or None in row.values() for row in rows):
        raise RecordError(
            "not a table of fidelity",
            given=str(path),
            allowed=",".join(COLUMNS),
            todo="move that file away, or choose another --output-dir",
        )
    return rows


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in SAME)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)

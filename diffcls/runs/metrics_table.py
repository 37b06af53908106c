"""``rejection.csv`` and ``multi_label.csv``: figures beside the leaderboard, one value per row."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffcls.support.errors import RecordError
from diffcls.support.files import locked
from diffcls.support.tables import read_csv, text_cell, write_csv

COLUMNS = (
    *("fingerprint", "dataset", "split", "method", "model", "background_prompt", "statistic"),
    *("metric", "label", "value", "ci_low", "ci_high", "n", "n_none", "n_labels"),
    *("evaluations_per_image", "seed", "device", "versions", "commit", "command", "date"),
)
KEY_COLUMNS = ("fingerprint", "statistic", "metric", "label")
"""Columns that identify a figure; a later row replaces an earlier one with equal cells."""
PROVENANCE = ("seed", "device", "versions", "commit", "command", "date")
"""Columns that are copied from a run's leaderboard row or header."""

Row = Mapping[str, Any]


def put(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to the table; each replaces an earlier row of the same figure.

    Args:
        path: the table, created if missing.
        rows: column -> value; missing values and NaN become empty cells.

    Raises:
        RecordError: for a file that is not such a table; it is left unchanged.
        UsageError: for a folder that cannot be written.
    """
    with locked(path) as target:
        stored = {_key(row): row for row in read(target)} if target.exists() else {}
        for row in rows:
            cells = {name: _cell(row.get(name)) for name in COLUMNS}
            stored[_key(cells)] = cells
        write_csv(target, [COLUMNS, *([row[name] for name in COLUMNS] for row in stored.values())])


def read(path: Path) -> list[dict[str, str]]:
    """All rows, their cells as text.

    Raises:
        RecordError: for a file that is not such a table.
    """
    try:
        lines = read_csv(path)
    except (OSError, UnicodeError, csv.Error):
        lines = []
    if not lines or tuple(lines[0]) != COLUMNS or {len(line) for line in lines} != {len(COLUMNS)}:
        raise RecordError(
            "not a table of figures",
            given=str(path),
            allowed=",".join(COLUMNS),
            todo="move that file, or choose another --output-dir",
        )
    return [dict(zip(COLUMNS, line, strict=True)) for line in lines[1:]]


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in KEY_COLUMNS)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else text_cell(value)

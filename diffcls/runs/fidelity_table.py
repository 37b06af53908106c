"""``fidelity.csv``: fidelity and likelihood of generative models, one value per row."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffcls.support.errors import RecordError, UsageError
from diffcls.support.files import locked
from diffcls.support.tables import read_csv, text_cell, write_csv

COLUMNS = (
    *("model", "dataset", "split", "metric", "extractor", "n", "value", "stderr"),
    *("guidance", "steps", "training_images", "accuracy"),
)
METRICS = ("FID", "IS", "KID", "precision", "recall", "bits_per_dim")
KEY_COLUMNS = tuple(name for name in COLUMNS if name not in ("value", "stderr", "accuracy"))
"""Columns that identify a measurement; a later row replaces an earlier one with equal cells."""

Row = Mapping[str, Any]


def put(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to the table; each replaces an earlier row of the same measurement.

    Args:
        path: the table, created if missing.
        rows: column -> value; missing values and NaN become empty cells.

    Raises:
        RecordError: for a file that is not a fidelity table; it is left unchanged.
        UsageError: for a folder that cannot be written.
    """
    with locked(path) as target:
        stored = {_key(row): row for row in read(target)} if target.exists() else {}
        for row in rows:
            cells = {name: _cell(row.get(name)) for name in COLUMNS}
            before = stored.get(_key(cells), cells)
            # accuracy is measured by another command, and kept
            cells["accuracy"] = cells["accuracy"] or str(before["accuracy"])
            stored[_key(cells)] = cells
        write_csv(target, [COLUMNS, *([row[name] for name in COLUMNS] for row in stored.values())])


def check(path: Path) -> None:
    """Check, before a measurement, that `put` will work; nothing is created.

    Raises:
        RecordError, UsageError: see `put`.
    """
    if path.exists():
        read(path)
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UsageError(
            "--output-dir cannot be written", str(path.parent), todo="choose another folder"
        )


def read(path: Path) -> list[dict[str, str]]:
    """All rows, their cells as text.

    Raises:
        RecordError: for a file that is not a fidelity table.
    """
    try:
        lines = read_csv(path)
    except (OSError, UnicodeError, csv.Error):
        lines = []
    if not lines or tuple(lines[0]) != COLUMNS or {len(line) for line in lines} != {len(COLUMNS)}:
        raise RecordError(
            "not a fidelity table",
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

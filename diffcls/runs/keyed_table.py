"""Keyed table: a CSV of figures whose rows are identified by some of their columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.support.errors import RecordError
from diffcls.support.files import locked
from diffcls.support.tables import read_csv, text_cell, write_csv

Row = Mapping[str, Any]


@dataclass(frozen=True)
class KeyedTable:
    """Layout of a table of figures, one value per row.

    Args:
        name: what a file of it is, for messages, such as "a fidelity table".
        columns: its columns.
        key: columns that identify a figure; a later row replaces an earlier one with equal cells.
        kept: column that a later row without a value keeps: another command measures it.
    """

    name: str
    columns: Sequence[str]
    key: Sequence[str]
    kept: str | None = None

    def put(self, path: Path, rows: Sequence[Row]) -> None:
        """Add rows to a file, created if missing; see `key`.

        Args:
            path: the file.
            rows: column -> value; missing values and NaN become empty cells.

        Raises:
            RecordError: for a file that is not such a table; it is left unchanged.
            UsageError: for a folder that cannot be written.
        """
        with locked(path) as target:
            stored = {self._key(r): r for r in self.read(target)} if target.exists() else {}
            for row in rows:
                cells = {name: _cell(row.get(name)) for name in self.columns}
                if self.kept is not None:
                    before = stored.get(self._key(cells), cells)
                    cells[self.kept] = cells[self.kept] or before[self.kept]
                stored[self._key(cells)] = cells
            lines = [[row[name] for name in self.columns] for row in stored.values()]
            write_csv(target, [self.columns, *lines])

    def read(self, path: Path) -> list[dict[str, str]]:
        """All rows of a file, their cells as text.

        Raises:
            RecordError: for a file that is not such a table.
        """
        columns = tuple(self.columns)
        try:
            lines = read_csv(path)
        except (OSError, UnicodeError, csv.Error):
            lines = []
        if (
            not lines
            or tuple(lines[0]) != columns
            or {len(line) for line in lines} != {len(columns)}
        ):
            raise RecordError(
                f"not {self.name}",
                given=str(path),
                allowed=",".join(columns),
                todo="move that file, or choose another --output-dir",
            )
        return [dict(zip(columns, line, strict=True)) for line in lines[1:]]

    def _key(self, row: Row) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in self.key)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else text_cell(value)

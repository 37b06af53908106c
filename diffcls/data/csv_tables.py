"""Strict reader of the CSV tables that people bring: prompts, captions, class ids, class names.

A table is read as its author meant it, or it is refused with the line: no row loses a field. The
separator is "," or else ";" or a tab, whichever gives the header the required columns; names of
columns are compared without case and outer spaces; empty rows are skipped.
"""

from __future__ import annotations

import csv
import io
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffcls.support.errors import DataError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
LINE_BREAK = re.compile(r"\r\n|\r|\n")
MAX_CHARACTERS_SHOWN = 120


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Args:
        where: the table and the number of the row's first line, for messages.
        cells: name of the column in lower case -> text.
    """

    where: str
    cells: Mapping[str, str]

    def text(self, column: str) -> str:
        """The text of a column.

        Raises:
            DataError: if there is none.
        """
        value = self.cells[column]
        if not value.strip():
            raise DataError(f"{self.where}: empty {column}", todo="fill the cell or remove the row")
        return value

    def whole_number(self, column: str) -> int:
        """The value of a column of indices, 0 or more.

        Raises:
            DataError: for anything but decimal digits.
        """
        value = self.cells[column].strip()
        if not WHOLE_NUMBER.fullmatch(value):
            raise DataError(
                f"{self.where}: {column} is not a whole number",
                given=value[:MAX_CHARACTERS_SHOWN],
                allowed="0, 1, 2, …",
            )
        return int(value)


@dataclass(frozen=True)
class CsvTable:
    """A table with a header.

    Args:
        columns: names of the columns in lower case; empty for a column without a name.
        rows: one or more rows, each with a text for every named column.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_csv(
    path: Path,
    subject: str,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    line_breaks: bool = False,
) -> CsvTable:
    """Read a CSV file in UTF-8 with a header.

    Args:
        path: the file.
        subject: flag or file that messages begin with, such as ``--prompts``.
        columns: names of the columns that the table must have, in lower case.
        optional: names of further columns that have a meaning. Any others are ignored.
        line_breaks: whether a quoted text may span lines; elsewhere a lost quote is suspected.

    Raises:
        DataError: for a file that cannot be read, is not UTF-8 or has no rows; for a header that
            lacks a column or has it twice; for a row with more or fewer fields than the header.
    """
    text = read_text(path, subject)
    separator, names = _header(text, subject, columns, optional)
    rows = []
    for line, cells in list(_records(text, separator, subject))[1:]:
        where = f"{subject}: line {line}"
        _check_fields(cells, names, separator, where)
        if not line_breaks and any(LINE_BREAK.search(cell) for cell in cells):
            raise DataError(
                f"{where}: a text spans several lines",
                given=separator.join(cells)[:MAX_CHARACTERS_SHOWN],
                todo='close every double quote (") on its own line',
            )
        named = {name: cell for name, cell in zip(names, cells, strict=True) if name}
        rows.append(Row(where, named))
    if not rows:
        raise DataError(f"{subject}: table has a header but no rows", given=str(path))
    return CsvTable(tuple(names), tuple(rows))


def read_text(path: Path, subject: str) -> str:
    """The text of a file in UTF-8, with its line ends unchanged and without byte order mark.

    Raises:
        DataError: for a file that is missing, empty or cannot be read, is not UTF-8, or contains
            a NUL.
    """
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
        data = path.read_bytes() if regular else b""  # reading a pipe would wait for ever
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{subject}: file not found", given=str(path), todo="check the path"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{subject}: cannot read file ({reason})", given=str(path)) from None
    if not regular:
        raise DataError(f"{subject}: not a file", given=str(path), todo="check the path")
    text, problem = _decode(data)
    if problem:
        raise DataError(
            f"{subject}: cannot read file ({problem})",
            given=str(path),
            allowed="text in UTF-8",
            todo="save it as UTF-8",
        )
    if not text.strip():
        raise DataError(f"{subject}: file is empty", given=str(path))
    return text


def _decode(data: bytes) -> tuple[str, str]:
    """The text and an empty string, or else the reason why it is none."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "", "it is UTF-16"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return "", f"line {_line_after(data[: error.start].decode('latin-1'))} is not UTF-8"
    if "\0" in text:
        return "", f"line {_line_after(text[: text.index(chr(0))])} contains a NUL character"
    return text, ""


def _line_after(text: str) -> int:
    """Number of the line on which a text ends."""
    return 1 + len(LINE_BREAK.findall(text))


def _header(
    text: str, subject: str, columns: Sequence[str], optional: Sequence[str]
) -> tuple[str, list[str]]:
    """The separator, and the names of the columns in lower case."""
    allowed = ", ".join([*columns, *(f"[{name}]" for name in optional)])
    separator, names = _split(text, subject, columns)
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(
            f"{subject}: header lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}",
            given=_shown(names),
            allowed=allowed,
            todo=f"name the columns so; they are separated by {SEPARATORS[separator]}",
        )
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise DataError(f"{subject}: columns occur twice", given=_shown(repeated), allowed=allowed)
    return separator, names


def _split(text: str, subject: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """The separator that gives the header the columns, or else the most names; and these names."""
    headers = {separator: _names(text, separator, subject) for separator in SEPARATORS}
    for separator, names in headers.items():
        if set(columns) <= set(names):
            return separator, names
    separator = max(headers, key=lambda s: len(headers[s]))
    return separator, headers[separator]


def has_columns(path: Path, subject: str, columns: Sequence[str]) -> bool:
    """Whether the header of a CSV file has the columns.

    Raises:
        DataError: see `read_text`.
    """
    return set(columns) <= set(_split(read_text(path, subject), subject, columns)[1])


def _names(text: str, separator: str, subject: str) -> list[str]:
    """Names of the columns for one separator; empty if the header cannot be split by it."""
    try:
        _, cells = next(_records(text, separator, subject), (0, []))
    except DataError:
        return []
    return [name.strip().lower() for name in cells]


def _shown(names: Sequence[str]) -> list[str]:
    return [name[:40] for name in names[:12]]


def _check_fields(cells: Sequence[str], names: Sequence[str], separator: str, where: str) -> None:
    """Refuse a row that is longer or shorter than the header.

    Text below an empty name of the header is the lost end of another cell, unless it stands first
    and is a whole number: the index that pandas writes.
    """
    given = separator.join(cells)[:MAX_CHARACTERS_SHOWN]
    quote = 'put each text that contains the separator between double quotes (")'
    if len(cells) != len(names):
        raise DataError(
            f"{where} has {len(cells)} fields, the header has {len(names)}",
            given=given,
            allowed=f"{len(names)} fields, separated by {SEPARATORS[separator]}",
            todo=quote if len(cells) > len(names) else "complete the row or remove it",
        )
    for i, (name, cell) in enumerate(zip(names, cells, strict=True)):
        if not name and cell.strip() and (i or not WHOLE_NUMBER.fullmatch(cell.strip())):
            raise DataError(
                f"{where}: field {i + 1} belongs to no named column",
                given=given,
                todo=f"name the column, or {quote}",
            )


def _records(text: str, separator: str, subject: str) -> Iterator[tuple[int, list[str]]]:
    """(number of the first line, cells) of each row that is not empty, the header first."""
    # in "a, b, c" the space belongs to the separator
    spaced = re.match(rf"\s*[^\r\n{separator}]*({separator} [^\r\n{separator}]*)+(\r|\n|$)", text)
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        strict=True,
        skipinitialspace=spaced is not None,
    )
    before = 0
    try:
        for cells in lines:
            if any(cell.strip() for cell in cells):
                yield before + 1, cells
            before = lines.line_num
    except csv.Error as error:
        physical = LINE_BREAK.split(text)
        raise DataError(
            f"{subject}: cannot read line {before + 1} ({error})",
            given=physical[min(before, len(physical) - 1)][:MAX_CHARACTERS_SHOWN],
            allowed="a CSV in which every double quote is closed",
        ) from None

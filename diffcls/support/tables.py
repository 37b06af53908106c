"""Tables: plain text for a terminal, and CSV files that are read back before they are replaced."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from diffcls.support.errors import RecordError
from diffcls.support.files import write_text
from diffcls.support.terminals import cell_width
from diffcls.support.text import valid_text

MAX_CELL_CHARACTERS = 32_767
"""Characters of a cell that spreadsheets hold; Python's csv module refuses more than 131,072."""


def align(lines: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """Cells in columns of equal width, with a rule below the header.

    Widths are those of a terminal: a CJK character or an emoji takes two columns.

    Args:
        lines: the header, then the rows; each has the same number of cells.
        right: headers of the columns that are aligned to the right.

    Returns:
        One line per row, without a newline at the end.

    Raises:
        ValueError: for lines that differ in their number of cells.
    """
    widths = [max(map(cell_width, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            _padded(cell, width, name in right)
            for name, cell, width in zip(lines[0], line, widths, strict=True)
        ).rstrip()
        for line in (lines[0], rule, *lines[1:])
    )


def _padded(cell: str, width: int, right: bool) -> str:
    spaces = " " * (width - cell_width(cell))
    return spaces + cell if right else cell + spaces


def text_cell(value: object) -> str:
    """The text of a cell: valid UTF-8, no formula, at most `MAX_CELL_CHARACTERS` characters.

    A text that a spreadsheet would evaluate gets an apostrophe in front; a longer one is cut.
    """
    text = valid_text(str(value))
    if text.lstrip()[:1] in tuple("=+-@") and not _is_number(text):
        text = "'" + text
    return text if len(text) <= MAX_CELL_CHARACTERS else text[: MAX_CELL_CHARACTERS - 1] + "…"


def write_csv(target: Path, lines: Iterable[Sequence[str]]) -> None:
    """Replace a CSV file in one step, once its text is known to be read back as it was.

    Args:
        target: the file, locked by the caller (see `diffcls.support.files.locked`).
        lines: the header, then the rows; text of any kind.

    Raises:
        RecordError: for cells that CSV cannot hold; the file is left unchanged.
        UsageError, RecordError: see `diffcls.support.files.write_bytes`.
    """
    cells = [[valid_text(cell) for cell in line] for line in lines]
    text = "".join((",".join(map(_quoted, line)) or '""') + "\n" for line in cells)
    try:
        same = parse_csv(text) == cells
    except csv.Error:
        same = False
    if not same:
        raise RecordError(
            "the table could not be read back",
            given=str(target),
            allowed=f"cells of at most {csv.field_size_limit():,} characters",
            todo="the file is unchanged: shorten what the run's options name",
        )
    write_text(target, text)


def read_csv(path: Path) -> list[list[str]]:
    """The lines of a CSV file in UTF-8, with or without a byte order mark; blank ones are skipped.

    Raises:
        OSError, UnicodeError: for a file that cannot be read.
        csv.Error: for text that is not CSV.
    """
    return parse_csv(path.read_bytes().decode("utf-8-sig"))


def parse_csv(text: str) -> list[list[str]]:
    """The cells of CSV text, line by line; blank lines are skipped.

    Raises:
        csv.Error: for text that is not CSV.
    """
    # newline="": line ends within cells stay as they are
    return [cells for cells in csv.reader(io.StringIO(text, newline=""), strict=True) if cells]


def _quoted(cell: str) -> str:
    # csv.writer leaves a carriage return unquoted, and csv.reader takes it for the end of a line
    special = any(character in cell for character in ',"\r\n')
    return '"' + cell.replace('"', '""') + '"' if special else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Files of a report: written in one step, and never over a file that something else made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffcls.support.errors import UsageError
from diffcls.support.files import locked, make_folder, write_text
from diffcls.support.tables import parse_csv, text_cell, write_csv
from diffcls.support.text import valid_text

GENERATOR = '<meta name="generator" content="diffcls report'
"""Start of the tag by which a page of this command is known."""
HEAD_BYTES = 4096

Table = Sequence[Sequence[object]]
"""The header, then the rows."""


def check_page(path: Path) -> None:
    """Refuse a place that a page cannot be written to, before any work.

    Raises:
        UsageError: for another suffix, a folder that does not exist, or a file that is not a page
            of this command.
    """
    if path.suffix.lower() not in (".html", ".htm") or not os.path.isdir(path.parent):
        raise UsageError(
            "--output cannot be written", str(path), "an .html file in an existing folder"
        )
    if os.path.lexists(path) and not _is_page(path):
        raise UsageError(
            "the report would replace a file that this command did not write",
            given=str(path),
            todo="choose another name by --output FILE, or move that file away",
        )


def _is_page(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return GENERATOR.encode() in file.read(HEAD_BYTES)
    except OSError:
        return False


def write_page(path: Path, html: str) -> int:
    """Replace a page in one step; returns its size in bytes.

    Raises:
        UsageError, RecordError: see `check_page` and `diffcls.support.files.write_bytes`.
    """
    text = valid_text(html)
    make_folder(path.parent)
    with locked(path) as target:
        check_page(target)
        write_text(target, text)
    return len(text.encode("utf-8"))


def check_tables(folder: Path, headers: Mapping[str, Sequence[str]]) -> None:
    """Refuse tables of which one would replace a file with another header.

    Args:
        folder: the folder.
        headers: file name -> columns.

    Raises:
        UsageError: for such a file.
    """
    for name, header in headers.items():
        path = folder / name
        if os.path.lexists(path) and _header(path) != list(header):
            raise UsageError(
                "--csv would replace a file that this command did not write",
                given=str(path),
                todo="move that file away, or choose another folder by --output FILE",
            )


def _header(path: Path) -> list[str] | None:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(iter(parse_csv(file.readline())), None)
    except (OSError, ValueError):
        return None


def write_tables(folder: Path, tables: Mapping[str, Table]) -> list[Path]:
    """Write CSV tables, each in one step; returns their paths."""
    check_tables(folder, {name: [str(c) for c in table[0]] for name, table in tables.items()})
    paths = []
    for name, table in tables.items():
        with locked(folder / name) as target:
            write_csv(target, [[text_cell(cell) for cell in line] for line in table])
        paths.append(folder / name)
    return paths

"""Location and reading of a data set's own files: folders, class names, labels, tables."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffcls.data.catalog import Query
from diffcls.support.errors import DataError


def place(query: Query, folders: Iterable[str], names: Iterable[str]) -> Path | None:
    """The folder that holds any of the files `names`; None where there is none.

    Looked for in the root itself and in its `folders`, then in the folder of the data set's name
    and in `folders` below that: the root may be the set's own folder, or its parent.

    Args:
        query: what is asked for; its root says where to look.
        folders: what the set's makers call the folder.
        names: files, or paths below the folder, by which it is known.
    """
    if query.root is None:
        return None
    names = tuple(names)
    places = [
        base / folder
        for base in (query.root, query.root / query.spec.name)
        for folder in ("", *folders)
    ]
    return next((p for p in places if any((p / name).exists() for name in names)), None)


def content(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: when it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def text(path: Path) -> str:
    """A text in UTF-8.

    Raises:
        DataError: when it is missing, or no such text.
    """
    try:
        return content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(path, error) from error


def lines(path: Path) -> list[str]:
    """The lines of a text, empty ones left out.

    Raises:
        DataError: when the file is missing, or no text in UTF-8.
    """
    return [line.strip() for line in text(path).splitlines() if line.strip()]


def table(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises:
        DataError: when it is missing, or holds something else.
    """
    try:
        found = json.loads(text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise unreadable(path, error) from error
    if not isinstance(found, dict):
        raise DataError("no JSON object in this file", given=str(path), allowed='{"key": value}')
    return found


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a file of the data set that is missing, cut short, or not what it should be."""
    if isinstance(error, FileNotFoundError):
        return DataError(
            "a file of the data set is missing", given=str(path), todo="unpack the archive again"
        )
    return DataError(
        f"cannot read a file of the data set ({type(error).__name__}: {error})",
        given=str(path),
        todo="unpack the archive again",
    )

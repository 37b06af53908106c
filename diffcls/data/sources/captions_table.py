"""Captioned images: a folder with ``metadata.csv`` or ``metadata.jsonl``, one sentence per image.

The layout is that of the library datasets: a table with the columns ``file_name`` and ``text``.
Each distinct sentence is a class; an image is classified among its own sentence and nine others.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffcls.data.csv_tables import MAX_CHARACTERS_SHOWN, has_columns, read_csv, read_text
from diffcls.data.dataset import Dataset, Item
from diffcls.support.errors import DataError
from diffcls.support.seeding import key

logger = logging.getLogger(__name__)

TABLE_NAMES = ("metadata.csv", "metadata.jsonl")
FILE_COLUMN, TEXT_COLUMN = "file_name", "text"
COLUMNS = f"columns {FILE_COLUMN} and {TEXT_COLUMN}"
CANDIDATES_PER_IMAGE = 10


def find_table(folder: Path) -> Path | None:
    """The table of a folder; None if there is none."""
    return next((folder / name for name in TABLE_NAMES if (folder / name).is_file()), None)


def has_sentences(path: Path) -> bool:
    """Whether a table has the columns of images and sentences.

    Raises:
        DataError: for a table that is no text in UTF-8.
    """
    if path.suffix == ".csv":
        return has_columns(path, path.name, (FILE_COLUMN, TEXT_COLUMN))
    first = next((row for _, row in _rows(path)), {})
    return FILE_COLUMN in first and TEXT_COLUMN in first


def read_table(path: Path) -> list[tuple[Path, str]]:
    """(image file, sentence) of each row, in order.

    Raises:
        DataError: if the table cannot be read (see `diffcls.data.csv_tables.read_csv`), a row lacks
            one of the columns, or an image file is missing.
    """
    pairs = []
    for where, cells in _rows(path):
        name, sentence = cells.get(FILE_COLUMN), cells.get(TEXT_COLUMN)
        for column, value in ((FILE_COLUMN, name), (TEXT_COLUMN, sentence)):
            if not isinstance(value, str) or not value.strip():
                raise DataError(
                    f"{where} lacks an image or a sentence",
                    given=value,
                    allowed=f"non-empty texts {FILE_COLUMN} and {TEXT_COLUMN}",
                    todo=f"complete {column}, or remove the row",
                )
        image = path.parent / str(name)
        if not _is_file(image):
            raise DataError(
                f"{where}: image not found",
                given=str(image),
                todo=f"correct {FILE_COLUMN}, or remove the row",
            )
        pairs.append((image, str(sentence).strip()))
    return pairs


def _rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """(place for messages, cells) of each row."""
    if path.suffix == ".csv":
        table = read_csv(path, path.name, (FILE_COLUMN, TEXT_COLUMN), line_breaks=True)
        return [(row.where, row.cells) for row in table.rows]
    rows: list[tuple[str, Mapping[str, Any]]] = []
    # not str.splitlines, which also splits at characters that a sentence may contain
    for number, line in enumerate(read_text(path, path.name).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}: line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = str(error) or "too deeply nested"
            raise DataError(
                f"{where} cannot be read ({reason})",
                given=line[:MAX_CHARACTERS_SHOWN],
                allowed="JSON Lines",
            ) from None
        rows.append((where, row if isinstance(row, dict) else {}))
    return rows


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def with_candidates(dataset: Dataset) -> Dataset:
    """The data set with ten candidates per image: its own sentence and nine others.

    The others and the position of the own sentence are random, seeded by the image id.
    """
    count = min(CANDIDATES_PER_IMAGE, len(dataset.class_names))

    def with_others(item: Item) -> Item:
        rng = random.Random(key("candidates", item.image_id))
        others = [k for k in range(len(dataset.class_names)) if k != item.label]
        chosen = rng.sample(others, count - 1)
        position = rng.randrange(count)
        chosen.insert(position, item.label)
        return Item(item.image_id, position, item.open, tuple(chosen))

    return Dataset(
        dataset.name,
        dataset.split,
        dataset.class_names,
        tuple(with_others(item) for item in dataset.items),
        dataset.revision,
        sentences=True,
    )

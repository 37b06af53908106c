"""Captioned images: a folder with ``metadata.csv`` or ``metadata.jsonl``, one sentence per image.

The layout is that of the library datasets: a table with the columns ``file_name`` and ``text``.
Each distinct sentence is a class; an image is classified among its own sentence and nine others.
"""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

from diffcls.data.dataset import Dataset, Item
from diffcls.support.errors import DataError
from diffcls.support.seeding import key

TABLE_NAMES = ("metadata.csv", "metadata.jsonl")
FILE_COLUMN, TEXT_COLUMN = "file_name", "text"
CANDIDATES_PER_IMAGE = 10


def find_table(folder: Path) -> Path | None:
    """The table of a folder; None if there is none."""
    return next((folder / name for name in TABLE_NAMES if (folder / name).is_file()), None)


def read_table(path: Path) -> list[tuple[Path, str]]:
    """(image file, sentence) of each row, in order.

    Raises:
        DataError: if the table cannot be read, a row lacks one of the columns, or an image file is
            missing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        else:  # not str.splitlines, which also splits at characters that a sentence may contain
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"cannot read the captions table ({error})",
            given=str(path),
            allowed="a CSV or JSON Lines file in UTF-8",
        ) from error
    pairs = []
    for number, row in enumerate(rows, start=1):
        cells = row if isinstance(row, dict) else {}
        name, sentence = cells.get(FILE_COLUMN), cells.get(TEXT_COLUMN)
        if not name or not isinstance(sentence, str) or not sentence.strip():
            raise DataError(
                f"row {number} of {path.name} lacks an image or a sentence",
                given=row,
                allowed=f"non-empty columns {FILE_COLUMN} and {TEXT_COLUMN}",
            )
        image = path.parent / str(name)
        if not image.is_file():
            raise DataError(
                f"image in row {number} of {path.name} not found",
                given=str(image),
                todo=f"correct {FILE_COLUMN}, or remove the row",
            )
        pairs.append((image, sentence.strip()))
    return pairs


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

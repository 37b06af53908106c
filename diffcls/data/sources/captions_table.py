"""Captioned images: a folder with ``metadata.csv`` or ``metadata.jsonl``, one sentence per image.

The layout is that of the library datasets, a table with the columns ``file_name`` and ``text``.
Every different sentence is a class; an image is classified among its own sentence and nine others.
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

TABLES = ("metadata.csv", "metadata.jsonl")
FILE, TEXT = "file_name", "text"
CANDIDATES = 10


def table_in(folder: Path) -> Path | None:
    """The table of a folder, None where it has none."""
    return next((folder / name for name in TABLES if (folder / name).is_file()), None)


def read_table(path: Path) -> list[tuple[Path, str]]:
    """(image, sentence) of each line, in order.

    Raises:
        DataError: for a line without its two columns, or whose image is not there.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        else:  # only this ends a line: a sentence may hold what else str.splitlines would cut at
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read the captions ({error})", given=str(path)) from error
    found = []
    for number, row in enumerate(rows, start=1):
        name, sentence = (
            row.get(column) if isinstance(row, dict) else None for column in (FILE, TEXT)
        )
        if not name or not isinstance(sentence, str) or not sentence.strip():
            raise DataError(
                f"line {number} of the captions says no image or no sentence",
                given=row,
                allowed=f"columns {FILE} and {TEXT}, both filled",
            )
        image = path.parent / str(name)
        if not image.is_file():
            raise DataError("an image of the captions is not there", given=str(image))
        found.append((image, sentence.strip()))
    return found


def with_candidates(dataset: Dataset) -> Dataset:
    """The data set with ten candidates per image: its own sentence and nine sampled by its id."""
    count = min(CANDIDATES, len(dataset.class_names))

    def with_own(item: Item) -> Item:
        rng = random.Random(key("candidates", item.image_id))
        others = [k for k in range(len(dataset.class_names)) if k != item.label]
        chosen = rng.sample(others, count - 1)
        place = rng.randrange(count)
        chosen.insert(place, item.label)
        return Item(item.image_id, place, item.open, tuple(chosen))

    return Dataset(
        dataset.name,
        dataset.split,
        dataset.class_names,
        tuple(with_own(item) for item in dataset.items),
        dataset.revision,
        sentences=True,
    )

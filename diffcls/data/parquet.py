"""Images in parquet files, as the Hub stores them: a column of encoded images, one of labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.data.dataset import Dataset, Item, content_hash
from diffcls.data.specs import Query
from diffcls.errors import DataError
from diffcls.transforms import load_image

if TYPE_CHECKING:
    from PIL import Image

# our split -> what a file's name may begin with
PREFIXES = {"test": ("test", "val", "validation"), "validation": ("validation", "val")}
IMAGE_COLUMNS, LABEL_COLUMNS = (
    ("image", "img", "webp", "jpg", "png"),
    ("label", "fine_label", "cls"),
)


def load(query: Query) -> Dataset:
    """``parquet:PATH``: one file, or a folder of files ``SPLIT-*.parquet``.

    Raises:
        DataError: when there is none, or it is not what it should be.
    """
    dataset = find(query)
    if dataset is None:
        raise DataError(
            "no parquet file of this split found",
            given=f"{query.root}, split {query.split}",
            allowed="a .parquet file, or a folder with SPLIT-*.parquet, SPLIT.parquet or data/",
        )
    return dataset


def find(query: Query) -> Dataset | None:
    """The data set that lies in parquet files under the query's root, None where there are none.

    Raises:
        DataError: for files that cannot be read, or lack a column or class names.
    """
    files = _files(query)
    return read(query, files, files) if files else None


def _files(query: Query) -> list[Path]:
    root = query.root
    if root is None:
        return []
    if root.is_file():
        return [root] if root.suffix == ".parquet" else []
    folders = [root, root / "data", root / query.spec.name, root / query.spec.name / "data"]
    for prefix in PREFIXES.get(query.split, (query.split,)):
        for folder in folders:
            files = [*folder.glob(f"{prefix}-*.parquet"), *folder.glob(f"{prefix}.parquet")]
            files += (folder / prefix).glob("*.parquet")
            if files:
                return sorted(files)
    return []


def read(query: Query, files: Sequence[Path], revision: str | Iterable[Path]) -> Dataset:
    """The rows of `files`, in their order, read when they are opened and not before.

    Args:
        query: which data set and split this is, and its columns where they are named.
        files: parquet files of one schema.
        revision: of the data, or the files whose content it is.
    """
    tables = [_Table(path) for path in files]
    image = _column(tables[0], query.image_column, IMAGE_COLUMNS, "image")
    label = _column(tables[0], query.label_column, LABEL_COLUMNS, "label")
    labels, names = _labels([value for t in tables for value in t.values(label)], tables[0], label)
    paths = [path for t in tables for path in t.paths(image)]
    if None in paths or len(set(paths)) != len(paths):
        paths = [f"{query.split}/{i}" for i in range(len(labels))]
    openers = (_opener(t, image, row) for t in tables for row in range(t.count))
    return Dataset(
        name=query.spec.name,
        split=query.split,
        class_names=names,
        items=tuple(map(Item, map(str, paths), labels, openers)),
        revision=revision if isinstance(revision, str) else content_hash(*map(_digest, revision)),
    )


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _opener(table: _Table, column: str, row: int) -> Callable[[], Image.Image]:
    return lambda: load_image(table.image(column, row))


@dataclass(frozen=True)
class _Table:
    """One parquet file. Images are read a row group at a time: memory stays bounded."""

    path: Path

    @property
    def file(self) -> Any:
        return _open(self.path)

    @property
    def count(self) -> int:
        return int(self.file.metadata.num_rows)

    @property
    def columns(self) -> list[str]:
        return list(self.file.schema_arrow.names)

    def values(self, column: str) -> list[Any]:
        values: list[Any] = self.file.read([column]).column(column).to_pylist()
        return values

    def paths(self, column: str) -> list[str | None]:
        """The file names beside the images, None where there are none."""
        import pyarrow

        kind = self.file.schema_arrow.field(column).type
        if not pyarrow.types.is_struct(kind) or kind.get_field_index("path") < 0:
            return [None] * self.count
        rows = self.file.read([f"{column}.path"]).column(column).to_pylist()
        return [row and row["path"] for row in rows]

    def class_names(self, column: str) -> list[str] | None:
        """The names that the Hub's libraries keep in the schema, None where there are none."""
        try:
            stored = json.loads((self.file.schema_arrow.metadata or {})[b"huggingface"])
            names = stored["info"]["features"][column]["names"]
        except (KeyError, TypeError, ValueError):
            return None
        return [str(name) for name in names]

    def image(self, column: str, row: int) -> bytes:
        """The encoded image of a row.

        Raises:
            DataError: where the row holds none.
        """
        metadata, group = self.file.metadata, 0
        while row >= metadata.row_group(group).num_rows:
            row -= metadata.row_group(group).num_rows
            group += 1
        value = _read_group(self.path, column, group)[row].as_py()
        encoded = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(encoded, bytes):
            raise DataError("no image in this row", given=f"{self.path}, row {row}, group {group}")
        return encoded


@lru_cache(maxsize=8)
def _open(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path, memory_map=True)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read parquet file ({error})", given=str(path)) from error


@lru_cache(maxsize=4)
def _read_group(path: Path, column: str, group: int) -> Any:
    import pyarrow

    try:
        return _open(path).read_row_group(group, columns=[column]).column(column)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read parquet file ({error})", given=str(path)) from error


def _column(table: _Table, asked: str | None, usual: Sequence[str], what: str) -> str:
    wanted = (asked,) if asked else usual
    for name in wanted:
        if name in table.columns:
            return name
    raise DataError(
        f"no {what} column", given=asked, allowed=table.columns, todo=f"name it: --{what}-column"
    )


def _labels(values: Sequence[Any], table: _Table, column: str) -> tuple[list[int], tuple[str, ...]]:
    """Class index of each row, and the names of the classes."""
    if any(value is None for value in values):
        raise DataError("rows without a label", given=values.count(None), todo="leave them out")
    if all(isinstance(value, str) for value in values):
        names = sorted(set(values))
        index = {name: i for i, name in enumerate(names)}
        return [index[value] for value in values], tuple(names)
    known = table.class_names(column)
    if known is None:
        raise DataError(
            "the label column has no class names",
            given=column,
            allowed="a column of texts, or the Hub's ClassLabel",
            todo="name another one: --label-column",
        )
    return [int(value) for value in values], tuple(known)

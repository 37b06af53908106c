"""Images in parquet files, as the Hub stores them: a column of encoded images, one of labels."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset, Item
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash, file_digest

if TYPE_CHECKING:
    from PIL import Image

SHARD = re.compile(r"(?P<name>.+?)-(?P<index>\d+)-of-(?P<count>\d+)(-[0-9a-f]+)?")
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
    if not files:
        return None
    check_shards([path.name for path in files])
    return read(query, [Table(path) for path in files], content_hash(*map(_digest, files)))


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


def _digest(path: Path) -> bytes:
    with _reading(path):
        return file_digest(path)


def check_shards(names: Sequence[str]) -> None:
    """Refuses a split of which parts are missing, by names such as ``test-00000-of-00006``.

    Args:
        names: all files of one split, or their stems.

    Raises:
        DataError: where there are not exactly as many as their names say.
    """
    found = [shard for name in names if (shard := SHARD.match(name))]
    counts = {int(shard["count"]) for shard in found}
    indices = sorted(int(shard["index"]) for shard in found)
    if found and (len(counts) > 1 or indices != list(range(max(counts)))):
        raise DataError(
            "files of this split are missing, or there are files of two versions",
            given=sorted(names)[:8],
            allowed=f"files 0 to {max(counts) - 1} of {max(counts)}",
            todo="download them again",
        )


class TableLike(Protocol):
    """Rows with columns, as a parquet file or the Hub's library has them."""

    @property
    def count(self) -> int:
        """Number of rows."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""

    @property
    def features(self) -> Mapping[str, Any]:
        """What the Hub's libraries say of the columns: ``{column: {"_type": …, "names": […]}}``."""

    def values(self, column: str) -> list[Any]:
        """A column without images, row by row."""

    def paths(self, column: str) -> list[str | None]:
        """The file names beside the images, None where there are none."""

    def image(self, column: str, row: int) -> bytes:
        """The encoded image of a row; raises DataError where the row holds none."""


def read(
    query: Query, tables: Sequence[TableLike], revision: str, names: Sequence[str] = ()
) -> Dataset:
    """The rows of all tables, in their order; an image is read when it is opened and not before.

    Args:
        query: which data set and split this is, and its columns where they are named.
        tables: one or more, with the same columns.
        revision: of the data.
        names: (K,) class names by label, for a column of numbers that comes without.

    Raises:
        DataError: for tables that lack a column, labels or class names.
    """
    first = tables[0]
    image = _column(first, query.image_column, IMAGE_COLUMNS, "image", "Image")
    label = _column(first, query.label_column, LABEL_COLUMNS, "label", "ClassLabel")
    for table in tables:
        if {image, label} - set(table.columns) or _names(table, label) != _names(first, label):
            raise DataError(
                f"files of one split differ in their columns or class names: {image}, {label}",
                todo="download them again",
            )
    labels, class_names = read_labels(tables, label, names)
    paths = [path for table in tables for path in table.paths(image)]
    if not all(paths) or len(set(paths)) != len(paths):
        paths = [f"{query.split}/{i}" for i in range(len(labels))]
    openers = (_opener(table, image, row) for table in tables for row in range(table.count))
    return Dataset(
        name=query.spec.name,
        split=query.split,
        class_names=class_names,
        items=tuple(map(Item, map(str, paths), labels, openers)),
        revision=revision,
    )


def read_labels(
    tables: Sequence[TableLike], column: str, names: Sequence[str] = ()
) -> tuple[list[int], tuple[str, ...]]:
    """Class index of each row, and the names of the classes.

    Texts are their own names, in alphabetical order; numbers have theirs from the schema, or else
    from `names`.

    Raises:
        DataError: for rows without a label, labels of another kind, or numbers without names.
    """
    values = [value for table in tables for value in table.values(column)]
    if None in values:
        raise DataError("rows without a label", given=values.count(None), todo="leave them out")
    if values and all(isinstance(value, str) for value in values):
        index = {name: i for i, name in enumerate(sorted(set(values)))}
        return [index[value] for value in values], tuple(index)
    known = _names(tables[0], column) or names
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if not known or not whole:
        raise DataError(
            "the label column has no class names" if whole else "labels are no texts or numbers",
            given=column,
            allowed="a column of texts, or the Hub's ClassLabel",
            todo="name another one: --label-column",
        )
    return values, tuple(known)


def _names(table: TableLike, column: str) -> list[str]:
    feature = table.features.get(column)
    return list(map(str, feature.get("names") or ())) if isinstance(feature, dict) else []


def _column(table: TableLike, asked: str | None, usual: Sequence[str], what: str, kind: str) -> str:
    """The column that was asked for, else one of the usual name, else the only one of its kind."""
    found = [name for name in ((asked,) if asked else usual) if name in table.columns]
    if not found and not asked:
        features = {name: table.features.get(name) for name in table.columns}
        typed = [n for n, f in features.items() if isinstance(f, dict) and f.get("_type") == kind]
        found = typed if len(typed) == 1 else []
    if not found:
        raise DataError(
            f"no {what} column",
            given=asked,
            allowed=table.columns,
            todo=f"name it: --{what}-column",
        )
    return found[0]


def _opener(table: TableLike, column: str, row: int) -> Callable[[], Image.Image]:
    return lambda: load_image(table.image(column, row))


class Table:
    """One parquet file. Images are read a row group at a time: memory stays bounded.

    Args:
        path: of the file; it is opened now, and stays what it is should the path be given another.

    Raises:
        DataError: for a file that is no parquet file, or is cut short; by the methods too.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        self.path = path
        with _reading(path):
            self._file = pyarrow.parquet.ParquetFile(path, memory_map=True)

    @property
    def count(self) -> int:
        return int(self._file.metadata.num_rows)

    @cached_property
    def columns(self) -> list[str]:
        return list(self._file.schema_arrow.names)

    @cached_property
    def features(self) -> Mapping[str, Any]:
        try:
            stored = json.loads((self._file.schema_arrow.metadata or {})[b"huggingface"])
            found = stored["info"]["features"]
        except (KeyError, TypeError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def values(self, column: str) -> list[Any]:
        with _reading(self.path):
            values: list[Any] = self._file.read([column]).column(column).to_pylist()
        return values

    def paths(self, column: str) -> list[str | None]:
        import pyarrow

        kind = self._file.schema_arrow.field(column).type
        if not pyarrow.types.is_struct(kind) or kind.get_field_index("path") < 0:
            return [None] * self.count
        with _reading(self.path):
            rows = self._file.read([f"{column}.path"]).column(column).to_pylist()
        return [row and row["path"] for row in rows]

    def image(self, column: str, row: int) -> bytes:
        within, group = row, 0
        while within >= (size := self._file.metadata.row_group(group).num_rows):
            within -= size
            group += 1
        value = _read_group(self, column, group)[within].as_py()
        encoded = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(encoded, bytes):
            raise DataError("no image in this row", given=f"{self.path}, row {row}, {column}")
        return encoded

    def read_group(self, column: str, group: int) -> Any:
        """One column of a row group, as it lies in the file."""
        with _reading(self.path):
            return self._file.read_row_group(group, columns=[column]).column(column)


@lru_cache(maxsize=4)
def _read_group(table: Table, column: str, group: int) -> Any:
    return table.read_group(column, group)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"cannot read parquet file ({reason})", given=str(path)) from error

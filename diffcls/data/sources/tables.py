"""Data sets from tables of images and labels: column detection, labels and class names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from diffcls.data.catalog import Query
from diffcls.data.class_names import check_own_names, count_names, sort_names
from diffcls.data.dataset import Dataset, Item
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash, file_digest

if TYPE_CHECKING:
    from PIL import Image

IMAGE_COLUMNS = ("image", "img", "webp", "jpg", "png")
MAX_READERS = 8
"""Tables that are read at a time."""
LABEL_COLUMNS = ("label", "fine_label", "cls")

Value = TypeVar("Value")


class Table(Protocol):
    """Table of images and labels: a parquet file, or a table of the library datasets."""

    @property
    def count(self) -> int:
        """Number of rows."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""

    @property
    def features(self) -> Mapping[str, Any]:
        """Types of the columns in the Hub's format: ``{column: {"_type": …, "names": […]}}``."""

    def values(self, column: str) -> list[Any]:
        """Values of a column without images, row by row."""

    def paths(self, column: str) -> list[str | None]:
        """File name of each image; None for an image without a name."""

    def files_beside(self, column: str) -> list[Path]:
        """Image files that the column names in place of images; empty for encoded images.

        Raises:
            DataError: if the column holds neither images nor relative paths of existing files.
        """

    def image(self, column: str, row: int) -> bytes:
        """Encoded image of a row; raises DataError if the row has none."""


def dataset_of_tables(
    query: Query, tables: Sequence[Table], revision: str, names: Sequence[str] = ()
) -> Dataset:
    """Data set of the rows of all tables, in their order; images are read when opened.

    Args:
        query: request for the images, with the names of the columns if given.
        tables: one or more tables with the same columns.
        revision: version of the data.
        names: (K,) class names by label, for integer labels without class names.

    Raises:
        DataError: if a table lacks a column, images, labels or class names.
        UsageError: for duplicate class names of a person's own data.
    """
    first = tables[0]
    image = _column(first, query.image_column, IMAGE_COLUMNS, "image", "Image")
    label = _column(first, query.label_column, LABEL_COLUMNS, "label", "ClassLabel")
    for table in tables:
        if {image, label} - set(table.columns) or _names(table, label) != _names(first, label):
            raise DataError(
                "files of one split differ in their columns or class names",
                given=f"columns {image}, {label}",
                todo="download the files again",
            )
    labels, class_names = read_labels(tables, label, names or _numbered(query))
    if query.spec.own:
        check_own_names(class_names, f"labels in column {label!r}")
    files = [path for table in tables for path in table.files_beside(image)]
    if files:  # the tables' own revision does not depend on them
        revision = content_hash(revision, *map(file_digest, files))
    paths = [path for paths in _of_all(tables, lambda t: t.paths(image)) for path in paths]
    if not all(paths) or len(set(paths)) != len(paths):
        paths = [f"{query.split}/{i}" for i in range(len(labels))]
    openers = (Opener(table, image, row) for table in tables for row in range(table.count))
    return Dataset(
        name=query.spec.name,
        split=query.split,
        class_names=class_names,
        items=tuple(map(Item, map(str, paths), labels, openers)),
        revision=revision,
    )


def read_labels(
    tables: Sequence[Table], column: str, names: Sequence[str] = ()
) -> tuple[list[int], tuple[str, ...]]:
    """(n,) class index of each row, and (K,) class names.

    Labels that are texts are the class names, in the order of `sort_names`. The class names of
    integer labels are read from the schema, or else from `names`.

    Raises:
        DataError: for rows without a label, labels of another type, or integers without class
            names.
    """
    values = [value for values in _of_all(tables, lambda t: t.values(column)) for value in values]
    if None in values:
        raise DataError("rows without a label", given=values.count(None), todo="remove these rows")
    if values and all(isinstance(value, str) for value in values):
        index = {name: i for i, name in enumerate(sort_names(set(values)))}
        return [index[value] for value in values], tuple(index)
    known = _names(tables[0], column) or names
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if not known or not whole:
        raise DataError(
            "label column without class names"
            if whole
            else "label column contains neither texts nor integers",
            given=column,
            allowed="a column of texts, or of the Hub's type ClassLabel",
            todo="select another column with --label-column, or name the classes of numbers with "
            "--classnames",
        )
    return values, tuple(known)


def _of_all(tables: Sequence[Table], read: Callable[[Table], list[Value]]) -> list[list[Value]]:
    """The results of a function of all tables in order, of several at a time: they may be far."""
    with ThreadPoolExecutor(MAX_READERS) as pool:
        return list(pool.map(read, tables))


def _numbered(query: Query) -> list[str]:
    """Numbers as names of as many classes as a file names, which it replaces."""
    return list(map(str, range(count_names(Path(query.classnames))))) if query.classnames else []


def _names(table: Table, column: str) -> list[str]:
    feature = table.features.get(column)
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return []
    return names


def _column(table: Table, name: str | None, usual: Sequence[str], role: str, kind: str) -> str:
    """The named column, otherwise one with a usual name, otherwise the only one of its type."""
    matches = [column for column in ((name,) if name else usual) if column in table.columns]
    if not matches and not name:
        features = {column: table.features.get(column) for column in table.columns}
        typed = [n for n, f in features.items() if isinstance(f, dict) and f.get("_type") == kind]
        matches = typed if len(typed) == 1 else []
    if not matches:
        raise DataError(
            f"--{role}-column: column not found",
            given=name,
            allowed=table.columns,
            todo=None if name else f"select a column with --{role}-column",
        )
    if list(table.columns).count(matches[0]) > 1:
        raise DataError(f"--{role}-column: column occurs twice in the table", given=matches[0])
    return matches[0]


@dataclass(frozen=True, slots=True)
class Opener:
    """Reads the image of a row; small, as there is one for each image of a data set.

    Args:
        table: the table.
        column: its column of images.
        row: number of the row.
    """

    table: Table
    column: str
    row: int

    def __call__(self) -> Image.Image:
        """The image, see `diffcls.data.transforms.load_image`."""
        return load_image(self.table.image(self.column, self.row))

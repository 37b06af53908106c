"""Parquet files in the Hub's format: a column of encoded images and a column of labels."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.sources.arrow_types import has_field, is_binary, is_text
from diffcls.data.sources.prompt_names import with_prompt_names
from diffcls.data.sources.remote_files import RemoteFile
from diffcls.data.sources.tables import dataset_of_tables
from diffcls.support.errors import DataError
from diffcls.support.hashing import content_hash, file_digest

SHARD = re.compile(r"(?P<name>.+?)-(?P<index>\d+)-of-(?P<count>\d+)(-[0-9a-f]+)?")
BLOCK_BYTES = 1 << 16
"""Bytes of the smallest request to a server: labels lie apart from one another."""
SPLIT_PREFIXES = {"test": ("test", "val", "validation"), "validation": ("validation", "val")}
"""Split -> prefixes of its file names, in order of preference."""


def load(query: Query) -> Dataset:
    """A split of ``parquet:PATH``: one file, or a folder of files ``SPLIT-*.parquet``.

    Raises:
        DataError: if there is no file of the split, or as in `find`.
    """
    dataset = find(query)
    if dataset is None:
        raise DataError(
            "--dataset parquet:PATH: no file of this split",
            given=f"{query.root}, split {query.split}",
            allowed="a .parquet file, or a folder with SPLIT-*.parquet, SPLIT.parquet or data/",
        )
    return dataset


def find(query: Query) -> Dataset | None:
    """Data set of the parquet files at or below the query's root; None if there are none.

    Raises:
        DataError: if a file is missing or unreadable, or lacks a column or class names.
    """
    files = _files(query)
    if not files:
        return None
    check_shards([path.name for path in files])
    tables = [ParquetTable(path) for path in files]
    dataset = dataset_of_tables(query, tables, content_hash(*map(_digest, files)))
    return with_prompt_names(dataset, tables)


def _files(query: Query) -> list[Path]:
    root = query.root
    if root is None:
        return []
    if root.is_file():
        return [root] if root.suffix == ".parquet" else []
    folders = [root, root / "data", root / query.spec.name, root / query.spec.name / "data"]
    for prefix in SPLIT_PREFIXES.get(query.split, (query.split,)):
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
    """Check that all shards of a split are present, from names such as ``test-00000-of-00006``.

    Args:
        names: names of all files of one split, with or without suffix.

    Raises:
        DataError: if shards are missing or belong to different versions.
    """
    shards = [shard for name in names if (shard := SHARD.match(name))]
    counts = {int(shard["count"]) for shard in shards}
    indices = sorted(int(shard["index"]) for shard in shards)
    if shards and (len(counts) > 1 or indices != list(range(max(counts)))):
        raise DataError(
            "files of this split are missing, or belong to different versions",
            given=sorted(names)[:8],
            allowed=f"files 0 to {max(counts) - 1} of {max(counts)}",
            todo="download the files again",
        )


class ParquetTable:
    """Table of one parquet file; images are read by row group, which bounds memory.

    Args:
        path: path of the file. It is opened at once, so that replacing the file has no effect.
        remote: the file on a server, whose place in its repository is `path`; of it, the columns
            of labels and names are read at once, without the images.

    Raises:
        DataError: if it is not a parquet file, or truncated; also raised by the methods.
    """

    def __init__(self, path: Path, remote: RemoteFile | None = None) -> None:
        self.path, self._remote = path, remote
        self._external: dict[str, list[Path]] = {}
        with _reading(path):
            self._file = self._open()

    def _open(self, **known: Any) -> Any:
        import pyarrow.parquet

        if self._remote is None:
            return pyarrow.parquet.ParquetFile(
                self.path, memory_map=True, page_checksum_verification=True
            )
        # without the requests of several threads, which share the position in the stream
        return pyarrow.parquet.ParquetFile(
            self._remote.open(BLOCK_BYTES),
            page_checksum_verification=True,
            pre_buffer=False,
            **known,
        )

    @property
    def count(self) -> int:
        return int(self._file.metadata.num_rows)

    @cached_property
    def columns(self) -> list[str]:
        with _reading(self.path):
            return list(self._file.schema_arrow.names)

    @cached_property
    def features(self) -> Mapping[str, Any]:
        try:
            stored = json.loads((self._file.schema_arrow.metadata or {})[b"huggingface"])
            features = stored["info"]["features"]
        except (KeyError, TypeError, ValueError):
            return {}
        return features if isinstance(features, dict) else {}

    def values(self, column: str) -> list[Any]:
        with _reading(self.path):
            values: list[Any] = self._file.read([column]).column(column).to_pylist()
        return values

    def paths(self, column: str) -> list[str | None]:
        kind = self._kind(column)
        if is_text(kind):
            return self.values(column)
        if not has_field(kind, "path"):
            return [None] * self.count
        with _reading(self.path):
            rows = self._file.read([f"{column}.path"]).column(column).to_pylist()
        return [row and row["path"] for row in rows]

    def files_beside(self, column: str) -> list[Path]:
        if not self.count or self._holds_images(column):
            return []
        files = []
        for row, path in enumerate(self.paths(column)):
            file = self._beside(path)
            if file is None:
                raise DataError(
                    "--image-column: the column holds paths, not images",
                    given=f"{path!r} in row {row} of {self.path}, column {column}",
                    allowed="encoded images, or relative paths of files beside the parquet file",
                    todo="embed the images (datasets.table.embed_table_storage), or read the files "
                    "with --dataset folder:PATH",
                )
            files.append(file)
        self._external[column] = files
        return files

    def _beside(self, path: object) -> Path | None:
        """The existing file that a path names, if it lies in the folder of the table or below."""
        if self._remote is not None:
            return None
        folder = self.path.resolve().parent
        try:
            file = Path(os.path.normpath(folder / str(path)))
            return file if path and file.is_relative_to(folder) and file.is_file() else None
        except (OSError, ValueError):  # a name that no file can have
            return None

    def _holds_images(self, column: str) -> bool:
        """Whether the column has encoded images; False if it has paths alone.

        Raises:
            DataError: if it has neither.
        """
        kind = self._kind(column)
        in_struct = has_field(kind, "bytes")
        leaf = f"{column}.bytes" if in_struct else column
        binary = is_binary(kind.field("bytes").type if in_struct else kind)
        if binary and self._any_bytes(leaf, in_struct):
            return True
        if any(self.paths(column)):
            return False
        raise DataError(
            "--image-column: the column holds no images",
            given=f"{column} of type {kind} in {self.path}",
            allowed="encoded images (PNG, JPEG, …)",
            todo="select another column with --image-column",
        )

    def _any_bytes(self, leaf: str, in_struct: bool) -> bool:
        """Whether a row of a column has bytes; in a column of images the first batch tells."""
        if self._remote is not None:
            return self._states_bytes(leaf)
        try:
            with _reading(self.path):
                for batch in self._file.iter_batches(batch_size=16, columns=[leaf]):
                    values = batch.column(0).field("bytes") if in_struct else batch.column(0)
                    if values.null_count < len(values):
                        return True
        except DataError:
            return True  # raised again for each image that cannot be read
        return False

    def _states_bytes(self, leaf: str) -> bool:
        """Whether a column may have bytes, as the file's statistics say, without reading images."""
        data = self._file.metadata
        groups = [data.row_group(i) for i in range(data.num_row_groups)]
        chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
        return any(
            chunk.statistics is None
            or not chunk.statistics.has_null_count
            or chunk.statistics.null_count < chunk.num_values
            for chunk in chunks
            if chunk.path_in_schema == leaf
        )

    def _kind(self, column: str) -> Any:
        """Arrow's type of a column."""
        return self._file.schema_arrow.field(column).type

    def image(self, column: str, row: int) -> bytes:
        if column in self._external:
            return _read_file(self._external[column][row])
        offset, group = row, 0
        while offset >= (size := self._file.metadata.row_group(group).num_rows):
            offset -= size
            group += 1
        value = _read_group(self, column, group)[offset].as_py()
        encoded = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(encoded, bytes):
            raise DataError("row without an image", given=f"{self.path}, row {row}, {column}")
        return encoded

    def read_group(self, column: str, group: int) -> Any:
        """One column of a row group, as an Arrow array."""
        with _reading(self.path):
            file = self._file
            if self._remote is not None:  # a connection of its own: the last one may hang
                file = self._open(metadata=file.metadata)
            return file.read_row_group(group, columns=[column], use_threads=False).column(column)


@lru_cache(maxsize=4)
def _read_group(table: ParquetTable, column: str, group: int) -> Any:
    return table.read_group(column, group)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read image ({error})", given=str(path)) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except TimeoutError:
        raise  # of a server: the file is not to blame
    except (OSError, pyarrow.ArrowException, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"cannot read parquet file ({reason})", given=str(path)) from error

"""Data sets of the Hugging Face Hub: selection and reading of a split's files.

Parquet files and tar archives are read directly, other formats by the library datasets. Code in a
repository is never executed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.sources.hub_files import files_of, is_whole
from diffcls.data.sources.hub_snapshot import Snapshot, fetch, find_snapshot, in_place
from diffcls.data.sources.parquet import ParquetTable
from diffcls.data.sources.prompt_names import with_prompt_names
from diffcls.data.sources.remote_files import RemoteFile, answering
from diffcls.data.sources.shard_files import LocalFile
from diffcls.data.sources.shard_set import COUNT, NAMES
from diffcls.data.sources.tables import MAX_READERS, Table, dataset_of_tables
from diffcls.data.sources.tar_table import IMAGE, LABEL, TarTable, read_tables
from diffcls.support.errors import DataError


def load(query: Query) -> Dataset:
    """A split of a catalog data set's repository on the Hub, or of ``hf:ID[@revision]``.

    The revision of the data set is the commit of the repository.

    Raises:
        DataError: if the repository, revision or split does not exist, access is denied, the Hub is
            unreachable and the files are not in the cache, or there are no images and labels.
    """
    repository = query.spec.hub
    if repository is None:
        raise DataError(
            "the Hub has no copy of this data set", given=query.spec.name, todo="give --data-root"
        )
    split = repository.splits.get(query.split, query.split)
    snapshot = find_snapshot(repository, lambda copy: is_whole(copy, split))
    if query.spec.splits:  # the catalog states the columns of its data sets
        query = replace(
            query,
            image_column=query.image_column or repository.image,
            label_column=query.label_column or repository.label,
        )
    passed_over = Counter[str]()
    if query.streaming:
        with answering(repository.id):
            tables = _tables_in_place(snapshot, split, query, passed_over)
    else:
        tables = _tables(snapshot, split)
    if isinstance(tables[0], TarTable):
        query = replace(query, image_column=IMAGE, label_column=LABEL)
    with answering(repository.id):
        dataset = dataset_of_tables(query, tables, snapshot.commit, _class_names(snapshot))
    return replace(with_prompt_names(dataset, tables), passed_over=dict(+passed_over))


# ---- files of a split ----------------------------------------------------------------------------


def _tables(snapshot: Snapshot, split: str) -> list[Table]:
    """Tables of a split: parquet files are read directly, other formats by the library datasets."""
    suffix, chosen = files_of(snapshot, split)
    if suffix == ".parquet":
        folder = fetch(snapshot, chosen)
        return [ParquetTable(folder / path) for path in chosen]
    return [_read_webdataset(snapshot, chosen, split) if chosen else _read_any(snapshot, split)]


def _tables_in_place(
    snapshot: Snapshot, split: str, query: Query, passed_over: Counter[str]
) -> list[Table]:
    """Tables of a split that are read where they lie, see `in_place`.

    Raises:
        DataError: for a repository of other files than parquet and tar.
    """
    suffix, chosen = files_of(snapshot, split)
    if not chosen:
        raise DataError(
            "--streaming reads parquet files and tar archives, and this repository has neither",
            given=snapshot.repository.id,
            todo="remove --streaming",
        )
    files = {path: in_place(snapshot, path) for path in chosen}
    if suffix == ".parquet":
        with ThreadPoolExecutor(MAX_READERS) as pool:
            return list(pool.map(_parquet, files.items()))
    _check_count(snapshot, chosen)
    # rows are numbered, as without --streaming
    return list(read_tables(files, query, passed_over, named=False))


def _parquet(file: tuple[str, LocalFile | RemoteFile]) -> ParquetTable:
    path, place = file
    if isinstance(place, RemoteFile):
        return ParquetTable(Path(path), place)
    return ParquetTable(place.path)


def _class_names(snapshot: Snapshot) -> list[str]:
    """Class names from a file of the repository; empty if it has none, and is to have none."""
    name = snapshot.repository.names or (NAMES if NAMES in snapshot.files else None)
    if name is None:
        return []
    if name not in snapshot.files:
        raise DataError(
            f"the repository lacks {name} with the class names",
            given=snapshot.repository.id,
            todo="download the whole repository, or give --data-root",
        )
    text = (fetch(snapshot, [name]) / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


# ---- other formats -------------------------------------------------------------------------------


def _read_webdataset(snapshot: Snapshot, files: list[str], split: str) -> Table:
    folder = fetch(snapshot, files)
    _check_count(snapshot, files)
    paths = [str(folder / path) for path in files]
    return _load_dataset(snapshot, split, "webdataset", data_files={split: paths})


def _check_count(snapshot: Snapshot, files: Sequence[str]) -> None:
    """Raise DataError if the repository counts more or fewer archives than it has."""
    count = str(PurePosixPath(files[0]).parent / COUNT)
    if count not in snapshot.files:
        return
    if (fetch(snapshot, [count]) / count).read_text(encoding="utf-8").strip() != str(len(files)):
        raise DataError(
            "archives of this split are missing",
            given=list(files[:8]),
            todo="download the repository again",
        )


def _read_any(snapshot: Snapshot, split: str) -> Table:
    repository = snapshot.repository
    script = f"{PurePosixPath(repository.id).name}.py"
    if script in snapshot.files:
        raise DataError(
            "the data set is a script, and code of a repository is never executed",
            given=f"{repository.id}, {script}",
            todo="use the Hub's conversion to parquet, if there is one: "
            f"--dataset hf:{repository.id}@refs/convert/parquet",
        )
    return _load_dataset(snapshot, split, str(fetch(snapshot, None)))


def _load_dataset(snapshot: Snapshot, split: str, path: str, **options: Any) -> Table:
    """Table of local files, read by the library datasets."""
    import datasets

    try:
        loaded = datasets.load_dataset(path, split=split, **options)
    except Exception as error:  # exceptions differ between formats
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"cannot read split {split!r} ({type(error).__name__}: {reason})",
            given=snapshot.repository.id,
            allowed="parquet files, tar archives, or what `datasets.load_dataset` reads",
        ) from error
    return _LibraryTable(loaded)


class _LibraryTable:
    """Table of the library datasets, with encoded images."""

    def __init__(self, rows: Any) -> None:
        from datasets import Image

        for name, feature in rows.features.items():
            if isinstance(feature, Image):  # decoded by load_image, lazily and with a size limit
                rows = rows.cast_column(name, Image(decode=False))
        self._rows = rows

    @property
    def count(self) -> int:
        return len(self._rows)

    @property
    def columns(self) -> list[str]:
        return list(self._rows.column_names)

    @cached_property
    def features(self) -> dict[str, Any]:
        return dict(self._rows.features.to_dict())

    def values(self, column: str) -> list[Any]:
        return list(self._rows[column])

    def paths(self, column: str) -> list[str | None]:
        return [None] * self.count

    def files_beside(self, column: str) -> list[Path]:
        return []  # the library finds the files itself

    def image(self, column: str, row: int) -> bytes:
        value = self._rows[row][column]
        encoded = value.get("bytes") if isinstance(value, dict) else value
        if encoded is None and isinstance(value, dict) and value.get("path"):
            encoded = _read_file(Path(value["path"]))
        if not isinstance(encoded, bytes):
            raise DataError("row without an image", given=f"row {row}, {column}")
        return encoded


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read image ({error})", given=str(path)) from error

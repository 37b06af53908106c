"""Files of a data set's original layout: folder, class names, tables and image lists."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from diffcls.data.catalog import Query
from diffcls.data.dataset import Dataset
from diffcls.data.sources.folder import dataset_of_files
from diffcls.support.errors import DataError


def find_folder(query: Query, folders: Iterable[str], names: Iterable[str]) -> Path | None:
    """The folder of the original layout; None if there is none.

    The candidates are the root, its `folders`, the folder with the data set's name, and `folders`
    below that. The root may thus be the data set's own folder or its parent. The first candidate
    that contains any of `names` is returned.

    Args:
        query: request for the images; its root is searched.
        folders: names of the folder in the archive or in torchvision, relative to the root.
        names: files or folders, relative to the folder, that identify the layout.
    """
    if query.root is None:
        return None
    names = tuple(names)
    candidates = [
        base / folder
        for base in (query.root, query.root / query.spec.name)
        for folder in ("", *folders)
    ]
    return next((p for p in candidates if any((p / name).exists() for name in names)), None)


def dataset_of_list(
    query: Query,
    files: Sequence[tuple[Path, int]],
    base: Path,
    class_names: Sequence[str],
    prompt_names: Sequence[str] = (),
    archive: str = "the archive",
) -> Dataset:
    """Data set of the image files in a list of the layout; single files may be missing.

    Args:
        query: request for the images.
        files: path and class index of each listed image.
        base: folder that the image ids are relative to.
        class_names, prompt_names: see `Dataset`.
        archive: archive that contains the images, for the error.

    Raises:
        DataError: if none of the listed images exists.
    """
    if not any(path.is_file() for path, _ in files):
        raise DataError(
            "none of the listed images found",
            given=str(files[0][0].parent) if files else str(base),
            todo=f"unpack {archive} again",
        )
    return dataset_of_files(files, base, query.spec.name, query.split, class_names, prompt_names)


def torchvision_classes(reader: str, title: str, allowed: str | None = None) -> list[str]:
    """Class names of a data set whose archive contains none: those of torchvision's reader.

    Args:
        reader: name of the class in ``torchvision.datasets``.
        title: name of the data set in the error.
        allowed: another source of the names, for the error.

    Raises:
        DataError: if torchvision is not installed.
    """
    try:
        datasets = importlib.import_module("torchvision.datasets")
    except ImportError as error:
        raise DataError(
            f"the class names of {title} require torchvision, which is not installed",
            allowed=allowed,
            todo='pip install "diffcls[clip]"',
        ) from error
    return list(getattr(datasets, reader).classes)


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises:
        DataError: if it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable_file(path, error) from error


def read_text(path: Path) -> str:
    """Content of a text file in UTF-8.

    Raises:
        DataError: if it is missing, cannot be read, or is not in UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable_file(path, error) from error


def read_lines(path: Path) -> list[str]:
    """Lines of a text file in UTF-8, without empty lines and surrounding spaces.

    Raises:
        DataError: if it is missing, cannot be read, or is not in UTF-8.
    """
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_json_object(path: Path) -> dict[str, Any]:
    """Content of a JSON file with a single object.

    Raises:
        DataError: if it is missing, cannot be read, or contains anything else.
    """
    try:
        value = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise unreadable_file(path, error) from error
    if not isinstance(value, dict):
        raise DataError("file is not a JSON object", given=str(path), allowed='{"key": value}')
    return value


def unreadable_file(path: Path, error: Exception) -> DataError:
    """The error for a missing, truncated or malformed file of the data set."""
    if isinstance(error, FileNotFoundError):
        return DataError(
            "a file of the data set is missing", given=str(path), todo="unpack the archive again"
        )
    return DataError(
        f"cannot read a file of the data set ({type(error).__name__}: {error})",
        given=str(path),
        todo="unpack the archive again",
    )

"""Images as people hand them to the Python call: one or many, in memory, on disk or on the web.

These are the inputs of transformers' image pipelines, and what arrays, tables, `datasets` and torch
hold. Collections become lists or streams here, and single images are read by
`diffcls.api.image_openers`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from diffcls.api.image_openers import (
    ALLOWED,
    CHANNELS,
    holds_objects,
    is_array,
    is_pil,
    library,
    shown,
)
from diffcls.support.errors import DataError


@dataclass(frozen=True)
class Stream:
    """Images that are read one after another, as their results are requested.

    Args:
        images: the images.
        count: their number; None if it is not known beforehand.
        is_column: whether they are a column of a data set, whose results are a list.
    """

    images: Iterator[Any]
    count: int | None
    is_column: bool = False


def as_stream(images: Any) -> Stream | None:
    """The stream of a generator, iterator, data set or column of one; None for all other images.

    Sequences, arrays, tables and single images hold their images in memory already.

    Raises:
        DataError: for several data sets, a set, or a loader of batches.
    """
    if _is_one(images) or is_array(images) or library(images) in ("pandas", "polars"):
        return None
    is_column = library(images) == "datasets" and isinstance(images, Sequence)
    if isinstance(images, Sequence | Set) and not is_column:
        return None
    if not isinstance(images, Iterable) and not _is_indexed(images):
        return None
    return Stream(_members(images), _length(images), is_column)


def as_batch(images: Any) -> tuple[list[Any], bool]:
    """The images of a call as a list, and whether they were several.

    An array or tensor of four dimensions is several images, one of two or three a single one. An
    array (C, H, W) is refused here, as it may be C gray images; within a list it is one image.

    Raises:
        DataError: for no image, or a collection whose order or column is not defined.
    """
    if _is_one(images):
        return [images], False
    if holds_objects(images):
        column = images.ravel() if images.ndim == 2 and images.shape[1] == 1 else images
        if column.ndim != 1:
            raise _refused(images, f"array of objects of shape {images.shape}, not (n,)")
        return _some(column.tolist(), images), True
    if is_array(images):
        _check_axes(images)
        return (_some(_rows(images), images), True) if len(images.shape) == 4 else ([images], False)
    return _some(_listed(images), images), True


def as_list(images: Any) -> list[Any]:
    """The images of a scikit-learn table ``X``, whose first axis counts images.

    Raises:
        DataError: for a single image, or as in `as_batch`.
    """
    if is_array(images) and not holds_objects(images):
        if len(images.shape) < 3:
            raise DataError(
                "X does not hold images",
                given=f"array of shape {tuple(images.shape)}",
                allowed="a list of images, or an array (n, H, W), (n, H, W, 3) or (n, 3, H, W)",
            )
        return _some(_rows(images), images)
    batch, several = as_batch(images)
    if not several:
        raise DataError("X is a single image", given=shown(images), todo="give a list of images")
    return batch


# ---- one or several ------------------------------------------------------------------------------


def _is_one(value: Any) -> bool:
    kinds = (str, bytes, bytearray, memoryview, os.PathLike)
    if isinstance(value, Mapping):
        if any(hasattr(part, "column_names") for part in value.values()):
            todo = "choose one of them, such as its split 'test'"
            raise DataError("several data sets", given=list(value)[:8], todo=todo)
        return True
    return isinstance(value, kinds) or callable(getattr(value, "read", None)) or is_pil(value)


def _check_axes(array: Any) -> None:
    """Refuse (C, H, W), unless it is a tensor, whose first axis counts channels by convention."""
    shape = tuple(array.shape)
    if library(array) == "torch" or len(shape) != 3 or shape[0] not in CHANNELS:
        return
    if shape[2] not in CHANNELS:
        raise DataError(
            "an array may be one image with its channels first, or several gray images",
            given=f"shape {shape}",
            todo="give array.transpose(1, 2, 0), or list(array)",
        )


def _listed(images: Any) -> list[Any]:
    """All members of a collection, in its order."""
    if library(images) in ("pandas", "polars"):
        return _column(images)
    if isinstance(images, Set):
        raise _refused(images, "set, whose images have no order")
    if isinstance(images, Iterable) or _is_indexed(images):
        return list(_members(images))
    raise _refused(images, type(images).__name__)


def _members(images: Any) -> Iterator[Any]:
    """The members of an iterable or indexed collection, one after another."""
    if hasattr(images, "batch_sampler") and hasattr(images, "dataset"):
        todo = "give its data set: loader.dataset"
        raise DataError("a loader yields batches, not images", given=shown(images), todo=todo)
    if hasattr(type(images), "__iter__"):
        return iter(images)
    # may lack IndexError: its length counts
    return (images[i] for i in range(len(images)))


def _is_indexed(images: Any) -> bool:
    return hasattr(images, "__len__") and hasattr(images, "__getitem__")


def _length(images: Any) -> int | None:
    try:
        return len(images)
    except (TypeError, RuntimeError):  # torch's streams have a length that raises
        return None


def _column(table: Any) -> list[Any]:
    """Values of a series, or of a table with one column."""
    if getattr(table, "ndim", len(getattr(table, "shape", ()))) == 2:
        columns = list(table.columns)
        if len(columns) != 1:
            raise DataError(
                "a table has several columns", given=columns[:8], todo="give the column of images"
            )
        table = table[columns[0]]
    return list(table.to_list())


def _rows(array: Any) -> list[Any]:
    return [array[i] for i in range(len(array))]


def _some(images: list[Any], given: Any) -> list[Any]:
    if not images:
        raise DataError("no image", given=shown(given), allowed="one or more")
    return images


def _refused(images: Any, kind: str) -> DataError:
    return DataError("images cannot be read", given=kind, allowed=ALLOWED)

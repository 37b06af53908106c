"""Validation of input arrays: anything of the wrong type, shape or range raises UsageError."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffcls.support.errors import UsageError
from diffcls.support.types import Float64, Int64


def floats(name: str, values: ArrayLike, ndim: int | None = None) -> Float64:
    """The values as float64 of `ndim` axes, any number for None; raises UsageError."""
    array = _array(name, values, np.float64)
    _check_shape(name, array, ndim)
    return array


def indices(name: str, values: ArrayLike, ndim: int = 1) -> Int64:
    """The values as class indices, 0 or more, of `ndim` axes; raises UsageError."""
    array = _array(name, values)
    _check_shape(name, array, ndim)
    if array.dtype.kind not in "iu" or (array < 0).any():
        raise UsageError(
            f"{name}: not class indices", given=array.dtype.name, allowed="whole numbers 0, 1, …"
        )
    return array.astype(np.int64)


def flags(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    """The values as (n,) bool; raises UsageError for anything but True, False, 0 and 1."""
    array = _array(name, values)
    _check_shape(name, array, 1)
    if not np.isin(array, (0, 1)).all():
        raise UsageError(f"{name}: not boolean", allowed="True and False, or 1 and 0")
    return array.astype(bool)


def _array(name: str, values: ArrayLike, dtype: type[Any] | None = None) -> NDArray[Any]:
    try:
        return np.asarray(values, dtype=dtype)
    except (TypeError, ValueError):  # ragged lists, words
        raise UsageError(
            f"{name}: not an array of numbers", todo="give numbers, in rows of equal length"
        ) from None


def _check_shape(name: str, array: NDArray[Any], ndim: int | None) -> None:
    if array.size == 0:
        raise UsageError(f"{name}: empty", todo="give at least one image")
    if ndim is not None and array.ndim != ndim:
        raise UsageError(
            f"{name}: wrong number of axes", given=array.shape, allowed=("(n,)", "(n, K)")[ndim - 1]
        )


def same_length(name: str, a: NDArray[Any], other: str, b: NDArray[Any]) -> None:
    """Raise UsageError for two arrays of different length."""
    if len(a) != len(b):
        raise UsageError(
            f"{name} and {other} differ in length",
            given=(len(a), len(b)),
            allowed="one entry per image in each",
        )


def check_below(labels: Int64, n_classes: int) -> None:
    """Raise UsageError for a label that is not below `n_classes`."""
    if labels.max() >= n_classes:
        raise UsageError(
            "label out of range", given=int(labels.max()), allowed=f"0 to {n_classes - 1}"
        )

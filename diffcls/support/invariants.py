"""Invariants of the code itself, checked also under ``python -O``, which drops ``assert``."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def known(value: T | None) -> T:
    """A value that cannot be None at this place.

    Raises:
        RuntimeError: if it is: a defect of diffcls.
    """
    if value is None:
        raise RuntimeError("internal error: a value is missing that was computed before")
    return value


def instance(value: object, kind: type[T]) -> T:
    """A value that has no other type at this place.

    Raises:
        RuntimeError: if it has: a defect of diffcls.
    """
    if not isinstance(value, kind):
        raise RuntimeError(f"internal error: {type(value).__name__} in place of {kind.__name__}")
    return value

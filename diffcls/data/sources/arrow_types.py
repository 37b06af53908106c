"""Kinds of Arrow's types of columns, whether or not the values are encoded by a dictionary."""

from __future__ import annotations

from typing import Any


def is_text(kind: Any) -> bool:
    """Whether values are texts."""
    return str(_without_dictionary(kind)) in ("string", "large_string", "string_view")


def is_binary(kind: Any) -> bool:
    """Whether values are bytes."""
    return str(_without_dictionary(kind)) in ("binary", "large_binary", "binary_view")


def _without_dictionary(kind: Any) -> Any:
    """Type of the values of a column, whether or not it is encoded by a dictionary."""
    import pyarrow

    return kind.value_type if pyarrow.types.is_dictionary(kind) else kind


def has_field(kind: Any, name: str) -> bool:
    """Whether values are structures with a field of this name."""
    import pyarrow

    return bool(pyarrow.types.is_struct(kind)) and kind.get_field_index(name) >= 0

"""Schema of a leaderboard row: the columns with their types, and the text of a cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, TypedDict, get_args, get_type_hints

from diffcls.support.errors import RecordError, UsageError
from diffcls.support.tables import text_cell

MEASURED = "measured"


class Row(TypedDict):
    """One run of one method on one data set; the keys, in this order, are the file's columns.

    Fractions are in [0, 1]; None if a figure is unknown or undefined.
    """

    fingerprint: str | None
    dataset: str
    split: str
    n_classes: int
    method: str
    model: str
    revision: str | None
    search: str | None
    setting: str | None
    supervision: str
    source: str
    n_asked: int | None
    n_scored: int | None
    accuracy: float | None
    ci_low: float | None
    ci_high: float | None
    top5: float | None
    mean_per_class: float | None
    ece: float | None
    evaluations_per_image: float | None
    seconds_per_image: float | None
    seed: int | None
    status: str
    device: str | None
    dtype: str | None
    versions: str | None
    commit: str | None
    command: str | None
    date: str | None


COLUMNS: tuple[str, ...] = tuple(Row.__annotations__)
INTEGER_COLUMNS = ("n_classes", "n_asked", "n_scored")


def cells_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The text of every column of a row; missing values, None and NaN are empty.

    Raises:
        UsageError: for an infinite number.
    """
    return {name: _cell(row.get(name)) for name in COLUMNS}


def values_of(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row's cells: numbers where the column has numbers, None for an empty one.

    Raises:
        RecordError: for a cell of a numeric column that is no number.
    """
    hints = get_type_hints(Row)
    return {name: _value(name, cells[name], hints[name]) for name in COLUMNS}


def _value(name: str, cell: Any, hint: Any) -> Any:
    kinds = set(get_args(hint) or (hint,))
    if cell is None or cell == "":
        return "" if kinds == {str} else None
    kind = next(kind for kind in (int, float, str) if kind in kinds)
    try:
        return kind(cell)
    except ValueError as error:
        raise RecordError(
            f"column {name} of the leaderboard is no number",
            given=f"{cell!r:.40}",
            todo="correct that cell",
        ) from error


def _cell(value: Any) -> str:
    if isinstance(value, Real) and not isinstance(value, Integral):
        number = float(value)
        if math.isinf(number):
            raise UsageError("figure is infinite", given=number, allowed="finite numbers, or None")
        return "" if math.isnan(number) else repr(round(number, 6))
    return "" if value is None else text_cell(value)

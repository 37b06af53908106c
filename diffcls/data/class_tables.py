"""Join of a person's CSV table to the classes of a data set, by the column ``classidx``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffcls.data.class_names import normalise, shorten, show_order
from diffcls.data.csv_tables import CsvTable, has_columns
from diffcls.support.errors import DataError

logger = logging.getLogger(__name__)


def class_indices(
    table: CsvTable,
    class_names: Sequence[str],
    subject: str,
    synonyms: Mapping[str, str] | None = None,
) -> tuple[int, ...]:
    """The class index of each row of a table that covers all classes.

    Args:
        table: a table with a column ``classidx`` and, optional, ``classname``, whose names must be
            those of the data set, ignoring case, ``_``, ``-`` and ``/``.
        class_names: (K,) names of the data set.
        subject: flag that messages begin with.
        synonyms: other spellings of class names -> the data set's.

    Raises:
        DataError: for a class index that is no whole number, a class without a row or a row
            without a class, and for an empty or different ``classname``.
    """
    indices = tuple(row.whole_number("classidx") for row in table.rows)
    expected, given = set(range(len(class_names))), set(indices)
    if expected != given:
        from_one = given == {k + 1 for k in expected}
        raise DataError(
            f"{subject}: table does not cover the data set's classes",
            given=f"classidx {shorten(sorted(given))}",
            allowed=f"0 to {len(class_names) - 1}: {shorten(class_names)}",
            todo="count classidx from 0" if from_one else None,
        )
    if "classname" in table.columns:
        _check_class_names(table, indices, class_names, subject, synonyms or {})
    return indices


def announce_order(path: Path, class_names: Sequence[str], subject: str) -> None:
    """Warn which class each ``classidx`` means, if a table for a person's own data has no names.

    Args:
        path: the table.
        class_names: (K,) names of the data set, whose order their owner may not know.
        subject: flag that messages begin with.

    Raises:
        DataError: for a file that is no text, see `diffcls.data.csv_tables.read_text`.
    """
    if not has_columns(path, subject, ("classidx", "classname")):
        logger.warning(
            "%s: the table has no column classname; its classidx is read as %s",
            subject,
            show_order(class_names),
        )


def _check_class_names(
    table: CsvTable,
    indices: Sequence[int],
    class_names: Sequence[str],
    subject: str,
    synonyms: Mapping[str, str],
) -> None:
    known_as = {normalise(other): normalise(name) for other, name in synonyms.items()}
    for row, k in zip(table.rows, indices, strict=True):
        name = row.text("classname")
        joined = normalise(name)
        if known_as.get(joined, joined) != normalise(class_names[k]):
            in_file = [row.cells["classname"] for row in table.rows]
            raise DataError(
                f"{subject}: classname of classidx {k} differs from the data set's",
                given=f"{name!r} in {shorten(in_file)}",
                allowed=f"{class_names[k]!r} in {shorten(class_names)}",
                todo="keep the data set's order of classes",
            )

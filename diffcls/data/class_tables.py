"""Join of a person's CSV table to the classes of a data set, by the column ``classidx``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from diffcls.data.class_names import normalise, shorten
from diffcls.data.csv_tables import CsvTable
from diffcls.support.errors import DataError

logger = logging.getLogger(__name__)

MAX_CLASSES_SHOWN = 10


def class_indices(
    table: CsvTable, class_names: Sequence[str], subject: str, announce: bool = False
) -> tuple[int, ...]:
    """The class index of each row of a table that covers all classes.

    Args:
        table: a table with a column ``classidx`` and, optional, ``classname``, whose names must be
            those of the data set, ignoring case, ``_``, ``-`` and ``/``.
        class_names: (K,) names of the data set.
        subject: flag that messages begin with.
        announce: warn which class each index means if the table has no ``classname``, for classes
            whose order their owner may not know.

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
        _check_class_names(table, indices, class_names, subject)
    elif announce:
        first = enumerate(class_names[:MAX_CLASSES_SHOWN])
        pairs = ", ".join(f"{k} = {name!r}" for k, name in first)
        logger.warning(
            "%s: the table has no column classname; its classidx is read as %s%s",
            subject,
            pairs,
            f", … ({len(class_names)} in all)" if len(class_names) > MAX_CLASSES_SHOWN else "",
        )
    return indices


def _check_class_names(
    table: CsvTable, indices: Sequence[int], class_names: Sequence[str], subject: str
) -> None:
    for row, k in zip(table.rows, indices, strict=True):
        name = row.text("classname")
        if normalise(name) != normalise(class_names[k]):
            in_file = [row.cells["classname"] for row in table.rows]
            raise DataError(
                f"{subject}: classname of classidx {k} differs from the data set's",
                given=f"{name!r} in {shorten(in_file)}",
                allowed=f"{class_names[k]!r} in {shorten(class_names)}",
                todo="keep the data set's order of classes",
            )

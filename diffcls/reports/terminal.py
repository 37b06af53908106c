"""Rows of the leaderboard as plain text for a person at a terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a plain-text table for a person: percentages with their 95 % intervals.

    Args:
        rows: as `leaderboard.summarise`, `published_rows` or `read` give them. The model is shown
            where rows differ in it, the source where not all rows are measured.

    Returns:
        Lines of one width a column, without a newline at the end.
    """
    shown = dict(_TABLE)
    if len({_text(row, "model") for row in rows}) < 2:
        del shown["model"]
    if all(_text(row, "source") == "measured" for row in rows):
        del shown["source"]
    lines = [list(shown), *([show(row) for show in shown.values()] for row in rows)]
    return align(lines, _RIGHT)


def align(lines: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """Cells in columns of one width, a rule below the first line, the head.

    Args:
        lines: of as many cells each.
        right: heads of the columns that are set to the right.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(lines[0], line, widths, strict=True)
        ).rstrip()
        for line in (lines[0], rule, *lines[1:])
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    text = "" if value is None else str(value)
    # names come from users' folders: nothing may steer the terminal
    return "".join(c if c.isprintable() else "?" for c in text)


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    number = math.nan if value is None or value == "" else float(value)
    return None if math.isnan(number) else number


def _percent(row: Mapping[str, Any], name: str) -> str:
    value = _number(row, name)
    return "" if value is None else f"{100 * value:.1f} %"


def _accuracy(row: Mapping[str, Any]) -> str:
    low, high = _number(row, "ci_low"), _number(row, "ci_high")
    interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return _percent(row, "accuracy") + interval


def _amount(row: Mapping[str, Any], name: str) -> str:
    value = _number(row, name)
    if value is None:
        return ""
    return f"{value:.3f}" if 0 < value < 1 else f"{value:,.1f}".removesuffix(".0")


def _count(row: Mapping[str, Any]) -> str:
    asked, scored = _text(row, "n_asked"), _text(row, "n_scored")
    count = scored if asked == scored else f"{scored} of {asked}"
    return count if _text(row, "status") != "partial" else f"{count} (partial)"


_TABLE: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "dataset": lambda row: _text(row, "dataset"),
    "method": lambda row: "/".join(filter(None, (_text(row, "method"), _text(row, "search")))),
    "model": lambda row: _text(row, "model"),
    "accuracy [95 %]": _accuracy,
    "mean per class": lambda row: _percent(row, "mean_per_class"),
    "evaluations/image": lambda row: _amount(row, "evaluations_per_image"),
    "seconds/image": lambda row: _amount(row, "seconds_per_image"),
    "images": _count,
    "supervision": lambda row: _text(row, "supervision"),
    "source": lambda row: _text(row, "source"),
}
_RIGHT = frozenset(("mean per class", "evaluations/image", "seconds/image", "images"))

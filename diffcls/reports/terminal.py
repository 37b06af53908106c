"""The leaderboard as a plain-text table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffcls.support.tables import align
from diffcls.support.text import printable


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Leaderboard rows as a plain-text table; fractions become percentages with 95 % intervals.

    Args:
        rows: as `runs.summary.summarise`, `leaderboard.published_rows` or `leaderboard.read` return
            them. The column "model" is omitted if all rows share one model, "source" if all are
            measured.

    Returns:
        One line per row, without a newline at the end.
    """
    shown = dict(_TABLE)
    if len({_text(row, "model") for row in rows}) < 2:
        del shown["model"]
    if all(_text(row, "source") == "measured" for row in rows):
        del shown["source"]
    lines = [list(shown), *([show(row) for show in shown.values()] for row in rows)]
    return align(lines, _RIGHT)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    # names may come from users' folders: control characters must not reach the terminal
    return printable("" if value is None else str(value))


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

"""The leaderboard as a table: plain text, or by rich on a terminal."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffcls.support.tables import align
from diffcls.support.terminals import is_terminal
from diffcls.support.text import printable


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Leaderboard rows as a plain-text table; fractions become percentages with 95 % intervals.

    Args:
        rows: as `runs.summary.summarise`, `leaderboard.published_rows` or `leaderboard.read` return
            them. The columns "model" and "seed" are omitted if all rows share one, "source" if
            all are measured.

    Returns:
        One line per row, without a newline at the end.
    """
    return align(table_cells(rows), _RIGHT)


def print_tables(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print leaderboard rows, and their summary if there is one.

    On a terminal they are tables as wide as it is, see `diffcls.reports.wide_table`; in a pipe or
    a file the plain text of `format_table` and `format_summary`.
    """
    summary = summary_cells(rows)
    if not is_terminal(sys.stdout):
        print(format_table(rows))
        if summary:
            print(f"\n{align(summary, _RIGHT_OF_SUMMARY)}\n")
        return
    from diffcls.reports.wide_table import print_table

    print_table(table_cells(rows), _RIGHT)
    if summary:
        print_table(summary, _RIGHT_OF_SUMMARY)


def table_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The header and the cells of `format_table`."""
    shown = dict(_TABLE)
    if len({_text(row, "model") for row in rows}) < 2:
        del shown["model"]
    if len({_text(row, "seed") for row in rows if _text(row, "source") == "measured"}) < 2:
        del shown["seed"]
    if all(_text(row, "source") == "measured" for row in rows):
        del shown["source"]
    return [list(shown), *([show(row) for show in shown.values()] for row in rows)]


def format_summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy by data set, model and method: the mean over seeds, with their spread.

    Args:
        rows: measured rows of the leaderboard; others are left out.

    Returns:
        A plain-text table without a newline at the end; empty unless there are rows of several
        data sets, models or seeds. The interval, at 95 %, is that of the images: the mean of the
        seeds' intervals, as other noise does not make more images. The spread is the standard
        deviation of the accuracy over seeds (n − 1), in percentage points.
    """
    lines = summary_cells(rows)
    return align(lines, _RIGHT_OF_SUMMARY) if lines else ""


def summary_cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The header and the cells of `format_summary`; empty where that is."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if _text(row, "source") == "measured":
            key = tuple(_text(row, name) for name in (*_COMBINED, "revision", "search", "setting"))
            groups.setdefault(key, []).append(row)
    measured = [row for group in groups.values() for row in group]
    if all(len({_text(row, name) for row in measured}) < 2 for name in _SEVERAL):
        return []
    lines = [["dataset", "model", "method", "accuracy [95 %]", "seeds", "spread of seeds"]]
    return lines + [_summary_line(group) for group in groups.values()]


def _summary_line(group: Sequence[Mapping[str, Any]]) -> list[str]:
    values = {
        name: [number for row in group if (number := _number(row, name)) is not None]
        for name in ("accuracy", "ci_low", "ci_high")
    }
    mean = {name: statistics.fmean(all_) if all_ else None for name, all_ in values.items()}
    accuracies = values["accuracy"]
    spread = f"{100 * statistics.stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
    names = [_TABLE[name](group[0]) for name in ("dataset", "model", "method")]
    if any(_text(row, "status") == "partial" for row in group):
        names[-1] += " (partial)"
    return [*names, _accuracy(mean), str(len(group)), spread]


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
    "seed": lambda row: _text(row, "seed"),
    "accuracy [95 %]": _accuracy,
    "mean per class": lambda row: _percent(row, "mean_per_class"),
    "evaluations/image": lambda row: _amount(row, "evaluations_per_image"),
    "seconds/image": lambda row: _amount(row, "seconds_per_image"),
    "images": _count,
    "supervision": lambda row: _text(row, "supervision"),
    "source": lambda row: _text(row, "source"),
}
_SEVERAL = ("dataset", "model", "seed")
_COMBINED = ("dataset", "model", "method")
_RIGHT = frozenset(("seed", "mean per class", "evaluations/image", "seconds/image", "images"))
_RIGHT_OF_SUMMARY = frozenset(("seeds", "spread of seeds"))

"""CSV tables of the benchmarks, and the environment in which each was measured.

The device, the library versions and the settings of a benchmark are kept beside its table, in
``environments.json``, so that its page can be written again without measuring.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffcls.support.errors import UsageError
from diffcls.support.files import locked, write_text
from diffcls.support.tables import write_csv

ENVIRONMENTS = "environments.json"
SIX_DIGITS = ".6g"
EARLIER = "; rows measured earlier: "


def write_rows(
    path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], format: str = ""
) -> None:
    """Write a table; None and missing values become empty cells.

    Args:
        path: the CSV file; its folder is made.
        rows: mappings from columns to values; other keys are left out.
        columns: the header.
        format: format specification of floats; empty: all their digits.
    """
    lines = [[_cell(row.get(name), format) for name in columns] for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, [columns, *lines])


def format_p(p: float) -> str:
    """A p-value for a page."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def markdown(
    rows: Iterable[Mapping[str, Any]], columns: Mapping[str, Callable[[Mapping[str, Any]], str]]
) -> list[str]:
    """Lines of a Markdown table.

    Args:
        rows: a line each.
        columns: title -> the text of a row's cell.
    """
    lines = [[*columns], *([cell(row) for cell in columns.values()] for row in rows)]
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return [head, "|" + "---|" * len(columns), *body]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table: numbers where cells hold numbers, None where they are empty.

    Raises:
        UsageError: if there is no such file.
    """
    if not path.exists():
        raise _not_measured(path)
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: _value(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _cell(value: Any, format: str) -> str:
    if value is None:
        return ""
    return f"{value:{format}}" if isinstance(value, float) else str(value)


def _value(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell or None


def record_environment(
    output: Path, name: str, device: str = "cpu", keeps_rows: bool = False, **settings: Any
) -> None:
    """Keep device, versions and settings of a benchmark that was measured now.

    Args:
        output: folder of the results.
        name: name of the benchmark in the registry.
        device: torch's name of the device.
        keeps_rows: whether the table has rows of earlier measurements, too: their environments are
            then named beside the present one.
        settings: further values that the page shows.
    """
    from diffcls.support.environment import describe_device, versions

    text = f"{describe_device(device)}, {versions()}"
    with locked(output / ENVIRONMENTS) as path:
        all_of_them = _environments(path)
        earlier = all_of_them.get(name, {}).get("environment", "") if keeps_rows else ""
        others = [one for one in earlier.split(EARLIER) if one and one != text]
        all_of_them[name] = {"environment": EARLIER.join([text, *others]), **settings}
        write_text(path, json.dumps(all_of_them, indent=2, sort_keys=True) + "\n")


def environment_of(output: Path, name: str) -> dict[str, Any]:
    """Key ``environment`` (device and versions, a text) and the settings of a benchmark.

    Raises:
        UsageError: if none was recorded.
    """
    path = output / ENVIRONMENTS
    try:
        return _environments(path)[name]
    except KeyError:
        raise _not_measured(path) from None


def _environments(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    content: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _not_measured(path: Path) -> UsageError:
    return UsageError(
        "--report-only needs stored results, which are missing",
        given=str(path),
        todo="measure first, without --report-only, or name their folder with --output-dir",
    )

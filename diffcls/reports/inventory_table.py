"""Inventories as plain text: one line per entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffcls.reports.inventory import YOUR_OWN
from diffcls.reports.run_inventory import NO_RECORDS
from diffcls.support.tables import align
from diffcls.support.text import printable

HIDDEN = {"options", "trained_on", "problem", "split", "hub_id"}
HIDDEN |= {"n_scored", "n_asked", "n_failed"}
"""Keys that the table leaves out or shows in another column; JSON has them."""
RIGHT = {"classes", "test_images", "download_mb", "parameters", "megabytes", "accuracy"}
RIGHT |= {"forwards_at_25_steps", "seed", "images"}


def format_entries(entries: Sequence[Mapping[str, Any]]) -> str:
    """Entries with equal keys as a table; a value that is not known is ``unknown``.

    Args:
        entries: see `diffcls.reports.inventory`; an empty list is one line that says so.
    """
    if not entries:
        return "none"
    rows = [_cells(entry) for entry in entries]
    head = list(rows[0])
    lines = [[name.replace("_", " ") for name in head]]
    lines += [[row[name] for name in head] for row in rows]
    return align(lines, {name.replace("_", " ") for name in RIGHT})


def problems(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each damaged run, and one for all whose records are missing."""
    found = [entry for entry in entries if entry.get("problem")]
    missing = [entry for entry in found if entry["status"] == NO_RECORDS]
    lines = [
        f"{entry['fingerprint']} is {entry['status']}: {' '.join(entry['problem'].split())}"
        for entry in found
        if entry["status"] != NO_RECORDS
    ]
    if missing:
        lines.append(f"runs without records: {len(missing)}; only their row is known")
    return lines


def _cells(entry: Mapping[str, Any]) -> dict[str, str]:
    missing = "-" if entry.get("where") == YOUR_OWN else "unknown"
    cells = {k: _cell(k, v, missing) for k, v in entry.items() if k not in HIDDEN}
    if "n_scored" in entry:
        cells["images"] = _count(entry)
    if entry.get("hub_id"):
        where = entry["where"]
        cells["where"] = f"Hub: {entry['hub_id']}" if where == "Hub" else f"cache: {where}"
    return {name: printable(cell) for name, cell in cells.items()}


def _cell(name: str, value: Any, missing: str) -> str:
    if value is None:
        return missing
    if name == "accuracy":
        return f"{100 * value:.1f} %"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _count(entry: Mapping[str, Any]) -> str:
    scored, asked = (
        "?" if entry[name] is None else str(entry[name]) for name in ("n_scored", "n_asked")
    )
    failed = f" ({entry['n_failed']} failed)" if entry["n_failed"] else ""
    return f"{scored} of {asked}{failed}"

"""Stored records of runs, and two runs compared image by image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diffcls.metrics.statistics import mcnemar_exact
from diffcls.runs.records import Record, read_records


def records_of(output: Path, fingerprint: str) -> dict[str, Record]:
    """The records of a run, by image id."""
    folder = output / "runs" / fingerprint
    found = [r for path in sorted(folder.glob("records-*.jsonl")) for r in read_records(path)]
    return {record.image_id: record for record in found if record.error is None}


def compare(mine: Mapping[str, Record], reference: Mapping[str, Record]) -> tuple[float, int]:
    """McNemar's exact p on the images both scored, 1 without any; how many predictions agree."""
    both = sorted(mine.keys() & reference.keys())
    if not both:
        return 1.0, 0
    right = [[r[i].ranking[0] == r[i].label for i in both] for r in (mine, reference)]
    same = sum(mine[i].ranking[0] == reference[i].ranking[0] for i in both)
    return mcnemar_exact(*right), same

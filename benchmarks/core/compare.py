"""Stored records of a run, and the comparison of two runs image by image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diffcls.metrics.statistics import mcnemar_exact
from diffcls.runs.records import Record, read_records


def records_of(output: Path, fingerprint: str) -> dict[str, Record]:
    """The records of a run by image id, without those of failed images."""
    folder = output / "runs" / fingerprint
    records = [r for path in sorted(folder.glob("records-*.jsonl")) for r in read_records(path)]
    return {record.image_id: record for record in records if record.error is None}


def compare(run: Mapping[str, Record], reference: Mapping[str, Record]) -> tuple[float, int]:
    """McNemar's exact p on the images that both scored, and the number of equal predictions.

    p is 1 if there is no common image.
    """
    common = sorted(run.keys() & reference.keys())
    if not common:
        return 1.0, 0
    correct = [[r[i].ranking[0] == r[i].label for i in common] for r in (run, reference)]
    equal = sum(run[i].ranking[0] == reference[i].ranking[0] for i in common)
    return mcnemar_exact(*correct), equal

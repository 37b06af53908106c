"""Error tables of a run: those that ``--save-errors`` wrote, or of a few images scored again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diffcls.data.dataset import Dataset, Item
from diffcls.evaluation.options import EvaluationOptions
from diffcls.reports.page.races import Race
from diffcls.reports.page.reopening import as_in, reopened
from diffcls.reports.page.results import RunResults
from diffcls.runs.error_tables import read_saved
from diffcls.runs.record import Record
from diffcls.support.errors import DiffclsError
from diffcls.support.hashing import hash_json
from diffcls.support.paths import expand
from diffcls.support.seeding import key
from diffcls.support.types import Int64


@dataclass(frozen=True)
class ErrorTables:
    """Error tables of some images of a run.

    Args:
        races: image id -> table.
        sample: ids of the images that figures over images are computed from.
        indices: (N,) schedule index of each draw.
        source: where the tables come from, as a sentence.
    """

    races: Mapping[str, Race]
    sample: Sequence[str]
    indices: Int64
    source: str


def saved_tables(results: RunResults, folders: Sequence[str]) -> ErrorTables | None:
    """The tables of a run in one of some folders, or below it by the run's fingerprint."""
    fingerprint = results.run.fingerprint
    for name in folders:
        folder = Path(expand(name))
        for place in (folder / fingerprint, folder):
            if not place.is_dir():
                continue
            try:
                saved = read_saved(place)
            except (DiffclsError, OSError):
                continue
            if hash_json(dict(saved.spec)) != fingerprint:
                continue
            races = {
                image_id: Race(table, label)
                for image_id, label, table in zip(
                    saved.image_ids, saved.labels, saved.tables, strict=True
                )
            }
            source = f"Error tables of {len(races)} images, saved by --save-errors."
            return ErrorTables(races, list(races), saved.indices, source)
    return None


def sample_of(records: Sequence[Record], count: int, fingerprint: str) -> list[Record]:
    """`count` records in an order that depends on the run and the image ids alone."""
    ordered = sorted(records, key=lambda record: key("sample", fingerprint, record.image_id))
    return ordered[:count]


def within_time(records: Sequence[Record], seconds: float | None) -> list[Record]:
    """The first records whose own times add up to `seconds` at most; None: all."""
    if seconds is None:
        return list(records)
    total = np.cumsum([record.seconds for record in records])
    return [record for record, spent in zip(records, total, strict=True) if spent <= seconds]


def rescored_tables(
    results: RunResults,
    images: tuple[Dataset, EvaluationOptions],
    chosen: Sequence[Record],
    sample: Sequence[Record],
) -> ErrorTables | str:
    """Tables of a few images, scored once more as the run scored them; nothing is stored.

    Answers do not depend on which other images are scored, so rankings must equal the records; the
    source says of how many they do.

    Args:
        results: the run.
        images: its data set and options.
        chosen: records of the images to score, the sample among them.
        sample: records that figures over images are computed from.

    Returns:
        The tables, or what is missing, as the end of a sentence.
    """
    dataset, options = images
    by_id = {item.image_id: item for item in dataset.items}
    items = [by_id[record.image_id] for record in chosen if record.image_id in by_id]
    if not items:
        return "its images are not in the data set that was found"
    try:
        with as_in(results.run):
            return _score(results, dataset, options, items, sample)
    except (DiffclsError, OSError, RuntimeError, MemoryError, ImportError) as error:
        return " ".join(str(error).split())


def _score(
    results: RunResults,
    dataset: Dataset,
    options: EvaluationOptions,
    items: Sequence[Item],
    sample: Sequence[Record],
) -> ErrorTables | str:
    # the name alone makes the method keep its tables: nothing is written
    plan = reopened(results.run, dataset, replace(options, save_errors="tables"))
    if isinstance(plan, str):
        return plan
    labels = {item.image_id: item.label for item in items}
    rankings = {record.image_id: record.ranking for record in results.records}
    races, n_equal = {}, 0
    for result in plan.built.method.classify(items):
        if result.errors is not None:
            n_equal += tuple(result.ranking.tolist()) == rankings[result.image_id]
            races[result.image_id] = Race(result.errors, labels[result.image_id])
    if not races:
        return "none of its images could be scored"
    source = (
        f"{len(races)} images were scored once more for this report; "
        f"{n_equal} of {len(races)} rankings equal the record."
    )
    ids = [record.image_id for record in sample if record.image_id in races]
    ordered = {item.image_id: races[item.image_id] for item in items if item.image_id in races}
    indices = np.asarray(plan.built.draws["indices"], dtype=np.int64)
    return ErrorTables(ordered, ids, indices, source)

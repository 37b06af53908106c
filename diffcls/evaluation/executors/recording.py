"""Recording: runs a method over images and appends a record for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from diffcls.classifiers.base import Method
from diffcls.data.dataset import Dataset, Item
from diffcls.evaluation.executors.progress import Progress
from diffcls.runs.error_tables import ErrorArchive
from diffcls.runs.records import Record, RecordStore
from diffcls.scoring.class_scores import ClassScores
from diffcls.support.text import valid_text


def execute(
    method: Method,
    items: Iterable[Item],
    store: RecordStore,
    progress: Progress | None = None,
    keep: Callable[[ClassScores, Item], None] | None = None,
) -> None:
    """Classify `items` and append a record for each, as soon as it is known.

    Args:
        method: the classifier.
        items: the images, see `waiting`.
        store: receives the records; a record that it holds already stays.
        progress: counts every new record.
        keep: called with each result and its image before the record is written.

    Raises:
        KeyboardInterrupt: after all known results were written.
    """
    in_flight: dict[str, Item] = {}

    def taken() -> Iterator[Item]:
        for item in items:
            in_flight[item.image_id] = item
            yield item

    for result in method.classify(taken()):
        item = in_flight.pop(result.image_id)
        if keep is not None and result.error is None:
            keep(result, item)
        if result.image_id in store.done:  # scored again for its error table
            continue
        record = to_record(result, item.label, store.fingerprint)
        store.append(record)
        if progress is not None:
            progress.add(record)


def to_record(result: ClassScores, label: int, fingerprint: str) -> Record:
    """The record of a result."""
    return Record(
        fingerprint=fingerprint,
        image_id=result.image_id,
        label=label,
        ranking=tuple(result.ranking.tolist()),
        scores=tuple(result.scores.tolist()),
        evaluations=result.evaluations,
        seconds=round(result.seconds, 6),
        error=None if result.error is None else valid_text(result.error),
    )


def waiting(
    dataset: Dataset,
    store: RecordStore,
    positions: Iterable[int],
    archive: ErrorArchive | None = None,
) -> list[Item]:
    """The images at `positions` that the store, or the archive if given, does not hold yet."""
    done = store.done
    if archive is not None:
        # a failed image has no table, and would fail again
        done = {
            record.image_id
            for record in store.records()
            if record.error is not None or archive.path(record.image_id).exists()
        }
    items = (dataset.items[i] for i in positions)
    return [item for item in items if item.image_id not in done]

"""Serial executor: runs a method over images and appends a record for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from diffcls.classifiers.base import Method
from diffcls.data.dataset import Dataset, Item
from diffcls.metrics.statistics import wilson_interval
from diffcls.runs.error_tables import ErrorArchive
from diffcls.runs.records import Record, RecordStore
from diffcls.scoring.class_scores import ClassScores
from diffcls.support import progress
from diffcls.support.text import valid_text


class Progress:
    """Progress on stderr: running accuracy, evaluations per image, images per second, time left."""

    def __init__(
        self,
        total: int,
        stored: Sequence[Record],
        quiet: bool,
        title: str,
        listener: Callable[[Record], None] | None = None,
    ) -> None:
        self._listener = listener
        self._right = self._scored = self._evaluations = 0
        self._progress = progress.Progress(
            total, title, initial=len(stored), quiet=quiet, details=self._details
        )
        for record in stored:
            self._count(record)

    def add(self, record: Record) -> None:
        """Count one more image."""
        self._count(record)
        self._progress.update()
        if self._listener is not None:
            self._listener(record)

    def _count(self, record: Record) -> None:
        if record.error is None:
            self._scored += 1
            self._right += record.ranking[0] == record.label
            self._evaluations += record.evaluations
            self._progress.set_values(accuracy=f"{self._right / self._scored:.1%}")

    def _details(self) -> list[str]:
        """The figures of the bar: accuracy with its 95 % interval, evaluations per image."""
        right, scored = self._right, self._scored
        if not scored:
            return []
        low, high = wilson_interval(right, scored)
        return [
            f"accuracy {right / scored:.1%} [{100 * low:.1f}, {100 * high:.1f}]",
            f"{self._evaluations / scored:,.1f} evaluations/img",
        ]

    def close(self) -> None:
        """Close the bar; its last state stays visible."""
        self._progress.close()


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
        ranking=tuple(int(k) for k in result.ranking),
        scores=tuple(float(s) for s in result.scores),
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
